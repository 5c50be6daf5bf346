use super::*;

const MS: u64 = 1_000_000;

#[test]
fn a_rate_is_spent_as_it_is_earned_and_pauses_are_not_made_up_for() {
    // (time in ms, next sequence number, limit); 1,000 a second in bursts of 2, from number 100 on.
    let table = [
        (0, 100, 102),
        (1, 102, 103),
        (2, 103, 104),
        (5, 104, 107),
        // Eight behind, which is four bursts: still made up for.
        (10, 104, 112),
        // One more is not.
        (11, 104, 106),
        (12, 106, 107),
        // After a pause of seconds, nothing is made up for.
        (3_012, 107, 109),
        (3_013, 109, 110),
    ];
    let mut pace = Pace::new(1_000, 2, 7, 100);
    for (at_ms, next, limit) in table {
        assert_eq!(pace.limit(7 + at_ms * MS, next), limit, "{at_ms} ms");
    }
    assert_eq!(pace.start(), (7 + 3_012 * MS, 107));
}

#[test]
fn a_day_at_the_highest_rate_does_not_overflow() {
    let day_ns = 86_400 * 1_000 * MS;
    let rate = 100_000_000;
    let mut pace = Pace::new(rate, 1_000, 0, 0);
    assert_eq!(pace.limit(day_ns + 1_000, rate * 86_400), rate * 86_400 + 1_000 + 100);
    // The kernel multiplies less than two seconds by the rate.
    assert_eq!(pace.start(), (day_ns, rate * 86_400));
}

#[test]
fn numbers_are_handed_out_once_when_they_are_old_enough() {
    let mut ages = Ages::new(10);
    ages.note(100, 15);
    ages.note(200, 15);
    ages.note(300, 40);
    // (now, range)
    for (now_ns, range) in [
        (149, (10, 10)),
        (150, (10, 15)),
        (150, (15, 15)),
        (349, (15, 15)),
        (350, (15, 40)),
        (10_000, (40, 40)),
    ] {
        assert_eq!(ages.older(now_ns, 50), range, "at {now_ns}");
    }
}

#[test]
fn ball_timeout_follows_the_delay_and_doubles_while_nothing_comes() {
    let mut ball_timeout = BallTimeout::default();
    assert_eq!(ball_timeout.ns(), 10 * MS);
    // (99.9th percentile in ms, ball_timeout in ms)
    for (p999_ms, ms) in [(0, 1), (1, 4), (7, 28), (1_000, 200)] {
        ball_timeout.observe(p999_ms * MS as i64);
        assert_eq!(ball_timeout.ns(), ms * MS, "{p999_ms} ms");
    }
    ball_timeout.observe(0);
    // (replies so far, ball_timeout in ms)
    for (received, ms) in [(5, 1), (5, 2), (5, 4), (6, 1), (6, 2), (7, 1)] {
        ball_timeout.replaced(received);
        assert_eq!(ball_timeout.ns(), ms * MS, "{received} replies");
    }
    for _ in 0..100 {
        ball_timeout.replaced(7);
    }
    assert_eq!(ball_timeout.ns(), 200 * MS);
}
