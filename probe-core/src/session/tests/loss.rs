//! The direction of losses.

use super::*;
use crate::session::history::Anchor;
use crate::session::loss_direction::{MAX_CONTRADICTIONS, MAX_DUPLICATES, MIN_MATURE_COUNTER};

/// One probe per millisecond, answered after half of one with the counter given, or not at all.
fn drive(session: &mut Session, first: u32, counters: &[Option<u32>]) {
    for (seq, counter) in (first..).zip(counters) {
        let sent = u64::from(seq) * MS;
        session.sent(seq, sent);
        if let Some(counter) = counter {
            session.reply(&reply(seq, *counter, sent, sent + MS / 2));
        }
    }
}

fn expire_all(session: &mut Session) {
    session.expire(session.now_ns + EXPIRY, &mut unanswered);
}

/// (forward, backward, unknown).
fn directions(session: &Session) -> (u64, u64, u64) {
    let counts = counts(session);
    (counts.lost_forward, counts.lost_backward, counts.lost_unknown)
}

fn after(counters: &[Option<u32>]) -> Session {
    let mut session = session();
    drive(&mut session, 0, counters);
    expire_all(&mut session);
    session
}

/// The answered probes that losses are counted between, by slot.
fn anchors(session: &Session) -> Vec<u64> {
    let is_anchor = |slot: &u64| {
        session
            .history
            .get(*slot)
            .is_some_and(|probe| probe.anchor != Anchor::No)
    };
    (session.history.start()..session.history.end())
        .filter(is_anchor)
        .collect()
}

#[test]
fn each_direction_is_known_between_two_answers() {
    // The reflector counts from 7, so it is known to be stateful.
    assert_eq!(directions(&after(&[Some(7), None, Some(8)])), (1, 0, 0));
    assert_eq!(directions(&after(&[Some(7), None, Some(9)])), (0, 1, 0));
    assert_eq!(directions(&after(&[Some(7), None, None, None, Some(9)])), (2, 1, 0));
    assert_eq!(directions(&after(&[Some(u32::MAX), None, None, Some(1)])), (1, 1, 0));
}

#[test]
fn loss_periods_and_distances_are_those_of_the_stream() {
    // Lost are 1, 3, 4, and, with no end, 7; 5 never left, so 4 and 6 are neighbours.
    let mut session = session();
    drive(
        &mut session,
        0,
        &[Some(7), None, Some(8), None, None, None, Some(9), None],
    );
    session.send_failed(5, SendFailure::Unknown);
    expire_all(&mut session);
    let periods = session.summary(0).patterns.loss_period.unwrap();
    assert_eq!((periods.count, periods.min, periods.max), (2, 1, 2));
    session.end(session.now_ns);
    let patterns = session.summary(0).patterns;
    let (periods, distances) = (patterns.loss_period.unwrap(), patterns.loss_distance.unwrap());
    assert_eq!((periods.count, periods.mean), (3, 1));
    // 1 → 3 → 4 → 7.
    assert_eq!(
        (distances.count, distances.min, distances.p50, distances.max),
        (3, 1, 2, 3)
    );
}

#[test]
fn a_loss_period_counts_in_the_window_in_which_it_ended() {
    let mut session = session();
    drive(&mut session, 0, &[Some(7), None, None]);
    session.roll(3 * MS);
    drive(&mut session, 3, &[None, Some(8)]);
    session.roll(5 * MS);
    expire_all(&mut session);
    let lengths: Vec<_> = std::iter::from_fn(|| session.take_finished())
        .map(|window| window.patterns.loss_period.map(|period| period.max))
        .collect();
    assert_eq!(lengths, [None, Some(3)]);
}

#[test]
fn late_refused_and_duplicated_probes_are_counted() {
    let mut session = after(&[Some(7), None, None, Some(9), Some(10), None]);
    session.reply(&reply(1, 8, MS, 3 * EXPIRY));
    (0..3).for_each(|_| {
        session.reply(&reply(4, 10, 4 * MS, 5 * MS));
    });
    session.set_refused(Some(7));
    let patterns = session.summary(0).patterns;
    assert_eq!((patterns.lost_late, patterns.duplicated), (1, 1));
    assert_eq!(counts(&session).duplicates, 3);
    // At most two were refused: 2 did not arrive, and the direction of 5 is not known.
    assert_eq!(patterns.lost_refused, Some(2));
}

#[test]
fn one_percent_is_placed_in_the_direction_in_which_it_was_lost() {
    for (backward, seed) in [(false, 1u64), (true, 2)] {
        let mut dice = seed;
        let mut counter = 0;
        let mut is_lost = || {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % 100 == 0
        };
        let mut answer = |_| {
            let lost = is_lost();
            if lost && !backward {
                return None;
            }
            counter += 1;
            (!lost).then_some(counter)
        };
        let counters: Vec<Option<u32>> = (0..10_000).map(&mut answer).collect();
        let lost = counters.iter().filter(|counter| counter.is_none()).count() as u64;
        assert!((70..130).contains(&lost), "{lost}");
        let mut session = session();
        session.set_stateful(true);
        for (seq, counter) in (0u32..).zip(counters) {
            drive(&mut session, seq, &[counter]);
            session.expire(u64::from(seq) * MS, &mut unanswered);
        }
        expire_all(&mut session);
        let (forward, back, unknown) = directions(&session);
        let (right, wrong) = if backward { (back, forward) } else { (forward, back) };
        assert_eq!(wrong, 0);
        assert!(right * 100 >= lost * 99, "{right} of {lost}, {unknown} unknown");
    }
}

#[test]
fn open_ends_are_unknown() {
    assert_eq!(directions(&after(&[None, Some(7), Some(8), None])), (0, 0, 2));
}

#[test]
fn a_copied_sequence_number_gives_no_direction() {
    let mut session = after(&[Some(0), None, Some(2)]);
    assert_eq!(directions(&session), (0, 0, 1));
    session.set_stateful(true);
    assert_eq!(directions(&session), (0, 1, 0));
    session.set_stateful(false);
    assert_eq!(directions(&session), (0, 0, 1));
}

#[test]
fn one_counter_that_is_no_copy_proves_a_stateful_reflector() {
    assert_eq!(directions(&after(&[Some(0), Some(1), None, Some(2)])), (1, 0, 0));
}

#[test]
fn nothing_is_claimed_across_a_restart() {
    let mut session = after(&[Some(7), Some(8), None, Some(0), Some(1), None, Some(2)]);
    assert_eq!(directions(&session), (1, 0, 1));
    // Evicted after each answer, the reflector gives the same counter twice.
    drive(&mut session, 300, &[Some(0), None, Some(0), None, Some(2)]);
    expire_all(&mut session);
    assert_eq!(directions(&session), (1, 1, 2));
}

#[test]
fn a_restart_that_has_counted_past_the_old_counter_unseen_is_not_taken_for_loss() {
    // 3 to 5 were answered with 0 to 2 by a reflector that restarted, and those replies were lost.
    assert_eq!(
        directions(&after(&[Some(0), Some(1), None, None, None, None, Some(3)])),
        (0, 0, 4)
    );
    // The same counters, had it not restarted, where it cannot have: nothing arrived twice.
    assert_eq!(directions(&after(&[Some(5), Some(6), None, None, Some(8)])), (1, 1, 0));
    // Claims from before the restart stay. The first answer after it is the next anchor.
    let before = [&[Some(5), None, Some(6)][..], &[None; 10], &[Some(8)]].concat();
    let later = [&[Some(5)][..], &[None; 10], &[Some(7), None, Some(8)]].concat();
    assert_eq!(directions(&after(&before)), (1, 0, 10));
    assert_eq!(directions(&after(&later)), (1, 0, 10));
}

#[test]
fn no_restart_is_assumed_after_a_mature_counter() {
    for (counter, expected) in [(MIN_MATURE_COUNTER - 1, (0, 0, 100)), (MIN_MATURE_COUNTER, (100, 0, 0))] {
        let mut session = session();
        drive(&mut session, 0, &[Some(counter), Some(counter + 1)]);
        // The counters before this duplicate are evaluated again.
        session.reply(&reply(1, counter + 2, MS, 2 * MS));
        drive(&mut session, 2, &[&[None; 100][..], &[Some(counter + 3)]].concat());
        expire_all(&mut session);
        assert_eq!(directions(&session), expected, "{counter}");
    }
}

#[test]
fn a_counter_that_falls_back_on_a_probe_sent_after_the_larger_one_came_is_a_restart() {
    for (sent_ns, expected) in [(10 * MS - 1, (0, 0, 1)), (10 * MS, (1, 0, 0))] {
        let mut session = session();
        session.sent(0, 0);
        session.sent(1, sent_ns);
        session.reply(&reply(0, 900, 0, 10 * MS));
        session.reply(&reply(1, 100, sent_ns, 12 * MS));
        session.sent(2, 13 * MS);
        session.sent(3, 14 * MS);
        session.reply(&reply(3, 101, 14 * MS, 15 * MS));
        expire_all(&mut session);
        assert_eq!(directions(&session), expected, "{sent_ns}");
    }
}

#[test]
fn an_anchor_is_in_order_with_every_other_answer() {
    let table: [(&[u32], &[u64]); 4] = [
        (&[7, 8, 9], &[0, 1, 2]),
        (&[7, 9, 8, 10], &[0, 3]),
        (&[7, 10, 8, 9, 11], &[0, 4]),
        (&[9, 7, 8], &[]),
    ];
    for (counters, expected) in table {
        let mut session = session();
        (0..)
            .zip(counters)
            .for_each(|(seq, _)| session.sent(seq, u64::from(seq) * MS));
        for (seq, counter) in (0u32..).zip(counters) {
            let sent = u64::from(seq) * MS;
            session.reply(&reply(seq, *counter, sent, sent + 10 * MS));
        }
        assert_eq!(anchors(&session), expected, "{counters:?}");
    }
}

#[test]
fn answers_that_go_on_to_contradict_an_anchor_are_a_restart() {
    // More counters are missing than probes are lost.
    for (contradictions, restarted) in [(1, false), (MAX_CONTRADICTIONS, false), (MAX_CONTRADICTIONS + 1, true)] {
        let jump = (0..contradictions).map(|answer| Some(1_007 + answer));
        let session = after(&[Some(7)].into_iter().chain(jump).collect::<Vec<_>>());
        let newest = restarted.then_some(u64::from(contradictions));
        let expected: Vec<u64> = [0].into_iter().chain(newest).collect();
        assert_eq!(anchors(&session), expected, "{contradictions}");
    }
}

#[test]
fn nothing_is_claimed_across_a_pause() {
    let mut session = after(&[Some(7), Some(8)]);
    drive(&mut session, 1_000, &[None, Some(900), None, Some(901)]);
    expire_all(&mut session);
    assert_eq!(directions(&session), (1, 0, 1));
}

#[test]
fn unsent_probes_and_uncollected_replies_are_no_losses() {
    let mut session = session();
    drive(&mut session, 0, &[Some(7), None, None, None, Some(9)]);
    session.send_failed(1, SendFailure::Unknown);
    let mut fate = |overdue: Overdue| {
        if overdue.seq == 2 {
            Fate::CollectorLost
        } else {
            Fate::Unanswered
        }
    };
    session.expire(EXPIRY + 10 * MS, &mut fate);
    // 2 was counted by the reflector, so 3 did not arrive.
    assert_eq!(directions(&session), (1, 0, 0));
}

#[test]
fn a_late_reply_withdraws_the_claim() {
    let mut session = after(&[Some(7), None, None, Some(9)]);
    assert_eq!(directions(&session), (1, 1, 0));
    session.reply(&reply(1, 8, MS, 3 * EXPIRY));
    assert_eq!(directions(&session), (1, 0, 1));
}

#[test]
fn a_late_reply_counts_from_an_anchor_before_its_probe() {
    let mut session = after(&[Some(7), None, Some(8), None, None]);
    // 1 arrived after 2, and after 3, whose reply is lost. 4 did not arrive.
    session.reply(&reply(1, 10, MS, 3 * EXPIRY));
    session.sent(5, 2_000 * MS);
    session.reply(&reply(5, 11, 2_000 * MS, 2_001 * MS));
    assert_eq!(directions(&session), (1, 1, 1));
}

#[test]
fn a_copy_of_a_probe_is_counted_by_the_reflector() {
    let mut session = session();
    drive(&mut session, 0, &[Some(7), Some(8), None, Some(10)]);
    // The copy of 1 had counter 9, so 2 did not arrive. The reply to the copy comes before the loss is placed.
    session.reply(&reply(1, 9, MS, 4 * MS));
    expire_all(&mut session);
    assert_eq!(directions(&session), (1, 0, 0));

    // The same after the loss is placed.
    let mut session = after(&[Some(7), Some(8), None, Some(10)]);
    assert_eq!(directions(&session), (0, 1, 0));
    session.reply(&reply(1, 9, MS, 4 * MS));
    assert_eq!(directions(&session), (1, 0, 0));

    // A copy of a reply has the counter of the first reply.
    session.reply(&reply(1, 8, MS, 4 * MS));
    assert_eq!((directions(&session), counts(&session).duplicates), ((1, 0, 0), 2));
}

#[test]
fn a_loop_in_the_network_ends_all_claims_until_it_is_over() {
    let mut session = session();
    drive(&mut session, 0, &[Some(0), None, Some(400)]);
    (1..400).for_each(|counter| {
        session.reply(&reply(0, counter, 0, MS));
    });
    expire_all(&mut session);
    assert_eq!(directions(&session), (0, 0, 1));
    drive(&mut session, 300, &[Some(1_000), None, Some(1_001)]);
    expire_all(&mut session);
    assert_eq!(directions(&session), (1, 0, 1));
}

#[test]
fn the_maximum_of_duplicates_is_counted_and_one_more_is_a_loop() {
    for (duplicates, expected) in [(MAX_DUPLICATES, (1, 0, 0)), (MAX_DUPLICATES + 1, (0, 0, 1))] {
        let mut session = session();
        drive(&mut session, 0, &[Some(7), Some(8)]);
        let last = 8 + duplicates as u32;
        (9..=last).for_each(|counter| {
            session.reply(&reply(1, counter, MS, 2 * MS));
        });
        drive(&mut session, 2, &[None, Some(last + 1)]);
        expire_all(&mut session);
        assert_eq!(directions(&session), expected, "{duplicates}");
    }
}

#[test]
fn evidence_from_before_a_loop_withdraws_the_claims_of_that_time() {
    for (probe, expected) in [(1, (0, 0, 2)), (5, (1, 1, 0))] {
        let mut session = after(&[Some(7), None, None, Some(9), Some(10)]);
        (0..=MAX_DUPLICATES as u32).for_each(|copy| {
            session.reply(&reply(4, 1_000 + copy, 4 * MS, 5 * MS));
        });
        drive(&mut session, 5, &[Some(2_000)]);
        assert_eq!(directions(&session), (1, 1, 0));
        let sent = u64::from(probe) * MS;
        session.reply(&reply(probe, 2_001, sent, sent + 3 * EXPIRY));
        assert_eq!(directions(&session), expected, "{probe}");
    }
}

#[test]
fn an_overtaken_probe_with_a_lost_reply_is_lost_backward() {
    let mut session = session();
    // 1 reaches the reflector after 2 and 3 and is counted 10; its reply is lost.
    drive(&mut session, 0, &[Some(7), None, Some(8), Some(9), Some(11), Some(12)]);
    expire_all(&mut session);
    assert_eq!(directions(&session), (0, 1, 0));
}

#[test]
fn overtaking_is_not_loss() {
    let mut session = session();
    // 1 is lost forward; 3 overtakes 2. Round trips take 5 to 9 ms.
    let sent = [0, 10, 11, 12, 30].map(|ms| ms * MS);
    (0u32..).zip(sent).for_each(|(seq, sent_ns)| session.sent(seq, sent_ns));
    session.reply(&reply(0, 7, sent[0], 5 * MS));
    session.reply(&reply(3, 8, sent[3], 17 * MS));
    session.reply(&reply(2, 9, sent[2], 20 * MS));
    session.reply(&reply(4, 10, sent[4], 35 * MS));
    expire_all(&mut session);
    assert_eq!((directions(&session), counts(&session).reordered), ((1, 0, 0), 1));
}

#[test]
fn a_probe_that_a_lost_one_may_have_crossed_is_no_anchor() {
    let mut session = session();
    (0..6).for_each(|seq| session.sent(seq, u64::from(seq) * MS));
    // 2 overtakes 1 by 1 ms. 3 is counted 10, after 4, and its reply is lost. 5 does not arrive.
    session.reply(&reply(2, 7, 2 * MS, 8 * MS));
    session.reply(&reply(1, 8, MS, 8 * MS));
    session.reply(&reply(4, 9, 4 * MS, 9 * MS));
    session.sent(6, 20 * MS);
    session.reply(&reply(6, 11, 20 * MS, 21 * MS));
    expire_all(&mut session);
    assert_eq!(directions(&session), (0, 0, 3));
}

#[test]
fn an_outage_longer_than_the_memory_is_in_the_summary_with_its_direction() {
    let lost = 2 * MAX_PROBES as u32;
    for backward in [10, lost - 10] {
        let mut session = session();
        drive(&mut session, 0, &[Some(107)]);
        for seq in 1..=lost {
            session.sent(seq, u64::from(seq) * MS);
            session.expire(u64::from(seq) * MS, &mut unanswered);
        }
        assert!(session.history.len() <= MAX_PROBES + 2);
        drive(&mut session, lost + 1, &[Some(108 + backward)]);
        expire_all(&mut session);
        assert_eq!(
            directions(&session),
            (u64::from(lost - backward), u64::from(backward), 0)
        );
    }
}

#[test]
fn forgotten_probes_of_an_outage_still_count_when_new_evidence_comes() {
    let mut session = session();
    drive(&mut session, 0, &[&[Some(107)][..], &[None; 40]].concat());
    expire_all(&mut session);
    while let Some((slot, probe)) = session.history.forget_oldest(|_, _, count| count > 20) {
        session.loss_direction.forget(slot, &probe);
    }
    // 40 was the eleventh to arrive.
    session.reply(&reply(40, 118, 40 * MS, 3 * EXPIRY));
    assert_eq!(directions(&session), (29, 10, 1));
    drive(&mut session, 41, &[None, Some(120)]);
    expire_all(&mut session);
    assert_eq!(directions(&session), (29, 11, 1));
    session.reply(&reply(41, 119, 41 * MS, 9 * EXPIRY));
    assert_eq!(directions(&session), (29, 10, 2));
}

#[test]
fn a_window_knows_the_direction_of_losses_older_than_the_memory() {
    let mut session = session();
    drive(&mut session, 0, &[Some(500)]);
    for seq in 1..=200 {
        let sent = u64::from(seq) * 100 * MS;
        session.sent(seq, sent);
        session.expire(sent, &mut unanswered);
    }
    session.sent(201, 20_100 * MS);
    session.reply(&reply(201, 501, 20_100 * MS, 20_101 * MS));
    session.roll(20_102 * MS);
    expire_all(&mut session);
    assert_eq!(session.take_finished().unwrap().counts.lost_forward, 200);
}

#[test]
fn losses_are_placed_from_the_oldest_probe_that_is_remembered() {
    let mut session = session();
    let later = 2 * MIN_MEMORY_NS;
    let sent = [0, later, later + MS, later + 2 * MS];
    (0u32..).zip(sent).for_each(|(seq, sent_ns)| {
        session.sent(seq, sent_ns);
        if seq != 2 {
            session.reply(&reply(seq, seq, sent_ns, sent_ns + MS / 2));
        }
    });
    assert!(session.history.start() > 0);
    expire_all(&mut session);
    session.set_stateful(true);
    assert_eq!(directions(&session), (0, 1, 0));
}

#[test]
fn a_probe_lost_backward_was_not_refused() {
    let mut session = after(&[Some(7), None, Some(9)]);
    session.set_refused(Some(7));
    assert_eq!(session.summary(0).patterns.lost_refused, Some(0));
}

#[test]
fn a_window_waits_a_moment_for_the_direction_of_its_losses() {
    let mut session = session();
    drive(&mut session, 0, &[Some(7), None]);
    session.roll(2 * MS);
    session.expire(MS + EXPIRY, &mut unanswered);
    assert_eq!(session.take_finished(), None);
    let by = 2 * MS + EXPIRY + DIRECTION_HOLD_NS;
    assert_eq!(session.next_deadline(), Some(by));

    session.expire(by, &mut unanswered);
    let window = session.take_finished().unwrap();
    assert_eq!((window.counts.lost, window.counts.lost_unknown), (1, 1));
}

#[test]
fn a_window_is_handed_out_as_soon_as_the_direction_is_known() {
    let mut session = session();
    drive(&mut session, 0, &[Some(7), None]);
    session.roll(2 * MS);
    drive(&mut session, 2, &[Some(8)]);
    session.expire(MS + EXPIRY, &mut unanswered);
    assert_eq!(session.take_finished().unwrap().counts.lost_forward, 1);
}

/// A hostile peer answers each probe sixteen times, with counters that fit nothing.
#[test]
fn duplicates_with_wrong_counters_do_not_hold_up_the_session() {
    const PROBES: u32 = 12_000;
    let start = std::time::Instant::now();
    let mut session = session();
    session.set_stateful(true);
    for seq in 0..PROBES {
        let sent_ns = u64::from(seq) * MS;
        session.sent(seq, sent_ns);
        session.reply(&reply(seq, seq, sent_ns, sent_ns + MS / 2));
        for duplicate in 0..15 {
            let old = seq.saturating_sub(duplicate * 600);
            let counter = old ^ (0x0100_0000 * (duplicate + 1)).wrapping_sub(seq * 7);
            let received_ns = sent_ns + MS / 2 + u64::from(duplicate) + 1;
            session.reply(&reply(old, counter, u64::from(old) * MS, received_ns));
        }
        session.expire(sent_ns + MS, &mut unanswered);
    }
    let elapsed = start.elapsed();
    assert!(
        elapsed.as_nanos() < u128::from(PROBES) * u128::from(MS),
        "not in time: {elapsed:?}"
    );
    assert_eq!(counts(&session).received, u64::from(PROBES));
}
