//! Notices and totals that the controller reports.

use std::net::SocketAddr;

use crate::link_delay::Ends;
use crate::openflow::id::Dpid;
use crate::topology::{Link, Path};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A switch is ready.
    SwitchUp { dpid: Dpid, address: SocketAddr },
    /// A switch is gone, or did not complete its handshake.
    SwitchDown {
        /// `None` before the features reply.
        dpid: Option<Dpid>,
        address: SocketAddr,
        reason: String,
    },
    /// LLDP shows a link in both directions.
    LinkUp(Link),
    /// LLDP of a link no longer arrives.
    LinkStale(Link),
    /// A port of a link is down or gone, or leads elsewhere.
    LinkDown(Link),
    /// The path between two switches changed.
    Rerouted {
        from: Dpid,
        to: Dpid,
        path: Path,
        /// Present delay of the former path; `None` if it is broken.
        former_delay_ns: Option<u64>,
    },
    /// A problem, in one line.
    Trouble(String),
}

/// Counts over the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How the probes ended.
    pub probes: Ends,
    /// Estimates below zero; none of them was used as a weight.
    pub negatives: u64,
    /// Broadcast storms: one host moved between ports again and again within a second.
    pub storms: u64,
    /// Changes of a path between switches.
    pub reroutes: u64,
    /// Group frames of hosts that were copied to the controller.
    pub broadcasts: u64,
    /// LLDP in our name with a wrong signature or malformed.
    pub forged: u64,
}
