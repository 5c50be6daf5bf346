//! Reads the values of flags; a bad one is refused with what is wrong and what to give instead.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process;
use std::str::FromStr;

use ipnet::IpNet;
use probe_common::abi::{MAX_ADDED_PREFIXES, MAX_IN_FLIGHT, MAX_TEST_PORTS};
use probe_common::family::Family;
use probe_common::legacy;
use probe_common::ntp::NS_PER_S;
use probe_core::attach::AttachMode;
use probe_core::auth::Key;
use probe_core::identity::{MAX_TEXT_LEN, is_acceptable_name};
use probe_core::reflector::policy::{Rates, canonical};
use probe_core::rings::Rings;
use probe_host::link::{NameError, check_name};
use probe_host::privileges::check_user;
use probe_io::port::Choice;

use crate::command::shared::args::AttachArg;
use crate::command::shared::key_file;
use crate::serve::{self, ServeConfig};

/// Agents meet on this port, those of the legacy protocol too.
pub const AGENT_PORT: u16 = legacy::PORT;

const MIN_INTERVAL_NS: u64 = 1_000;
/// A year: longer is a typing error, and far from where nanoseconds overflow.
const MAX_DURATION_NS: u128 = 365 * 24 * 3_600 * 1_000_000_000;
/// `--report` by default.
pub const REPORT_NS: u64 = 10 * NS_PER_S;
/// As a file name.
pub const STANDARD_OUTPUT: &str = "-";

/// An error in a command line, and its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("--iface: {0}; `ip link` lists the interfaces")]
    Interface(#[source] NameError),
    /// About one flag, alone or in combination with another.
    #[error("{0}")]
    Flag(String),
    /// In configurations that were checked.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
}

pub fn wrong<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Flag(message.into()))
}

pub fn interface(name: &str) -> Result<(), ConfigError> {
    check_name(name).map_err(ConfigError::Interface)
}

/// Where to serve, by the flag that says so, and `--web-config`. `port` is the usual one.
pub fn serve(
    flag: &'static str,
    listen: Option<&str>,
    web_config: Option<PathBuf>,
    port: u16,
) -> Result<Option<ServeConfig>, ConfigError> {
    let Some(listen) = listen else { return Ok(None) };
    // Nobody would know a port that the kernel chooses.
    let address = listen.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    let Some(address) = address else {
        return wrong(format!(
            "{flag} '{listen}' is not an address and a port; write 127.0.0.1:{port}, [::1]:{port}, or 0.0.0.0:{port} for all \
             addresses of this host"
        ));
    };
    let config = ServeConfig {
        flag,
        listen: address,
        web_config,
    };
    serve::check(&config).map_err(|error| ConfigError::Flag(error.to_string()))?;
    Ok(Some(config))
}

/// A duration above zero.
pub fn duration_ns(flag: &str, text: &str) -> Result<u64, ConfigError> {
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

pub fn interval_ns(text: &str) -> Result<u64, ConfigError> {
    match duration_ns("--interval", text)? {
        ns if ns < MIN_INTERVAL_NS => wrong(format!(
            "--interval {text} is too short: no host sends that fast; use 1us or more"
        )),
        ns => Ok(ns),
    }
}

/// The rings for `sessions` sessions, each with `in_flight` probes. Refuses more than [`MAX_IN_FLIGHT`] probes in flight.
pub fn rings(sessions: u64, in_flight: u64, timeout: &str, interval: &str) -> Result<Rings, ConfigError> {
    let Some(rings) = Rings::of(sessions, in_flight) else {
        let probes = sessions.saturating_mul(in_flight);
        return wrong(format!(
            "--timeout {timeout} at --interval {interval} keeps {probes} probes in flight, and the limit is \
             {MAX_IN_FLIGHT}; use a longer interval or a shorter timeout"
        ));
    };
    Ok(rings)
}

pub fn port(text: &str) -> Result<u16, ConfigError> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => wrong(format!("--port '{text}' is not a UDP port; use 1 to 65535")),
    }
}

/// All `--port` of an agent or reflector, without duplicates.
pub fn ports(texts: &[String]) -> Result<Vec<u16>, ConfigError> {
    let mut ports = Vec::new();
    for text in texts {
        let port = port(text)?;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    if ports.len() > MAX_TEST_PORTS {
        return wrong(format!(
            "{} ports are too many; give --port at most {MAX_TEST_PORTS} times",
            ports.len()
        ));
    }
    Ok(ports)
}

/// Prefixes or single addresses, given by `flag`.
pub fn prefixes(flag: &str, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let prefix = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        match text.parse().or_else(|_| address()) {
            Ok(prefix) => Ok(canonical(prefix)),
            Err(_) => wrong(format!(
                "{flag} '{text}' is not a prefix; write an address and a length: 10.1.0.0/16, fd01::/64"
            )),
        }
    };
    if texts.len() > MAX_ADDED_PREFIXES as usize {
        return wrong(format!(
            "{} prefixes are too many; give {flag} at most {MAX_ADDED_PREFIXES} times",
            texts.len()
        ));
    }
    texts.iter().map(prefix).collect()
}

/// An amount of memory or disk space.
pub fn bytes(flag: &str, text: &str) -> Result<u64, ConfigError> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let split = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), *shift)));
    let (number, shift) = split.unwrap_or((text, 0));
    match number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
    {
        Some(bytes) => Ok(bytes),
        None => wrong(format!(
            "{flag} '{text}' is not an amount of bytes; write 512MiB or 10GiB"
        )),
    }
}

/// `--rate`, `--rate-source`, `--rate-group`.
pub fn rate(flag: &str, text: &str) -> Result<u32, ConfigError> {
    match text.parse() {
        Ok(rate) if rate <= Rates::MAX => Ok(rate),
        _ => wrong(format!(
            "{flag} '{text}' is not a number of packets a second; use 1 to {}, or 0 for no limit",
            Rates::MAX
        )),
    }
}

pub fn user(name: String) -> Result<String, ConfigError> {
    match check_user(&name) {
        Ok(()) => Ok(name),
        Err(error) => wrong(format!("--user: {error}")),
    }
}

pub fn count(text: &str) -> Result<u64, ConfigError> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => wrong(format!("--count '{text}' is not a number of probes; use 1 or more")),
    }
}

pub fn name(name: String) -> Result<String, ConfigError> {
    name_of("--name", name)
}

/// The name of an agent, given by a flag.
pub fn name_of(flag: &str, name: String) -> Result<String, ConfigError> {
    if !is_acceptable_name(&name) {
        return wrong(format!(
            "{flag} {name:?} cannot be shown by peers; use 1 to {MAX_TEXT_LEN} bytes of visible characters with single \
             blanks between them"
        ));
    }
    Ok(name)
}

/// All `--group`: at most one per IP version.
pub fn groups(texts: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
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

/// All `--peer`.
pub fn peers(texts: &[String], interface: &str) -> Result<Vec<IpAddr>, ConfigError> {
    let mut peers = Vec::new();
    for text in texts {
        let peer = address("--peer", in_scope(text, interface)?)?;
        if peer.is_multicast() {
            return wrong(format!(
                "--peer {text} is a multicast address; give a port's own address (kstamp agent takes groups by --group)"
            ));
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

/// The address without its scope, which must be the measured interface.
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

pub fn number<T: FromStr + PartialOrd + Display>(flag: &str, text: &str, max: T) -> Result<T, ConfigError> {
    match text.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => wrong(format!("{flag} '{text}' is not a number from 0 to {max}")),
    }
}

/// `--key-file`, read before anything is opened.
pub fn key(path: Option<PathBuf>) -> Result<Option<Key>, ConfigError> {
    let key = path.as_deref().map(key_file::read).transpose();
    key.map_err(|error| ConfigError::Flag(format!("--key-file: {error}")))
}

/// `--tlv-key-file`, which `--key-file` makes needless.
pub fn tlv_key(path: Option<PathBuf>, authenticated: bool) -> Result<Option<Key>, ConfigError> {
    if authenticated && path.is_some() {
        return wrong(
            "--tlv-key-file cannot be combined with --key-file, whose key protects the TLVs, too; leave it out",
        );
    }
    let key = path.as_deref().map(key_file::read).transpose();
    key.map_err(|error| ConfigError::Flag(format!("--tlv-key-file: {error}")))
}

/// `--output`; `None` for standard output.
pub fn output(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| path.as_os_str() != STANDARD_OUTPUT)
}

/// A file beside `--output`, which must be another one.
pub fn other_output(
    flag: &str,
    path: Option<PathBuf>,
    output: Option<&PathBuf>,
) -> Result<Option<PathBuf>, ConfigError> {
    match path {
        Some(path) if path.as_os_str() == STANDARD_OUTPUT => wrong(format!(
            "{flag} needs a file of its own; standard output has the results"
        )),
        Some(path) if output == Some(&path) => {
            wrong(format!("{flag} and --output name the same file; give each its own"))
        }
        path => Ok(path),
    }
}

pub fn choice(attach: AttachArg) -> Choice {
    match attach {
        AttachArg::Auto => Choice::Auto,
        AttachArg::XdpNative => Choice::Only(AttachMode::XdpNative),
        AttachArg::XdpGeneric => Choice::Only(AttachMode::XdpGeneric),
        AttachArg::Tc => Choice::Only(AttachMode::Tc),
    }
}

/// A session identifier that differs from run to run, so that a reflector that counts replies by session does not
/// continue an earlier run's. Never 0, which means no session (RFC 8972 §3).
pub fn first_ssid() -> u16 {
    ssid_of(process::id())
}

fn ssid_of(process_id: u32) -> u16 {
    (process_id % u32::from(u16::MAX)) as u16 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_identifiers_are_never_zero() {
        for (process, ssid) in [(0, 1), (1, 2), (65_534, 65_535), (65_535, 1), (u32::MAX, 1)] {
            assert_eq!(ssid_of(process), ssid);
        }
    }
}
