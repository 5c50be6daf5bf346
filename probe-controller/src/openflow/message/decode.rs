//! Bytes into messages.

use crate::openflow::flow::{ALL_TABLES, Action, FlowMod, Match, UnknownFields};
use crate::openflow::frame::Header;
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::message::{ErrorMessage, Features, Hello, Message, PacketIn, PacketInReason, PacketOut, kind};
use crate::openflow::port::{PORT_LEN, Port, PortReason};
use crate::openflow::wire::{DecodeError, Reader};

impl Message {
    /// Reads the body of a message whose header was read by [`crate::openflow::frame::Framer`].
    ///
    /// # Errors
    /// [`DecodeError`]: the message is wrong; later messages can still be read.
    pub fn decode(header: Header, body: &[u8]) -> Result<Self, DecodeError> {
        let from = |what| Reader::new(body, what);
        let empty = |what, message| from(what).end().map(|()| message);
        match header.kind {
            kind::HELLO => decode_hello(header.version, from("a hello")).map(Self::Hello),
            kind::ERROR => decode_error(from("an error")).map(Self::Error),
            kind::ECHO_REQUEST => Ok(Self::EchoRequest(body.to_vec())),
            kind::ECHO_REPLY => Ok(Self::EchoReply(body.to_vec())),
            kind::FEATURES_REQUEST => empty("a features request", Self::FeaturesRequest),
            kind::FEATURES_REPLY => decode_features(from("a features reply")).map(Self::FeaturesReply),
            kind::SET_CONFIG => decode_set_config(from("a set-config")),
            kind::PACKET_IN => decode_packet_in(from("a packet-in")).map(Self::PacketIn),
            kind::PORT_STATUS => decode_port_status(from("a port status")),
            kind::PACKET_OUT => decode_packet_out(from("a packet-out")).map(Self::PacketOut),
            kind::FLOW_MOD => FlowMod::decode(from("a flow mod")).map(Self::FlowMod),
            kind::MULTIPART_REQUEST => decode_multipart_request(from("a multipart request")),
            kind::MULTIPART_REPLY => decode_multipart_reply(from("a multipart reply")),
            kind::BARRIER_REQUEST => empty("a barrier request", Self::BarrierRequest),
            kind::BARRIER_REPLY => empty("a barrier reply", Self::BarrierReply),
            kind => Ok(Self::Unused { kind }),
        }
    }
}

impl PacketIn {
    /// The cookie of a packet-in, without reading the rest of it; `None` if it is too short.
    pub(in crate::openflow) fn peek_cookie(body: &[u8]) -> Option<u64> {
        body.get(8..16)?.first_chunk().map(|cookie| u64::from_be_bytes(*cookie))
    }

    /// The ingress port of a packet-in, without reading the rest of it, if it is the first field, as Open vSwitch sends it.
    pub(in crate::openflow) fn peek_in_port(body: &[u8]) -> Option<PortNumber> {
        let field = body.get(20..28)?;
        let port = field.strip_prefix(&IN_PORT_HEADER)?.first_chunk()?;
        Some(PortNumber(u32::from_be_bytes(*port)))
    }
}

/// Header of the match field `in_port`: its class, number and length (OpenFlow 1.3.5 §7.2.3.7).
const IN_PORT_HEADER: [u8; 4] = [0x80, 0, 0, 4];

fn decode_hello(version: u8, mut from: Reader<'_>) -> Result<Hello, DecodeError> {
    let mut bitmap = None;
    while !from.is_empty() {
        let (kind, len) = (from.u16()?, usize::from(from.u16()?));
        let mut element = from.part(
            len.checked_sub(4).ok_or_else(|| from.size_error())?,
            "a hello's element",
        )?;
        // The padding of the last element may be missing.
        from.skip((len.next_multiple_of(8) - len).min(from.remaining()))?;
        if kind == kind::HELLO_BITMAP && bitmap.is_none() {
            bitmap = Some(element.u32()?);
        }
    }
    Ok(Hello { version, bitmap })
}

fn decode_error(mut from: Reader<'_>) -> Result<ErrorMessage, DecodeError> {
    Ok(ErrorMessage {
        kind: from.u16()?,
        code: from.u16()?,
        data: from.rest().to_vec(),
    })
}

fn decode_features(mut from: Reader<'_>) -> Result<Features, DecodeError> {
    let dpid = Dpid(from.u64()?);
    let buffers = from.u32()?;
    let (tables, auxiliary) = (from.u8()?, from.u8()?);
    from.skip(2)?;
    let capabilities = from.u32()?;
    from.skip(4)?;
    from.end()?;
    Ok(Features {
        dpid,
        buffers,
        tables,
        auxiliary,
        capabilities,
    })
}

fn decode_set_config(mut from: Reader<'_>) -> Result<Message, DecodeError> {
    let (flags, miss_send_len) = (from.u16()?, from.u16()?);
    from.end()?;
    Ok(Message::SetConfig { flags, miss_send_len })
}

fn decode_packet_in(mut from: Reader<'_>) -> Result<PacketIn, DecodeError> {
    from.skip(4)?;
    let total_len = from.u16()?;
    let reason = match from.u8()? {
        0 => PacketInReason::NoMatch,
        1 => PacketInReason::Action,
        2 => PacketInReason::InvalidTtl,
        reason => {
            return Err(DecodeError::Value {
                what: "a packet-in's reason",
                value: reason.into(),
            });
        }
    };
    let (table, cookie) = (from.u8()?, from.u64()?);
    let matching = Match::decode(&mut from, UnknownFields::Skip)?;
    let in_port = matching
        .in_port
        .ok_or(DecodeError::Content("a packet-in without in_port"))?;
    from.skip(2)?;
    let frame = from.rest().to_vec();
    if frame.len() > usize::from(total_len) {
        return Err(DecodeError::Content("a packet-in that holds more than the frame had"));
    }
    Ok(PacketIn {
        reason,
        table,
        cookie,
        in_port,
        matching,
        total_len,
        frame,
    })
}

fn decode_packet_out(mut from: Reader<'_>) -> Result<PacketOut, DecodeError> {
    let buffer = from.u32()?;
    if buffer != kind::NO_BUFFER_ID {
        return Err(DecodeError::Value {
            what: "a buffer",
            value: buffer.into(),
        });
    }
    let in_port = PortNumber(from.u32()?);
    let len = usize::from(from.u16()?);
    from.skip(6)?;
    let actions = Action::decode_all(from.part(len, "actions")?)?;
    Ok(PacketOut {
        in_port,
        actions,
        frame: from.rest().to_vec(),
    })
}

fn decode_port_status(mut from: Reader<'_>) -> Result<Message, DecodeError> {
    let reason = match from.u8()? {
        0 => PortReason::Add,
        1 => PortReason::Delete,
        2 => PortReason::Modify,
        reason => {
            return Err(DecodeError::Value {
                what: "a port status' reason",
                value: reason.into(),
            });
        }
    };
    from.skip(7)?;
    let port = Port::decode(&mut from)?;
    from.end()?;
    Ok(Message::PortStatus(reason, port))
}

fn decode_multipart_request(mut from: Reader<'_>) -> Result<Message, DecodeError> {
    let kind = from.u16()?;
    from.skip(6)?;
    if kind == kind::MULTIPART_AGGREGATE {
        return decode_aggregate_request(from);
    }
    if kind != kind::MULTIPART_PORT_DESC {
        return Ok(Message::Unused {
            kind: kind::MULTIPART_REQUEST,
        });
    }
    from.end()?;
    Ok(Message::PortDescRequest)
}

/// Conditions besides the cookie are refused: an answer without them would be wrong.
fn decode_aggregate_request(mut from: Reader<'_>) -> Result<Message, DecodeError> {
    let table = from.u8()?;
    from.skip(3)?;
    let (port, group) = (PortNumber(from.u32()?), PortNumber(from.u32()?));
    from.skip(4)?;
    let (cookie, mask) = (from.u64()?, from.u64()?);
    let matching = Match::decode(&mut from, UnknownFields::Refuse)?;
    from.end()?;
    if (table, port, group, matching) != (ALL_TABLES, PortNumber::ANY, PortNumber::ANY, Match::any()) {
        return Err(DecodeError::Content("a request for aggregates of a part of the rules"));
    }
    Ok(Message::AggregateRequest { cookie, mask })
}

fn decode_multipart_reply(mut from: Reader<'_>) -> Result<Message, DecodeError> {
    let (kind, flags) = (from.u16()?, from.u16()?);
    from.skip(4)?;
    if kind == kind::MULTIPART_AGGREGATE {
        from.skip(8 + 8)?;
        let flows = from.u32()?;
        from.skip(4)?;
        from.end()?;
        return Ok(Message::AggregateReply { flows });
    }
    if kind != kind::MULTIPART_PORT_DESC {
        return Ok(Message::Unused {
            kind: kind::MULTIPART_REPLY,
        });
    }
    let mut ports = Vec::with_capacity(from.remaining() / PORT_LEN);
    while !from.is_empty() {
        ports.push(Port::decode(&mut from)?);
    }
    Ok(Message::PortDescReply {
        more: flags & kind::MULTIPART_MORE != 0,
        ports,
    })
}
