//! The last samples of one term, with their minimum and median.

use std::collections::VecDeque;

/// More than the samples of a window; further samples replace the oldest.
const MAX_SAMPLES: usize = 64;

/// Signed nanosecond samples with the time at which each was taken.
#[derive(Debug, Clone, Default)]
pub struct Window {
    samples: VecDeque<(u64, i64)>,
}

impl Window {
    pub fn record(&mut self, at_ns: u64, sample_ns: i64) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at_ns, sample_ns));
    }

    pub fn drop_before(&mut self, oldest_ns: u64) {
        while self.samples.front().is_some_and(|(at_ns, _)| *at_ns < oldest_ns) {
            self.samples.pop_front();
        }
    }

    pub fn count(&self) -> usize {
        self.samples.len()
    }

    pub fn minimum(&self) -> Option<i64> {
        self.samples.iter().map(|(_, sample)| *sample).min()
    }

    /// The lower of the two in the middle; `None` without a sample.
    pub fn median(&self) -> Option<i64> {
        let mut sorted: Vec<i64> = self.samples.iter().map(|(_, sample)| *sample).collect();
        let middle = sorted.len().checked_sub(1)? / 2;
        Some(*sorted.select_nth_unstable(middle).1)
    }

    /// How far the median is above the minimum.
    pub fn spread(&self) -> Option<u64> {
        Some(self.median()?.abs_diff(self.minimum()?))
    }
}
