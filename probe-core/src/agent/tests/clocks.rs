//! One-way delays and clock steps, through the whole agent, with a peer whose clock is not ours.

use super::*;
use crate::stats::report::{ClockSteps, OneWayClock};

const PATH: u64 = 20 * MS;

/// A peer whose clock gains 50 ppm and is stepped by 300 ms after ten seconds.
fn skewed(mut reply: Reply) -> Reply {
    let sent_ns = reply.sent_mono_ns;
    let late = if sent_ns > START + 10_000 * MS { 300 * MS } else { 0 };
    let ahead = |at_ns: u64| at_ns + 10 * MS + at_ns / 20_000 + late;
    reply.received_mono_ns = sent_ns + PATH;
    reply.t2_ns = ahead(sent_ns + PATH / 2);
    reply.t3_ns = ahead(sent_ns + PATH / 2) + 1_000;
    reply.t4_ns = sent_ns + PATH;
    reply
}

#[test]
fn stamps_in_the_wrong_format_are_reported_once_for_each_peer_and_for_a_bounded_number_of_peers() {
    let mut config = config();
    config.max_peers = MAX_FORMAT_EVENTS + 3;
    let hosts: Vec<_> = (0..MAX_FORMAT_EVENTS as u8 + 3).map(host).collect();
    let mut world = World::new(config, &hosts);
    world.change = |reply| Reply { wrong_z: true, ..reply };
    world.run(5_000 * MS);
    let said: Vec<_> = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::TimestampFormat { .. }))
        .collect();
    assert_eq!(said.len(), MAX_FORMAT_EVENTS);
    assert!((1..said.len()).all(|place| !said[..place].contains(&said[place])));
}

fn world() -> World {
    let mut world = World::new(config(), &[host(1)]);
    world.change = skewed;
    world
}

#[test]
fn offset_and_skew_of_a_peer_are_estimated_and_its_steps_noticed() {
    let mut world = world();
    world.run(20_000 * MS);
    let summaries = world.finish();
    let steps: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::ClockStep { peer, by_ns, .. } => Some((*peer, *by_ns)),
            _ => None,
        })
        .collect();
    let [(peer, by_ns)] = *steps else { panic!("{steps:?}") };
    assert_eq!(peer, Some(host(1)));
    assert!(by_ns.abs_diff(300_000_000) < MS, "{by_ns}");
    for summary in &summaries {
        assert_eq!(summary.steps, ClockSteps { own: 0, peer: 1 });
        let Some(OneWayClock::Estimated {
            bound_ns,
            offset_ns,
            skew_ppb,
        }) = summary.clock
        else {
            panic!("{:?}", summary.clock);
        };
        let true_offset_ns = (10 * MS + 300 * MS + (START + 20_000 * MS) / 20_000).cast_signed();
        assert!((PATH / 2 - 1_000..PATH).contains(&bound_ns), "{bound_ns}");
        assert!(
            offset_ns.abs_diff(true_offset_ns) < MS / 10,
            "{offset_ns}, {true_offset_ns}"
        );
        assert!((skew_ppb - 50_000).abs() < 1_000, "{skew_ppb}");
        let [forward, backward] = [summary.forward_ns, summary.backward_ns].map(Option::unwrap);
        for (delay, truth_ns) in [(forward, PATH / 2), (backward, PATH / 2 - 1_000)] {
            for ns in [delay.min, delay.max] {
                assert!(ns.abs_diff(truth_ns.cast_signed()) < MS / 10, "{ns}, {truth_ns}");
            }
        }
        let rtt = summary.rtt_ns.unwrap();
        assert!(rtt.max - rtt.min < 2_000, "the step did not touch RTT: {rtt:?}");
    }
    let marked = world.windows.iter().filter(|window| window.steps.peer > 0).count();
    assert_eq!(marked, 2, "one window of each path");
}

#[test]
fn a_peer_whose_clock_jumps_without_end_causes_few_events() {
    let mut world = World::new(config(), &[host(1)]);
    world.change = |mut reply| {
        // Every second.
        let ahead = (reply.sent_mono_ns - START) / REPORT % 2 * 3_600_000 * MS;
        reply.t2_ns += ahead;
        reply.t3_ns += ahead;
        reply
    };
    world.run(35 * REPORT);
    let left_out: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::ClockStep { left_out, .. } => Some(*left_out),
            _ => None,
        })
        .collect();
    assert_eq!(left_out.len(), 4, "{left_out:?}");
    let summaries = world.finish();
    // Windows count all of them.
    assert!(summaries.iter().all(|summary| summary.steps.peer > 30));
    assert!(left_out.iter().sum::<u64>() + 4 > 25, "{left_out:?}");
}

#[test]
fn a_peer_on_the_same_clock_is_not_estimated() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(1_000 * MS);
    world.agent.set_same_clock(host(1), true);
    world.run(19_000 * MS);
    let summaries = world.finish();
    assert!(
        summaries
            .iter()
            .all(|summary| summary.clock == Some(OneWayClock::SameClock))
    );
    assert!(summaries.iter().all(|summary| summary.steps.peer == 0));
}

#[test]
fn single_delays_rest_on_one_clock_or_on_two_that_were_always_synchronised() {
    let transmit = Transmit {
        destination: Destination::Peer(host(1)),
        ssid: 1,
        seq: 0,
    };
    let plain = reply(host(1), &transmit, START);
    let synced = Reply {
        own_error_ns: Some(MS),
        reflector_error_ns: Some(2 * MS),
        ..plain
    };
    let unstamped = Reply {
        t2_ns: 0,
        t3_ns: 0,
        ..synced
    };
    let bound = Some(OneWayClock::Synced { bound_ns: 3 * MS });
    let mut peer = Peer::new(host(1), Found::Static, START);
    assert_eq!((peer.one_way_clock(&synced), peer.one_way_clock(&plain)), (bound, None));
    peer.check_synced(&unstamped);
    assert_eq!(peer.one_way_clock(&synced), bound, "without stamps, nothing is refuted");
    peer.set_same_clock(true);
    peer.check_synced(&plain);
    assert_eq!(peer.one_way_clock(&plain), Some(OneWayClock::SameClock));
    assert_eq!(peer.one_way_clock(&unstamped), None);
    peer.set_same_clock(false);
    assert_eq!(peer.one_way_clock(&synced), bound);
    peer.check_synced(&plain);
    assert_eq!(peer.one_way_clock(&synced), None, "for good");
}

/// Stamps an hour ahead.
fn ahead(mut reply: Reply) -> Reply {
    reply.t2_ns += 3_600_000 * MS;
    reply.t3_ns += 3_600_000 * MS;
    reply
}

#[test]
fn stamps_that_refute_one_clock_withdraw_it_for_good() {
    // Before and after the peer proves that it reads our clock.
    for first in [true, false] {
        let mut world = World::new(config(), &[host(1)]);
        if first {
            world.change = ahead;
        }
        world.run(300 * MS);
        world.agent.set_same_clock(host(1), true);
        world.take_events();
        world.run(200 * MS);
        assert_eq!(world.events.len(), if first { 2 } else { 1 }, "{:?}", world.events);
        world.change = ahead;
        world.run(600 * MS);
        world.change = |reply| reply;
        world.agent.set_same_clock(host(1), true);
        world.run(2_000 * MS);
        let refuted = |event: &&Event| matches!(event, Event::SameClockRefuted { .. });
        let refutations: Vec<_> = world.events.iter().filter(refuted).collect();
        let [Event::SameClockRefuted { peer, by }] = refutations[..] else {
            panic!("{refutations:?}")
        };
        assert_eq!((*peer, by.backward_ns < -3_500_000 * MS as i64), (host(1), true));
        let summaries = world.finish();
        let windows = world.windows.iter().chain(&summaries);
        assert!(
            windows
                .map(|report| report.clock)
                .all(|clock| clock != Some(OneWayClock::SameClock))
        );
    }
}

#[test]
fn a_restarted_peer_may_prove_one_clock_again_and_a_refutation_is_reported_once() {
    let mut world = World::new(config(), &[host(1)]);
    world.change = ahead;
    world.run(300 * MS);
    let table = [(7, true, false), (7, false, false), (8, true, false), (9, false, true)];
    for (instance, is_ahead, same_clock) in table {
        world.change = if is_ahead { ahead } else { |reply| reply };
        world.run(TRIP);
        world.agent.set_instance(host(1), instance);
        world.agent.set_same_clock(host(1), true);
        world.run(2_000 * MS);
        let clock = world.windows.last().and_then(|window| window.clock);
        assert_eq!(clock == Some(OneWayClock::SameClock), same_clock, "instance {instance}");
    }
    let refuted = |event: &&Event| matches!(event, Event::SameClockRefuted { .. });
    assert_eq!(world.events.iter().filter(refuted).count(), 1);
}

#[test]
fn a_clock_that_is_set_during_a_round_trip_refutes_nothing() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(300 * MS);
    world.agent.set_same_clock(host(1), true);
    // Both ends read it.
    world.change = |mut reply| {
        if reply.seq == 40 {
            (reply.t2_ns, reply.t3_ns, reply.t4_ns) = (0, 1_000, reply.t4_ns - reply.t2_ns + 1_000);
        }
        reply
    };
    world.run(300 * MS);
    assert!(
        world
            .finish()
            .iter()
            .all(|summary| summary.clock == Some(OneWayClock::SameClock))
    );
}

#[test]
fn a_step_of_our_own_clock_marks_every_open_window() {
    let mut world = world();
    world.run(1_500 * MS);
    world.agent.own_clock_stepped(-5_000);
    world.run(1_000 * MS);
    assert!(world.events.contains(&Event::ClockStep {
        peer: None,
        by_ns: -5_000,
        left_out: 0
    }));
    let marks: Vec<u64> = world.windows.iter().map(|window| window.steps.own).collect();
    assert_eq!(marks.iter().sum::<u64>(), 2, "one of each path: {marks:?}");
}

#[test]
fn refused_probes_are_split_between_the_paths() {
    let mut world = World::new(config(), &[host(1)]);
    world.run(1_000 * MS);
    world.agent.set_refused(host(1), 1_000);
    world.hosts.clear();
    world.run(200 * MS);
    world.agent.set_refused(host(1), 1_030);
    world.run(250 * MS);
    let summaries = world.finish();
    let refused: Vec<_> = summaries.iter().map(|summary| summary.patterns.lost_refused).collect();
    let lost: Vec<_> = summaries.iter().map(|summary| summary.counts.lost).collect();
    assert_eq!(refused[0], Some(lost[0].min(30)));
    assert_eq!(refused[1], Some(30 - lost[0].min(30)));
    assert!(
        world
            .windows
            .iter()
            .all(|window| window.patterns.lost_refused.is_none())
    );
}
