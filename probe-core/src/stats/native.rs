//! Delays in the buckets of a Prometheus native histogram: each power of two is divided into 2ˢ buckets, s being the schema.
//!
//! A bucket of the finest schema is 1.09 % wide. A sample is within 0.79 % of the middle of its bin in a [`Distribution`], so
//! both bounds of its bucket are within 1.9 % of it.

use crate::stats::distribution::Distribution;

/// The schema at first.
pub const FINEST_SCHEMA: u8 = 6;

/// With more buckets on one side of zero, two become one. 512 fill 8 powers of two at [`FINEST_SCHEMA`].
pub const MAX_BUCKETS: usize = 512;

const NS_PER_S: f64 = 1e9;

/// Bucket index and count in ascending order of indices. The bucket i holds magnitudes above 2^((i − 1) / 2ˢ) seconds, up to
/// 2^(i / 2ˢ) seconds.
pub type Buckets = Vec<(i16, u64)>;

/// Signed delays. Counts only grow, which Prometheus demands of a bucket: each window is put into buckets once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeHistogram {
    schema: u8,
    sum_ns: i128,
    zero: u64,
    negative: Buckets,
    positive: Buckets,
}

impl Default for NativeHistogram {
    fn default() -> Self {
        Self {
            schema: FINEST_SCHEMA,
            sum_ns: 0,
            zero: 0,
            negative: Buckets::new(),
            positive: Buckets::new(),
        }
    }
}

impl From<&Distribution> for NativeHistogram {
    fn from(distribution: &Distribution) -> Self {
        let mut native = Self {
            sum_ns: distribution.sum(),
            ..Self::default()
        };
        for (ns, count) in distribution.bins() {
            let index = index(ns.unsigned_abs());
            match ns {
                0 => native.zero += count,
                1.. => push(&mut native.positive, index, count),
                // From the largest magnitude to the smallest.
                _ => native.negative.push((index, count)),
            }
        }
        native.negative.reverse();
        native.negative = joined(native.negative);
        native.limit();
        native
    }
}

impl NativeHistogram {
    pub fn schema(&self) -> u8 {
        self.schema
    }

    pub fn count(&self) -> u64 {
        let all = [&self.negative, &self.positive].into_iter().flatten();
        self.zero + all.map(|(_, count)| count).sum::<u64>()
    }

    pub fn sum_ns(&self) -> i128 {
        self.sum_ns
    }

    /// Number of delays of 0 ns.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// The buckets of delays below 0, by magnitude.
    pub fn negative(&self) -> &[(i16, u64)] {
        &self.negative
    }

    pub fn positive(&self) -> &[(i16, u64)] {
        &self.positive
    }

    /// Adds the samples of `other`.
    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        self.coarsen(other.schema);
        other.coarsen(self.schema);
        self.sum_ns += other.sum_ns;
        self.zero += other.zero;
        for (own, theirs) in [
            (&mut self.negative, other.negative),
            (&mut self.positive, other.positive),
        ] {
            own.extend(theirs);
            own.sort_by_key(|(index, _)| *index);
            *own = joined(std::mem::take(own));
        }
        self.limit();
    }

    fn limit(&mut self) {
        while self.negative.len().max(self.positive.len()) > MAX_BUCKETS && self.schema > 0 {
            self.coarsen(self.schema - 1);
        }
    }

    /// Goes down to `schema`, if it is coarser.
    fn coarsen(&mut self, schema: u8) {
        while self.schema > schema {
            self.schema -= 1;
            for buckets in [&mut self.negative, &mut self.positive] {
                let halved = buckets.iter().map(|&(index, count)| ((index + 1) >> 1, count));
                *buckets = joined(halved.collect());
            }
        }
    }
}

/// The bucket of a magnitude at [`FINEST_SCHEMA`].
fn index(ns: u64) -> i16 {
    let powers = (ns as f64 / NS_PER_S).log2();
    // Magnitudes from 1 ns to 2⁶³ ns are between 2⁻³⁰ and 2³⁴ seconds.
    (powers * f64::from(1 << FINEST_SCHEMA)).ceil() as i16
}

/// Joins neighbours of the same index.
fn joined(sorted: Buckets) -> Buckets {
    let mut buckets = Buckets::with_capacity(sorted.len());
    for (index, count) in sorted {
        push(&mut buckets, index, count);
    }
    buckets
}

fn push(buckets: &mut Buckets, index: i16, count: u64) {
    match buckets.last_mut() {
        Some((last, sum)) if *last == index => *sum += count,
        _ => buckets.push((index, count)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distribution(samples: &[i64]) -> Distribution {
        let mut distribution = Distribution::default();
        samples.iter().for_each(|&sample| distribution.record(sample));
        distribution
    }

    fn native(samples: &[i64]) -> NativeHistogram {
        (&distribution(samples)).into()
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
        // What comes later is put into the coarser buckets.
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
}
