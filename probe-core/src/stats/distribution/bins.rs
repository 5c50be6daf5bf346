//! Counts of samples in bins whose width is a fixed fraction of their value: all values below 2ⁿ⁺¹ have bins of their own,
//! and each power of two above is divided into 2ⁿ bins (as in HdrHistogram). Only bins with samples take memory: a
//! delay between clocks that are decades apart costs no more than one between clocks that agree.

/// The first n: a value is within 1/2048 of the middle of its bin.
const PRECISION: u32 = 10;

/// With more bins, two become one. The first time, values are still within 0.1 %.
const MAX_BINS: usize = 4096;

#[derive(Debug, Clone)]
pub(super) struct Bins {
    precision: u32,
    /// In order. The key of a bin grows with its values; those of negative samples are negative.
    keys: Vec<i32>,
    counts: Vec<u64>,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            precision: PRECISION,
            keys: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl Bins {
    pub(super) fn record(&mut self, sample: i64) {
        self.add(key(sample, self.precision), 1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.precision < self.precision {
            self.coarsen(other.precision);
        }
        for (&key, &count) in other.keys.iter().zip(&other.counts) {
            self.add(rounded(key, other.precision, self.precision), count);
        }
    }

    /// The middle of each bin and the number of its samples, from the smallest value to the largest.
    pub(super) fn sorted(&self) -> Vec<(i64, u64)> {
        let middles = self.keys.iter().map(|&key| middle(key, self.precision));
        middles.zip(self.counts.iter().copied()).collect()
    }

    fn add(&mut self, mut key: i32, count: u64) {
        loop {
            match self.keys.binary_search(&key) {
                Ok(place) => {
                    self.counts[place] += count;
                    return;
                }
                Err(place) if self.keys.len() < MAX_BINS => {
                    self.keys.insert(place, key);
                    self.counts.insert(place, count);
                    return;
                }
                Err(_) => {
                    key = rounded(key, self.precision, self.precision - 1);
                    self.coarsen(self.precision - 1);
                }
            }
        }
    }

    fn coarsen(&mut self, precision: u32) {
        let fine = std::mem::replace(
            self,
            Self {
                precision,
                ..Self::default()
            },
        );
        self.merge(&fine);
    }
}

/// The bin of a sample.
fn key(sample: i64, precision: u32) -> i32 {
    let magnitude = sample.unsigned_abs();
    let shift = (u64::BITS - magnitude.leading_zeros()).saturating_sub(precision + 1);
    let key = ((shift << precision) + (magnitude >> shift) as u32).cast_signed();
    if sample < 0 { -key } else { key }
}

/// The smallest magnitude in a bin, and the width of the bin.
fn range(key: i32, precision: u32) -> (u64, u64) {
    let key = key.unsigned_abs();
    let shift = (key >> precision).saturating_sub(1);
    (u64::from(key - (shift << precision)) << shift, 1 << shift)
}

fn middle(key: i32, precision: u32) -> i64 {
    let (least, width) = range(key, precision);
    let middle = i64::try_from(least + width / 2).unwrap_or(i64::MAX);
    if key < 0 { -middle } else { middle }
}

/// The bin of lower precision that contains a bin.
fn rounded(bin: i32, from: u32, to: u32) -> i32 {
    if from == to {
        return bin;
    }
    let magnitude = range(bin, from).0;
    let rounded = key(i64::try_from(magnitude).unwrap_or(i64::MAX), to);
    if bin < 0 { -rounded } else { rounded }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_touch_and_do_not_overlap() {
        for precision in [1, 9, PRECISION] {
            let mut next = 0;
            for key in 0..((64 - precision) << precision).cast_signed() {
                let (least, width) = range(key, precision);
                assert_eq!(least, next, "bin {key}");
                next = least + width;
                if next > 1 << 62 {
                    break;
                }
            }
        }
    }

    #[test]
    fn more_values_than_bins_halve_the_precision_and_no_value_is_lost() {
        let mut bins = Bins::default();
        // Every bin of eight powers of two, and as many below zero.
        for magnitude in 1 << 12..1 << 20 {
            bins.record(magnitude);
            bins.record(-magnitude);
        }
        assert_eq!((bins.keys.capacity(), bins.counts.capacity()), (MAX_BINS, MAX_BINS));
        assert_eq!(bins.precision, PRECISION - 2);
        let sorted = bins.sorted();
        assert!(sorted.is_sorted_by(|(a, _), (b, _)| a < b));
        let all: u64 = sorted.iter().map(|(_, count)| count).sum();
        assert_eq!(all, 2 * ((1 << 20) - (1 << 12)));
        let mut finer = Bins::default();
        finer.record(5_000);
        finer.merge(&bins);
        assert_eq!(finer.precision, bins.precision);
        bins.merge(&Bins::default());
        assert_eq!(bins.precision, PRECISION - 2);
    }

    proptest! {
        #[test]
        fn a_value_is_near_the_middle_of_its_bin(value: i64, bits in 0..64) {
            let value = value >> bits;
            for precision in [PRECISION - 1, PRECISION] {
                let bin = key(value, precision);
                let (least, width) = range(bin, precision);
                prop_assert!((least..=least + (width - 1)).contains(&value.unsigned_abs()));
                let off = (i128::from(middle(bin, precision)) - i128::from(value)).unsigned_abs();
                prop_assert!(off <= u128::from(value.unsigned_abs()) / 1000, "{} of {}", off, value);
                prop_assert_eq!(rounded(bin, precision, precision - 1), key(value, precision - 1));
            }
        }
    }
}
