//! Windows that wait for unanswered probes, and the samples of lost probes.

use std::collections::BTreeMap;

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

#[test]
fn the_outcomes_that_decide_a_window_add_up_to_its_counts() {
    let mut world = World::new(long_timeout(), &[host(1)]);
    world.change = |reply| Reply {
        sent_mono_ns: reply.sent_mono_ns - u64::from(reply.seq % 3 == 0) * 5 * REPORT,
        ..reply
    };
    world.run(12 * REPORT);
    let mut of_windows = BTreeMap::<_, u64>::new();
    for event in &world.events {
        if let Event::Sample {
            peer,
            ssid,
            window_ns: Some(window_ns),
            outcome,
            ..
        } = event
        {
            let transmit = |(_, transmit): &&(u64, Transmit)| transmit.destination == Destination::Peer(*peer);
            assert_eq!(Some(*ssid), world.sent.iter().find(transmit).map(|(_, sent)| sent.ssid));
            *of_windows
                .entry((*peer, *window_ns, format!("{outcome:?}")))
                .or_default() += 1;
        }
    }
    let mut late = 0;
    for Report {
        peer, start_ns, counts, ..
    } in &world.windows
    {
        let number = |outcome: Outcome| of_windows.get(&(*peer, *start_ns, format!("{outcome:?}"))).copied();
        let [ok, lost, in_late] = [Outcome::Ok, Outcome::Lost, Outcome::Late].map(|it| number(it).unwrap_or_default());
        assert_eq!((counts.received, counts.lost), (ok, lost + in_late));
        late += in_late;
    }
    assert!(late > 0 && world.windows.iter().any(|window| window.counts.lost > 5));
}
