//! Who a peer is: the one STAMP packet with a private TLV in which agents name themselves, and when to send it.
//!
//! Base probes carry no names. What a peer says here is never on the clock: it decides only what its stamps may be
//! used for (one-way delays between ends that read one clock), and what a report calls it.

pub mod exchange;
pub mod wire;

use serde::{Deserialize, Serialize};

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The agent's name.
    pub name: String,
    /// Version of kstamp.
    pub version: String,
    /// How its receive program is attached: `xdp-native`, `xdp-generic` or `tc`.
    pub receive: String,
    /// How its egress program is attached.
    pub egress: String,
    /// Whether its kernel says that the clock is synchronised.
    pub synchronised: bool,
    /// Bound on its clock's error.
    pub error_ns: u64,
    /// A hash of boot id and time namespace: equal hashes read one clock.
    pub clock: u64,
    /// Whether its reflector counts replies per session.
    pub stateful: bool,
    /// Where its processes answer the probes of `kstamp compare`; absent if they do not.
    #[serde(default, rename = "echo", skip_serializing_if = "Option::is_none")]
    pub responder: Option<ResponderPorts>,
}

/// UDP ports on which processes answer, those of the IP version in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderPorts {
    /// Of the method `userspace`.
    pub userspace: u16,
    /// Of the method `socket`.
    pub socket: u16,
}
