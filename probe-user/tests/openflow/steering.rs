//! The server's service: rules, stamps, barriers, ends.

use std::time::Duration;

use probe_controller::openflow::cookie;
use probe_controller::openflow::flow::{Action, FlowCommand, FlowMod, Match};
use probe_controller::openflow::id::PortNumber;
use probe_controller::openflow::lldp::{Key, Kind, LldpProbe};
use probe_controller::openflow::message::{Message, PacketOut};
use probe_controller::openflow::server::{Command, CommandError, Config, EventKind, Limits, Reason};
use probe_host::clock::monotonic_ns;

use crate::harness::{Subject, loopback, port};

fn rules(given: Vec<Message>) -> Vec<FlowMod> {
    let rules = given.into_iter().filter_map(|message| match message {
        Message::FlowMod(rule) => Some(rule),
        _ => None,
    });
    rules.collect()
}

#[test]
fn the_handshake_leaves_lldp_and_the_table_miss() {
    let mut subject = Subject::new(Limits::default());
    let rules = rules(subject.peer().shake_hands(0x2a));
    let (_, dpid, ports) = subject.connected();
    assert_eq!((dpid.0, ports), (0x2a, vec![port(1)]));
    assert_eq!(rules[0], FlowMod::delete_by_cookie(cookie::OURS, cookie::OURS_MASK));
    let to_controller = vec![Action::Output(PortNumber::CONTROLLER)];
    assert_eq!((rules[1].priority, rules[1].cookie), (65_535, cookie::LLDP));
    assert_eq!((rules[2].priority, rules[2].matching), (0, Match::any()));
    assert!(
        rules[1..]
            .iter()
            .all(|rule| rule.command == FlowCommand::Add && rule.actions == to_controller)
    );
    assert_eq!(rules.len(), 3);
}

#[test]
fn measure_only_touches_only_measuring_rules() {
    let config = Config {
        measure_only: true,
        ..Config::new(loopback())
    };
    let subject = Subject::with(config);
    let rules = rules(subject.peer().shake_hands(1));
    assert_eq!(rules.len(), 2);
    assert!(rules.iter().all(|rule| cookie::is_measuring(rule.cookie)), "{rules:?}");
    assert_eq!(rules[0].cookie_mask, cookie::CLASS_MASK);
}

#[test]
fn a_stamped_message_is_built_when_it_is_written() {
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    let key = Key::from_secret(&[7; 32]);
    let build = {
        let key = key.clone();
        move |sent_ns| {
            let probe = LldpProbe {
                kind: Kind::Discovery,
                dpid: probe_controller::openflow::id::Dpid(1),
                port: PortNumber(1),
                sent_ns,
                sequence: 9,
            };
            Message::PacketOut(PacketOut::to_port(PortNumber(1), probe.encode(&key, port(1).mac)))
        }
    };
    let before = monotonic_ns();
    subject
        .server
        .switches()
        .command(connection, Command::stamped(build))
        .unwrap();
    let Some((_, Message::PacketOut(packet))) = peer.receive() else {
        panic!("no packet-out");
    };
    let after = monotonic_ns();
    let probe = LldpProbe::decode(&key, &packet.frame).unwrap();
    assert!((before..=after).contains(&probe.sent_ns), "{before} {probe:?} {after}");
    assert_eq!(packet.actions, [Action::Output(PortNumber(1))]);
}

#[test]
fn planned_messages_are_sent_in_order_of_time_and_never_early() {
    const MS: u64 = 1_000_000;
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    let begin = monotonic_ns();
    for after_ms in [120, 40, 80, 0] {
        let due_ns = begin + after_ms * MS;
        let command = Command::stamped_at(due_ns, move |sent_ns| {
            assert!(sent_ns >= due_ns);
            Message::EchoRequest([due_ns.to_be_bytes(), sent_ns.to_be_bytes()].concat())
        });
        subject.server.switches().command(connection, command).unwrap();
    }
    // Other commands go first.
    let now = Command::stamped(|_| Message::EchoRequest(vec![1]));
    subject.server.switches().command(connection, now).unwrap();
    let mut planned = Vec::new();
    while planned.len() < 5 {
        match peer.receive() {
            Some((_, Message::EchoRequest(payload))) if payload.len() == 16 => {
                let due = u64::from_be_bytes(*payload.first_chunk().unwrap());
                planned.push(Some((due - begin) / MS));
            }
            Some((_, Message::EchoRequest(payload))) if payload == [1] => planned.push(None),
            Some(_) => {}
            None => panic!("closed"),
        }
    }
    assert!(planned[..2].contains(&None), "{planned:?}");
    let planned: Vec<u64> = planned.into_iter().flatten().collect();
    assert_eq!(planned, [0, 40, 80, 120]);
    // Planned messages of an ended connection are dropped.
    drop(peer);
    subject.gone(connection);
    let late = Command::stamped_at(0, |_| Message::BarrierRequest);
    assert!(subject.server.switches().command(connection, late).is_err());
}

#[test]
fn answers_are_stamped_at_the_read_and_not_when_they_are_taken() {
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    let command = Command::stamped(|sent_ns| Message::EchoRequest(sent_ns.to_be_bytes().to_vec()));
    subject.server.switches().command(connection, command).unwrap();
    let Some((header, Message::EchoRequest(payload))) = peer.receive() else {
        panic!("no echo request");
    };
    let before = monotonic_ns();
    peer.send(&Message::EchoReply(payload.clone()), header.xid);
    // The event waits for a while, which its stamp must not show.
    std::thread::sleep(Duration::from_millis(300));
    let (at_ns, returned) = subject.wait("echo reply", |event| match event.kind {
        EventKind::EchoReply(payload) => Some((event.at_ns, payload)),
        _ => None,
    });
    assert_eq!(returned, payload);
    assert!(
        (before..before + 250_000_000).contains(&at_ns),
        "stamped {} ns after it was sent",
        at_ns - before
    );
}

#[test]
fn answers_are_stamped_at_arrival_and_not_when_the_thread_is_free() {
    const BLOCKED: Duration = Duration::from_millis(600);
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    let (sender, blocked) = std::sync::mpsc::channel();
    let command = Command::stamped(move |_| {
        sender.send(()).unwrap();
        // Blocks the thread, as a busy machine may.
        std::thread::sleep(BLOCKED);
        Message::BarrierRequest
    });
    subject.server.switches().command(connection, command).unwrap();
    blocked.recv().unwrap();
    let before = monotonic_ns();
    peer.send(&Message::EchoReply(vec![1]), 0);
    let at_ns = subject.wait("echo reply", |event| {
        matches!(event.kind, EventKind::EchoReply(_)).then_some(event.at_ns)
    });
    assert!(
        (before..before + 300_000_000).contains(&at_ns),
        "stamped {} ns after it was sent",
        at_ns.abs_diff(before)
    );
}

#[test]
fn barriers_return_their_tokens_in_order() {
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    for token in [70, 71] {
        subject
            .server
            .switches()
            .command(connection, Command::Barrier(token))
            .unwrap();
    }
    for _ in 0..2 {
        let Some((header, Message::BarrierRequest)) = peer.receive() else {
            panic!("no barrier request");
        };
        peer.send(&Message::BarrierReply, header.xid);
    }
    let mut next = || {
        subject.wait("barrier", |event| match event.kind {
            EventKind::Barrier(token) => Some(token),
            _ => None,
        })
    };
    assert_eq!([next(), next()], [70, 71]);
}

#[test]
fn echo_requests_are_always_answered() {
    let mut subject = Subject::new(Limits::default());
    let (mut peer, _) = subject.switch(1);
    peer.send(&Message::EchoRequest(vec![1, 2, 3]), 0xbeef);
    let (header, message) = peer.receive().unwrap();
    assert_eq!((header.xid, message), (0xbeef, Message::EchoReply(vec![1, 2, 3])));
}

#[test]
fn queued_messages_are_sent_before_a_close() {
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    let switches = subject.server.switches().clone();
    // Unread bytes in the server's socket must not discard sent bytes.
    peer.send(&Message::EchoRequest(vec![0; 60_000]), 1);
    for number in 0..100_u8 {
        switches
            .command(connection, Command::Send(Message::EchoRequest(vec![number])))
            .unwrap();
    }
    switches.command(connection, Command::Close).unwrap();
    let mut seen = Vec::new();
    while let Some((_, message)) = peer.receive() {
        if let Message::EchoRequest(payload) = message {
            seen.push(payload[0]);
        }
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert_eq!(subject.gone(connection), Reason::ClosedHere);
    assert_eq!(switches.command(connection, Command::Close), Err(CommandError::Gone));
}

#[test]
fn stop_sends_queued_messages_and_ends_in_time() {
    let mut subject = Subject::new(Limits::default());
    let (mut peer, connection) = subject.switch(1);
    let delete = FlowMod::delete_by_cookie(cookie::OURS, cookie::OURS_MASK);
    let command = Command::Send(Message::FlowMod(delete.clone()));
    subject.server.switches().command(connection, command).unwrap();
    let reader = std::thread::spawn(move || peer.receive());
    let begin = std::time::Instant::now();
    subject.server.stop();
    // The limit is a second; the rest is for a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(
        reader.join().unwrap().map(|(_, message)| message),
        Some(Message::FlowMod(delete))
    );
}
