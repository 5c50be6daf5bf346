//! The output of the agent: probes to send, and events.

use std::net::IpAddr;

use probe_common::family::Family;

#[cfg(doc)]
use crate::agent::config::ProbeConfig;
use crate::observation::Reply;
use crate::session::Outcome;
use crate::stats::report::{Path, Report};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The multicast group of the family.
    Group(Family),
    Peer(IpAddr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    pub destination: Destination,
    pub ssid: u16,
    /// From 0 (RFC 8762 §4.2.1).
    pub seq: u32,
}

/// How a peer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// It answered a probe to the group.
    Multicast,
    /// It asked for this agent's identity, and answered the same question.
    Introduced,
    /// The user named it.
    Static,
    /// A hub assigned it.
    Assigned,
}

impl Found {
    /// Whether it is probed even if it does not answer.
    pub fn is_named(self) -> bool {
        matches!(self, Self::Static | Self::Assigned)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason {
    /// No reply on any path for [`ProbeConfig::peer_expiry_ns`].
    Silent,
    /// It said that it ends, or gives up this address.
    Ended,
    /// This host has lost its address in the peer's subnet, and has another of that IP version.
    NoAddress,
    /// A legacy agent was replaced by one that speaks STAMP.
    SpeaksStamp,
    /// The configuration no longer names it, or the hub no longer assigns it.
    Removed,
}

/// One-way delays that are impossible if both ends read one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refutation {
    pub forward_ns: i64,
    pub backward_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer answered, for the first time or again after a silence.
    PeerUp { peer: IpAddr, found: Found },
    PeerDown {
        peer: IpAddr,
        found: Found,
        reason: DownReason,
    },
    /// This peer is the agent that has given up the address `from`, as its identity says.
    PeerMoved { peer: IpAddr, found: Found, from: IpAddr },
    /// The outcome of one probe, if [`ProbeConfig::samples`]. There is none for a probe whose sample did not
    /// reach userspace.
    Sample {
        peer: IpAddr,
        path: Path,
        ssid: u16,
        seq: u32,
        /// Start of the window whose counts this outcome decides; `None` with a duplicate, or with a late reply to a probe that
        /// was lost before.
        window_ns: Option<u64>,
        /// When the kernel got the probe, monotonic; `None` with a reply, which has T1.
        sent_ns: Option<u64>,
        /// `None` if the probe is lost or did not leave.
        reply: Option<Reply>,
        /// One-way delays, forward and backward, by the estimate of the peer's clock.
        estimated_ns: Option<[i64; 2]>,
        outcome: Outcome,
    },
    /// A wall clock was stepped, which affects one-way delays only.
    ClockStep {
        /// `None` for the clock of this host.
        peer: Option<IpAddr>,
        /// Positive if the clock went forward.
        by_ns: i64,
        /// Steps of this clock since its last event that had no event of their own.
        left_out: u64,
    },
    /// A peer has proven that it reads our clock, but its stamps refute it.
    SameClockRefuted { peer: IpAddr, by: Refutation },
    /// The peer's replies have stamps in the other format than the Z bit of its Error Estimate says. Once for each peer, and
    /// for at most [`MAX_FORMAT_EVENTS`] peers.
    ///
    /// [`MAX_FORMAT_EVENTS`]: crate::agent::MAX_FORMAT_EVENTS
    TimestampFormat { peer: IpAddr },
    /// A finished window of one peer and path.
    Window(Box<Report>),
}
