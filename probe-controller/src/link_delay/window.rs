//! The last samples of one term, with their minimum and median.

use std::collections::VecDeque;

/// More than a window of periods holds; what comes beyond replaces the oldest.
const MOST: usize = 64;

/// Signed nanosecond samples with the time at which each was taken.
#[derive(Debug, Clone, Default)]
pub struct Window {
    samples: VecDeque<(u64, i64)>,
}

impl Window {
    /// Adds a sample.
    pub fn record(&mut self, at_ns: u64, sample_ns: i64) {
        if self.samples.len() == MOST {
            self.samples.pop_front();
        }
        self.samples.push_back((at_ns, sample_ns));
    }

    /// Drops what was taken before.
    pub fn forget_before(&mut self, oldest_ns: u64) {
        while self.samples.front().is_some_and(|(at_ns, _)| *at_ns < oldest_ns) {
            self.samples.pop_front();
        }
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// The smallest; `None` without a sample.
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
