//! Probes of link terms, their answers, and how they ended.

use crate::openflow::id::Dpid;
use crate::topology::PortId;

/// An answer that takes longer than this is lost, in nanoseconds: no path of a network that one would route by takes it.
pub const TIMEOUT_NS: u64 = 2_000_000_000;

/// What is sent to measure one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// An OpenFlow echo: controller, switch, controller.
    Echo(Dpid),
    /// A packet-out to the switch's CONTROLLER port: as an echo, and what packet-out and packet-in cost besides.
    Baseline(Dpid),
    /// LLDP out of a port: controller, switch, link, the next switch, controller.
    Lldp(PortId),
    /// A frame out of a port that the next switch sends back: controller, switch, link, link, switch, controller.
    Bounce(PortId),
}

impl Probe {
    /// The switch to which it is given.
    pub fn dpid(&self) -> Dpid {
        match self {
            Self::Echo(dpid) | Self::Baseline(dpid) => *dpid,
            Self::Lldp(port) | Self::Bounce(port) => port.dpid,
        }
    }
}

/// A probe to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// What identifies its answer; never used twice.
    pub seq: u64,
    /// What to send.
    pub probe: Probe,
}

/// An answer, as the shell read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The sequence number that it carries.
    pub seq: u64,
    /// What it says it is the answer to.
    pub probe: Probe,
    /// When the probe was written to the socket: the stamp that it carries.
    pub sent_ns: u64,
    /// When the answer was read from the socket.
    pub received_ns: u64,
}

/// How many probes had which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Handed out to be sent.
    pub sent: u64,
    /// Answered in time.
    pub answered: u64,
    /// Not answered within [`TIMEOUT_NS`].
    pub lost: u64,
    /// The same of LLDP out of ports from which none was ever answered: no switch is there.
    pub unheard: u64,
    /// Answers after that, or after a first answer.
    pub late: u64,
    /// Answers that do not fit what was sent.
    pub mismatched: u64,
}
