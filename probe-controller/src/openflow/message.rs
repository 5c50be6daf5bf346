//! The messages that kstamp speaks, whole: one type for each, in the form in which the rest of the program has them.

mod decode;
mod encode;
pub(super) mod kind;
#[cfg(test)]
mod tests;

pub use encode::TooLong;

use crate::openflow::flow::{Action, FlowMod, Match};
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::port::{Port, PortReason};

/// An OpenFlow 1.3 message without its transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Both ends' first.
    Hello(Hello),
    /// The other end could not do what it was told.
    Error(ErrorMessage),
    /// Asks for the same payload back.
    EchoRequest(Vec<u8>),
    /// The payload of the request.
    EchoReply(Vec<u8>),
    /// Asks who the switch is.
    FeaturesRequest,
    /// Who the switch is.
    FeaturesReply(Features),
    /// How the switch treats fragments (`flags`), and how many bytes of a packet a table miss sends.
    SetConfig {
        /// `OFPC_FRAG_…`.
        flags: u16,
        /// Bytes; [`crate::openflow::flow::NO_BUFFER`] for all.
        miss_send_len: u16,
    },
    /// A frame from the switch.
    PacketIn(PacketIn),
    /// A port changed.
    PortStatus(PortReason, Port),
    /// A frame for the switch to send.
    PacketOut(PacketOut),
    /// A change of rules.
    FlowMod(FlowMod),
    /// Asks for the descriptions of all ports.
    PortDescRequest,
    /// A part of the answer.
    PortDescReply {
        /// Another part follows.
        more: bool,
        /// The ports of this part.
        ports: Vec<Port>,
    },
    /// Asks to be answered when all that came before is done.
    BarrierRequest,
    /// All that came before is done.
    BarrierReply,
    /// A message that OpenFlow 1.3 knows and kstamp has no use for; its body is not looked at.
    Unused {
        /// `ofp_type`.
        kind: u8,
    },
}

/// What versions the sender speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The version in the header: the highest that the sender speaks.
    pub version: u8,
    /// Bit n: speaks version n; `None` where the sender does not say.
    pub bitmap: Option<u32>,
}

/// Why the other end refused something (`ofp_error_msg`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMessage {
    /// `ofp_error_type`.
    pub kind: u16,
    /// What it means depends on `kind`.
    pub code: u16,
    /// The start of the message at fault, at least 64 bytes of it if it was that long; or text, where `kind` is 0.
    pub data: Vec<u8>,
}

/// Who the switch is (`ofp_switch_features`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Its datapath.
    pub dpid: Dpid,
    /// How many packets it can buffer.
    pub buffers: u32,
    /// How many tables it has.
    pub tables: u8,
    /// 0 for the main connection.
    pub auxiliary: u8,
    /// `OFPC_…`.
    pub capabilities: u32,
}

/// Why the switch sends a frame (`ofp_packet_in_reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketInReason {
    /// No rule, or only the table miss, matched it.
    NoMatch,
    /// A rule's or a packet-out's action.
    Action,
    /// Its TTL was not valid.
    InvalidTtl,
}

/// A frame from the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    /// Why it was sent.
    pub reason: PacketInReason,
    /// The table whose rule sent it.
    pub table: u8,
    /// The cookie of the rule that sent it; all ones if it was a packet-out.
    pub cookie: u64,
    /// The port by which it came in; [`PortNumber::CONTROLLER`] if it was a packet-out.
    pub in_port: PortNumber,
    /// Other fields of its match that kstamp knows. `in_port` is here too.
    pub matching: Match,
    /// Length of the frame in bytes when it was received; `frame` may hold less.
    pub total_len: u16,
    /// The frame, from its destination address on, without FCS.
    pub frame: Vec<u8>,
}

/// A frame for the switch to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// As if it had come in by this port; [`PortNumber::CONTROLLER`] if by none.
    pub in_port: PortNumber,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The frame.
    pub frame: Vec<u8>,
}

impl PacketOut {
    /// Sends `frame` out of one port.
    pub fn to_port(port: PortNumber, frame: Vec<u8>) -> Self {
        Self {
            in_port: PortNumber::CONTROLLER,
            actions: vec![Action::Output(port)],
            frame,
        }
    }
}
