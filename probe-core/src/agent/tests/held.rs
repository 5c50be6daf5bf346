//! Windows that wait for unanswered probes, and the samples of lost probes.

use super::*;

/// A timeout of several report intervals.
fn long_timeout() -> ProbeConfig {
    ProbeConfig {
        timeout_ns: 4 * REPORT,
        peer_expiry_ns: 40 * REPORT,
        static_peers: vec![host(1), host(2)],
        group: Families { v4: false, v6: false },
        samples: true,
        ..config()
    }
}

#[test]
fn a_dead_peer_delays_windows_by_its_timeout_only() {
    let mut world = World::new(long_timeout(), &[host(1), host(2)]);
    world.run(REPORT);
    world.hosts.pop();
    let mut most_held = 0;
    for _ in 0..20 {
        world.run(REPORT);
        let held_ns = world.agent.held_window_end_ns();
        let complete = |report: &&Report| held_ns.is_none_or(|held_ns| report.end_ns < held_ns);
        let written = world.windows.iter().filter(complete).count();
        most_held = most_held.max(world.windows.len() - written);
    }
    assert!(most_held > 0, "a window waits for the others of its interval");
    assert!(
        most_held <= 6,
        "but no longer than its probes may be answered: {most_held}"
    );
}

#[test]
fn a_lost_probe_has_its_send_time() {
    let mut world = World::new(long_timeout(), &[host(1)]);
    world.run(6 * REPORT);
    let mut lost = 0;
    for event in &world.events {
        let Event::Sample {
            peer,
            seq,
            sent_ns,
            outcome: Outcome::Lost,
            ..
        } = event
        else {
            continue;
        };
        let sent = world
            .sent
            .iter()
            .find(|(_, transmit)| transmit.seq == *seq && transmit.destination == Destination::Peer(*peer));
        assert_eq!(*sent_ns, sent.map(|(at, _)| *at));
        lost += 1;
    }
    assert!(lost > 0);
}
