//! What a port is. JSON in a key-value bucket, written when it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::PortName;

/// Labels that neighbours are chosen by.
pub const RACK: &str = "rack";
pub const ZONE: &str = "zone";
/// Ports of different networks do not probe each other, and may have the same addresses.
pub const NETWORK: &str = "network";

/// Labels that Open vSwitch gives to a port, unless the user does.
pub const BRIDGE: &str = "bridge";
/// Types and identifiers of the networks behind the bridge, as `vxlan 42`.
pub const TUNNEL: &str = "tunnel";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// As its key says.
    pub port: PortName,
    /// Chosen anew by each process.
    pub boot: u64,
    pub version: String,
    pub addresses: Vec<IpAddr>,
    /// Where it answers probes.
    pub udp_port: u16,
    /// Between two probes to one peer.
    pub interval_ns: u64,
    /// Most peers that it lets the hub assign.
    pub max_peers: usize,
    /// `rack`, `zone`, `network`, `bridge`, `tunnel` and others that the user gave.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Of boot identifier and time namespace, in hexadecimal digits: ports with equal ones read one clock.
    pub clock: String,
    /// Hook of the receive program.
    pub attach: String,
    pub kernel: String,
    /// Its agent was stopped: no heartbeats are expected.
    #[serde(default)]
    pub ended: bool,
}

impl Presence {
    /// A label, or "" without it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}
