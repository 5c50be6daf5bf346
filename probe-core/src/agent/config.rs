//! What the agent measures, and how.

use std::net::IpAddr;

/// What the agent is told once, at its start. All durations in nanoseconds.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// Time between two probes of one session; at least 1.
    pub interval_ns: u64,
    /// Time from T1 within which a reply counts.
    pub timeout_ns: u64,
    /// Length of a report window; 0 for one window over the whole run.
    pub report_ns: u64,
    /// Silence after which a peer is down; at least interval + timeout is waited.
    pub peer_expiry_ns: u64,
    /// Probes per session, group sessions included; `None` for no end.
    pub count: Option<u64>,
    /// In which families the group is probed.
    pub group: Families,
    /// Whether a peer found in the group is probed at its own address too. Static peers always are.
    pub unicast: bool,
    /// Peers probed from the start, whether they show themselves or not.
    pub static_peers: Vec<IpAddr>,
    /// Session identifier (RFC 8972 §3) given to the first session; the next ones count on from it, past 0.
    pub first_ssid: u16,
    /// Peers known at a time, static ones included; no more are accepted from the group.
    pub max_peers: usize,
    /// Whether every probe becomes an a sample event.
    pub samples: bool,
}

/// What [`ProbeConfig::max_peers`] is unless the user says otherwise.
pub const MAX_PEERS: usize = 1024;

/// A set of address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4 is in it.
    pub v4: bool,
    /// IPv6 is in it.
    pub v6: bool,
}
