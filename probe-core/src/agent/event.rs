//! What goes into the agent and what comes out of it.

use std::net::IpAddr;

use probe_common::family::Family;

use crate::observation::Reply;
use crate::session::Outcome;
use crate::stats::report::{Path, Report};

/// What the agent is told once, at its start. All durations in nanoseconds.
#[derive(Debug, Clone)]
pub struct Config {
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
    /// Whether every probe becomes an [`Event::Sample`].
    pub samples: bool,
}

/// What [`Config::max_peers`] is unless the user says otherwise.
pub const MAX_PEERS: usize = 1024;

/// A set of address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4 is in it.
    pub v4: bool,
    /// IPv6 is in it.
    pub v6: bool,
}

/// Where a probe goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To the multicast group of the family.
    Group(Family),
    /// To one peer.
    Peer(IpAddr),
}

/// A probe to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: Destination,
    /// Session identifier.
    pub ssid: u16,
    /// Sequence number, from 0 (RFC 8762 §4.2.1).
    pub seq: u32,
}

/// How a peer became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// It answered a probe to the group.
    Multicast,
    /// It was named by the user.
    Static,
}

/// What the agent has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer answered, for the first time or again after a silence.
    PeerUp {
        /// Its address.
        peer: IpAddr,
        /// How it became known.
        found: Found,
    },
    /// A peer was silent on all paths for [`Config::peer_expiry_ns`].
    PeerDown {
        /// Its address.
        peer: IpAddr,
        /// How it became known.
        found: Found,
    },
    /// What became of one probe, if [`Config::samples`]. A probe that never left, and one whose sample was lost on
    /// the way to userspace, has none.
    Sample {
        /// The peer's address.
        peer: IpAddr,
        /// How it was addressed.
        path: Path,
        /// The probe's sequence number.
        seq: u32,
        /// When it was given to the kernel, monotonic; `None` with a reply, which knows T1.
        sent_ns: Option<u64>,
        /// The reply; `None` if the probe is lost.
        reply: Option<Reply>,
        /// What became of the probe.
        outcome: Outcome,
    },
    /// A wall clock was stepped. Round-trip delays do not rest on it; one-way delays do.
    ClockStep {
        /// The peer whose clock it is; `None` for this host's.
        peer: Option<IpAddr>,
        /// By how much; positive if it went forward.
        by_ns: i64,
    },
    /// A finished window of one peer and path.
    Window(Box<Report>),
}
