//! Peers that come and go, and how a run ends.

use super::*;

#[test]
fn a_host_that_answers_the_group_is_probed_itself() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT + 10 * MS);
    assert_eq!(world.events, [up(host(1))]);
    let summaries = world.finish();
    let paths: Vec<Path> = summaries.iter().map(|summary| summary.path).collect();
    assert_eq!(paths, [Path::Unicast, Path::Group]);
    for summary in &summaries {
        assert!(summary.counts.sent >= 100 && summary.counts.lost == 0, "{summary:?}");
        assert_eq!(summary.rtt_ns.map(|rtt| rtt.max), Some((TRIP - MS / 2) as i64));
    }
    assert_eq!(world.agent.unmatched(), 0);
}

#[test]
fn ten_hosts_in_two_families_are_twenty_sessions_spread_over_the_interval() {
    let hosts: Vec<IpAddr> = (1..=5).map(host).chain((1..=5).map(host6)).collect();
    let mut world = World::new(
        ProbeConfig {
            group: Families { v4: true, v6: true },
            ..config()
        },
        &hosts,
    );
    world.run(3 * REPORT + INTERVAL / 2);
    assert_eq!(world.events.len(), 10);
    // 12 senders: no two closer than a sixteenth of the interval.
    let times: Vec<u64> = world.sent.iter().map(|(time, _)| *time).collect();
    let settled = &times[times.len() / 2..];
    assert!(settled.windows(2).all(|pair| pair[1] - pair[0] >= INTERVAL / 16));
    let windows = world.windows.len();
    assert_eq!(windows % 20, 0, "the windows of all sessions close together");
    let summaries = world.finish();
    assert_eq!(summaries.len(), 20);
    assert!(summaries.iter().all(|summary| summary.counts.lost == 0));
    assert!(summaries.iter().all(|summary| summary.counts.received > 290));
}

#[test]
fn identifiers_are_unique_and_not_zero() {
    let hosts: Vec<IpAddr> = (1..=5).map(host).collect();
    let mut world = World::new(
        ProbeConfig {
            first_ssid: u16::MAX - 2,
            ..config()
        },
        &hosts,
    );
    world.run(REPORT);
    let mut ssids: Vec<u16> = world.agent.peers().iter().filter_map(Peer::ssid).collect();
    ssids.sort_unstable();
    assert_eq!(ssids, [1, 2, 3, u16::MAX - 1, u16::MAX]);
}

#[test]
fn each_session_counts_from_zero() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT);
    for destination in [Destination::Group(Family::V4), Destination::Peer(host(1))] {
        let sent = world
            .sent
            .iter()
            .filter(|(_, transmit)| transmit.destination == destination);
        let seqs: Vec<u32> = sent.map(|(_, transmit)| transmit.seq).collect();
        assert!(seqs.iter().copied().eq(0..seqs.len() as u32));
    }
}

#[test]
fn a_peer_goes_down_and_comes_back_as_the_same() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT);
    assert!(world.agent.peers()[0].is_up());
    world.hosts.clear();
    world.run(3 * SILENCE);
    assert_eq!(world.events, [up(host(1)), down(host(1))]);
    assert!(!world.agent.peers()[0].is_up());
    let silent = world.sent_to(Destination::Peer(host(1)));
    world.run(REPORT);
    assert_eq!(
        world.sent_to(Destination::Peer(host(1))),
        silent,
        "a peer that is down gets no probes"
    );

    world.hosts.push(host(1));
    world.run(REPORT);
    assert_eq!(world.events, [up(host(1)), down(host(1)), up(host(1))]);
    assert_eq!(world.agent.peers().len(), 1);
    let summaries = world.finish();
    assert_eq!(summaries.len(), 2);
    for summary in &summaries {
        // About 50 probes were lost before the peer counted as down, and none while it was down.
        let Counts { received, lost, .. } = summary.counts;
        assert!((45..=55).contains(&lost), "{summary:?}");
        assert!(received > 190, "{summary:?}");
    }
}

#[test]
fn a_peer_that_says_that_it_ends_loses_no_probe() {
    for found in [Found::Multicast, Found::Static] {
        let named = ProbeConfig {
            group: Families {
                v4: found == Found::Multicast,
                v6: false,
            },
            static_peers: (found == Found::Static).then_some(host(1)).into_iter().collect(),
            ..config()
        };
        let mut world = World::new(named, &[host(1)]);
        world.run(REPORT);
        // Its last replies are under way, and it gets one more probe on each path.
        world.hosts.clear();
        world.run(INTERVAL);
        world.agent.ended(host(1), world.now);
        world.agent.ended(host(1), world.now);
        world.take_events();
        world.run(3 * REPORT);
        let events = [
            Event::PeerUp { peer: host(1), found },
            Event::PeerDown {
                peer: host(1),
                found,
                reason: DownReason::Ended,
            },
        ];
        assert_eq!(world.events, events);
        let probed = world.sent_to(Destination::Peer(host(1)));
        assert_eq!(
            probed > 350,
            found == Found::Static,
            "{probed}: a named peer may come back"
        );
        world.hosts.push(host(1));
        world.run(REPORT);
        assert_eq!(world.events.len(), 3, "{:?}", world.events);
        for summary in world.finish() {
            let Counts {
                sent,
                received,
                lost,
                pending,
                ..
            } = summary.counts;
            assert_eq!((lost, sent), (0, received + pending), "{summary:?}");
            assert!(received > 190, "{summary:?}");
        }
    }
}

#[test]
fn a_peer_that_says_goodbye_over_and_over_causes_few_events_and_one_that_restarts_is_back_at_once() {
    const S: u64 = 1_000 * MS;
    for found in [Found::Multicast, Found::Static] {
        let named = ProbeConfig {
            static_peers: (found == Found::Static).then_some(host(1)).into_iter().collect(),
            ..config()
        };
        let mut world = World::new(named, &[host(1)]);
        for _ in 0..100 * S / INTERVAL {
            world.run(INTERVAL);
            world.agent.ended(host(1), world.now);
        }
        assert!(!world.agent.wants(host(1), world.now), "{found:?}: its goodbye holds");
        // It comes up twice at once, and again after 1, 3, 7, 15, 31 and 63 s.
        let changes = world.events.len();
        assert_eq!(changes, 16, "{found:?}: {:?}", world.events);
        world.run(60 * S);
        assert_eq!(world.events.len(), changes + 1, "back for good");
        for _ in 0..3 {
            world.run(10 * S);
            world.events.clear();
            world.agent.ended(host(1), world.now);
            world.run(3 * INTERVAL);
            assert_eq!(world.events.len(), 2, "{found:?}: {:?}", world.events);
        }
    }
}

#[test]
fn addresses_that_come_and_say_goodbye_in_turn_are_bounded_by_the_number_of_peers() {
    let mut world = World::new(config(), &[]);
    for turn in 0..100 {
        world.hosts = vec![host(1 + turn)];
        world.run(3 * INTERVAL);
        world.agent.ended(host(1 + turn), world.now);
    }
    world.take_events();
    assert_eq!(world.events.len(), 2 * world.agent.config.max_peers);
    assert!(world.agent.refused() > 0);
    world.run(10_000 * MS);
    world.hosts = vec![host(150)];
    world.run(3 * INTERVAL);
    assert_eq!(
        world.events.last(),
        Some(&up(host(150))),
        "a new one takes the place of one that has left"
    );
}

#[test]
fn a_peer_in_a_subnet_that_this_host_has_left_loses_no_probe() {
    let address = |ip: IpAddr, length| OwnAddress {
        ip,
        prefix: ipnet::IpNet::new(ip, length).unwrap(),
        deprecated: false,
    };
    let near = address(own(), 24);
    let other = address([198, 51, 100, 1].into(), 24);
    let other_version = address(host6(200), 64);
    let named = ProbeConfig {
        static_peers: vec![host(1)],
        ..config()
    };
    for (what, left, is_lost) in [
        ("another subnet is left", vec![other, other_version], false),
        ("no address is left, so probes fail", vec![other_version], true),
        ("nothing has changed", vec![near, other], true),
    ] {
        let mut world = World::new(named.clone(), &[host(1), host(2)]);
        world.agent.set_policy(Policy::of_interface(&[near, other], []));
        world.run(REPORT);
        world.events.clear();
        // The replies to the last probes arrive after the change.
        world.run(INTERVAL + TRIP / 2);
        world.agent.set_policy(Policy::of_interface(&left, []));
        world.run(TRIP);
        world.hosts.clear();
        world.run(SILENCE / 2);
        let gone = Event::PeerDown {
            peer: host(2),
            found: Found::Multicast,
            reason: DownReason::NoAddress,
        };
        let events = if is_lost { vec![] } else { vec![gone] };
        assert_eq!(world.events, events, "{what}");
        for summary in world.finish() {
            let unicast_of_named = summary.peer == host(1) && summary.path == Path::Unicast;
            assert_eq!(
                summary.counts.lost > 0,
                is_lost || unicast_of_named,
                "{what}: {summary:?}"
            );
        }
    }
}

#[test]
fn only_an_agent_that_said_goodbye_and_comes_up_soon_with_the_same_instance_has_moved() {
    let (old, new) = (host(1), host(2));
    const NONE: u64 = u64::MAX;
    // Instance of the peer that comes up, when it does after the old one has left, and when the goodbye comes.
    let table = [
        ("it has moved", new, 7, 0, 0, true),
        ("its goodbye is late", new, 7, 0, TIMEOUT / 2, true),
        ("it has restarted at another address", new, 8, 0, 0, false),
        ("a copy of its instance", new, 7, 0, NONE, false),
        ("neither sends an instance", new, NONE, 0, TIMEOUT / 2, false),
        ("long ago", new, 7, 2 * SILENCE, 0, false),
        ("it is back", old, 7, 0, 0, false),
        ("the other IP version", host6(2), 7, 0, 0, false),
    ];
    for (what, next, instance, wait, goodbye, moves) in table {
        let both = ProbeConfig {
            group: Families { v4: true, v6: true },
            ..config()
        };
        // A peer that was up before is no new address, whatever its instance.
        let other = host(3);
        let mut world = World::new(both, &[old, other]);
        world.run(2 * REPORT);
        let asked = |world: &mut World, peer, instance| {
            if instance != NONE {
                world.agent.set_instance(peer, instance);
            }
        };
        asked(&mut world, old, if instance == NONE { NONE } else { 7 });
        world.hosts = vec![other];
        if goodbye == 0 {
            world.agent.ended(old, world.now);
        }
        asked(&mut world, other, instance);
        world.run(wait);
        world.hosts.push(next);
        world.run(TIMEOUT / 2);
        // It is asked again and again.
        for _ in 0..2 {
            asked(&mut world, next, instance);
        }
        if goodbye == TIMEOUT / 2 {
            world.agent.ended(old, world.now);
        }
        world.run(SILENCE / 2);
        let moved = Event::PeerMoved {
            peer: next,
            found: Found::Multicast,
            from: old,
        };
        let is_move = |event: &&Event| matches!(event, Event::PeerMoved { .. });
        let seen: Vec<_> = world.events.iter().filter(is_move).collect();
        assert_eq!(seen, Vec::from_iter(moves.then_some(&moved)), "{what}");
        let lost: u64 = world.finish().iter().map(|summary| summary.counts.lost).sum();
        assert_eq!(lost > 0, goodbye == NONE, "{what}");
    }
}

#[test]
fn a_new_peer_takes_the_place_of_the_one_that_is_down_for_longest() {
    let three = ProbeConfig {
        max_peers: 3,
        static_peers: vec![host(9)],
        ..config()
    };
    let mut world = World::new(three, &[host(1), host(2)]);
    world.run(REPORT);
    world.hosts = vec![host(2)];
    world.run(2 * SILENCE);
    world.hosts = vec![];
    world.run(2 * SILENCE);
    world.events.clear();
    // The named peer is down, too, but keeps its place.
    world.hosts = vec![host(3)];
    world.run(REPORT);
    assert_eq!(world.events, [up(host(3))]);
    assert_eq!((world.agent.evicted(), world.agent.refused()), (1, 0));
    world.hosts = vec![host(3), host(4), host(5)];
    world.run(REPORT);
    assert_eq!(world.events.len(), 2, "{:?}", world.events);
    assert_eq!(world.agent.evicted(), 2);
    assert!(world.agent.refused() > 0, "all are up");
    assert_eq!(world.agent.unmatched(), 0);
    let summaries = world.finish();
    let of = |peer| summaries.iter().filter(|summary| summary.peer == peer).count();
    assert_eq!([1, 2, 3, 9].map(|number| of(host(number))), [2, 2, 2, 1]);
    let received = |summary: &Report| summary.counts.received;
    assert!(
        summaries
            .iter()
            .all(|summary| summary.peer == host(9) || received(summary) > 50)
    );
}

#[test]
fn a_static_peer_is_probed_before_it_answers_and_after_it_is_down() {
    let peer = host(9);
    let mut world = World::new(
        ProbeConfig {
            group: Families { v4: false, v6: false },
            static_peers: vec![peer, peer],
            ..config()
        },
        &[],
    );
    world.run(REPORT / 2);
    assert_eq!((world.events.len(), world.agent.peers().len()), (0, 1));
    world.hosts.push(peer);
    world.run(REPORT / 2);
    world.hosts.clear();
    world.run(2 * SILENCE);
    world.hosts.push(peer);
    world.run(REPORT);
    let found = Found::Static;
    let expected = [
        Event::PeerUp { peer, found },
        Event::PeerDown {
            peer,
            found,
            reason: DownReason::Silent,
        },
        Event::PeerUp { peer, found },
    ];
    assert_eq!(world.events, expected);
    assert!(world.sent_to(Destination::Peer(peer)) >= 290);
    let summaries = world.finish();
    assert_eq!(summaries.len(), 1);
    assert!(summaries[0].counts.lost >= 140);
}

#[test]
fn a_count_ends_the_run_by_itself() {
    let mut world = World::new(
        ProbeConfig {
            count: Some(3),
            report_ns: 0,
            ..config()
        },
        &[host(1)],
    );
    world.run(INTERVAL * 4);
    assert!(!world.agent.is_settled(), "a new peer may still answer");
    world.run(2 * TIMEOUT);
    assert!(world.agent.is_settled());
    assert_eq!(world.sent_to(Destination::Group(Family::V4)), 3);
    assert_eq!(world.sent_to(Destination::Peer(host(1))), 3);
    assert_eq!(world.agent.next_deadline(), None);
    assert!(world.finish().iter().all(|summary| summary.counts.received == 3));
}

#[test]
fn a_stopped_agent_waits_for_pending_probes_only() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT / 2);
    world.agent.stop_sending();
    let sent = world.sent.len();
    world.run(TRIP);
    assert!(world.agent.is_settled());
    assert_eq!(world.sent.len(), sent);
    world.run(2 * SILENCE);
    assert_eq!(world.events, [up(host(1))], "a peer without probes does not go down");
}

#[test]
fn after_a_stall_each_session_sends_once() {
    let mut world = World::new(config(), &[host(1), host(2)]);
    world.run(REPORT);
    let before = world.sent.len();
    world.now += 10 * INTERVAL;
    world.step();
    assert_eq!(world.sent.len() - before, 3);
    // Each goes on at its own phase; numbers count real probes only.
    world.run(INTERVAL);
    assert_eq!(world.sent.len() - before, 6);
    let group = Destination::Group(Family::V4);
    let last = world
        .sent
        .iter()
        .rev()
        .find(|(_, transmit)| transmit.destination == group);
    assert_eq!(
        last.map(|(_, transmit)| transmit.seq as usize + 1),
        Some(world.sent_to(group))
    );
}

#[test]
fn missed_windows_are_one_window() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT / 2);
    world.now += 3 * REPORT;
    world.step();
    let next = world.agent.next_deadline().unwrap();
    assert!(next > world.now);
    let ends: Vec<u64> = world.windows.iter().map(|window| window.end_ns).collect();
    assert!(ends.iter().all(|end| *end == world.now), "{ends:?}");
}

#[test]
fn a_run_is_settled_once_no_path_waits_for_a_reply() {
    let one_path = ProbeConfig {
        count: Some(1),
        group: Families { v4: false, v6: false },
        static_peers: vec![host(1)],
        ..config()
    };
    let two_paths = ProbeConfig {
        count: Some(2),
        static_peers: vec![host(1)],
        ..config()
    };
    // The host answers its first probes, and none after 8 ms.
    for (config, answered) in [(one_path, false), (two_paths, true)] {
        let hosts = [host(1)];
        let mut world = World::new(config, if answered { &hosts } else { &[] });
        world.run(8 * MS);
        world.hosts.clear();
        world.run(12 * MS);
        world.agent.stop_sending();
        assert!(!world.agent.is_settled());
        world.run(2 * TIMEOUT);
        assert!(world.agent.is_settled());
    }
}

#[test]
fn losses_have_a_direction_once_a_peer_is_known_to_be_stateful() {
    for stateful in [false, true] {
        let mut world = World::new(config(), &[host(1)]);
        world.run(200 * MS);
        world.agent.set_stateful(host(1), stateful);
        world.hosts.clear();
        world.run(50 * MS);
        world.hosts.push(host(1));
        world.run(500 * MS);
        for summary in world.finish() {
            let Counts {
                lost, lost_backward, ..
            } = summary.counts;
            assert!(lost > 0);
            assert_eq!(lost_backward, if stateful { lost } else { 0 });
        }
    }
}

#[test]
fn a_group_that_is_added_later_is_probed_and_finds_its_peers() {
    let [v4, v6] = [host(1), host6(6)];
    let mut world = World::new(config(), &[v4, v6]);
    world.run(REPORT);
    assert_eq!(world.agent.peers().len(), 1);
    for _ in 0..2 {
        world.agent.add_group(Family::V6, world.now);
    }
    world.run(REPORT);
    assert_eq!(world.agent.peers().len(), 2);
    assert_eq!(world.sent_to(Destination::Group(Family::V6)) as u64, REPORT / INTERVAL);
    assert!(world.finish().iter().all(|summary| summary.counts.lost == 0));
}

#[test]
fn a_host_that_introduces_itself_is_probed_by_unicast_while_it_answers() {
    let mut world = World::new(config(), &[]);
    world.run(REPORT);
    let found = Found::Introduced;
    for _ in 0..2 {
        world.events.clear();
        let before = world.sent_to(Destination::Peer(host(1)));
        assert!(world.agent.wants(host(1), world.now));
        world.agent.introduced(host(1), world.now);
        assert!(!world.agent.wants(host(1), world.now), "it is up");
        world.run(3 * SILENCE);
        let (peer, reason) = (host(1), DownReason::Silent);
        assert_eq!(
            world.events,
            [Event::PeerUp { peer, found }, Event::PeerDown { peer, found, reason }]
        );
        let probes = world.sent_to(Destination::Peer(host(1))) - before;
        assert!(
            (SILENCE / INTERVAL..SILENCE / INTERVAL + 3).contains(&(probes as u64)),
            "{probes}"
        );
    }
    let summaries = world.finish();
    assert_eq!(
        summaries.iter().map(|summary| summary.path).collect::<Vec<_>>(),
        [Path::Unicast]
    );
}

#[test]
fn only_a_host_that_may_be_found_in_the_group_can_introduce_itself() {
    let named = ProbeConfig {
        static_peers: vec![host(9)],
        ..config()
    };
    let group_only = ProbeConfig {
        unicast: false,
        ..config()
    };
    let over = ProbeConfig {
        count: Some(1),
        ..config()
    };
    let table = [
        ("a neighbour", config(), host(1), true),
        ("an own address", config(), own(), false),
        ("another subnet", config(), [198, 51, 100, 1].into(), false),
        ("a family without a group", config(), host6(1), false),
        ("named by the user", named, host(9), false),
        ("no unicast", group_only, host(1), false),
        ("all probes are sent", over, host(1), false),
    ];
    for (what, config, address, want) in table {
        let mut world = World::new(config, &[]);
        world.run(2 * TIMEOUT);
        assert_eq!(world.agent.wants(address, world.now), want, "{what}");
        let peers = world.agent.peers().len();
        world.agent.introduced(address, world.now);
        assert_eq!(world.agent.peers().len() > peers, want, "{what}");
    }
}
