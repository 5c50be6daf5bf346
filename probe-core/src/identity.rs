//! The identity that agents exchange, in a STAMP packet with a private TLV.
//!
//! Base probes carry no identity, so the exchange does not disturb measurements. An identity decides only whether two
//! agents read the same clock, and how reports name a peer. Who asks for it may become a peer.

pub mod agreement;
pub mod clock_proof;
pub mod exchange;
pub mod newcomers;
pub mod wire;

use serde::{Deserialize, Serialize};

use crate::text::is_plain;

/// Longest text of an identity, in bytes. Any identity with a name of this length fits into a packet.
pub const MAX_TEXT_LEN: usize = 64;

/// Whether a text of an identity is accepted.
pub fn is_acceptable(text: &str) -> bool {
    text.len() <= MAX_TEXT_LEN && is_plain(text)
}

/// Whether a name of an agent is accepted.
pub fn is_acceptable_name(name: &str) -> bool {
    !name.is_empty() && is_acceptable(name)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    /// Of kstamp.
    pub version: String,
    /// Random, the same for the whole run of a process, and no secret. Earlier versions send none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u64>,
    /// Attach mode of the receive program (see [`AttachMode`](crate::attach::AttachMode)); a peer may write anything.
    pub receive: String,
    /// Attach mode of the egress program.
    pub egress: String,
    /// The kernel says that the clock is synchronised.
    pub synchronised: bool,
    /// Bound on the error of the clock.
    pub error_ns: u64,
    /// The reflector counts replies per session.
    pub stateful: bool,
    /// Absent if no process answers `kstamp compare`.
    #[serde(default, rename = "echo", skip_serializing_if = "Option::is_none")]
    pub responder: Option<ResponderPorts>,
    /// Probes per second that this host agrees to answer to a `kstamp volley`; 0: none. `None` in earlier versions,
    /// which have not agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volley_limit: Option<u32>,
}

/// UDP ports on which processes answer `kstamp compare`, for the IP version in which this identity is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderPorts {
    pub userspace: u16,
    pub socket: u16,
}
