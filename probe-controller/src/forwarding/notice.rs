//! What the controller reports while it runs.

use std::net::SocketAddr;

use crate::link_delay::Ends;
use crate::openflow::id::Dpid;
use crate::topology::{Link, Path};

/// An event that the controller reports when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A switch is ready.
    SwitchUp {
        /// Which.
        dpid: Dpid,
        /// From where it connected.
        address: SocketAddr,
    },
    /// A switch is gone, or did not get in: why, in one clause.
    SwitchDown {
        /// Which, if it got so far as to say.
        dpid: Option<Dpid>,
        /// From where it had connected.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// LLDP shows a link in both directions.
    LinkUp(Link),
    /// LLDP of a link no longer comes.
    LinkStale(Link),
    /// A port of a link is down or gone, or leads elsewhere.
    LinkDown(Link),
    /// The way between two switches changed.
    Rerouted {
        /// Between this switch
        from: Dpid,
        /// and this one.
        to: Dpid,
        /// The new way.
        path: Path,
        /// What the old one takes now; `None` if it is broken.
        former_delay_ns: Option<u64>,
    },
    /// Something is not as it should be: one line.
    Trouble(String),
}

/// Counts over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How the probes ended.
    pub probes: Ends,
    /// Estimates of a round trip that came out below zero. None of them was ever a weight.
    pub negatives: u64,
    /// Seconds in which broadcast went around: the same host appeared on changing ports again and again.
    pub storms: u64,
    /// Ways between switches that were changed.
    pub reroutes: u64,
    /// Group frames that hosts sent, as far as they were copied to the controller.
    pub broadcasts: u64,
    /// Frames that claimed to be ours and were not.
    pub forged: u64,
}
