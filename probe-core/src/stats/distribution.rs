//! A distribution of signed nanosecond samples whose memory does not grow with the number of samples.

use hdrhistogram::Histogram;

use crate::stats::report::Summary;

/// Significant decimal digits of a percentile: within 0.1 %.
const DIGITS: u8 = 3;

/// Magnitudes above this (146 years) share one histogram bucket. Minimum, maximum and mean stay exact.
const LARGEST: u64 = 1 << 62;

/// Samples in nanoseconds: exact minimum, maximum, mean and standard deviation, percentiles within 0.1 %.
///
/// Nothing is allocated before the first sample, and the negative half only when there is a negative sample.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    /// Samples of zero and above.
    positive: Option<Histogram<u64>>,
    /// Magnitudes of the samples below zero.
    negative: Option<Histogram<u64>>,
    moments: Option<Moments>,
}

impl Distribution {
    /// Adds one sample, in nanoseconds.
    pub fn record(&mut self, sample_ns: i64) {
        let half = if sample_ns < 0 {
            &mut self.negative
        } else {
            &mut self.positive
        };
        // The range grows up to LARGEST, so that no sample is refused.
        half.get_or_insert_with(histogram)
            .record(sample_ns.unsigned_abs().min(LARGEST))
            .ok();
        match &mut self.moments {
            Some(moments) => moments.record(sample_ns),
            None => self.moments = Some(Moments::of(sample_ns)),
        }
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.moments.map_or(0, |moments| moments.count)
    }

    /// Adds every sample of `other`.
    pub fn merge(&mut self, other: &Distribution) {
        for (own, theirs) in [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ] {
            let Some(theirs) = theirs else { continue };
            match own {
                // As in `record`: the range grows, nothing is refused.
                Some(own) => {
                    own.add(theirs).ok();
                }
                None => *own = Some(theirs.clone()),
            }
        }
        match (&mut self.moments, &other.moments) {
            (Some(own), Some(theirs)) => own.merge(theirs),
            (own @ None, theirs) => *own = *theirs,
            (Some(_), None) => {}
        }
    }

    /// Order statistics and moments; `None` without a sample.
    pub fn summary(&self) -> Option<Summary> {
        let moments = self.moments?;
        let percentile = |quantile| self.percentile(quantile, &moments);
        Some(Summary {
            min: moments.min,
            mean: moments.mean(),
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
            p999: percentile(0.999),
            max: moments.max,
            stddev: moments.stddev(),
            count: moments.count,
        })
    }

    /// The sample at rank ⌈quantile · count⌉, counted from the smallest.
    fn percentile(&self, quantile: f64, moments: &Moments) -> i64 {
        let rank = ((quantile * moments.count as f64).ceil() as u64).clamp(1, moments.count);
        let below_zero = self.negative.as_ref().map_or(0, Histogram::len);
        let value = if rank <= below_zero {
            // The smallest sample is the largest magnitude.
            -at_rank(&self.negative, below_zero - rank + 1)
        } else {
            at_rank(&self.positive, rank - below_zero)
        };
        value.clamp(moments.min, moments.max)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("a histogram has at most 5 digits")
}

/// The value at `rank` (1 is the smallest) of one half: the middle of its bucket.
fn at_rank(half: &Option<Histogram<u64>>, rank: u64) -> i64 {
    let Some(half) = half else { return 0 };
    // The middle of the step that leads to this rank, so that no rounding of the product can reach another rank.
    let quantile = (rank as f64 - 0.5) / half.len() as f64;
    half.median_equivalent(half.value_at_quantile(quantile)) as i64
}

/// Running moments (Welford). Deviations are taken from the first sample: a one-way delay between clocks that
/// disagree by years would otherwise lose its nanoseconds in a 53-bit mantissa.
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: u64,
    min: i64,
    max: i64,
    sum: i128,
    origin: i64,
    mean_from_origin: f64,
    squares: f64,
}

impl Moments {
    fn of(sample: i64) -> Moments {
        Moments {
            count: 1,
            min: sample,
            max: sample,
            sum: i128::from(sample),
            origin: sample,
            mean_from_origin: 0.0,
            squares: 0.0,
        }
    }

    fn record(&mut self, sample: i64) {
        self.count += 1;
        self.min = self.min.min(sample);
        self.max = self.max.max(sample);
        self.sum += i128::from(sample);
        let value = (i128::from(sample) - i128::from(self.origin)) as f64;
        let delta = value - self.mean_from_origin;
        self.mean_from_origin += delta / self.count as f64;
        self.squares += delta * (value - self.mean_from_origin);
    }

    /// Chan, Golub and LeVeque: the moments of the union of two sets.
    fn merge(&mut self, other: &Moments) {
        let (own, theirs) = (self.count as f64, other.count as f64);
        let origins = (i128::from(other.origin) - i128::from(self.origin)) as f64;
        let delta = origins + other.mean_from_origin - self.mean_from_origin;
        let all = own + theirs;
        self.mean_from_origin += delta * theirs / all;
        self.squares += other.squares + delta * delta * own * theirs / all;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    fn mean(&self) -> i64 {
        (self.sum / i128::from(self.count)) as i64
    }

    fn stddev(&self) -> i64 {
        (self.squares / self.count as f64).sqrt().round() as i64
    }
}

#[cfg(test)]
mod tests;
