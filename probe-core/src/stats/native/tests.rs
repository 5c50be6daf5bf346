use proptest::prelude::*;

use super::*;
use crate::stats::distribution::Distribution;

fn distribution(samples: &[i64]) -> Distribution {
    let mut distribution = Distribution::default();
    samples.iter().for_each(|&sample| distribution.record(sample));
    distribution
}

fn native(samples: &[i64]) -> NativeHistogram {
    distribution(samples).native()
}

/// The bounds in nanoseconds of the bucket with the sample of this rank, from the smallest.
fn bounds(native: &NativeHistogram, rank: u64) -> (f64, f64) {
    let bound = |index: i16| 2f64.powf(f64::from(index) / f64::from(1 << native.schema)) * NS_PER_S;
    let negative = native.negative.iter().rev();
    let negative = negative.map(|&(index, count)| ((-bound(index), -bound(index - 1)), count));
    let zero = ((0.0, 0.0), native.zero);
    let positive = native.positive.iter();
    let positive = positive.map(|&(index, count)| ((bound(index - 1), bound(index)), count));
    let mut before = 0;
    let mut all = negative.chain([zero]).chain(positive);
    let found = all.find(|(_, count)| {
        before += count;
        before > rank
    });
    found.expect("a bucket").0
}

#[test]
fn the_index_of_a_power_of_two_is_its_upper_bound() {
    for (ns, want) in [(1_000_000_000, 0), (2_000_000_000, 64), (500_000_000, -64), (1, -1_913)] {
        assert_eq!(index(ns), want, "{ns}");
    }
    assert_eq!(index(1_000_000_001), 1);
    assert!(index(i64::MAX.unsigned_abs()) < i16::MAX);
}

#[test]
fn signs_zero_and_sums_are_kept() {
    let native = native(&[-1_000, -1_000, 0, 5, 1_000_000]);
    assert_eq!((native.count(), native.zero(), native.sum_ns()), (5, 1, 998_005));
    assert_eq!(native.negative(), [(index(1_000), 2)]);
    assert_eq!(native.positive(), [(index(5), 1), (index(1_000_000), 1)]);
    assert_eq!(NativeHistogram::default().count(), 0);
}

#[test]
fn buckets_are_bounded_and_only_the_schema_falls() {
    // A sample in each bucket of 15 powers of two, on both sides.
    let samples: Vec<i64> = (0..15 * 64)
        .map(|step| 2f64.powf(10.0 + f64::from(step) / 64.0) as i64)
        .collect();
    let mut sum = NativeHistogram::default();
    for sample in &samples {
        sum.add(&native(&[*sample]));
        sum.add(&native(&[-*sample]));
    }
    assert_eq!(sum.count(), 2 * 15 * 64);
    assert_eq!(sum.schema(), FINEST_SCHEMA - 1);
    assert!(sum.positive.len() <= MAX_BUCKETS && sum.negative.len() <= MAX_BUCKETS);
    assert!(sum.positive.is_sorted_by(|(a, _), (b, _)| a < b));
    // Later windows use the coarser buckets, too.
    let count = sum.count();
    sum.add(&native(&[5]));
    assert_eq!((sum.count(), sum.schema()), (count + 1, FINEST_SCHEMA - 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(64)))]

    #[test]
    fn both_bounds_of_a_bucket_are_within_2_2_percent_of_each_sample(
        windows in prop::collection::vec(prop::collection::vec((1i64..1 << 20, 0u32..4, any::<bool>()), 1..600), 1..4)
    ) {
        let mut sum = NativeHistogram::default();
        let mut all = Vec::new();
        for window in windows {
            let signed = |(value, shift, negative): (i64, u32, bool)| {
                let value = (value + 1_000_000) << shift;
                if negative { -value } else { value }
            };
            let samples: Vec<i64> = window.into_iter().map(signed).collect();
            let before = sum.clone();
            sum.add(&native(&samples));
            all.extend(samples);
            // No bucket loses a sample.
            if before.schema == sum.schema {
                for (index, count) in &before.positive {
                    let now = sum.positive.iter().find(|(other, _)| other == index);
                    prop_assert!(now.is_some_and(|(_, now)| now >= count));
                }
            }
        }
        all.sort_unstable();
        prop_assert_eq!(sum.count(), all.len() as u64);
        prop_assert_eq!(sum.sum_ns(), all.iter().map(|&sample| i128::from(sample)).sum::<i128>());
        prop_assert_eq!(sum.schema(), FINEST_SCHEMA);
        for (rank, &sample) in all.iter().enumerate() {
            let (least, most) = bounds(&sum, rank as u64);
            for bound in [least, most] {
                let off = (bound - sample as f64).abs() / (sample as f64).abs();
                prop_assert!(off < 0.022, "{sample}: {least}..{most}");
            }
        }
    }
}

#[test]
fn quantiles_are_near_the_samples_at_their_ranks() {
    assert_eq!(NativeHistogram::default().quantiles([0.5]), None);
    let table: [(&[i64], [i64; 3]); 5] = [
        (&[7_000], [7_000; 3]),
        (&[0, 0, 5_000], [0, 0, 5_000]),
        (&[-9_000_000, -2_000, 0, 3_000], [-9_000_000, -2_000, 3_000]),
        (&[100, 200, 300, 400, 500], [100, 300, 500]),
        (
            &[1, 1_000, 1_000_000, 1_000_000_000, 1_000_000_000_000],
            [1, 1_000_000, 1_000_000_000_000],
        ),
    ];
    for (samples, want) in table {
        let got = native(samples).quantiles([0.0, 0.5, 1.0]).unwrap();
        for (got, want) in got.into_iter().zip(want) {
            assert!(
                (got - want).unsigned_abs() as f64 <= 0.019 * want.unsigned_abs() as f64 + 0.5,
                "{samples:?}: {got}"
            );
        }
    }
}

#[test]
fn only_parts_of_a_histogram_are_taken() {
    let take = |schema, zero, negative: &[(i16, u64)], positive: &[(i16, u64)]| {
        NativeHistogram::from_parts(schema, 5, zero, negative.to_vec(), positive.to_vec())
    };
    assert_eq!(take(FINEST_SCHEMA, 0, &[], &[]).unwrap().count(), 0);
    let taken = take(5, 1, &[(-3, 2)], &[(-9, 3), (8, 4)]).unwrap();
    assert_eq!(
        (taken.schema(), taken.count(), taken.sum_ns(), taken.zero()),
        (5, 10, 5, 1)
    );
    let many: Vec<_> = (0..=MAX_BUCKETS as i16).map(|index| (index, 1)).collect();
    let wrong = [
        take(FINEST_SCHEMA + 1, 0, &[], &[]),
        take(6, 0, &[], &[(2, 1), (1, 1)]),
        take(6, 0, &[(1, 1), (1, 1)], &[]),
        take(6, 0, &[], &[(1, 0)]),
        take(6, 0, &[], &many),
        take(6, u64::MAX, &[], &[(1, 1)]),
        take(6, 0, &[(1, u64::MAX)], &[(1, u64::MAX)]),
        take(6, 0, &[], &[(i16::MAX, 1)]),
        take(0, 0, &[], &[(35, 1)]),
        take(0, 0, &[(i16::MIN, 1)], &[]),
    ];
    assert_eq!(wrong, [const { None }; 10]);
    // The largest ones can be worked with.
    let mut largest = take(0, 0, &[(34, MAX_SAMPLES / 2)], &[(34, MAX_SAMPLES / 2)]).unwrap();
    largest.add(&largest.clone());
    assert!(largest.quantiles([0.5, 1.0]).is_some());
}

proptest! {
    #[test]
    fn a_histogram_is_made_of_its_parts(samples in prop::collection::vec(any::<i64>(), 0..900)) {
        let native = native(&samples);
        let parts = (native.negative().to_vec(), native.positive().to_vec());
        let again = NativeHistogram::from_parts(native.schema(), native.sum_ns(), native.zero(), parts.0, parts.1);
        prop_assert_eq!(again, Some(native));
    }

    #[test]
    fn quantiles_of_merged_windows_are_near_those_of_all_samples(
        windows in proptest::collection::vec(proptest::collection::vec(1_000_i64..4_000_000, 1..40), 1..8)
    ) {
        let mut merged = NativeHistogram::default();
        windows.iter().for_each(|window| merged.add(&native(window)));
        let mut all = windows.concat();
        all.sort_unstable();
        let quantiles = [0.1, 0.5, 0.9, 0.99];
        let got = merged.quantiles(quantiles).unwrap();
        for (quantile, got) in quantiles.into_iter().zip(got) {
            let rank = ((quantile * all.len() as f64).ceil() as usize).max(1);
            let want = all[rank - 1];
            prop_assert!((got - want).abs() as f64 <= 0.019 * want as f64 + 1.0, "{quantile}: {got} of {want}");
        }
    }
}

#[test]
fn coarse_buckets_have_all_samples_above_zero() {
    let native = native(&[-5, 0, 1_000, 1_100, 1_000_000]);
    let coarse = native.coarse(3);
    assert_eq!(coarse.iter().map(|(_, count)| count).sum::<u64>(), 3);
    for (ns, (index, _)) in [(1_000, coarse[0]), (1_000_000, coarse[coarse.len() - 1])] {
        let bound = |index: i16| 2f64.powf(f64::from(index) / 8.0) * NS_PER_S;
        assert!(
            bound(index - 1) < f64::from(ns) && f64::from(ns) <= bound(index),
            "{ns}"
        );
    }
}
