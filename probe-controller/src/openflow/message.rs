//! Decoded messages, one type each.

mod decode;
mod encode;
pub(super) mod kind;
#[cfg(test)]
mod tests;

use crate::openflow::flow::{Action, FlowMod, Match};
use crate::openflow::id::{Dpid, PortNumber};
pub use crate::openflow::message::encode::TooLong;
use crate::openflow::port::{Port, PortReason};

/// An OpenFlow 1.3 message without its transaction id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first message of both ends.
    Hello(Hello),
    /// The other end refused a message.
    Error(ErrorMessage),
    /// Asks for the same payload back.
    EchoRequest(Vec<u8>),
    /// The payload of the request.
    EchoReply(Vec<u8>),
    FeaturesRequest,
    FeaturesReply(Features),
    /// How the switch treats fragments (`flags`), and how many bytes of a packet a table miss sends.
    SetConfig {
        /// `OFPC_FRAG_…`.
        flags: u16,
        /// In bytes; [`crate::openflow::flow::NO_BUFFER`] for all.
        miss_send_len: u16,
    },
    PacketIn(PacketIn),
    PortStatus(PortReason, Port),
    PacketOut(PacketOut),
    FlowMod(FlowMod),
    PortDescRequest,
    /// A part of the port descriptions.
    PortDescReply {
        /// Another part follows.
        more: bool,
        ports: Vec<Port>,
    },
    /// Asks for the number of rules whose cookies equal `cookie` in the bits of the mask.
    AggregateRequest {
        cookie: u64,
        mask: u64,
    },
    /// How many rules there are; their packets and bytes are left out.
    AggregateReply {
        flows: u32,
    },
    /// Answered once all earlier messages are processed.
    BarrierRequest,
    BarrierReply,
    /// A message that kstamp does not use, with its body not decoded.
    Unused {
        /// `ofp_type`.
        kind: u8,
    },
}

/// Versions of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The version in the header: the highest that the sender speaks.
    pub version: u8,
    /// Bit n stands for version n; `None` without the element.
    pub bitmap: Option<u32>,
}

/// `ofp_error_msg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMessage {
    /// `ofp_error_type`.
    pub kind: u16,
    /// Its meaning depends on `kind`.
    pub code: u16,
    /// The first 64 bytes or more of the wrong message; text if `kind` is 0.
    pub data: Vec<u8>,
}

/// `ofp_switch_features`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    pub dpid: Dpid,
    /// Packets that it can buffer.
    pub buffers: u32,
    pub tables: u8,
    /// 0 for the main connection.
    pub auxiliary: u8,
    /// `OFPC_…`.
    pub capabilities: u32,
}

/// `ofp_packet_in_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketInReason {
    /// No rule, or only the table miss, matched it.
    NoMatch,
    /// A rule's or a packet-out's action.
    Action,
    /// The packet's TTL was not valid.
    InvalidTtl,
}

/// A frame from the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketIn {
    pub reason: PacketInReason,
    /// The table whose rule sent it.
    pub table: u8,
    /// The cookie of the rule that sent it; all ones if it was a packet-out.
    pub cookie: u64,
    /// [`PortNumber::CONTROLLER`] if it was a packet-out.
    pub in_port: PortNumber,
    /// All match fields that kstamp knows, `in_port` included.
    pub matching: Match,
    /// Length of the frame in bytes when it was received; `frame` may hold less.
    pub total_len: u16,
    /// The frame, from its destination address on, without FCS.
    pub frame: Vec<u8>,
}

/// A frame for the switch to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketOut {
    /// Ingress port that the switch assumes; [`PortNumber::CONTROLLER`] for none.
    pub in_port: PortNumber,
    pub actions: Vec<Action>,
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
