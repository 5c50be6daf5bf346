//! The rules of a session, one by one. `model` applies them all to a simulated network.

use std::net::Ipv4Addr;

use super::*;
use crate::stats::report::Counts;

mod delay;
mod loss;
mod model;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const MS: u64 = 1_000_000;
const TIMEOUT: u64 = 100 * MS;
const EXPIRY: u64 = TIMEOUT + GRACE_NS;
const UTC: u64 = 1_700_000_000_000_000_000;

fn session() -> Session {
    Session::new(PEER, Path::Unicast, TIMEOUT, 0)
}

/// A reply with a residence of 1 ms and a forward delay of a quarter of the rest.
fn reply(seq: u32, counter: u32, sent_ns: u64, received_ns: u64) -> Reply {
    let residence = MS.min(received_ns - sent_ns);
    let t2_ns = UTC + sent_ns + (received_ns - sent_ns - residence) / 4;
    Reply {
        peer: PEER,
        ssid: 1,
        seq,
        reflector_seq: counter,
        sent_mono_ns: sent_ns,
        received_mono_ns: received_ns,
        t1_ns: UTC + sent_ns,
        t2_ns,
        t3_ns: t2_ns + residence,
        t4_ns: UTC + received_ns,
        reflector_error_ns: None,
        own_error_ns: None,
        wrong_z: false,
        clock_set: false,
    }
}

fn unanswered(_: Overdue) -> Fate {
    Fate::Unanswered
}

/// The counts so far, once the invariants hold.
fn counts(session: &Session) -> Counts {
    let counts = session.summary(session.now_ns).counts;
    assert_balanced(&counts);
    assert_eq!(counts.pending, session.pending());
    counts
}

fn assert_balanced(counts: &Counts) {
    assert_eq!(
        counts.sent,
        counts.received + counts.lost + counts.pending,
        "{counts:?}"
    );
    let lost = counts.lost_forward + counts.lost_backward + counts.lost_unknown;
    assert_eq!(counts.lost, lost, "{counts:?}");
    assert!(counts.collector_lost <= counts.received, "{counts:?}");
}

/// Every state of a probe against a reply in time, a reply after the timeout, and the deadline.
#[test]
fn transitions() {
    type Prepare = fn(&mut Session);
    type Action = fn(&mut Session) -> Option<Outcome>;
    type Expected = (Option<Outcome>, Counts);
    let zero = Counts::default();
    let sent = Counts { sent: 1, ..zero };
    let received = Counts { received: 1, ..sent };
    let lost = Counts {
        lost: 1,
        lost_unknown: 1,
        ..sent
    };
    let lost_late = Counts { late: 1, ..lost };
    let collected = Counts {
        collector_lost: 1,
        ..received
    };
    let failed = Counts { send_failed: 1, ..zero };
    let none = |counts| [(None, counts); 3];
    let late = (Some(Outcome::Late), lost_late);
    let answered_again = |counts| {
        let duplicates = Counts {
            duplicates: 1,
            ..counts
        };
        let duplicate = (Some(Outcome::Duplicate), duplicates);
        [duplicate, duplicate, (None, counts)]
    };
    let table: [(&str, Prepare, [Expected; 3]); 8] = [
        ("not sent", |_| {}, none(zero)),
        (
            "pending",
            |session| session.sent(0, 0),
            [(Some(Outcome::Ok), received), late, (None, lost)],
        ),
        (
            "answered",
            |session| {
                session.sent(0, 0);
                session.reply(&reply(0, 0, 0, 10 * MS));
            },
            answered_again(received),
        ),
        (
            "lost",
            |session| {
                session.sent(0, 0);
                session.expire(EXPIRY, &mut unanswered);
            },
            [late, late, (None, lost)],
        ),
        (
            "late",
            |session| {
                session.sent(0, 0);
                session.reply(&reply(0, 0, 0, TIMEOUT + 1));
            },
            answered_again(lost_late),
        ),
        (
            "collector lost",
            |session| {
                session.sent(0, 0);
                session.expire(EXPIRY, &mut |_| Fate::CollectorLost);
            },
            answered_again(collected),
        ),
        (
            "never left",
            |session| {
                session.sent(0, 0);
                session.expire(EXPIRY, &mut |_| Fate::NeverLeft(SendFailure::NoNeighbour));
            },
            none(failed),
        ),
        (
            "refused",
            |session| {
                session.sent(0, 0);
                session.send_failed(0, SendFailure::Forbidden);
            },
            none(failed),
        ),
    ];
    let actions: [(&str, Action); 3] = [
        ("in time", |session| session.reply(&reply(0, 0, 0, 10 * MS))),
        ("too late", |session| session.reply(&reply(0, 0, 0, TIMEOUT + 1))),
        ("deadline", |session| {
            session.expire(EXPIRY, &mut unanswered);
            None
        }),
    ];
    for (state, prepare, expected) in table {
        for ((event, action), expected) in actions.into_iter().zip(expected) {
            let mut session = session();
            prepare(&mut session);
            let outcome = action(&mut session);
            assert_eq!((outcome, counts(&session)), expected, "{state}, {event}");
        }
    }
}

#[test]
fn a_reply_in_time_by_the_stamps_counts_however_late_it_is_read() {
    let mut session = session();
    session.sent(0, 0);
    session.expire(EXPIRY - 1, &mut unanswered);
    assert_eq!(session.reply(&reply(0, 0, 0, TIMEOUT)), Some(Outcome::Ok));
}

#[test]
fn the_deadline_is_that_of_the_oldest_pending_probe() {
    let mut session = session();
    assert_eq!(session.next_deadline(), None);
    session.sent(0, 5);
    session.sent(1, 10);
    assert_eq!(session.next_deadline(), Some(5 + EXPIRY));
    session.reply(&reply(0, 0, 5, MS));
    assert_eq!(session.next_deadline(), Some(10 + EXPIRY));
    session.expire(10 + EXPIRY, &mut unanswered);
    assert_eq!(session.next_deadline(), None);
}

#[test]
fn a_number_that_does_not_ascend_is_not_sent() {
    let mut session = session();
    session.sent(5, 0);
    session.sent(5, 1);
    session.sent(4, 2);
    assert_eq!(counts(&session).sent, 1);
}

#[test]
fn a_window_is_handed_out_when_its_last_probe_is_resolved() {
    let mut session = session();
    session.sent(0, 0);
    session.sent(1, 5 * MS);
    session.roll(6 * MS);
    session.sent(2, 7 * MS);
    session.reply(&reply(0, 0, 0, 8 * MS));
    session.reply(&reply(0, 0, 0, 8 * MS));
    assert_eq!(session.take_finished(), None);
    session.reply(&reply(1, 1, 5 * MS, 9 * MS));
    let window = session.take_finished().unwrap();
    assert_eq!((window.start_ns, window.end_ns), (0, 6 * MS));
    assert_eq!((window.counts.sent, window.counts.received), (2, 2));
    assert_eq!(window.counts.duplicates, 1);
    assert_eq!(session.take_finished(), None);
    assert_eq!(counts(&session).pending, 1);
}

#[test]
fn a_window_in_which_nothing_happened_is_left_out() {
    let mut session = session();
    session.roll(MS);
    session.sent(0, MS);
    session.reply(&reply(0, 0, MS, 2 * MS));
    session.roll(3 * MS);
    assert_eq!(session.take_finished().map(|window| window.start_ns), Some(MS));
}

#[test]
fn replies_after_their_window_count_in_the_open_one() {
    let mut session = session();
    session.sent(0, 0);
    session.sent(1, 0);
    session.reply(&reply(1, 1, 0, MS));
    session.expire(EXPIRY, &mut unanswered);
    session.roll(EXPIRY);
    let first = session.take_finished().unwrap();
    assert_eq!((first.counts.lost, first.counts.late), (1, 0));
    session.reply(&reply(0, 0, 0, 2 * EXPIRY));
    session.reply(&reply(1, 1, 0, 2 * EXPIRY));
    session.roll(3 * EXPIRY);
    let second = session.take_finished().unwrap();
    let expected = Counts {
        late: 1,
        duplicates: 1,
        ..Counts::default()
    };
    assert_eq!(second.counts, expected);
}

#[test]
fn the_end_hands_out_everything() {
    let mut session = session();
    session.sent(0, 0);
    session.end(MS);
    assert_eq!(session.take_finished().unwrap().counts.pending, 1);
    assert_eq!(session.reply(&reply(0, 0, 0, 2 * MS)), Some(Outcome::Ok));
    assert_eq!(
        counts(&session),
        Counts {
            sent: 1,
            received: 1,
            ..Counts::default()
        }
    );
}

#[test]
fn memory_is_bounded_by_age_and_by_number() {
    let mut session = session();
    let count = 3 * MAX_PROBES as u32;
    for seq in 0..count {
        session.sent(seq, u64::from(seq));
        session.reply(&reply(seq, seq, u64::from(seq), u64::from(seq) + 2 * MS));
    }
    assert_eq!(session.history.len(), MAX_PROBES);
    session.sent(count, MIN_MEMORY_NS * 2);
    assert!(session.history.len() <= 3, "{}", session.history.len());
    assert_eq!(session.reply(&reply(0, 0, 0, MS)), None);
}
