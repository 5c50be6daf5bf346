//! Messages into bytes.

use crate::openflow::flow::{ALL_TABLES, Action, Match};
use crate::openflow::frame::{HEADER_LEN, MAX_MESSAGE, VERSION};
use crate::openflow::id::PortNumber;
use crate::openflow::message::{Hello, Message, PacketIn, PacketInReason, PacketOut, kind};
use crate::openflow::port::{Port, PortReason};
use crate::openflow::wire::Writer;

/// A message does not fit into the length field of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes cannot be sent: OpenFlow allows 65,535")]
pub struct TooLong(pub usize);

const LEN_AT: usize = 2;

impl Message {
    /// The whole message.
    pub fn encode(&self, xid: u32) -> Result<Vec<u8>, TooLong> {
        let mut to = Writer::default();
        to.u8(if let Self::Hello(hello) = self {
            hello.version
        } else {
            VERSION
        });
        to.u8(self.kind());
        to.u16(0);
        to.u32(xid);
        self.encode_body(&mut to);
        let len = to.len();
        if len > MAX_MESSAGE {
            return Err(TooLong(len));
        }
        to.set_u16(LEN_AT, len);
        Ok(to.finish())
    }

    /// Its `ofp_type`.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Error(_) => kind::ERROR,
            Self::EchoRequest(_) => kind::ECHO_REQUEST,
            Self::EchoReply(_) => kind::ECHO_REPLY,
            Self::FeaturesRequest => kind::FEATURES_REQUEST,
            Self::FeaturesReply(_) => kind::FEATURES_REPLY,
            Self::SetConfig { .. } => kind::SET_CONFIG,
            Self::PacketIn(_) => kind::PACKET_IN,
            Self::PortStatus(..) => kind::PORT_STATUS,
            Self::PacketOut(_) => kind::PACKET_OUT,
            Self::FlowMod(_) => kind::FLOW_MOD,
            Self::PortDescRequest | Self::AggregateRequest { .. } => kind::MULTIPART_REQUEST,
            Self::PortDescReply { .. } | Self::AggregateReply { .. } => kind::MULTIPART_REPLY,
            Self::BarrierRequest => kind::BARRIER_REQUEST,
            Self::BarrierReply => kind::BARRIER_REPLY,
            Self::Unused { kind } => *kind,
        }
    }

    fn encode_body(&self, to: &mut Writer) {
        match self {
            Self::Hello(hello) => encode_hello(hello, to),
            Self::Error(error) => {
                to.u16(error.kind);
                to.u16(error.code);
                to.bytes(&error.data);
            }
            Self::EchoRequest(payload) | Self::EchoReply(payload) => to.bytes(payload),
            Self::FeaturesReply(features) => {
                to.u64(features.dpid.0);
                to.u32(features.buffers);
                to.u8(features.tables);
                to.u8(features.auxiliary);
                to.zeros(2);
                to.u32(features.capabilities);
                to.zeros(4);
            }
            Self::SetConfig { flags, miss_send_len } => {
                to.u16(*flags);
                to.u16(*miss_send_len);
            }
            Self::PacketIn(packet) => encode_packet_in(packet, to),
            Self::PortStatus(reason, port) => encode_port_status(*reason, port, to),
            Self::PacketOut(packet) => encode_packet_out(packet, to),
            Self::FlowMod(flow_mod) => flow_mod.encode(to),
            Self::AggregateRequest { cookie, mask } => {
                multipart(kind::MULTIPART_AGGREGATE, 0, to);
                to.u8(ALL_TABLES);
                to.zeros(3);
                // Any port and any group.
                to.u32(PortNumber::ANY.0);
                to.u32(PortNumber::ANY.0);
                to.zeros(4);
                to.u64(*cookie);
                to.u64(*mask);
                Match::any().encode(to);
            }
            Self::AggregateReply { flows } => {
                multipart(kind::MULTIPART_AGGREGATE, 0, to);
                to.zeros(8 + 8);
                to.u32(*flows);
                to.zeros(4);
            }
            Self::PortDescRequest => multipart(kind::MULTIPART_PORT_DESC, 0, to),
            Self::PortDescReply { more, ports } => {
                let flags = if *more { kind::MULTIPART_MORE } else { 0 };
                multipart(kind::MULTIPART_PORT_DESC, flags, to);
                for port in ports {
                    port.encode(to);
                }
            }
            Self::FeaturesRequest | Self::BarrierRequest | Self::BarrierReply | Self::Unused { .. } => {}
        }
    }
}

fn encode_hello(hello: &Hello, to: &mut Writer) {
    if let Some(bitmap) = hello.bitmap {
        to.u16(kind::HELLO_BITMAP);
        to.u16(8);
        to.u32(bitmap);
    }
}

fn encode_packet_in(packet: &PacketIn, to: &mut Writer) {
    to.u32(kind::NO_BUFFER_ID);
    to.u16(packet.total_len);
    to.u8(match packet.reason {
        PacketInReason::NoMatch => 0,
        PacketInReason::Action => 1,
        PacketInReason::InvalidTtl => 2,
    });
    to.u8(packet.table);
    to.u64(packet.cookie);
    packet.matching.in_port(packet.in_port).encode(to);
    to.zeros(2);
    to.bytes(&packet.frame);
}

fn encode_packet_out(packet: &PacketOut, to: &mut Writer) {
    to.u32(kind::NO_BUFFER_ID);
    to.u32(packet.in_port.0);
    let len_at = to.len();
    to.u16(0);
    to.zeros(6);
    debug_assert_eq!(to.len(), HEADER_LEN + 16, "actions start at 24");
    let start = to.len();
    Action::encode_all(&packet.actions, to);
    let len = to.len() - start;
    to.set_u16(len_at, len);
    to.bytes(&packet.frame);
}

fn encode_port_status(reason: PortReason, port: &Port, to: &mut Writer) {
    to.u8(match reason {
        PortReason::Add => 0,
        PortReason::Delete => 1,
        PortReason::Modify => 2,
    });
    to.zeros(7);
    port.encode(to);
}

fn multipart(kind: u16, flags: u16, to: &mut Writer) {
    to.u16(kind);
    to.u16(flags);
    to.zeros(4);
}

impl PacketOut {
    /// Returns a frame to the controller without leaving the switch, which times a packet-out and a packet-in alone.
    pub fn to_controller(frame: Vec<u8>) -> Self {
        Self::to_port(PortNumber::CONTROLLER, frame)
    }
}
