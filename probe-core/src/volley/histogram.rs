//! A histogram as the kernel programs fill it.

use probe_common::volley::{BINS, bin_of, bin_range};

use crate::stats::report::Summary;

/// Delays in nanoseconds from 0 to 4.29 s. Percentiles are within 0.8 %, because the middle of a bin is within
/// 0.8 % of its values. The mean is exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bins: Vec<u64>,
    count: u64,
    sum: i64,
    /// Exact minimum and maximum; `None` of a difference, whose ends are those of its bins.
    ends: Option<(i64, i64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            bins: vec![0; BINS],
            count: 0,
            sum: 0,
            ends: None,
        }
    }
}

impl Histogram {
    /// Adds the histogram of one CPU: the number of values in each of its [`BINS`] bins, their sum, minimum and maximum.
    pub fn add(&mut self, values_in: impl Fn(usize) -> u64, sum: i64, min: i64, max: i64) {
        let before = self.count;
        for (bin, own) in self.bins.iter_mut().enumerate() {
            let more = values_in(bin);
            *own += more;
            self.count += more;
        }
        self.sum = self.sum.wrapping_add(sum);
        // A CPU that is counting its first value has not written both ends yet.
        if self.count > before && min <= max {
            let (low, high) = self.ends.unwrap_or((min, max));
            self.ends = Some((low.min(min), high.max(max)));
        }
    }

    /// Adds one value.
    pub fn record(&mut self, value_ns: u32) {
        let value = i64::from(value_ns);
        self.bins[bin_of(value_ns)] += 1;
        self.count += 1;
        self.sum = self.sum.wrapping_add(value);
        let (low, high) = self.ends.unwrap_or((value, value));
        self.ends = Some((low.min(value), high.max(value)));
    }

    /// The values added since `earlier`, a histogram of the same run.
    pub fn since(&self, earlier: &Self) -> Self {
        let bins: Vec<_> = self
            .bins
            .iter()
            .zip(&earlier.bins)
            .map(|(later, earlier)| later.saturating_sub(*earlier))
            .collect();
        Self {
            count: bins.iter().sum(),
            bins,
            sum: self.sum.wrapping_sub(earlier.sum),
            ends: None,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        let (low, high) = other.ends();
        self.add(|bin| other.bins[bin], other.sum, low, high);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Each bin that is not empty: its smallest value, how many values it has room for, and the number of values in it.
    pub fn bins(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        self.bins
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count > 0)
            .map(|(bin, &count)| {
                let (low, width) = bin_range(bin);
                (low, width, count)
            })
    }

    /// Order statistics and moments; `None` without a value.
    pub fn summary(&self) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        let (min, max) = self.ends();
        let mean = self.sum as f64 / self.count as f64;
        Some(Summary {
            min,
            mean: mean.round() as i64,
            p50: self.quantile(0.5)?,
            p90: self.quantile(0.9)?,
            p99: self.quantile(0.99)?,
            p999: self.quantile(0.999)?,
            max,
            stddev: self.stddev(mean),
            count: self.count,
        })
    }

    /// The value at rank ⌈quantile · count⌉, counted from the smallest, within 0.8 %; `None` without a value.
    pub fn quantile(&self, quantile: f64) -> Option<i64> {
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let (min, max) = self.ends();
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(middle(bin).clamp(min, max))
    }

    fn ends(&self) -> (i64, i64) {
        self.ends.unwrap_or_else(|| {
            let filled = |&bin: &usize| self.bins[bin] > 0;
            let low = (0..BINS).find(filled).map_or(0, |bin| i64::from(bin_range(bin).0));
            let high = (0..BINS).rev().find(filled).map_or(0, |bin| {
                let (first, width) = bin_range(bin);
                i64::from(first) + i64::from(width) - 1
            });
            (low, high)
        })
    }

    fn stddev(&self, mean: f64) -> i64 {
        let squares = self
            .bins
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count > 0)
            .map(|(bin, &count)| {
                let off = middle(bin) as f64 - mean;
                off * off * count as f64
            });
        (squares.sum::<f64>() / self.count as f64).sqrt().round() as i64
    }
}

fn middle(bin: usize) -> i64 {
    let (low, width) = bin_range(bin);
    i64::from(low) + i64::from(width / 2)
}

#[cfg(test)]
mod tests;
