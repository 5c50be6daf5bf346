//! Delays that a session records, and the clocks that they rest on.

use proptest::prelude::*;

use super::*;
use crate::stats::distribution::Distribution;
use crate::stats::report::OneWayClock;

#[test]
fn reordering_is_below_next_expected_and_variation_in_sequence_order() {
    let mut session = session();
    (0..4).for_each(|seq| session.sent(seq, u64::from(seq) * MS));
    for (seq, rtt) in [(0u32, 10), (2, 9), (1, 30), (3, 40)] {
        let sent = u64::from(seq) * MS;
        // One millisecond of residence.
        session.reply(&reply(seq, seq, sent, sent + (rtt + 1) * MS));
    }
    let summary = session.summary(50 * MS);
    assert_eq!(summary.counts.reordered, 1);
    // 1 comes in place 2; the first after it that it should have preceded is 2, in place 1.
    assert_eq!(summary.patterns.reordering_extent.map(|extent| extent.max), Some(1));
    let ipdv = summary.ipdv_ns.unwrap();
    // 30 − 10, 9 − 30, 40 − 9.
    assert_eq!((ipdv.count, ipdv.min, ipdv.max), (3, -21_000_000, 31_000_000));
    assert_eq!(ipdv.mean, 10_000_000);
    let (rtt, pdv) = (summary.rtt_ns.unwrap(), summary.pdv_ns.unwrap());
    assert_eq!(
        (rtt.min, rtt.max, pdv.min, pdv.max),
        (9_000_000, 40_000_000, 0, 31_000_000)
    );
    assert_eq!(summary.residence_ns.unwrap().max, 1_000_000);
}

#[test]
fn a_lost_probe_leaves_no_variation_across_it() {
    let mut session = session();
    (0..3).for_each(|seq| session.sent(seq, 0));
    session.reply(&reply(0, 0, 0, 2 * MS));
    session.reply(&reply(2, 2, 0, 3 * MS));
    assert_eq!(session.summary(5 * MS).ipdv_ns, None);
}

#[test]
fn one_way_delays_need_a_clock() {
    let mut session = session();
    session.sent(0, 0);
    session.reply(&Reply {
        reflector_error_ns: Some(300),
        own_error_ns: Some(20),
        ..reply(0, 0, 0, 5 * MS)
    });
    let synced = session.summary(6 * MS);
    assert_eq!(synced.clock, Some(OneWayClock::Synced { bound_ns: 320 }));
    assert_eq!(synced.forward_ns.map(|forward| forward.min), Some(1_000_000));
    assert_eq!(synced.backward_ns.map(|backward| backward.min), Some(3_000_000));

    session.sent(1, 6 * MS);
    session.reply(&reply(1, 1, 6 * MS, 11 * MS));
    let mixed = session.summary(12 * MS);
    assert_eq!((mixed.clock, mixed.forward_ns, mixed.backward_ns), (None, None, None));

    session.set_same_clock(true);
    let same = session.summary(12 * MS);
    assert_eq!(same.clock, Some(OneWayClock::SameClock));
    assert_eq!(same.forward_ns.map(|forward| forward.count), Some(2));
}

#[test]
fn stamps_that_contradict_each_other_are_received_without_a_sample() {
    let mut session = session();
    session.sent(0, 0);
    let stepped = Reply {
        t3_ns: UTC - 1,
        ..reply(0, 0, 0, 5 * MS)
    };
    assert_eq!(session.reply(&stepped), Some(Outcome::Ok));
    let summary = session.summary(6 * MS);
    assert_eq!((summary.counts.received, summary.rtt_ns), (1, None));
}

#[test]
fn a_reply_without_both_stamps_has_a_round_trip_and_no_other_delay() {
    let right = reply(0, 0, 0, 5 * MS);
    for (t2_ns, t3_ns) in [(0, 0), (right.t2_ns, 0), (0, right.t3_ns)] {
        let mut session = session();
        session.set_same_clock(true);
        session.sent(0, 0);
        session.reply(&Reply { t2_ns, t3_ns, ..right });
        let summary = session.summary(6 * MS);
        assert_eq!(summary.rtt_ns.map(|rtt| rtt.max), Some(5 * MS as i64));
        let others = [summary.residence_ns, summary.forward_ns, summary.backward_ns];
        assert_eq!(others, [None; 3]);
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut session = session();
    for step in 0..4u32 {
        let (seq, sent) = ((u32::MAX - 1).wrapping_add(step), u64::from(step) * MS);
        session.sent(seq, sent);
        assert_eq!(session.reply(&reply(seq, step, sent, sent + 2 * MS)), Some(Outcome::Ok));
    }
    let summary = session.summary(10 * MS);
    assert_eq!((summary.counts.received, summary.counts.reordered), (4, 0));
    assert_eq!(summary.ipdv_ns.unwrap().count, 3);
}

#[test]
fn stamps_that_refute_synced_withdraw_it() {
    let stamped = |t2_ns, t3_ns| Reply {
        t2_ns,
        t3_ns,
        reflector_error_ns: Some(300),
        own_error_ns: Some(20),
        ..reply(0, 0, 0, 5 * MS)
    };
    let right = reply(0, 0, 0, 5 * MS);
    let table = [
        (0, true),
        // As far as both bounds go, and one step further, either way.
        (MS as i64 + 320, true),
        (MS as i64 + 321, false),
        (-(3 * MS as i64) - 320, true),
        (-(3 * MS as i64) - 321, false),
        // TAI for UTC.
        (37_000_000_000, false),
    ];
    for (off_ns, synced) in table {
        let mut session = session();
        session.sent(0, 0);
        // The reflector's clock is behind by `off_ns`.
        let off = |stamp: u64| stamp.wrapping_add_signed(-off_ns);
        session.reply(&stamped(off(right.t2_ns), off(right.t3_ns)));
        let clock = session.summary(6 * MS).clock;
        assert_eq!(
            clock == Some(OneWayClock::Synced { bound_ns: 320 }),
            synced,
            "{off_ns}: {clock:?}"
        );
    }
}

proptest! {
    #[test]
    fn each_window_has_the_delays_of_its_probes_in_the_order_of_the_replies(
        // Gap before a probe, delay of its reply, whether the window is over before it, in milliseconds.
        probes in prop::collection::vec((1..4_u64, 2..30_u64, prop::bool::weighted(0.05)), 1..300),
        same_clock: bool,
    ) {
        let mut session = session();
        session.set_same_clock(same_clock);
        let (mut now, mut window, mut arrivals, mut rolls) = (0, 0, Vec::new(), Vec::new());
        for (seq, &(gap, delay, rolls_before)) in probes.iter().enumerate() {
            now += gap * MS;
            if rolls_before {
                window += 1;
                rolls.push(now);
            }
            // Some nanoseconds, so that delays differ.
            arrivals.push((now + delay * MS + seq as u64 * 977, seq, now, window));
        }
        arrivals.sort_unstable();
        let mut sends: Vec<_> = arrivals.iter().map(|&(_, seq, sent, _)| (sent, seq)).collect();
        sends.sort_unstable();
        let (mut sends, mut rolls) = (sends.into_iter().peekable(), rolls.into_iter().peekable());
        let mut want = vec![<[Distribution; 3]>::default(); window + 1];
        let mut found = Vec::new();
        for (received, seq, sent, window) in arrivals {
            while let Some((at, seq)) = sends.next_if(|(at, _)| *at < received) {
                if rolls.next_if(|roll| *roll <= at).is_some() {
                    session.roll(at);
                }
                session.sent(seq as u32, at);
            }
            let reply = reply(seq as u32, seq as u32, sent, received);
            prop_assert_eq!(session.reply(&reply), Some(Outcome::Ok));
            let delays = [reply.rtt_ns().unwrap() as i64, reply.forward_ns(), reply.backward_ns()];
            delays.iter().zip(&mut want[window]).for_each(|(delay, all)| all.record(*delay));
            found.extend(session.take_finished());
        }
        session.end(now + 100 * MS);
        found.extend(std::iter::from_fn(|| session.take_finished()));
        let shown = |distribution: &Distribution| distribution.summary().filter(|_| same_clock);
        let want = want.iter().filter(|delays| delays[0].count() > 0);
        let want = want.map(|delays| [delays[0].summary(), shown(&delays[1]), shown(&delays[2])]);
        let found = found.iter().map(|report| [report.rtt_ns, report.forward_ns, report.backward_ns]);
        prop_assert_eq!(found.collect::<Vec<_>>(), want.collect::<Vec<_>>());
    }
}
