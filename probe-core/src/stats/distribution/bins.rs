//! Counts of samples in bins whose width is a fixed fraction of their value: all values below 2ⁿ⁺¹ have bins of their own,
//! and each power of two above is divided into 2ⁿ bins (as in HdrHistogram). Only bins with samples take memory: a
//! delay between clocks that are decades apart costs no more than one between clocks that agree.

/// The precision n at first: a value is within 1/1024 of the middle of its bin.
const FINEST: u8 = 9;

/// The precision beyond [`MANY_BINS`]: a value is within 1/128 of the middle of its bin.
const COARSEST: u8 = 6;

/// With more bins, two become one, down to [`COARSEST`]. Samples that are close to each other fill few bins, so they keep
/// [`FINEST`], which shows a variation that is a small part of their value.
const MANY_BINS: usize = 256;

/// With more bins even at [`COARSEST`], two become one again. That many span 32 powers of two on both sides of zero.
const MAX_BINS: usize = 4096;

/// A bin with at least so many samples has a carry.
const CARRY: u64 = 1 << 16;

#[derive(Debug, Clone)]
pub(super) struct Bins {
    precision: u8,
    /// In ascending order of keys, which are unique.
    bins: Vec<Bin>,
    /// Key and multiple of [`CARRY`], in ascending order of keys: few bins have so many samples.
    carries: Vec<(i16, u64)>,
}

/// A bin. Keys grow with the values, and those of negative samples are negative.
#[derive(Debug, Clone, Copy)]
struct Bin {
    key: i16,
    /// Number of its samples, without the carry.
    count: u16,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            precision: FINEST,
            bins: Vec::new(),
            carries: Vec::new(),
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
        for (bin, count) in other.counts() {
            self.add(rounded(bin, other.precision, self.precision), count);
        }
    }

    /// Removes all samples, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.precision = FINEST;
        self.bins.clear();
        self.carries.clear();
    }

    /// The middle of each bin and the number of its samples, from the smallest value to the largest.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (i64, u64)> {
        self.counts().map(|(key, count)| (middle(key, self.precision), count))
    }

    /// Each bin and the number of its samples.
    fn counts(&self) -> impl Iterator<Item = (i16, u64)> {
        let mut carries = self.carries.iter().peekable();
        self.bins.iter().map(move |bin| {
            let carry = carries.next_if(|(key, _)| *key == bin.key);
            (bin.key, u64::from(bin.count) + carry.map_or(0, |(_, carry)| *carry))
        })
    }

    fn add(&mut self, mut key: i16, count: u64) {
        loop {
            match self.bins.binary_search_by_key(&key, |bin| bin.key) {
                Ok(place) => return self.add_at(place, count),
                Err(place) if self.has_room() => {
                    if self.bins.len() == self.bins.capacity() {
                        self.bins.reserve_exact(growth(self.bins.len()));
                    }
                    self.bins.insert(place, Bin { key, count: 0 });
                    return self.add_at(place, count);
                }
                Err(_) => {
                    key = rounded(key, self.precision, self.precision - 1);
                    self.coarsen(self.precision - 1);
                }
            }
        }
    }

    fn add_at(&mut self, place: usize, count: u64) {
        let bin = &mut self.bins[place];
        let count = u64::from(bin.count) + count;
        bin.count = (count % CARRY) as u16;
        let carry = count - count % CARRY;
        if carry > 0 {
            match self.carries.binary_search_by_key(&bin.key, |(key, _)| *key) {
                Ok(place) => self.carries[place].1 += carry,
                Err(place) => self.carries.insert(place, (bin.key, carry)),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.bins.len() < self.most()
    }

    /// Most bins of this precision.
    fn most(&self) -> usize {
        if self.precision > COARSEST { MANY_BINS } else { MAX_BINS }
    }

    fn coarsen(&mut self, precision: u8) {
        let coarse = Self {
            precision,
            ..Self::default()
        };
        let fine = std::mem::replace(self, coarse);
        // Never more bins than before, so these get no coarser meanwhile.
        for (bin, count) in fine.counts() {
            self.add(rounded(bin, fine.precision, precision), count);
        }
    }
}

/// How many bins to make room for. Doubling would waste memory in many small distributions.
fn growth(bins: usize) -> usize {
    (bins / 4).max(4)
}

/// The bin of a sample.
fn key(sample: i64, precision: u8) -> i16 {
    let magnitude = sample.unsigned_abs();
    let precision = u32::from(precision);
    let shift = (u64::BITS - magnitude.leading_zeros()).saturating_sub(precision + 1);
    // At most (64 - FINEST) << FINEST, which is less than 1 << 15.
    let key = ((shift << precision) + (magnitude >> shift) as u32) as i16;
    if sample < 0 { -key } else { key }
}

/// The smallest magnitude in a bin, and the width of the bin.
fn range(key: i16, precision: u8) -> (u64, u64) {
    let key = u32::from(key.unsigned_abs());
    let shift = (key >> precision).saturating_sub(1);
    (u64::from(key - (shift << precision)) << shift, 1 << shift)
}

fn middle(key: i16, precision: u8) -> i64 {
    let (least, width) = range(key, precision);
    let middle = i64::try_from(least + width / 2).unwrap_or(i64::MAX);
    if key < 0 { -middle } else { middle }
}

/// The bin of lower precision that contains a bin.
fn rounded(bin: i16, from: u8, to: u8) -> i16 {
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
        for precision in [1, COARSEST, FINEST] {
            let mut next = 0;
            for key in 0..((64 - i16::from(precision)) << precision) {
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
        // Few values; every value from 2¹² to 2²⁰ and its negative; a value in every bin of the coarsest precision.
        let wide = (1..(1 << 12)).chain((12..62).flat_map(|power| {
            (0..1 << COARSEST).map(move |step| (1i64 << power) + (step << (power - i64::from(COARSEST))))
        }));
        let table: [(Vec<i64>, u8, usize); 3] = [
            ((1 << 12..(1 << 12) + 2048).collect(), FINEST, 256),
            ((1 << 12..1 << 20).collect(), COARSEST, 16 << COARSEST),
            (wide.collect(), COARSEST - 1, MAX_BINS),
        ];
        for (magnitudes, precision, most) in table {
            let mut bins = Bins::default();
            for &magnitude in &magnitudes {
                bins.record(magnitude);
                if precision < FINEST {
                    bins.record(-magnitude);
                }
            }
            assert_eq!(bins.precision, precision);
            assert!(bins.bins.capacity() <= most + most / 2, "{} bins", bins.bins.capacity());
            assert!(bins.bins.capacity() <= MAX_BINS + MAX_BINS / 2);
            assert!(bins.sorted().is_sorted_by(|(a, _), (b, _)| a < b));
            let all: u64 = bins.sorted().map(|(_, count)| count).sum();
            let signs = if precision < FINEST { 2 } else { 1 };
            assert_eq!(all, signs * magnitudes.len() as u64);
            let mut finer = Bins::default();
            finer.record(5_000);
            finer.merge(&bins);
            assert_eq!(finer.precision, precision);
            bins.merge(&Bins::default());
            assert_eq!(bins.precision, precision);
        }
    }

    #[test]
    fn a_bin_counts_any_number_of_samples_recorded_or_merged() {
        let many = 3 * CARRY - 1;
        let mut bins = Bins::default();
        (0..many).for_each(|_| bins.record(-3));
        bins.record(8);
        let mut other = bins.clone();
        other.add(7, CARRY + 5);
        bins.merge(&other);
        let want = [(-3, 2 * many), (7, CARRY + 5), (8, 2)];
        assert_eq!(bins.sorted().collect::<Vec<_>>(), want);
        bins.add(8, u64::MAX / 2);
        bins.coarsen(1);
        let all: u64 = bins.sorted().map(|(_, count)| count).sum();
        assert_eq!(all, 2 * many + CARRY + 5 + 2 + u64::MAX / 2);
        bins.clear();
        bins.record(8);
        assert_eq!(bins.sorted().collect::<Vec<_>>(), [(8, 1)]);
    }

    proptest! {
        #[test]
        fn a_value_is_near_the_middle_of_its_bin(value: i64, bits in 0..64) {
            let value = value >> bits;
            for (precision, part) in [(COARSEST, 128), (FINEST, 1000)] {
                let bin = key(value, precision);
                let (least, width) = range(bin, precision);
                prop_assert!((least..=least + (width - 1)).contains(&value.unsigned_abs()));
                let off = (i128::from(middle(bin, precision)) - i128::from(value)).unsigned_abs();
                prop_assert!(off <= u128::from(value.unsigned_abs()) / part, "{} of {}", off, value);
                prop_assert_eq!(rounded(bin, precision, precision - 1), key(value, precision - 1));
            }
        }
    }
}
