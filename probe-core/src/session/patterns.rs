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
    /// The replies that were ahead of all before them. Numbers ascend in the order of arrival.
    newest: Leaders,
    older: VecDeque<Leaders>,
    /// Replies in `newest` and `older`.
    leaders: usize,
}

/// A run of leading replies: they arrived one after the other, and so were their probes sent. All replies that arrive in order
/// are one run.
#[derive(Debug, Clone, Copy, Default)]
struct Leaders {
    /// Arrival number of the first.
    place: u64,
    /// Index of its probe.
    index: u64,
    /// How many there are.
    number: u64,
}

impl Leaders {
    /// One past the index of the last.
    fn end(&self) -> u64 {
        self.index + self.number
    }

    /// Arrival number of the first that is ahead of `index`.
    fn first_ahead(&self, index: u64) -> Option<u64> {
        let behind = (index + 1).saturating_sub(self.index);
        (behind < self.number).then(|| self.place + behind)
    }

    fn drop_first(&mut self) {
        self.place += 1;
        self.index += 1;
        self.number -= 1;
    }
}

impl Reordering {
    /// The extent of a reply, if it is reordered: the number of replies since the first that should have come after it.
    pub(super) fn arrive(&mut self, index: u64) -> Option<u64> {
        let place = self.arrived;
        self.arrived += 1;
        if self.leaders == 0 || index >= self.newest.end() {
            self.lead(place, index);
            return None;
        }
        let before = self.older.partition_point(|run| run.end() <= index + 1);
        let first = self.older.get(before).unwrap_or(&self.newest);
        first.first_ahead(index).map(|earlier| place - earlier)
    }

    fn lead(&mut self, place: u64, index: u64) {
        if self.leaders == MAX_LEADERS {
            self.evict_oldest();
        }
        self.leaders += 1;
        let Leaders {
            place: first, number, ..
        } = self.newest;
        if number > 0 && place == first + number && index == self.newest.end() {
            self.newest.number += 1;
            return;
        }
        if number > 0 {
            self.older.push_back(self.newest);
        }
        self.newest = Leaders {
            place,
            index,
            number: 1,
        };
    }

    fn evict_oldest(&mut self) {
        self.leaders -= 1;
        let oldest = self.older.front_mut().unwrap_or(&mut self.newest);
        oldest.drop_first();
        if oldest.number == 0 {
            self.older.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn replies_in_order_are_one_run_and_allocate_nothing() {
        let mut reordering = Reordering::default();
        assert!((0..10_000).all(|index| reordering.arrive(index).is_none()));
        assert_eq!((reordering.leaders, reordering.older.capacity()), (MAX_LEADERS, 0));
        assert_eq!(reordering.arrive(0), Some(MAX_LEADERS as u64));
    }

    /// The extents by their definition, one leading reply after the other.
    fn defined(arrivals: &[u64]) -> Vec<Option<u64>> {
        let mut leaders = VecDeque::new();
        let extent = |(place, &index): (usize, &u64)| {
            if leaders.back().is_none_or(|&(_, leader)| leader < index) {
                if leaders.len() == MAX_LEADERS {
                    leaders.pop_front();
                }
                leaders.push_back((place, index));
                return None;
            }
            let first = leaders.iter().find(|&&(_, leader)| leader > index);
            first.map(|&(earlier, _)| (place - earlier) as u64)
        };
        arrivals.iter().enumerate().map(extent).collect()
    }

    proptest! {
        #[test]
        fn runs_have_the_extents_of_their_replies(
            // Mostly the next index, at times a later or an earlier one.
            steps in prop::collection::vec(prop_oneof![8 => Just(1_i64), 1 => 2..5_i64, 2 => -600..1_i64], 1..2_000),
        ) {
            let mut highest = 1_000_i64;
            let arrivals: Vec<u64> = steps
                .iter()
                .map(|step| {
                    let index = (highest + step).max(0);
                    highest = highest.max(index);
                    index.unsigned_abs()
                })
                .collect();
            prop_assert_eq!(extents(&arrivals), defined(&arrivals));
        }
    }
}
