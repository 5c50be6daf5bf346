//! What goes into the agent and what comes out of it.

use std::net::IpAddr;

use probe_common::family::Family;

#[cfg(doc)]
use crate::agent::config::ProbeConfig;
use crate::observation::Reply;
use crate::session::Outcome;
use crate::stats::report::{Path, Report};

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
    /// A peer was silent on all paths for [`ProbeConfig::peer_expiry_ns`].
    PeerDown {
        /// Its address.
        peer: IpAddr,
        /// How it became known.
        found: Found,
    },
    /// What became of one probe, if [`ProbeConfig::samples`]. A probe that never left, and one whose sample was lost on
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
