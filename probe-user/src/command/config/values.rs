//! Values of single flags: read, or refused with what was wrong and what to give instead.

use std::net::IpAddr;

use ipnet::IpNet;
use probe_common::abi::MAX_IN_FLIGHT;
use probe_common::family::Family;
use probe_core::reflector::policy::{Rates, canonical};
use probe_host::privileges::check_user;

use crate::command::config::{ConfigError, wrong};

const MIN_INTERVAL_NS: u64 = 1_000;
/// A year: longer is a slip of the finger, and far from where nanoseconds overflow.
const MAX_DURATION_NS: u128 = 365 * 24 * 3_600 * 1_000_000_000;
/// Bytes of a name, so that it fits into the packet in which agents introduce themselves.
const MAX_NAME: usize = 64;

/// A duration of more than nothing.
pub(super) fn duration_ns(flag: &str, text: &str) -> Result<u64, ConfigError> {
    let Ok(duration) = humantime::parse_duration(text) else {
        return wrong(format!(
            "{flag} '{text}' is not a duration; write a number and a unit: 500ms, 2s, 1m 30s"
        ));
    };
    match duration.as_nanos() {
        0 => wrong(format!("{flag} {text} must be more than 0")),
        ns if ns > MAX_DURATION_NS => wrong(format!("{flag} {text} is longer than a year")),
        ns => u64::try_from(ns).or_else(|_| wrong(format!("{flag} {text} is longer than a year"))),
    }
}

/// `--interval`.
pub(super) fn interval_ns(text: &str) -> Result<u64, ConfigError> {
    match duration_ns("--interval", text)? {
        ns if ns < MIN_INTERVAL_NS => wrong(format!(
            "--interval {text} is too short: no host sends that fast; use 1us or more"
        )),
        ns => Ok(ns),
    }
}

/// Refuses to have more probes waiting than are remembered.
pub(super) fn waiting(timeout: &str, timeout_ns: u64, interval: &str, interval_ns: u64) -> Result<(), ConfigError> {
    match timeout_ns.div_ceil(interval_ns) {
        waiting if waiting > u64::from(MAX_IN_FLIGHT) => wrong(format!(
            "--timeout {timeout} at --interval {interval} keeps {waiting} probes waiting, and {MAX_IN_FLIGHT} are \
             remembered; use a longer interval or a shorter timeout"
        )),
        _ => Ok(()),
    }
}

/// `--port`.
pub(super) fn port(text: &str) -> Result<u16, ConfigError> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => wrong(format!("--port '{text}' is not a UDP port; use 1 to 65535")),
    }
}

/// `--allow`: a prefix, or one address.
pub(super) fn prefixes(texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let prefix = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        match text.parse().or_else(|_| address()) {
            Ok(prefix) => Ok(canonical(prefix)),
            Err(_) => wrong(format!(
                "--allow '{text}' is not a prefix; write an address and a length: 10.1.0.0/16, fd01::/64"
            )),
        }
    };
    texts.iter().map(prefix).collect()
}

/// `--rate`, `--rate-source` and `--rate-group`.
pub(super) fn rate(flag: &str, text: &str) -> Result<u32, ConfigError> {
    match text.parse() {
        Ok(rate) if rate <= Rates::MAX => Ok(rate),
        _ => wrong(format!(
            "{flag} '{text}' is not a number of packets a second; use 1 to {}, or 0 for no limit",
            Rates::MAX
        )),
    }
}

/// `--user`.
pub(super) fn user(name: String) -> Result<String, ConfigError> {
    match check_user(&name) {
        Ok(()) => Ok(name),
        Err(error) => wrong(format!("--user: {error}")),
    }
}

/// `--count`.
pub(super) fn count(text: &str) -> Result<u64, ConfigError> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => wrong(format!("--count '{text}' is not a number of probes; use 1 or more")),
    }
}

/// `--name`.
pub(super) fn name(name: String) -> Result<String, ConfigError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return wrong(format!(
            "--name {name:?} cannot be sent to peers; use 1 to {MAX_NAME} bytes without control characters"
        ));
    }
    Ok(name)
}

/// Every `--group`: at most one of each family.
pub(super) fn groups(texts: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
    let mut groups: Vec<IpAddr> = Vec::new();
    for text in texts {
        let group = address("--group", text)?;
        if !group.is_multicast() {
            return wrong(format!(
                "--group {text} is not a multicast address; use one in 224.0.0.0/4 or ff00::/8"
            ));
        }
        if let Some(other) = groups.iter().find(|other| Family::of(**other) == Family::of(group)) {
            let family = Family::of(group);
            return wrong(format!(
                "--group {other} and --group {group} are both {family}; give one of each IP version"
            ));
        }
        groups.push(group);
    }
    Ok(groups)
}

/// Every `--peer`.
pub(super) fn peers(texts: &[String], interface: &str) -> Result<Vec<IpAddr>, ConfigError> {
    let mut peers = Vec::new();
    for text in texts {
        let peer = address("--peer", in_scope(text, interface)?)?;
        if peer.is_multicast() {
            return wrong(format!("--peer {text} is a multicast address; give it as --group"));
        }
        let is_broadcast = matches!(peer, IpAddr::V4(v4) if v4.is_broadcast());
        if is_broadcast || peer.is_unspecified() || peer.is_loopback() {
            return wrong(format!(
                "--peer {text} is not the address of another port; give the peer's own address"
            ));
        }
        if peers.contains(&peer) {
            return wrong(format!("--peer {text} is given twice"));
        }
        peers.push(peer);
    }
    Ok(peers)
}

/// The address without its scope, which can only be the interface that is measured on.
fn in_scope<'a>(text: &'a str, interface: &str) -> Result<&'a str, ConfigError> {
    match text.split_once('%') {
        Some((address, scope)) if scope == interface => Ok(address),
        Some((address, scope)) => wrong(format!(
            "--peer {text} is reached by {scope}, and --iface is {interface}; write --peer {address}, or name the \
             other interface"
        )),
        None => Ok(text),
    }
}

fn address(flag: &str, text: &str) -> Result<IpAddr, ConfigError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => wrong(format!("{flag} '{text}' is not an IP address; names are not looked up")),
    }
}
