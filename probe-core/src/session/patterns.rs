//! Loss patterns (RFC 3357) and reordering extents (RFC 4737).

use std::collections::VecDeque;

use crate::session::history::{History, Probe, State};
use crate::session::window::Windows;

/// A longer reordering extent is cut to this.
const MAX_LEADERS: usize = 512;

/// Runs of lost probes, in sending order.
#[derive(Debug, Default)]
pub(super) struct LossPattern {
    /// All slots below have been looked at.
    scanned: u64,
    /// Lost probes in a row, up to `scanned`.
    run: u64,
    /// Its index.
    last_lost: Option<u64>,
}

impl LossPattern {
    /// Evaluates the probes resolved since the last call. A loss period counts in the window in which it ends, a loss
    /// distance in that of the later loss.
    pub(super) fn advance(&mut self, history: &History, windows: &mut Windows) {
        self.scanned = self.scanned.max(history.start());
        while let Some(probe) = history.get(self.scanned).filter(|probe| probe.state != State::Pending) {
            self.look_at(probe, windows);
            self.scanned += 1;
        }
    }

    /// Ends a loss period that is still open.
    pub(super) fn end(&mut self, windows: &mut Windows) {
        self.end_period(windows.current(), windows);
    }

    fn look_at(&mut self, probe: &Probe, windows: &mut Windows) {
        if probe.after_gap {
            self.end_period(probe.window, windows);
            self.last_lost = None;
        }
        match probe.state {
            State::Lost(_) | State::Late => {
                self.run += 1;
                if let Some(before) = self.last_lost.replace(probe.index) {
                    let distance = i64::try_from(probe.index - before).unwrap_or(i64::MAX);
                    windows.stats_of_or_current(probe.window).loss_distance.record(distance);
                }
            }
            State::Answered | State::CollectorLost => self.end_period(probe.window, windows),
            // Not part of the stream.
            State::NeverLeft | State::Withdrawn | State::Pending => {}
        }
    }

    fn end_period(&mut self, window: u64, windows: &mut Windows) {
        let run = std::mem::take(&mut self.run);
        if run > 0 {
            let length = i64::try_from(run).unwrap_or(i64::MAX);
            windows.stats_of_or_current(window).loss_period.record(length);
        }
    }
}

/// RFC 4737 §4.2.
#[derive(Debug, Default)]
pub(super) struct Reordering {
    arrived: u64,
    /// The replies that were ahead of all before them, by arrival number and index of the probe. Both ascend.
    leaders: VecDeque<(u64, u64)>,
}

impl Reordering {
    /// The extent of a reply, if it is reordered: the number of replies since the first that should have come after it.
    pub(super) fn arrive(&mut self, index: u64) -> Option<u64> {
        let place = self.arrived;
        self.arrived += 1;
        if self.leaders.back().is_none_or(|&(_, leader)| leader < index) {
            if self.leaders.len() == MAX_LEADERS {
                self.leaders.pop_front();
            }
            self.leaders.push_back((place, index));
            return None;
        }
        let first = self.leaders.partition_point(|&(_, leader)| leader <= index);
        self.leaders.get(first).map(|&(earlier, _)| place - earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(arrivals: &[u64]) -> Vec<Option<u64>> {
        let mut reordering = Reordering::default();
        arrivals.iter().map(|&index| reordering.arrive(index)).collect()
    }

    #[test]
    fn the_extent_counts_from_the_first_reply_that_came_too_early() {
        // The example of RFC 4737, Table 2 and 3 of §4.2.3: 4 is reordered with extent 2.
        let in_place = [None; 3];
        assert_eq!(extents(&[1, 2, 3, 5, 6, 4])[3..], [None, None, Some(2)]);
        assert_eq!(extents(&[1, 2, 3, 5, 6, 4])[..3], in_place);
        assert_eq!(extents(&[7, 8, 9, 10, 1, 2, 3])[4..], [Some(4), Some(5), Some(6)]);
    }

    #[test]
    fn memory_is_bounded() {
        let arrivals: Vec<u64> = (10..10_000).chain([1]).collect();
        assert_eq!(extents(&arrivals).last(), Some(&Some(MAX_LEADERS as u64)));
    }
}
