//! Peers that break the protocol: each is closed or limited with a reason, and other switches are unaffected.

use std::io::Read as _;
use std::time::{Duration, Instant};

use probe_controller::openflow::cookie;
use probe_controller::openflow::flow::Match;
use probe_controller::openflow::id::PortNumber;
use probe_controller::openflow::message::{ErrorMessage, Features, Hello, Message, PacketIn, PacketInReason};
use probe_controller::openflow::server::{Command, EventKind, Limits, Reason};

use crate::harness::{Peer, Subject, features};

fn quick() -> Limits {
    Limits {
        handshake: Duration::from_millis(500),
        idle: Duration::from_millis(300),
        dead: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// A correct switch must still be served.
fn still_serves(subject: &mut Subject, dpid: u64) {
    let (mut peer, connection) = subject.switch(dpid);
    subject
        .server
        .switches()
        .command(connection, Command::Barrier(dpid))
        .unwrap();
    let (header, message) = peer.receive().unwrap();
    assert_eq!(message, Message::BarrierRequest);
    peer.send(&Message::BarrierReply, header.xid);
    subject.wait("barrier", |event| {
        matches!(event.kind, EventKind::Barrier(token) if token == dpid).then_some(())
    });
}

#[test]
fn wrong_bytes_are_refused_with_a_reason() {
    let table: [(&str, &[u8], &str); 7] = [
        ("garbage", b"GET / HTTP/1.1\r\n\r\n", "version 0x47"),
        (
            "TLS on a plain port",
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            "version 0x16",
        ),
        ("too short a length", &[4, 0, 0, 7, 0, 0, 0, 0], "7 bytes"),
        ("too long a length", &[4, 0, 0xff, 0xff, 0, 0, 0, 0], "65535 bytes"),
        ("unknown type", &[4, 99, 0, 8, 0, 0, 0, 0], "type 99"),
        (
            "not a hello first",
            &[4, 6, 0, 8, 0, 0, 0, 0],
            "a features reply of a wrong length",
        ),
        (
            "a hello that lies about its elements",
            &[4, 0, 0, 12, 0, 0, 0, 0, 0, 1, 0, 99],
            "hello",
        ),
    ];
    let limits = Limits {
        message_bytes: 4_096,
        ..Limits::default()
    };
    let mut subject = Subject::new(limits);
    for (what, bytes, expected) in table {
        let mut peer = subject.peer();
        peer.write(bytes);
        let Reason::Protocol(reason) = subject.refusal() else {
            panic!("{what}");
        };
        assert!(reason.contains(expected), "{what}: {reason}");
        while peer.receive().is_some() {}
    }
    still_serves(&mut subject, 1);
}

#[test]
fn other_versions_get_hello_failed() {
    let mut subject = Subject::new(quick());
    for hello in [
        Hello {
            version: 1,
            bitmap: None,
        },
        Hello {
            version: 6,
            bitmap: Some(1 << 6),
        },
        Hello {
            version: 4,
            bitmap: Some(1 << 1),
        },
    ] {
        let mut peer = subject.peer();
        peer.send(&Message::Hello(hello), 0);
        assert!(matches!(peer.receive(), Some((_, Message::Hello(_)))));
        let Some((_, Message::Error(ErrorMessage { kind: 0, code: 0, .. }))) = peer.receive() else {
            panic!("{hello:?} was not answered by HELLO_FAILED");
        };
        assert!(subject.refusal().to_string().contains("does not speak OpenFlow 1.3"));
    }
    // The highest version is above ours, and there is no bitmap: 1.3 is agreed.
    let mut peer = subject.peer();
    peer.send(
        &Message::Hello(Hello {
            version: 6,
            bitmap: None,
        }),
        0,
    );
    peer.receive().unwrap();
    assert_eq!(peer.receive().unwrap().1, Message::FeaturesRequest);
}

#[test]
fn a_truncated_message_is_no_regular_end() {
    let mut subject = Subject::new(quick());
    let mut peer = subject.peer();
    peer.write(&[4, 0, 0, 16, 0, 0]);
    drop(peer);
    assert!(subject.refusal().to_string().contains("within a message"));
    drop(subject.peer());
    assert_eq!(subject.refusal(), Reason::ClosedBySwitch);
}

#[test]
fn answers_out_of_order_end_the_connection() {
    let mut subject = Subject::new(quick());
    for message in [
        Message::BarrierReply,
        Message::FeaturesReply(features(5)),
        Message::PortDescReply {
            more: true,
            ports: Vec::new(),
        },
        Message::FeaturesRequest,
    ] {
        let mut early = subject.peer();
        early.hello();
        early.send(&message, 77);
        let reason = subject.refusal();
        assert!(matches!(reason, Reason::Protocol(_)), "{message:?} early: {reason}");

        let (mut late, connection) = subject.switch(5);
        late.send(&message, 77);
        let reason = subject.gone(connection);
        assert!(matches!(reason, Reason::Protocol(_)), "{message:?} late: {reason}");
    }
    still_serves(&mut subject, 6);
}

#[test]
fn a_switch_that_refuses_its_rules_is_refused() {
    let mut subject = Subject::new(quick());
    let mut peer = subject.peer();
    peer.hello();
    loop {
        let (header, message) = peer.receive().unwrap();
        match message {
            Message::FeaturesRequest => peer.send(&Message::FeaturesReply(features(1)), header.xid),
            Message::FlowMod(_) => {
                let error = ErrorMessage {
                    kind: 5,
                    code: 1,
                    data: Vec::new(),
                };
                peer.send(&Message::Error(error), header.xid);
                break;
            }
            _ => {}
        }
    }
    assert!(
        subject
            .refusal()
            .to_string()
            .contains("refused the first rules: OpenFlow error type 5, code 1")
    );
}

#[test]
fn auxiliary_connections_are_refused() {
    let mut subject = Subject::new(quick());
    let mut peer = subject.peer();
    peer.hello();
    peer.receive().unwrap();
    let (header, _) = peer.receive().unwrap();
    let features = Features {
        auxiliary: 1,
        ..features(1)
    };
    peer.send(&Message::FeaturesReply(features), header.xid);
    assert!(subject.refusal().to_string().contains("auxiliary"));
}

#[test]
fn silence_ends_handshakes_and_connections() {
    let mut subject = Subject::new(quick());
    let _mute = subject.peer();
    assert!(subject.refusal().to_string().contains("handshake in 0.5 s"));

    let (mut peer, connection) = subject.switch(1);
    // First comes an echo request.
    let (header, message) = peer.receive().unwrap();
    assert_eq!(message, Message::EchoRequest(Vec::new()));
    peer.send(&Message::EchoReply(Vec::new()), header.xid);
    let answered = Instant::now();
    let reason = subject.gone(connection);
    assert!(reason.to_string().contains("nothing received for"), "{reason}");
    assert!(
        answered.elapsed() >= Duration::from_millis(900),
        "the answer did not count"
    );
}

#[test]
fn a_switch_that_does_not_read_is_closed_and_commands_are_bounded() {
    let mut subject = Subject::new(quick());
    let (_deaf, connection) = subject.switch(1);
    let switches = subject.server.switches().clone();
    let mut full = false;
    for _ in 0..20_000 {
        let payload = vec![0; 16_000];
        full |= switches
            .command(connection, Command::Send(Message::EchoRequest(payload)))
            .is_err();
        if full {
            break;
        }
    }
    assert!(full, "commands pile up without end");
    let reason = subject.gone(connection);
    assert!(matches!(reason, Reason::Silent(_)), "{reason}");
    still_serves(&mut subject, 2);
}

fn packet_in(cookie: u64, port: u32) -> Message {
    Message::PacketIn(PacketIn {
        reason: PacketInReason::NoMatch,
        table: 0,
        cookie,
        in_port: PortNumber(port),
        matching: Match::any().in_port(PortNumber(port)),
        total_len: 60,
        frame: vec![0; 60],
    })
}

#[test]
fn a_flood_of_packet_ins_is_limited_apart_from_measurements() {
    let limits = Limits {
        packet_ins_per_s: 100,
        ..Limits::default()
    };
    let mut subject = Subject::new(limits);
    let (mut quiet, quiet_connection) = subject.switch(2);
    let (mut flooder, connection) = subject.switch(1);
    let begin = Instant::now();
    let flood = packet_in(cookie::TABLE_MISS, 1).encode(0).unwrap().repeat(10_000);
    flooder.write(&flood);
    // Another port of the same switch is not affected.
    for _ in 0..10 {
        flooder.send(&packet_in(cookie::TABLE_MISS, 2), 0);
    }
    flooder.send(&packet_in(cookie::LLDP, 1), 0);
    // The other switch is answered all the while.
    quiet.send(&Message::EchoRequest(vec![1]), 5);
    quiet.receive().unwrap();
    let (mut through, mut of_other_port) = (0, 0);
    subject.wait("packet-in of a rule that measures", |event| match event.kind {
        EventKind::PacketIn(packet) if cookie::is_measuring(packet.cookie) => Some(()),
        EventKind::PacketIn(packet) => {
            let count = if packet.in_port == PortNumber(1) {
                &mut through
            } else {
                &mut of_other_port
            };
            *count += 1;
            None
        }
        EventKind::Gone { reason, .. } => panic!("{reason}"),
        _ => None,
    });
    assert_eq!(of_other_port, 10);
    let allowed = 25 + 25 * (begin.elapsed().as_secs() + 1);
    assert!(
        (25..=allowed).contains(&through),
        "{through} packet-ins, {allowed} allowed"
    );
    assert!(subject.server.counters().packet_ins_over_limit >= 9_000);
    for connection in [connection, quiet_connection] {
        subject
            .server
            .switches()
            .command(connection, Command::Barrier(1))
            .unwrap();
    }
}

#[test]
fn the_first_of_two_switches_with_one_dpid_stays_while_it_answers() {
    let mut subject = Subject::new(Limits::default());
    let (mut first, first_connection) = subject.switch(0xab);
    let second = subject.peer();
    let newcomer = std::thread::spawn(move || claim(second, 0xab));
    // The first is asked, and answers.
    let (header, message) = first.receive().unwrap();
    assert_eq!(message, Message::EchoRequest(Vec::new()));
    first.send(&Message::EchoReply(Vec::new()), header.xid);
    let reason = subject.refusal();
    assert!(matches!(reason, Reason::DuplicateDpid { .. }), "{reason}");
    assert!(
        reason
            .to_string()
            .contains("00000000000000ab is already connected from 127.0.0.1"),
        "{reason}"
    );
    assert_eq!(newcomer.join().unwrap(), 0, "the newcomer was given rules");

    // Without an answer, the next newcomer takes its slot. The end of the first is reported before.
    let second = subject.peer();
    let newcomer = std::thread::spawn(move || {
        let mut second = second;
        second.shake_hands(0xab);
        second
    });
    let reason = subject.gone(first_connection);
    assert!(matches!(reason, Reason::Superseded(_)), "{reason}");
    let (connection, dpid, _) = subject.connected();
    assert_eq!(dpid.0, 0xab);
    assert_ne!(connection, first_connection);
    drop(newcomer.join().unwrap());
}

/// Claims a datapath. Returns the number of flow mods until the server closes.
fn claim(mut peer: Peer, dpid: u64) -> usize {
    peer.hello();
    let mut flow_mods = 0;
    while let Some((header, message)) = peer.receive() {
        match message {
            Message::FeaturesRequest => peer.send(&Message::FeaturesReply(features(dpid)), header.xid),
            Message::FlowMod(_) => flow_mods += 1,
            _ => {}
        }
    }
    flow_mods
}

#[test]
fn the_number_of_switches_is_limited() {
    let mut subject = Subject::new(Limits {
        switches: 2,
        ..Limits::default()
    });
    let (_first, _) = subject.switch(1);
    let (second, connection) = subject.switch(2);
    let mut third = subject.peer();
    assert!(matches!(subject.refusal(), Reason::Limit(_)));
    assert_eq!(third.stream.read(&mut [0; 8]).unwrap_or(0), 0);
    drop(second);
    assert_eq!(subject.gone(connection), Reason::ClosedBySwitch);
    // The slot is free shortly after the end is reported.
    std::thread::sleep(Duration::from_millis(100));
    still_serves(&mut subject, 3);
}
