//! Layouts against the specification, and properties: a decoded message equals the encoded one, no bytes cause a panic,
//! and a stream yields the same messages in pieces of any size.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::openflow::DecodeError;
use crate::openflow::flow::FlowCommand;
use crate::openflow::frame::{Framer, HEADER_LEN, MAX_MESSAGE};
use crate::openflow::id::MacAddress;

fn mac() -> impl Strategy<Value = MacAddress> {
    any::<[u8; 6]>().prop_map(MacAddress)
}

fn port_number() -> impl Strategy<Value = PortNumber> {
    any::<u32>().prop_map(PortNumber)
}

fn matching() -> impl Strategy<Value = Match> {
    (
        option::of(port_number()),
        option::of((mac(), mac())),
        option::of(mac()),
        option::of(any::<u16>()),
    )
        .prop_map(|(in_port, eth_dst, eth_src, eth_type)| Match {
            in_port,
            eth_dst,
            eth_src,
            eth_type,
        })
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    vec(port_number().prop_map(Action::Output), 0..5)
}

fn port() -> impl Strategy<Value = Port> {
    (
        port_number(),
        mac(),
        "[!-~]{0,15}",
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(|(number, mac, name, config, state, speed_kbps)| Port {
            number,
            mac,
            name,
            config,
            state,
            speed_kbps,
        })
}

fn flow_mod() -> impl Strategy<Value = FlowMod> {
    let command = prop_oneof![
        Just(FlowCommand::Add),
        Just(FlowCommand::Modify),
        Just(FlowCommand::ModifyStrict),
        Just(FlowCommand::Delete),
        Just(FlowCommand::DeleteStrict),
    ];
    let numbers = (any::<u64>(), any::<u64>(), any::<u8>(), any::<[u16; 4]>());
    (numbers, command, matching(), actions()).prop_map(
        |(
            (cookie, cookie_mask, table, [idle_timeout_s, hard_timeout_s, priority, flags]),
            command,
            matching,
            actions,
        )| {
            FlowMod {
                cookie,
                cookie_mask,
                table,
                command,
                idle_timeout_s,
                hard_timeout_s,
                priority,
                flags,
                matching,
                actions,
            }
        },
    )
}

fn packet_in() -> impl Strategy<Value = PacketIn> {
    let reason = prop_oneof![
        Just(PacketInReason::NoMatch),
        Just(PacketInReason::Action),
        Just(PacketInReason::InvalidTtl)
    ];
    let rest = (
        any::<u8>(),
        any::<u64>(),
        port_number(),
        matching(),
        vec(any::<u8>(), 0..200),
    );
    (reason, rest, 0..1000_u16).prop_map(|(reason, (table, cookie, in_port, matching, frame), more)| PacketIn {
        reason,
        table,
        cookie,
        in_port,
        matching: matching.in_port(in_port),
        total_len: frame.len() as u16 + more,
        frame,
    })
}

fn features() -> impl Strategy<Value = Features> {
    (any::<u64>(), any::<u32>(), any::<[u8; 2]>(), any::<u32>()).prop_map(
        |(dpid, buffers, [tables, auxiliary], capabilities)| Features {
            dpid: Dpid(dpid),
            buffers,
            tables,
            auxiliary,
            capabilities,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let bytes = || vec(any::<u8>(), 0..100);
    let reason = prop_oneof![
        Just(PortReason::Add),
        Just(PortReason::Delete),
        Just(PortReason::Modify)
    ];
    prop_oneof![
        (1..=u8::MAX, option::of(any::<u32>())).prop_map(|(version, bitmap)| Message::Hello(Hello { version, bitmap })),
        (any::<u16>(), any::<u16>(), bytes()).prop_map(|(kind, code, data)| Message::Error(ErrorMessage {
            kind,
            code,
            data
        })),
        bytes().prop_map(Message::EchoRequest),
        bytes().prop_map(Message::EchoReply),
        Just(Message::FeaturesRequest),
        features().prop_map(Message::FeaturesReply),
        (any::<u16>(), any::<u16>()).prop_map(|(flags, miss_send_len)| Message::SetConfig { flags, miss_send_len }),
        packet_in().prop_map(Message::PacketIn),
        (reason, port()).prop_map(|(reason, port)| Message::PortStatus(reason, port)),
        (port_number(), actions(), bytes()).prop_map(|(in_port, actions, frame)| Message::PacketOut(PacketOut {
            in_port,
            actions,
            frame
        })),
        flow_mod().prop_map(Message::FlowMod),
        Just(Message::PortDescRequest),
        (any::<u64>(), any::<u64>()).prop_map(|(cookie, mask)| Message::AggregateRequest { cookie, mask }),
        any::<u32>().prop_map(|flows| Message::AggregateReply { flows }),
        (any::<bool>(), vec(port(), 0..6)).prop_map(|(more, ports)| Message::PortDescReply { more, ports }),
        Just(Message::BarrierRequest),
        Just(Message::BarrierReply),
        Just(Message::Unused { kind: 11 }),
    ]
}

/// All messages of a stream that arrives in pieces, up to the first wrong one.
fn cut(pieces: &[&[u8]]) -> (Vec<(u32, Message)>, Option<DecodeError>) {
    let mut framer = Framer::new(MAX_MESSAGE);
    let mut messages = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_message() {
                Ok(None) => break,
                Ok(Some((header, body))) => match Message::decode(header, body) {
                    Ok(message) => messages.push((header.xid, message)),
                    Err(error) => return (messages, Some(error)),
                },
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

proptest! {
    #[test]
    fn a_decoded_message_equals_the_encoded_one(message in message(), xid: u32) {
        let bytes = message.encode(xid).unwrap();
        prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
        prop_assert_eq!(cut(&[&bytes]), (vec![(xid, message)], None));
    }

    #[test]
    fn random_bytes_cause_no_panic(bytes in vec(any::<u8>(), 0..300)) {
        cut(&[&bytes]);
    }

    #[test]
    fn a_valid_header_with_a_random_body_causes_no_panic(kind in 0..=30_u8, body in vec(any::<u8>(), 0..300)) {
        let len = (HEADER_LEN + body.len()) as u16;
        let mut bytes = vec![4, kind, 0, 0, 0, 0, 0, 1];
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes.extend(body);
        cut(&[&bytes]);
    }

    #[test]
    fn one_changed_byte_never_shifts_the_next_message(message in message(), at: prop::sample::Index, value: u8) {
        let mut bytes = message.encode(1).unwrap();
        // Only the header says where the next message starts.
        let len = bytes.len();
        if len > HEADER_LEN {
            bytes[HEADER_LEN + at.index(len - HEADER_LEN)] = value;
        }
        bytes.extend(Message::BarrierReply.encode(2).unwrap());
        let mut framer = Framer::new(MAX_MESSAGE);
        framer.push(&bytes);
        let (header, body) = framer.next_message().unwrap().unwrap();
        let _ = Message::decode(header, body);
        let (header, body) = framer.next_message().unwrap().unwrap();
        prop_assert_eq!((header.xid, Message::decode(header, body)), (2, Ok(Message::BarrierReply)));
    }

    #[test]
    fn a_stream_in_pieces_yields_the_same_messages(messages in vec(message(), 1..6), cuts in vec(any::<prop::sample::Index>(), 0..8)) {
        let mut stream = Vec::new();
        for (xid, message) in messages.iter().enumerate() {
            stream.extend(message.encode(xid as u32).unwrap());
        }
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces: Vec<_> = at.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
        prop_assert_eq!(cut(&pieces), cut(&[&stream]));
        prop_assert_eq!(cut(&pieces).0.len(), messages.len());
    }

    #[test]
    fn a_truncated_message_is_incomplete(message in message(), at: prop::sample::Index) {
        let bytes = message.encode(1).unwrap();
        let (messages, error) = cut(&[&bytes[..at.index(bytes.len())]]);
        prop_assert_eq!((messages, error), (vec![], None));
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn layouts_follow_the_specification() {
    let lldp = Match::any()
        .eth_dst(MacAddress([1, 0x80, 0xc2, 0, 0, 0xe]))
        .eth_type(0x88cc);
    let to_controller = vec![Action::Output(PortNumber::CONTROLLER)];
    let table = [
        (
            Message::Hello(Hello {
                version: 4,
                bitmap: Some(0x10),
            }),
            "04 00 0010 00000007  0001 0008 00000010",
        ),
        (
            Message::SetConfig {
                flags: 0,
                miss_send_len: 0xffff,
            },
            "04 09 000c 00000007 0000 ffff",
        ),
        (Message::PortDescRequest, "04 12 0010 00000007 000d 0000 00000000"),
        (
            Message::AggregateRequest {
                cookie: 0x1122,
                mask: 0xffff,
            },
            "04 12 0038 00000007 0002 0000 00000000 ff 000000 ffffffff ffffffff 00000000
             0000000000001122 000000000000ffff 0001 0004 00000000",
        ),
        (
            Message::AggregateReply { flows: 5 },
            "04 13 0028 00000007 0002 0000 00000000 0000000000000000 0000000000000000 00000005 00000000",
        ),
        (
            Message::PacketOut(PacketOut::to_port(PortNumber(3), vec![0xaa, 0xbb])),
            "04 0d 002a 00000007 ffffffff fffffffd 0010 000000000000  0000 0010 00000003 ffff 000000000000  aabb",
        ),
        (
            Message::FlowMod(FlowMod::add(0x1122, 65_535, lldp, to_controller)),
            "04 0e 0060 00000007 0000000000001122 0000000000000000 00 00 0000 0000 ffff ffffffff ffffffff ffffffff
             0000 0000  0001 0014 80000606 0180c200000e 80000a02 88cc 00000000
             0004 0018 00000000 0000 0010 fffffffd ffff 000000000000",
        ),
        (
            Message::FlowMod(FlowMod::delete_by_cookie(0x33, 0xff)),
            "04 0e 0038 00000007 0000000000000033 00000000000000ff ff 03 0000 0000 0000 ffffffff ffffffff ffffffff
             0000 0000  0001 0004 00000000",
        ),
        (
            Message::FlowMod(FlowMod::add(0, 1, Match::any().eth_dst_group(), Vec::new())),
            "04 0e 0048 00000007 0000000000000000 0000000000000000 00 00 0000 0000 0001 ffffffff ffffffff ffffffff
             0000 0000  0001 0014 8000070c 010000000000 010000000000 00000000",
        ),
    ];
    for (message, expected) in table {
        assert_eq!(message.encode(7).unwrap(), hex(expected), "{message:?}");
    }
}

#[test]
fn every_length_is_checked() {
    let table = [
        (
            "04 00 0010 00000000 0001 0003 00000010",
            "an element shorter than its header",
        ),
        (
            "04 06 001c 00000000 0000000000000001 00000000 00 00 0000 00000000",
            "features without their end",
        ),
        ("04 15 000c 00000000 00000000", "a barrier reply with a body"),
        (
            "04 0a 0020 00000000 ffffffff 0004 00 00 0000000000000000 0001 0003 00000000",
            "a match of 3 bytes",
        ),
        (
            "04 0a 0020 00000000 ffffffff 0004 00 00 0000000000000000 0001 0020 00000000",
            "a match beyond the end",
        ),
        (
            "04 0a 0028 00000000 ffffffff 0004 00 00 0000000000000000 0001 000c 80000005 0000000100 000000",
            "in_port of 5 bytes",
        ),
        (
            "04 0a 0022 00000000 ffffffff 0004 00 00 0000000000000000 0001 0004 00000000 0000",
            "no in_port",
        ),
        (
            "04 0a 002f 00000000 ffffffff 0004 00 00 0000000000000000 0001 000c 80000004 00000001 00000000 0000 0102030405",
            "more frame than there was",
        ),
        (
            "04 13 0018 00000000 000d 0000 00000000 0000000000000000",
            "an eighth of a port",
        ),
        ("04 0c 0010 00000000 00 00000000000000", "a port status without a port"),
        (
            "04 0d 0018 00000000 ffffffff 00000001 0010 000000000000",
            "actions beyond the end",
        ),
    ];
    for (bytes, what) in table {
        let (messages, error) = cut(&[&hex(bytes)]);
        assert!(messages.is_empty() && error.is_some(), "{what}: {messages:?}");
    }
}

#[test]
fn unknown_fields_are_skipped_in_packets_and_refused_in_rules() {
    // tunnel_id (field 38, 8 bytes) behind in_port.
    let packet = "04 0a 0038 00000000 ffffffff 0002 01 00 0000000000000005
                  0001 0018 80000004 00000009 80004c08 0000000000000001  0000 aabb 00000000";
    let (messages, error) = cut(&[&hex(packet)[..0x38]]);
    // The frame may not be longer than total_len says: 2 bytes, and here 6.
    assert_eq!((messages.len(), error.is_some()), (0, true));
    let mut right = hex(packet);
    right.truncate(0x34);
    right[3] = 0x34;
    let (messages, _) = cut(&[&right]);
    let [(_, Message::PacketIn(packet))] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(
        (packet.in_port, packet.cookie, &packet.frame[..]),
        (PortNumber(9), 5, &[0xaa, 0xbb][..])
    );

    let mut rule = Message::FlowMod(FlowMod::add(0, 0, Match::any().eth_type(1), Vec::new()))
        .encode(0)
        .unwrap();
    let at = rule.len() - 10;
    rule[at] = 9 << 1;
    assert!(matches!(
        cut(&[&rule]).1,
        Some(DecodeError::Value {
            what: "a match field",
            ..
        })
    ));
}

#[test]
fn a_message_that_no_header_can_announce_is_not_encoded() {
    let frame = |len| Message::PacketOut(PacketOut::to_port(PortNumber(1), vec![0; len]));
    assert_eq!(frame(MAX_MESSAGE - 40).encode(0).unwrap().len(), MAX_MESSAGE);
    assert_eq!(frame(MAX_MESSAGE - 39).encode(0), Err(TooLong(MAX_MESSAGE + 1)));
}

#[test]
fn names_of_ports_are_safe_to_print() {
    let mut status = Message::PortStatus(
        PortReason::Add,
        Port {
            number: PortNumber(1),
            mac: MacAddress::default(),
            name: "abc".to_owned(),
            config: 0,
            state: 0,
            speed_kbps: 0,
        },
    )
    .encode(0)
    .unwrap();
    // A control character and a byte that is not UTF-8; an override of the direction of writing.
    for (bytes, shown) in [(b"\x1b[\xff", "\u{fffd}[\u{fffd}"), (b"\xe2\x80\xae", "\u{fffd}")] {
        status[16 + 16..16 + 19].copy_from_slice(bytes);
        let (messages, _) = cut(&[&status]);
        let [(_, Message::PortStatus(_, port))] = &messages[..] else {
            panic!("{messages:?}");
        };
        assert_eq!(port.name, shown);
    }
}
