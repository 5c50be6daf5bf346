use probe_core::agent::event::Found;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{Counts, Delays, OneWayClock, Summary};
use proptest::prelude::*;

use super::packed::Rows;
use super::*;
use crate::output::fixtures::{self, ip};
use crate::output::model::{InterfaceEvent, PeerEvent, Windows};
use crate::output::time::Utc;

const S: u64 = 1_000_000_000;
/// The start of a minute.
const BEGIN: u64 = 1_795_255_860 * S;

fn distribution(samples: &[i64]) -> Distribution {
    let mut distribution = Distribution::default();
    samples.iter().for_each(|&sample| distribution.record(sample));
    distribution
}

/// A window of ten seconds with these round trips; one way takes half of it.
fn window(at_s: u64, rtts: &[i64]) -> Results {
    let halves: Vec<i64> = rtts.iter().map(|rtt| rtt / 2).collect();
    let (rtt, half) = (distribution(rtts), distribution(&halves));
    let received = rtts.len() as u64;
    Results {
        start: Utc {
            unix_ns: BEGIN + at_s * S,
        },
        end: Utc {
            unix_ns: BEGIN + (at_s + 10) * S,
        },
        counts: Counts {
            sent: received + 1,
            received,
            lost: 1,
            lost_forward: 1,
            ..Counts::default()
        },
        rtt_ns: rtt.summary(),
        forward_ns: half.summary(),
        backward_ns: half.summary(),
        delays: Some(Box::new(Delays {
            rtt: rtt.native(),
            residence: NativeHistogram::default(),
            forward: half.native(),
            backward: half.native(),
        })),
        ..fixtures::good()
    }
}

fn of(results: Vec<Results>) -> Event {
    Event::Windows(Windows {
        time: Utc { unix_ns: BEGIN },
        results,
    })
}

fn rows(history: &History, by: By) -> Vec<Row> {
    history.rows(ip("10.1.1.6"), Path::Unicast, by).collect()
}

#[test]
fn outliers_are_bounded_and_hops_of_hidden_peers_are_left_out() {
    let mut history = History::default();
    for seq in 0..=MAX_OUTLIERS as u32 {
        let outlier = Outlier {
            seq,
            ..fixtures::outlier()
        };
        history.event(&Event::Outlier(outlier), |_| true);
    }
    let seqs: Vec<_> = history.outliers().map(|outlier| outlier.seq).collect();
    assert_eq!(
        (seqs.len(), seqs[0]),
        (MAX_OUTLIERS, MAX_OUTLIERS as u32),
        "the newest first"
    );
    history.event(&Event::Hops(fixtures::hops()), |_| false);
    assert_eq!(history.hops().count(), 0);
    history.event(&Event::Hops(fixtures::hops()), |_| true);
    let kept = &history.hops().next().unwrap().latest;
    assert!(kept.parts.iter().all(|part| part.delays.is_none()), "without buckets");
    history.retain(|_| false);
    assert_eq!(history.hops().count(), 0);
}

#[test]
fn windows_stay_for_an_hour_and_minutes_for_a_day() {
    let mut history = History::default();
    let day = 25 * 3_600;
    for at_s in (0..day).step_by(10) {
        history.event(&of(vec![window(at_s, &[100_000])]), |_| true);
    }
    let windows = rows(&history, By::Report);
    assert_eq!(windows.len(), 360);
    assert_eq!(windows[0], Row::of_window(&window(day - 3_600, &[100_000])));
    let minutes = rows(&history, By::Minute);
    // The last is not over, and is not stored yet.
    assert_eq!(minutes.len(), 24 * 60 + 1);
    assert!(minutes.iter().all(|minute| minute.counts.sent == 12));
    assert!(minutes.windows(2).all(|pair| pair[0].end == pair[1].start));
    let bytes = history.bytes() / (360 + 1_440);
    assert!(bytes < 100, "{bytes} bytes for each row");
}

#[test]
fn a_minute_has_the_quantiles_of_all_its_samples() {
    let mut history = History::default();
    // Each window is slower than the one before, so that no window has the quantiles of the minute.
    let windows: Vec<Vec<i64>> = (1..=6)
        .map(|number| (0..50).map(|step| number * 100_000 + step * 997).collect())
        .collect();
    for (at_s, rtts) in (0..).step_by(10).zip(&windows) {
        history.event(&of(vec![window(at_s, rtts)]), |_| true);
    }
    let minute = &rows(&history, By::Minute)[0];
    let mut all = windows.concat();
    all.sort_unstable();
    let got = minute.rtt_ns.unwrap();
    for (got, rank) in [(got.p50, 149), (got.p90, 269), (got.p99, 296), (got.p999, 299)] {
        let want = all[rank];
        assert!((got - want).abs() as f64 <= 0.019 * want as f64, "{got} of {want}");
    }
    let exact = distribution(&all).summary().unwrap();
    assert_eq!((got.min, got.max, got.count), (exact.min, exact.max, exact.count));
    assert!(
        (got.mean - exact.mean).abs() <= 6 && (got.stddev - exact.stddev).abs() <= 6,
        "{got:?} {exact:?}"
    );
    assert_eq!(minute.forward_ns.unwrap().count, 300);
    assert_eq!(minute.rtt_buckets.iter().map(|(_, count)| count).sum::<u64>(), 300);
    assert_eq!((minute.counts.sent, minute.counts.lost_forward), (306, 6));
}

#[test]
fn one_way_delays_of_two_clocks_are_not_added() {
    let synced = |at_s, bound_ns| Results {
        clock: Some(OneWayClock::Synced { bound_ns }),
        ..window(at_s, &[100_000])
    };
    let none = Results {
        clock: None,
        forward_ns: None,
        ..window(30, &[100_000])
    };
    let mut history = History::default();
    for results in [window(0, &[900_000]), synced(10, 7), synced(20, 5), none] {
        history.event(&of(vec![results]), |_| true);
    }
    let minute = &rows(&history, By::Minute)[0];
    assert_eq!(minute.clock, Some(OneWayClock::Synced { bound_ns: 7 }));
    assert_eq!(minute.forward_ns.unwrap().count, 2);
    assert_eq!(minute.rtt_ns.unwrap().count, 4);
}

#[test]
fn memory_is_bounded_however_many_series_there_are() {
    assert_eq!(shares(1), (MAX_WINDOW_BYTES, MAX_MINUTE_BYTES));
    for number in [1, 273, 274, 4_096] {
        let (windows, minutes) = shares(number);
        assert!((windows + minutes) * number <= MAX_BYTES, "{number}");
    }
    let busy: Vec<i64> = (0..200).map(|step| 1_000 << (step % 20)).collect();
    let mut one = Rows::default();
    let share = shares(4_096).0;
    for at_s in 0..5_000 {
        one.push(&Row::of_window(&window(at_s, &busy)), u64::MAX, share);
    }
    assert!(one.bytes() <= share && one.bytes() > share - 1_000);
    assert!(one.iter().count() > 200, "{}", one.iter().count());
    let last = one.iter().last().unwrap();
    assert_eq!(last.start.unix_ns, BEGIN + 4_999 * S);
    assert_eq!(one.last(3).count(), 3);
    assert_eq!(one.last(3).last(), Some(last));
}

#[test]
fn a_peer_that_is_gone_takes_its_history_with_it() {
    let change = |event| Event::Peer(fixtures::peer_change(event, Found::Multicast, Some("h2:p2")));
    let mut history = History::default();
    history.event(&Event::Start(fixtures::start()), |_| true);
    history.event(&change(PeerEvent::Up), |_| true);
    history.event(&of(vec![window(0, &[1_000])]), |_| true);
    let peer = history.peers().next().unwrap();
    assert_eq!(
        (peer.peer_name.as_deref(), peer.state),
        (Some("h2:p2"), peer::State::Up)
    );
    history.event(&change(PeerEvent::Down), |_| true);
    assert_eq!(history.peers().next().unwrap().state, peer::State::Down);
    assert_eq!(rows(&history, By::Report).len(), 1);
    history.retain(|_| false);
    assert_eq!((history.peers().count(), rows(&history, By::Report).len()), (0, 0));
    // Its last window comes later.
    history.event(&of(vec![window(0, &[1_000])]), |_| false);
    assert!(rows(&history, By::Report).is_empty());
    assert_eq!(history.events().count(), 2);
}

#[test]
fn the_last_events_are_kept() {
    let mut history = History::default();
    let interface = |event| Event::Interface(fixtures::interface_change(event));
    for _ in 0..MAX_EVENTS {
        history.event(&interface(InterfaceEvent::Down), |_| true);
    }
    history.event(&interface(InterfaceEvent::Up), |_| true);
    assert_eq!(history.events().count(), MAX_EVENTS);
    assert_eq!(history.events().next(), Some(&interface(InterfaceEvent::Up)));
}

prop_compose! {
    fn summary()(values in any::<[i64; 8]>(), count in 1_u64..) -> Summary {
        let [min, mean, p50, p90, p99, p999, max, stddev] = values;
        Summary { min, mean, p50, p90, p99, p999, max, stddev, count }
    }
}

fn clock() -> impl Strategy<Value = Option<OneWayClock>> {
    prop_oneof![
        Just(None),
        Just(Some(OneWayClock::SameClock)),
        any::<u64>().prop_map(|bound_ns| Some(OneWayClock::Synced { bound_ns })),
        any::<u64>().prop_map(|bound_ns| Some(OneWayClock::Estimated {
            bound_ns,
            offset_ns: 0,
            skew_ppb: 0
        })),
    ]
}

proptest! {
    #[test]
    fn a_packed_row_is_read_back(
        times in any::<(u32, u32)>(),
        counts in any::<[u64; 13]>(),
        rtt_ns in proptest::option::of(summary()),
        forward_ns in proptest::option::of(summary()),
        clock in clock(),
        buckets in proptest::collection::vec(any::<(i16, u64)>(), 0..20),
    ) {
        let start = u64::from(times.0);
        let row = Row {
            start: Utc { unix_ns: start },
            end: Utc { unix_ns: start + u64::from(times.1) },
            counts: Counts {
                sent: counts[0],
                received: counts[1],
                lost: counts[2],
                pending: counts[3],
                lost_forward: counts[4],
                lost_backward: counts[5],
                lost_unknown: counts[6],
                late: counts[7],
                duplicates: counts[8],
                reordered: counts[9],
                collector_lost: counts[10],
                send_failed: counts[11],
                not_sent: counts[12],
            },
            rtt_ns,
            forward_ns,
            backward_ns: None,
            clock,
            rtt_buckets: buckets,
        };
        let mut rows = Rows::default();
        rows.push(&row, u64::MAX, usize::MAX);
        rows.push(&row, u64::MAX, usize::MAX);
        prop_assert_eq!(rows.iter().collect::<Vec<_>>(), vec![row.clone(), row]);
    }
}
