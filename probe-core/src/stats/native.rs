//! Delays in the buckets of a Prometheus native histogram: each power of two is divided into 2ˢ buckets, s being the schema.
//!
//! A bucket of the finest schema is 1.09 % wide. A sample is within 0.79 % of the middle of its bin in a distribution, so
//! both bounds of its bucket are within 1.9 % of it.

/// The schema at first.
pub const FINEST_SCHEMA: u8 = 6;

/// With more buckets on one side of zero, two become one. 512 fill 8 powers of two at [`FINEST_SCHEMA`].
pub const MAX_BUCKETS: usize = 512;

/// Far more than one window or roll-up has, and few enough to add many of them up.
pub const MAX_SAMPLES: u64 = 1 << 48;

/// The bucket of 2⁶³ ns at [`FINEST_SCHEMA`], about.
const MAX_INDEX: i16 = 34 << FINEST_SCHEMA;

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

impl NativeHistogram {
    /// From the sum of all samples, and bins in ascending order: a value in nanoseconds, and a number of samples.
    pub fn new(sum_ns: i128, bins: impl Iterator<Item = (i64, u64)>) -> Self {
        let mut native = Self {
            sum_ns,
            ..Self::default()
        };
        for (ns, count) in bins {
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

    /// From its parts, as another process sent them. `None` unless they could be those of a histogram: at most [`MAX_BUCKETS`] on
    /// each side, in ascending order, none of them empty, and no more than [`MAX_SAMPLES`] samples.
    pub fn from_parts(schema: u8, sum_ns: i128, zero: u64, negative: Buckets, positive: Buckets) -> Option<Self> {
        let is_valid = |buckets: &Buckets| {
            buckets.len() <= MAX_BUCKETS
                && buckets.is_sorted_by(|(a, _), (b, _)| a < b)
                && buckets.iter().all(|&(index, count)| {
                    let finest = i32::from(index) << (FINEST_SCHEMA - schema.min(FINEST_SCHEMA));
                    count > 0 && i16::try_from(finest).is_ok_and(|finest| finest <= MAX_INDEX)
                })
        };
        let counts = [&negative, &positive].into_iter().flatten().map(|(_, count)| count);
        let samples = counts.fold(zero, |sum, count| sum.saturating_add(*count));
        let is_histogram =
            schema <= FINEST_SCHEMA && is_valid(&negative) && is_valid(&positive) && samples <= MAX_SAMPLES;
        is_histogram.then_some(Self {
            schema,
            sum_ns,
            zero,
            negative,
            positive,
        })
    }

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

    /// In ascending order: the middle of each bucket with samples, in nanoseconds, and their number.
    fn middles(&self) -> impl Iterator<Item = (i64, u64)> {
        let negative = self.negative.iter().rev();
        let negative = negative.map(|&(index, count)| (-middle(index, self.schema), count));
        let positive = self.positive.iter();
        let positive = positive.map(|&(index, count)| (middle(index, self.schema), count));
        negative.chain([(0, self.zero)]).chain(positive)
    }

    /// For each of ascending quantiles, about the sample at rank ⌈quantile · count⌉, counted from the smallest, in nanoseconds;
    /// `None` without samples. It is within 1.4 % of the sample at [`FINEST_SCHEMA`], and within 1.9 % at the next one.
    pub fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> Option<[i64; N]> {
        let all = self.count();
        let mut middles = self.middles();
        let (mut value, mut up_to) = (0, 0);
        (all > 0).then(|| {
            quantiles.map(|quantile| {
                let rank = ((quantile * all as f64).ceil() as u64).clamp(1, all);
                while up_to < rank
                    && let Some((middle, count)) = middles.next()
                {
                    (value, up_to) = (middle, up_to + count);
                }
                value
            })
        })
    }

    /// The buckets of delays above 0 at a coarser schema.
    pub fn coarse(&self, schema: u8) -> Buckets {
        let mut coarse = self.clone();
        coarse.coarsen(schema);
        coarse.positive
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

/// The geometric middle of a bucket, in nanoseconds.
fn middle(index: i16, schema: u8) -> i64 {
    let powers = (f64::from(index) - 0.5) / f64::from(1_u32 << schema);
    (powers.exp2() * NS_PER_S).round() as i64
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
mod tests;
