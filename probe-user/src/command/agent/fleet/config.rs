//! How a port joins a fleet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use probe_common::ntp::NS_PER_S;
use probe_core::agent::config::MAX_PEERS;
use probe_hub::agent::DEFAULT_BUFFER_SIZE;
use probe_hub::connection;
use probe_hub::credentials::Credentials;
use probe_hub::name::PortName;

use crate::command::agent::args::FleetArgs;
use crate::command::shared::credentials;
use crate::command::shared::values::{self, ConfigError, wrong};

/// Where results wait for the hub, unless the user says otherwise.
const BUFFER: &str = "/var/lib/kstamp/fleet";
/// `--report` by default, in place of [`values::REPORT_NS`]: with the default `--timeout`, no window is older than ten seconds
/// when the next one comes.
pub const REPORT_NS: u64 = 7 * NS_PER_S;
const MIN_BUFFER_SIZE: u64 = 1 << 20;
const DEFAULT_MAX_PEERS: usize = 64;

const MAX_LABELS: usize = 16;
/// Longest name or value of a label.
pub const MAX_LABEL_LEN: usize = 64;

#[derive(Debug, Clone)]
pub struct FleetConfig {
    pub port: PortName,
    pub credentials: Credentials,
    pub labels: BTreeMap<String, String>,
    /// Assigned targets outside are not probed; empty: all are.
    pub allow: Vec<IpNet>,
    pub max_peers: usize,
    /// Directory of what waits for the hub.
    pub buffer: PathBuf,
    pub buffer_size: u64,
    /// File of the network namespace from which the hub is reached.
    pub netns: Option<PathBuf>,
}

/// `None` without `--hub-credentials`.
pub fn validate(args: FleetArgs, interface: &str) -> Result<Option<FleetConfig>, ConfigError> {
    let Some(path) = args.hub_credentials else {
        return Ok(None);
    };
    let mut credentials = credentials::read("--hub-credentials", &path)?;
    if !args.hub.is_empty() {
        connection::check_servers(&args.hub).map_err(|error| ConfigError::Flag(format!("--hub: {error}")))?;
        credentials.servers = args.hub;
    }
    let port = format!("{}/{interface}", credentials.name);
    let max_peers = args
        .hub_max_peers
        .map(|text| values::number("--hub-max-peers", &text, MAX_PEERS));
    let buffer_size = args.hub_buffer_size.map(|text| buffer_size(&text));
    Ok(Some(FleetConfig {
        port: port
            .parse()
            .map_err(|error| ConfigError::Flag(format!("--iface: no port of a fleet can have that name: {error}")))?,
        credentials,
        labels: labels(&args.hub_label)?,
        allow: values::prefixes("--hub-allow", &args.hub_allow)?,
        max_peers: max_peers.transpose()?.unwrap_or(DEFAULT_MAX_PEERS),
        buffer: args.hub_buffer.unwrap_or_else(|| BUFFER.into()),
        buffer_size: buffer_size.transpose()?.unwrap_or(DEFAULT_BUFFER_SIZE),
        netns: args.hub_netns,
    }))
}

fn buffer_size(text: &str) -> Result<u64, ConfigError> {
    match values::bytes("--hub-buffer-size", text)? {
        size if size < MIN_BUFFER_SIZE => wrong(format!(
            "--hub-buffer-size {text} has hardly room for one interval of a large fleet; use 1MiB or more"
        )),
        size => Ok(size),
    }
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    if texts.len() > MAX_LABELS {
        return wrong(format!(
            "{} labels are too many; give --hub-label at most {MAX_LABELS} times",
            texts.len()
        ));
    }
    let mut labels = BTreeMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=').filter(|(name, value)| is_label(name, value)) else {
            return wrong(format!(
                "--hub-label '{text}' is not a label; write NAME=VALUE, as rack=r7: a name of letters, digits, `-` and \
                 `_`, and a value without control characters, each of 1 to {MAX_LABEL_LEN} bytes"
            ));
        };
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return wrong(format!("--hub-label {name} is given twice; give it one value"));
        }
    }
    Ok(labels)
}

fn is_label(name: &str, value: &str) -> bool {
    let fits = |text: &str| (1..=MAX_LABEL_LEN).contains(&text.len());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    fits(name) && fits(value) && name.bytes().all(is_name) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
