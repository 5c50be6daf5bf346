//! A distribution of signed nanosecond samples whose memory is bounded, however many samples there are and of what size.

use crate::stats::distribution::bins::Bins;
use crate::stats::distribution::moments::Moments;
use crate::stats::report::Summary;

mod bins;
mod moments;

/// Samples in nanoseconds: exact minimum, maximum, mean and standard deviation. Percentiles are within 0.1 % if the samples
/// fill no more than 256 fine bins, and otherwise within 1 %.
///
/// Nothing is allocated before the first sample.
#[derive(Debug, Clone, Default)]
pub struct Distribution(Option<Box<Samples>>);

#[derive(Debug, Clone, Default)]
struct Samples {
    bins: Bins,
    moments: Moments,
}

impl Distribution {
    /// Adds one sample, in nanoseconds.
    pub fn record(&mut self, sample_ns: i64) {
        let Samples { bins, moments } = &mut **self.0.get_or_insert_default();
        bins.record(sample_ns);
        moments.record(sample_ns);
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |samples| samples.moments.count)
    }

    /// Sum of all samples, in nanoseconds, exact.
    pub fn sum(&self) -> i128 {
        self.0.as_ref().map_or(0, |samples| samples.moments.sum)
    }

    /// The middle of each bin with samples, in nanoseconds, and their number, from the smallest to the largest.
    pub fn bins(&self) -> impl Iterator<Item = (i64, u64)> {
        self.0.iter().flat_map(|samples| {
            let moments = samples.moments;
            samples
                .bins
                .sorted()
                .map(move |(middle, count)| (middle.clamp(moments.min, moments.max), count))
        })
    }

    /// Adds every sample of `other`.
    pub fn merge(&mut self, other: &Distribution) {
        if let Some(theirs) = other.0.as_ref().filter(|theirs| theirs.moments.count > 0) {
            let Samples { bins, moments } = &mut **self.0.get_or_insert_default();
            bins.merge(&theirs.bins);
            moments.merge(&theirs.moments);
        }
    }

    /// Removes all samples, and keeps the memory.
    pub fn clear(&mut self) {
        if let Some(samples) = &mut self.0 {
            samples.bins.clear();
            samples.moments = Moments::default();
        }
    }

    /// Order statistics and moments; `None` without a sample.
    pub fn summary(&self) -> Option<Summary> {
        let Samples { bins, moments } = &**self.0.as_ref()?;
        if moments.count == 0 {
            return None;
        }
        let [p50, p90, p99, p999] = percentiles(bins, [0.5, 0.9, 0.99, 0.999], moments);
        Some(Summary {
            min: moments.min,
            mean: moments.mean(),
            p50,
            p90,
            p99,
            p999,
            max: moments.max,
            stddev: moments.stddev(),
            count: moments.count,
        })
    }
}

/// For each of ascending quantiles, the sample at rank ⌈quantile · count⌉, counted from the smallest.
fn percentiles<const N: usize>(bins: &Bins, quantiles: [f64; N], moments: &Moments) -> [i64; N] {
    let mut sorted = bins.sorted();
    let (mut value, mut up_to) = (moments.min, 0);
    quantiles.map(|quantile| {
        let rank = ((quantile * moments.count as f64).ceil() as u64).clamp(1, moments.count);
        while up_to < rank {
            let Some((middle, count)) = sorted.next() else {
                return moments.max;
            };
            value = middle;
            up_to += count;
        }
        value.clamp(moments.min, moments.max)
    })
}

#[cfg(test)]
mod tests;
