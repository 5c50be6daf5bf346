//! Distributions against the sorted samples themselves.

use proptest::prelude::*;

use super::*;

fn of(samples: &[i64]) -> Distribution {
    let mut distribution = Distribution::default();
    samples.iter().for_each(|&sample| distribution.record(sample));
    distribution
}

/// Within 0.1 % for up to 256 samples, within 0.8 % for more, and exact where that is less than a nanosecond.
fn near(value: i64, exact: i64, samples: usize) -> bool {
    let part = if samples <= 256 { 1000 } else { 128 };
    (i128::from(value) - i128::from(exact)).unsigned_abs() <= u128::from(exact.unsigned_abs()) / part
}

fn nearest_rank(sorted: &[i64], per_mille: usize) -> i64 {
    sorted[(sorted.len() * per_mille).div_ceil(1000).max(1) - 1]
}

#[test]
fn no_sample_no_summary() {
    assert_eq!(Distribution::default().summary(), None);
    assert_eq!(Distribution::default().count(), 0);
}

#[test]
fn one_sample_is_every_statistic() {
    for sample in [0, 1, -1, 12_345_678, -12_345_678, i64::MAX, i64::MIN] {
        let summary = of(&[sample]).summary().unwrap();
        let expected = Summary {
            min: sample,
            mean: sample,
            p50: sample,
            p90: sample,
            p99: sample,
            p999: sample,
            max: sample,
            stddev: 0,
            count: 1,
        };
        assert_eq!(summary, expected);
    }
}

#[test]
fn percentiles_cross_zero() {
    for (half, want, stddev) in [(125, (-125, -1, 99, 124), 72), (500, (-500, -1, 399, 499), 289)] {
        let samples: Vec<i64> = (-half..half).collect();
        let summary = of(&samples).summary().unwrap();
        assert_eq!((summary.min, summary.p50, summary.max), (want.0, want.1, want.3));
        assert!(near(summary.p90, want.2, samples.len()), "{}", summary.p90);
        assert_eq!(summary.stddev, stddev);
    }
}

#[test]
fn a_small_spread_survives_a_huge_offset() {
    let offset = 1_700_000_000_000_000_000;
    let summary = of(&[offset, offset + 20]).summary().unwrap();
    assert_eq!((summary.mean, summary.stddev), (offset + 10, 10));
}

#[test]
fn a_shift_moves_positions_and_keeps_the_spread() {
    let rtt = of(&[1_000, 1_500, 2_000]).summary().unwrap();
    let pdv = rtt.shifted(-rtt.min);
    assert_eq!((pdv.min, pdv.mean, pdv.p50, pdv.max), (0, 500, rtt.p50 - 1_000, 1_000));
    assert_eq!((pdv.stddev, pdv.count), (rtt.stddev, 3));
}

#[test]
fn a_wide_distribution_is_within_a_hundredth() {
    // Three powers of ten, each value once: more values than bins.
    let samples: Vec<i64> = (1_000..1_000_000).collect();
    let summary = of(&samples).summary().unwrap();
    for (value, per_mille) in [
        (summary.p50, 500),
        (summary.p90, 900),
        (summary.p99, 990),
        (summary.p999, 999),
    ] {
        assert!(
            near(value, nearest_rank(&samples, per_mille), samples.len()),
            "{value} at {per_mille}"
        );
    }
}

#[test]
fn many_samples_with_little_variation_are_within_a_thousandth() {
    // A round trip of 10 ms that varies by 1 %: a hundredth of the value would be all of it.
    let samples: Vec<i64> = (10_000_000..10_100_000).collect();
    let summary = of(&samples).summary().unwrap();
    for (value, per_mille) in [(summary.p50, 500), (summary.p99, 990)] {
        let off = value - nearest_rank(&samples, per_mille);
        assert!(off.abs() <= 10_000, "{off} at {per_mille}");
    }
}

#[test]
fn a_cleared_distribution_is_empty_and_takes_new_samples() {
    let mut distribution = of(&[-5, 7, 1 << 40]);
    distribution.clear();
    assert_eq!((distribution.count(), distribution.summary()), (0, None));
    let mut other = of(&[9]);
    other.merge(&distribution);
    distribution.merge(&other);
    distribution.record(11);
    assert_eq!(other.summary(), of(&[9]).summary());
    assert_eq!(distribution.summary(), of(&[9, 11]).summary());
}

fn samples() -> impl Strategy<Value = Vec<i64>> {
    let sample = prop_oneof![
        -3_000i64..3_000,
        -5_000_000_000i64..5_000_000_000,
        -(1i64 << 62)..(1i64 << 62),
    ];
    proptest::collection::vec(sample, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(16)))]

    #[test]
    fn agrees_with_the_sorted_samples(mut samples in samples()) {
        let summary = of(&samples).summary().unwrap();
        samples.sort_unstable();
        let count = samples.len() as i128;
        prop_assert_eq!(summary.count, samples.len() as u64);
        prop_assert_eq!(summary.min, samples[0]);
        prop_assert_eq!(summary.max, samples[samples.len() - 1]);
        let sum: i128 = samples.iter().copied().map(i128::from).sum();
        prop_assert_eq!(i128::from(summary.mean), sum / count);
        for (value, per_mille) in
            [(summary.p50, 500), (summary.p90, 900), (summary.p99, 990), (summary.p999, 999)]
        {
            let exact = nearest_rank(&samples, per_mille);
            prop_assert!(near(value, exact, samples.len()), "{} is not near {}", value, exact);
        }
        let mean = sum as f64 / count as f64;
        let squares: f64 = samples.iter().map(|&sample| (sample as f64 - mean).powi(2)).sum();
        let stddev = (squares / count as f64).sqrt();
        prop_assert!((summary.stddev as f64 - stddev).abs() <= 1.0 + stddev * 1e-9);
        let ordered =
            [summary.min, summary.p50, summary.p90, summary.p99, summary.p999, summary.max];
        prop_assert!(ordered.is_sorted());
    }

    #[test]
    fn a_merge_is_the_distribution_of_all(left in samples(), right in samples()) {
        let mut merged = of(&left);
        merged.merge(&of(&right));
        let merged = merged.summary().unwrap();
        let all = of(&[left, right].concat()).summary().unwrap();
        prop_assert!((merged.stddev as f64 - all.stddev as f64).abs() <= 1.0 + all.stddev as f64 * 1e-9);
        prop_assert_eq!(Summary { stddev: 0, ..merged }, Summary { stddev: 0, ..all });
    }
}
