//! Another configuration while the agent runs. The world checks that no probe is missing in windows and summaries.

use super::*;

/// Probes only named peers.
fn named(peers: &[IpAddr]) -> ProbeConfig {
    ProbeConfig {
        group: Families { v4: false, v6: false },
        static_peers: peers.to_vec(),
        ..config()
    }
}

fn of(summaries: &[Report], peer: IpAddr) -> Counts {
    let found = summaries
        .iter()
        .find(|summary| summary.peer == peer && summary.path == Path::Unicast);
    found.unwrap().counts
}

#[test]
fn a_peer_that_is_added_is_probed_and_one_that_is_removed_is_not() {
    let mut world = World::new(named(&[host(1), host(2)]), &[host(1), host(2), host(3)]);
    world.run(REPORT - MS);
    world.events.clear();
    assert!(
        world
            .agent
            .reconfigure(named(&[host(2), host(3)]), world.now)
            .is_empty()
    );
    let (first, second) = (
        world.sent_to(Destination::Peer(host(1))),
        world.sent_to(Destination::Peer(host(2))),
    );
    world.run(REPORT);
    assert_eq!(world.sent_to(Destination::Peer(host(1))), first);
    assert_eq!(world.sent_to(Destination::Peer(host(2))), second + 100);
    assert_eq!(world.sent_to(Destination::Peer(host(3))), 100);
    let removed = Event::PeerDown {
        peer: host(1),
        found: Found::Static,
        reason: DownReason::Removed,
    };
    let added = Event::PeerUp {
        peer: host(3),
        found: Found::Static,
    };
    assert_eq!(world.events, [removed, added]);

    world.agent.reconfigure(named(&[host(1), host(2), host(3)]), world.now);
    world.run(REPORT);
    assert_eq!(world.sent_to(Destination::Peer(host(1))), first + 100, "added again");
    let summaries = world.finish();
    assert_eq!(summaries.len(), 3);
    assert!(
        summaries.iter().all(|summary| summary.counts.lost == 0),
        "{summaries:?}"
    );
    assert_eq!(world.agent.unmatched(), 0);
}

#[test]
fn pending_probes_of_a_removed_peer_are_resolved() {
    let mut world = World::new(named(&[host(1)]), &[host(1)]);
    world.run(REPORT - MS);
    world.hosts.clear();
    world.run(5 * INTERVAL);
    world.agent.reconfigure(named(&[]), world.now);
    world.run(2 * REPORT);
    let Counts {
        sent,
        received,
        lost,
        pending,
        ..
    } = of(&world.finish(), host(1));
    assert_eq!((sent, received, lost, pending), (105, 100, 5, 0));
}

#[test]
fn a_peer_of_the_group_is_measured_whether_it_is_named_or_not() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT);
    for static_peers in [vec![host(1)], vec![]] {
        world.agent.reconfigure(
            ProbeConfig {
                static_peers,
                ..config()
            },
            world.now,
        );
        world.run(REPORT);
    }
    assert_eq!(world.events, [up(host(1))]);
    assert_eq!(world.agent.peers()[0].found(), Found::Multicast);
    let summaries = world.finish();
    assert!(of(&summaries, host(1)).received >= 295, "{summaries:?}");
    assert!(summaries.iter().all(|summary| summary.counts.lost == 0));
}

#[test]
fn a_named_peer_takes_the_place_of_one_that_is_down() {
    let full = ProbeConfig {
        max_peers: 1,
        ..config()
    };
    let mut world = World::new(full.clone(), &[host(1)]);
    world.run(REPORT);
    let with_second = ProbeConfig {
        static_peers: vec![host(2)],
        ..full.clone()
    };
    assert_eq!(
        world.agent.reconfigure(with_second.clone(), world.now),
        [host(2)],
        "no room"
    );
    world.hosts = vec![host(2)];
    world.run(2 * SILENCE);
    world.agent.reconfigure(full, world.now);
    assert!(world.agent.reconfigure(with_second, world.now).is_empty());
    world.run(REPORT);
    let summaries = world.finish();
    assert!(of(&summaries, host(2)).received >= 99, "{summaries:?}");
    assert!(of(&summaries, host(1)).received >= 99, "{summaries:?}");
}

#[test]
fn another_interval_holds_at_once_for_all_sessions() {
    for interval_ns in [INTERVAL / 10, 5 * INTERVAL] {
        let mut world = World::new(config(), &[host(1), host(2)]);
        world.run(REPORT + 3 * MS);
        let before = world.sent.len();
        world.agent.reconfigure(
            ProbeConfig {
                interval_ns,
                ..config()
            },
            world.now,
        );
        let changed_ns = world.now;
        world.run(REPORT);
        let sent = &world.sent[before..];
        // The group, and two peers.
        assert_eq!(
            sent.len() as u64,
            3 * REPORT / interval_ns + 1,
            "the first ones are due at once"
        );
        let mut times: Vec<u64> = sent.iter().map(|(time, _)| *time - changed_ns).collect();
        times.dedup();
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] >= interval_ns / 4),
            "spread"
        );
        let summaries = world.finish();
        assert!(
            summaries.iter().all(|summary| summary.counts.lost == 0),
            "{summaries:?}"
        );
    }
}

#[test]
fn another_timeout_holds_for_probes_that_are_pending() {
    for (timeout_ns, received) in [(TRIP / 2, 99), (TIMEOUT / 2, 100), (3 * TIMEOUT, 100)] {
        let mut world = World::new(named(&[host(1)]), &[host(1)]);
        world.run(REPORT - 9 * MS);
        // A reply is under way.
        world.agent.reconfigure(
            ProbeConfig {
                timeout_ns,
                ..named(&[host(1)])
            },
            world.now,
        );
        world.hosts.clear();
        world.run(REPORT);
        world.agent.stop_sending();
        world.run(timeout_ns + GRACE_NS);
        assert!(world.agent.is_settled(), "{timeout_ns}");
        let counts = of(&world.finish(), host(1));
        assert_eq!((counts.received, counts.pending), (received, 0), "{counts:?}");
    }
}

#[test]
fn another_report_interval_ends_the_open_window_in_its_time() {
    for (report_ns, ends) in [
        (REPORT / 4, [500, 750, 1_000]),
        (REPORT / 2, [500, 1_000, 1_500]),
        (2 * REPORT, [2_000, 4_000, 6_000]),
    ] {
        let mut world = World::new(named(&[host(1)]), &[host(1)]);
        world.run(REPORT / 2);
        world.agent.reconfigure(
            ProbeConfig {
                report_ns,
                ..named(&[host(1)])
            },
            world.now,
        );
        world.run(6 * REPORT);
        let ended: Vec<_> = world
            .windows
            .iter()
            .map(|window| (window.end_ns - START) / MS)
            .collect();
        assert_eq!(ended[..3], ends, "{report_ns}");
        world.finish();
    }
}

#[test]
fn a_shorter_expiry_is_noticed() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(REPORT);
    world.hosts.clear();
    world.agent.reconfigure(
        ProbeConfig {
            peer_expiry_ns: SILENCE / 2,
            ..config()
        },
        world.now,
    );
    world.run(SILENCE / 2 + INTERVAL);
    assert_eq!(world.events, [up(host(1)), down(host(1))]);
}

#[test]
fn assigned_peers_are_probed_beside_named_ones_whichever_changes_first() {
    for assigned_first in [false, true] {
        let mut world = World::new(named(&[host(1)]), &[host(1), host(2), host(3)]);
        world.run(REPORT);
        for assigns in [assigned_first, !assigned_first] {
            let refused = match assigns {
                true => world.agent.assign(vec![host(2), host(3)], world.now),
                false => world.agent.reconfigure(named(&[host(2)]), world.now),
            };
            assert!(refused.is_empty());
            world.run(REPORT);
        }
        let found: Vec<_> = world.agent.peers().iter().map(Peer::found).collect();
        assert_eq!(found, [Found::Multicast, Found::Static, Found::Assigned]);
        let before = [1, 2, 3].map(|number| world.sent_to(Destination::Peer(host(number))));
        world.run(REPORT);
        let after = [1, 2, 3].map(|number| world.sent_to(Destination::Peer(host(number))));
        assert_eq!(after, [before[0], before[1] + 100, before[2] + 100]);

        // The user's peer stays when the hub gives it up, and the other way round.
        world.agent.assign(Vec::new(), world.now);
        world.run(REPORT);
        assert_eq!(world.sent_to(Destination::Peer(host(2))), after[1] + 100);
        assert_eq!(world.sent_to(Destination::Peer(host(3))), after[2]);
        world.agent.assign(vec![host(2)], world.now);
        world.agent.reconfigure(named(&[]), world.now);
        world.run(REPORT);
        assert_eq!(world.sent_to(Destination::Peer(host(2))), after[1] + 200);
        let summaries = world.finish();
        assert!(
            summaries.iter().all(|summary| summary.counts.lost == 0),
            "{summaries:?}"
        );
    }
}

#[test]
fn an_assigned_peer_that_is_silent_is_probed_all_the_same() {
    let full = ProbeConfig {
        max_peers: 2,
        ..named(&[])
    };
    let mut world = World::new(full, &[host(1)]);
    let refused = world.agent.assign(vec![host(1), host(2), host(3)], world.now);
    assert_eq!(refused, [host(3)], "no room");
    world.run(SILENCE + REPORT);
    world.hosts.clear();
    world.run(2 * SILENCE);
    let before = [1, 2].map(|number| world.sent_to(Destination::Peer(host(number))));
    world.run(REPORT);
    let after = [1, 2].map(|number| world.sent_to(Destination::Peer(host(number))));
    assert_eq!(after, before.map(|sent| sent + 100));
    // There is room as soon as another one is given up.
    let refused = world.agent.assign(vec![host(1), host(3)], world.now);
    assert!(refused.is_empty());
    world.run(REPORT);
    assert_eq!(world.sent_to(Destination::Peer(host(3))), 100);
}
