//! What the agent measures, and how.

use std::net::IpAddr;

use crate::session::GRACE_NS;

#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// Between two probes of one session; at least 1.
    pub interval_ns: u64,
    /// A reply counts if T4 − T1 is at most this.
    pub timeout_ns: u64,
    /// Length of a report window; 0: one window for the whole run.
    pub report_ns: u64,
    /// A peer is down after this silence, and not before interval + timeout.
    pub peer_expiry_ns: u64,
    /// Probes per session, including group sessions; `None`: unlimited.
    pub count: Option<u64>,
    /// The families whose group is probed.
    pub group: Families,
    /// Whether peers found in the group are also probed by unicast. Static peers always are.
    pub unicast: bool,
    /// Peers probed from the start, even if they do not answer.
    pub static_peers: Vec<IpAddr>,
    /// Session identifier (RFC 8972 §3) of the first session. The next ones count up from it and skip 0.
    pub first_ssid: u16,
    /// Including static peers. Beyond them, a peer found in the group takes the place of one that is down.
    pub max_peers: usize,
    /// Whether each probe becomes an [`Event::Sample`](crate::agent::event::Event::Sample).
    pub samples: bool,
    /// Whether each window has its delays in buckets ([`Delays`](crate::stats::report::Delays)).
    pub delays: bool,
}

impl ProbeConfig {
    /// The probes of a session that may still be answered in time.
    pub fn in_flight(&self) -> u64 {
        in_flight(self.timeout_ns, self.interval_ns)
    }
}

/// As [`ProbeConfig::in_flight`].
pub fn in_flight(timeout_ns: u64, interval_ns: u64) -> u64 {
    timeout_ns.saturating_add(GRACE_NS).div_ceil(interval_ns)
}

/// Default of [`ProbeConfig::max_peers`].
pub const MAX_PEERS: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}
