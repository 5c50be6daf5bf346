//! Matches replies to probes, and reports the outcome of each probe.

use super::*;

/// When the second probe is sent to the group.
const SECOND: u64 = START + INTERVAL;

/// An agent with one group, one peer that is up, the second probe to the group, and the first to the peer.
fn one_peer(config: ProbeConfig) -> (Agent, Transmit, Transmit) {
    let mut agent = agent(config);
    let first = agent.poll_transmit(START).unwrap();
    agent.reply(&reply(host(1), &first, START), START + TRIP);
    let group = agent.poll_transmit(SECOND).unwrap();
    agent.reply(&reply(host(1), &group, SECOND), SECOND + TRIP);
    let unicast = agent.poll_transmit(SECOND + INTERVAL / 2).unwrap();
    (agent, group, unicast)
}

fn samples(agent: &mut Agent) -> Vec<(Path, u32, Outcome, bool)> {
    std::iter::from_fn(|| agent.poll_event())
        .filter_map(|event| match event {
            Event::Sample {
                path,
                seq,
                reply,
                outcome,
                ..
            } => Some((path, seq, outcome, reply.is_some())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_reply_from_elsewhere_is_unmatched() {
    let (mut agent, group, unicast) = one_peer(config());
    assert_eq!(unicast.destination, Destination::Peer(host(1)));
    let now = SECOND + INTERVAL;
    let strangers = [
        reply(host(2), &unicast, START),
        reply(host(1), &Transmit { ssid: 999, ..unicast }, START),
        reply(host(1), &Transmit { seq: 7, ..unicast }, START),
        reply(host6(1), &group, START),
        reply(host(2), &Transmit { seq: 7, ..group }, START),
        reply(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)), &group, START),
    ];
    for (count, stranger) in (1..).zip(&strangers) {
        agent.reply(stranger, now);
        assert_eq!(agent.unmatched(), count, "{stranger:?}");
    }
    assert_eq!(agent.peers().len(), 1);
}

#[test]
fn peers_beyond_the_maximum_are_refused_and_counted() {
    let (mut agent, group, _) = one_peer(ProbeConfig {
        max_peers: 2,
        ..config()
    });
    let third = agent.poll_transmit(SECOND + INTERVAL).unwrap();
    for (probe, sent_ns) in [(&group, SECOND), (&third, SECOND + INTERVAL)] {
        agent.reply(&reply(host(2), probe, sent_ns), sent_ns + TRIP);
        agent.reply(&reply(host(3), probe, sent_ns), sent_ns + TRIP);
    }
    assert_eq!((agent.peers().len(), agent.refused(), agent.unmatched()), (2, 1, 0));
}

#[test]
fn one_answer_makes_no_peer_however_often_it_comes() {
    let mut agent = agent(config());
    let probe = agent.poll_transmit(START).unwrap();
    for copy in 0..100 {
        agent.reply(&reply(host(1), &probe, START), START + TRIP + copy);
    }
    assert!(agent.has_answered(host(1)) && !agent.has_answered(host(2)));
    assert_eq!(
        (agent.peers().len(), agent.poll_event(), agent.unmatched()),
        (0, None, 0)
    );
    // Nothing is sent to it.
    let next = agent.poll_transmit(START + 2 * INTERVAL).unwrap();
    assert_eq!(next.destination, Destination::Group(Family::V4));
    assert_eq!(agent.poll_transmit(START + 2 * INTERVAL), None);
    // The first answer is measured, too, in whatever order they come.
    agent.reply(
        &reply(host(1), &next, START + 2 * INTERVAL),
        START + 2 * INTERVAL + TRIP,
    );
    assert_eq!(agent.poll_event(), Some(up(host(1))));
    let summaries = agent.finish(START + 3 * INTERVAL);
    let counts: Vec<_> = summaries
        .iter()
        .map(|report| (report.path, report.counts.received))
        .collect();
    assert_eq!(counts, [(Path::Unicast, 0), (Path::Group, 2)]);
}

#[test]
fn only_an_address_that_is_answered_itself_may_be_a_peer() {
    let table = [
        ("203.0.113.7", false),
        ("127.0.0.1", false),
        ("192.0.2.9", true),
        ("192.0.2.200", false),
        ("fe80::9", true),
        ("2001:db8::7", false),
        ("::1", false),
    ];
    for (address, believed) in table {
        let address: IpAddr = address.parse().unwrap();
        let group = Families {
            v4: address.is_ipv4(),
            v6: address.is_ipv6(),
        };
        let mut agent = agent(ProbeConfig { group, ..config() });
        for sent_ns in [START, SECOND] {
            let probe = agent.poll_transmit(sent_ns).unwrap();
            agent.reply(&reply(address, &probe, sent_ns), sent_ns + TRIP);
        }
        assert_eq!(agent.peers().len(), usize::from(believed), "{address}");
        assert_eq!(agent.not_allowed(), if believed { 0 } else { 2 }, "{address}");
    }
    // Without a policy, nobody.
    let mut agent = Agent::new(config(), START);
    let probe = agent.poll_transmit(START).unwrap();
    agent.reply(&reply(host(1), &probe, START), START + TRIP);
    assert_eq!(agent.not_allowed(), 1);
}

#[test]
fn a_named_peer_needs_neither_a_prefix_nor_a_second_answer() {
    let stranger: IpAddr = [203, 0, 113, 7].into();
    let mut agent = agent(ProbeConfig {
        static_peers: vec![stranger],
        ..config()
    });
    let group = agent.poll_transmit(START).unwrap();
    agent.reply(&reply(stranger, &group, START), START + TRIP);
    let found = Found::Static;
    assert_eq!(agent.poll_event(), Some(Event::PeerUp { peer: stranger, found }));
}

#[test]
fn a_peer_is_measured_from_the_probe_it_answered_first() {
    let mut agent = agent(config());
    let probes: Vec<Transmit> = (0..5)
        .filter_map(|turn| agent.poll_transmit(START + turn * INTERVAL))
        .collect();
    let now = START + 4 * INTERVAL + TRIP;
    agent.reply(&reply(host(1), &probes[2], START + 2 * INTERVAL), now);
    agent.reply(&reply(host(1), &probes[4], START + 4 * INTERVAL), now);
    let group = agent
        .finish(now)
        .into_iter()
        .find(|summary| summary.path == Path::Group)
        .unwrap();
    let Counts {
        sent,
        received,
        pending,
        ..
    } = group.counts;
    assert_eq!((sent, received, pending), (3, 2, 1));
    assert_eq!(group.start_ns, START + 2 * INTERVAL);
}

#[test]
fn every_probe_is_a_sample_if_asked_for() {
    let (mut agent, group, unicast) = one_peer(ProbeConfig {
        samples: true,
        ..config()
    });
    agent.reply(&reply(host(1), &group, SECOND), SECOND + TRIP);
    let after = SECOND + INTERVAL + TIMEOUT + GRACE_NS;
    agent.expire(after, &mut |ssid, seq, peer, _| {
        assert_eq!((ssid, seq, peer), (unicast.ssid, unicast.seq, host(1)));
        Fate::Unanswered
    });
    agent.reply(&reply(host(1), &unicast, START), after);
    let expected = [
        (Path::Group, 0, Outcome::Ok, true),
        (Path::Group, 1, Outcome::Ok, true),
        (Path::Group, 1, Outcome::Duplicate, true),
        (Path::Unicast, 0, Outcome::Lost, false),
        (Path::Unicast, 0, Outcome::Late, true),
    ];
    assert_eq!(samples(&mut agent), expected);
}

#[test]
fn a_probe_that_did_not_leave_is_a_failed_sample_with_its_reason() {
    let (mut agent, _, unicast) = one_peer(ProbeConfig {
        samples: true,
        ..config()
    });
    agent.transmit_failed(&unicast, SendFailure::Forbidden, SECOND);
    let group = agent.poll_transmit(SECOND + INTERVAL).unwrap();
    assert_eq!(group.destination, Destination::Group(Family::V4));
    agent.transmit_failed(&group, SendFailure::NoCarrier, SECOND + INTERVAL);
    let next = agent.poll_transmit(SECOND + 2 * INTERVAL).unwrap();
    let after = SECOND + 3 * INTERVAL + TIMEOUT + GRACE_NS;
    agent.expire(after, &mut |_, seq, _, _| {
        assert!(seq == next.seq || seq == group.seq - 1, "{seq}");
        Fate::NeverLeft(SendFailure::NoNeighbour)
    });
    let failed = |why| Outcome::Failed(why);
    let got: Vec<_> = samples(&mut agent)
        .into_iter()
        .filter(|(_, _, outcome, _)| matches!(outcome, Outcome::Failed(_)))
        .map(|(path, _, outcome, has_reply)| (path, outcome, has_reply))
        .collect();
    assert_eq!(got[0], (Path::Unicast, failed(SendFailure::Forbidden), false));
    assert_eq!(got[1], (Path::Group, failed(SendFailure::NoCarrier), false));
    assert!(
        got[2..]
            .iter()
            .all(|sample| sample.1 == failed(SendFailure::NoNeighbour))
            && got.len() > 2,
        "{got:?}"
    );
    for summary in agent.finish(after) {
        let counts = summary.counts;
        assert_eq!(
            summary.failures.values().sum::<u64>(),
            counts.send_failed,
            "{summary:?}"
        );
        assert_eq!(counts.unanswered(), counts.send_failed + counts.lost);
    }
}

#[test]
fn the_probes_of_a_stall_are_counted_in_the_window_in_which_it_began() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT + REPORT / 2);
    let windows = world.windows.len();
    let stalled_ns = world.now + 3 * REPORT;
    world.now = stalled_ns;
    world.agent.expire(stalled_ns, &mut |_, _, _, _| Fate::Unanswered);
    world.run(REPORT);
    world.finish();
    let told: Vec<u64> = world.windows[windows..]
        .iter()
        .filter(|window| window.start_ns < stalled_ns)
        .map(|window| window.counts.not_sent)
        .collect();
    let missed = 3 * REPORT / INTERVAL;
    assert_eq!(told.len(), 2, "one for each path");
    assert!(
        told.iter().all(|told| told.abs_diff(missed) <= 1),
        "{told:?}, not {missed}"
    );
    let later = world.windows.iter().filter(|window| window.start_ns >= stalled_ns);
    assert!(later.map(|window| window.counts.not_sent).all(|not_sent| not_sent == 0));
}

#[test]
fn samples_are_not_made_unless_asked_for() {
    let (mut agent, ..) = one_peer(config());
    agent.expire(START + REPORT / 2, &mut |_, _, _, _| Fate::Unanswered);
    assert_eq!(samples(&mut agent), []);
}

#[test]
fn unsent_probes_and_uncollected_replies_are_no_losses() {
    let (mut agent, _, unicast) = one_peer(config());
    agent.transmit_failed(&unicast, SendFailure::NoRoute, START);
    let now = SECOND + INTERVAL;
    let group = agent.poll_transmit(now).unwrap();
    assert_eq!(group.destination, Destination::Group(Family::V4));
    agent.expire(now + REPORT / 2, &mut |_, _, _, _| Fate::CollectorLost);
    let counts: Vec<Counts> = agent
        .finish(now + REPORT / 2)
        .iter()
        .map(|summary| summary.counts)
        .collect();
    assert_eq!(
        (counts[0].sent, counts[0].send_failed, counts[0].unanswered()),
        (0, 1, 1)
    );
    assert_eq!(
        (counts[1].received, counts[1].collector_lost, counts[1].lost),
        (3, 1, 0)
    );
}

#[test]
fn an_unsent_group_probe_finds_no_peer() {
    let mut agent = agent(config());
    let probe = agent.poll_transmit(START).unwrap();
    agent.transmit_failed(&probe, SendFailure::NoRoute, START);
    agent.reply(&reply(host(1), &probe, START), START + TRIP);
    assert_eq!((agent.peers().len(), agent.unmatched()), (0, 1));
}

#[test]
fn facts_about_a_peer_apply_to_all_its_sessions() {
    let (mut agent, _, unicast) = one_peer(config());
    agent.set_same_clock(host(1), true);
    agent.set_stateful(host(1), true);
    agent.reply(&reply(host(1), &unicast, START + INTERVAL), START + 2 * INTERVAL);
    let summaries = agent.finish(START + 2 * INTERVAL);
    assert!(summaries.iter().all(|summary| summary.clock.is_some()));
    assert!(summaries.iter().all(|summary| summary.forward_ns.is_some()));
}

#[test]
fn without_unicast_the_group_is_the_only_path() {
    let mut world = World::new(
        ProbeConfig {
            unicast: false,
            ..config()
        },
        &[host(1)],
    );
    world.run(REPORT);
    assert_eq!(world.sent_to(Destination::Peer(host(1))), 0);
    let paths: Vec<Path> = world.finish().iter().map(|summary| summary.path).collect();
    assert_eq!(paths, [Path::Group]);
}
