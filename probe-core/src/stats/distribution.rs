//! A distribution of signed nanosecond samples whose memory is bounded, however many samples there are and of what size.

use crate::stats::distribution::bins::Bins;
use crate::stats::distribution::moments::Moments;
use crate::stats::report::Summary;

mod bins;
mod moments;

/// Samples in nanoseconds: exact minimum, maximum, mean and standard deviation, percentiles within 0.1 %.
///
/// Nothing is allocated before the first sample.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    bins: Bins,
    moments: Option<Moments>,
}

impl Distribution {
    /// Adds one sample, in nanoseconds.
    pub fn record(&mut self, sample_ns: i64) {
        self.bins.record(sample_ns);
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
        self.bins.merge(&other.bins);
        match (&mut self.moments, &other.moments) {
            (Some(own), Some(theirs)) => own.merge(theirs),
            (own @ None, theirs) => *own = *theirs,
            (Some(_), None) => {}
        }
    }

    /// Order statistics and moments; `None` without a sample.
    pub fn summary(&self) -> Option<Summary> {
        let moments = self.moments?;
        let bins = self.bins.sorted();
        let percentile = |quantile| percentile(&bins, quantile, &moments);
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
}

/// The sample at rank ⌈quantile · count⌉, counted from the smallest.
fn percentile(bins: &[(i64, u64)], quantile: f64, moments: &Moments) -> i64 {
    let rank = ((quantile * moments.count as f64).ceil() as u64).clamp(1, moments.count);
    let mut below = 0;
    let found = bins.iter().find(|(_, count)| {
        below += count;
        below >= rank
    });
    found.map_or(moments.max, |&(value, _)| value.clamp(moments.min, moments.max))
}

#[cfg(test)]
mod tests;
