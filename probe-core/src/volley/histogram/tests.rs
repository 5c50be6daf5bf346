use proptest::prelude::*;

use super::*;
use crate::stats::distribution::Distribution;

fn of(values: &[u32]) -> Histogram {
    let mut histogram = Histogram::default();
    values.iter().for_each(|&value| histogram.record(value));
    histogram
}

#[test]
fn without_a_value_there_is_no_summary() {
    assert_eq!(Histogram::default().summary(), None);
    assert_eq!(Histogram::default().quantile(0.5), None);
    let mut empty = Histogram::default();
    empty.merge(&Histogram::default());
    assert_eq!(empty, Histogram::default());
}

#[test]
fn tallies_of_processors_add_up() {
    let (a, b) = ([5, 100, 100_000], [1, 7_000_000]);
    let mut merged = of(&a);
    merged.merge(&of(&b));
    let mut idle = of(&[&a[..], &b[..]].concat());
    assert_eq!(merged, idle);
    // A processor without values has no smallest one.
    idle.add(|_| 0, 0, i64::MAX, i64::MIN);
    assert_eq!(merged, idle);
    let summary = merged.summary().unwrap();
    assert_eq!((summary.min, summary.max, summary.count), (1, 7_000_000, 5));
}

#[test]
fn a_value_that_is_just_being_counted_has_no_ends_yet() {
    for (min, max) in [(i64::MAX, i64::MIN), (i64::MAX, 5), (5, i64::MIN)] {
        let mut histogram = Histogram::default();
        histogram.add(|bin| u64::from(bin == 5), 5, min, max);
        assert_eq!(histogram.quantile(0.5), Some(5));
        assert_eq!(histogram.summary().unwrap().count, 1);
    }
}

#[test]
fn bins_are_listed_with_their_range() {
    let listed: Vec<_> = of(&[3, 3, 1_000]).bins().collect();
    assert_eq!(listed, [(3, 1, 2), (1_000, 8, 1)]);
}

proptest! {
    #[test]
    fn the_summary_is_that_of_the_distribution_within_a_percent(
        values in prop::collection::vec(prop_oneof![0..200u32, 0..1_000_000u32, any::<u32>()], 1..200),
    ) {
        let mut exact = Distribution::default();
        values.iter().for_each(|&value| exact.record(value.into()));
        let (ours, exact) = (of(&values).summary().unwrap(), exact.summary().unwrap());
        prop_assert_eq!((ours.min, ours.max, ours.count), (exact.min, exact.max, exact.count));
        prop_assert!(ours.mean.abs_diff(exact.mean) <= 1);
        let mut sorted = values.clone();
        sorted.sort_unstable();
        for (quantile, ours) in [(0.5, ours.p50), (0.9, ours.p90), (0.99, ours.p99), (0.999, ours.p999)] {
            let rank = (quantile * values.len() as f64).ceil() as usize;
            let value = i64::from(sorted[rank.max(1) - 1]);
            prop_assert!(ours.abs_diff(value) * 100 <= value.unsigned_abs(), "{}: {} and not {}", quantile, ours, value);
        }
        let spread = u64::from(sorted[sorted.len() - 1]);
        prop_assert!(ours.stddev.abs_diff(exact.stddev) * 50 <= spread.max(50), "{:?} {:?}", ours, exact);
    }

    #[test]
    fn a_difference_is_what_came_between(
        before in prop::collection::vec(0..1_000_000u32, 0..50), between in prop::collection::vec(0..1_000_000u32, 0..50),
    ) {
        let earlier = of(&before);
        let later = of(&[&before[..], &between[..]].concat());
        let (difference, exact) = (later.since(&earlier), of(&between));
        prop_assert_eq!(difference.bins().collect::<Vec<_>>(), exact.bins().collect::<Vec<_>>());
        match (difference.summary(), exact.summary()) {
            (None, None) => {}
            (Some(ours), Some(exact)) => {
                prop_assert_eq!((ours.mean, ours.count), (exact.mean, exact.count));
                // The ends are those of their bins.
                prop_assert!(ours.min <= exact.min && (exact.min - ours.min) * 60 <= exact.min);
                prop_assert!(ours.max >= exact.max && (ours.max - exact.max) * 60 <= exact.max);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
