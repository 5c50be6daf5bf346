//! Probes of link terms, their answers, and how they ended.

use crate::openflow::id::Dpid;
use crate::topology::PortId;

/// A probe without an answer is lost after this time.
pub const TIMEOUT_NS: u64 = 2_000_000_000;

/// Measures one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// An OpenFlow echo: controller, switch, controller.
    Echo(Dpid),
    /// A packet-out to the switch's CONTROLLER port: an echo plus the cost of packet-out and packet-in.
    Baseline(Dpid),
    /// LLDP out of a port: controller, switch, link, the next switch, controller.
    Lldp(PortId),
    /// A frame that the next switch returns: controller, switch, link, link, switch, controller.
    Bounce(PortId),
}

impl Probe {
    pub fn dpid(&self) -> Dpid {
        match self {
            Self::Echo(dpid) | Self::Baseline(dpid) => *dpid,
            Self::Lldp(port) | Self::Bounce(port) => port.dpid,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Identifies the answer; never used twice.
    pub seq: u64,
    pub probe: Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub seq: u64,
    /// The probe that it claims to answer.
    pub probe: Probe,
    /// When the probe was written to the socket: the stamp that it carries.
    pub sent_ns: u64,
    /// When the answer was read from the socket.
    pub received_ns: u64,
}

/// Probes by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not answered within [`TIMEOUT_NS`].
    pub lost: u64,
    /// Lost LLDP of ports that never had an answer: they lead to no switch.
    pub unheard: u64,
    /// Answers after the timeout, or after a first answer.
    pub late: u64,
    /// Answers that match no probe.
    pub mismatched: u64,
}
