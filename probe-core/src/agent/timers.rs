//! Deadlines of peers, and windows that are still held. Peers without a due deadline cost nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The next deadline of each peer, by its place.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// A peer whose deadline became earlier has several entries; only the one in `next` counts.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// By place; `u64::MAX` without a deadline.
    next: Vec<u64>,
}

impl Timers {
    /// Sets the deadline of a peer to `at_ns`, unless it has an earlier one.
    pub(super) fn wake_at(&mut self, place: usize, at_ns: u64) {
        if self.next.len() <= place {
            self.next.resize(place + 1, u64::MAX);
        }
        if at_ns < self.next[place] {
            self.next[place] = at_ns;
            self.due.push(Reverse((at_ns, place)));
        }
    }

    /// Takes a peer whose deadline has passed, and removes the deadline.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<usize> {
        loop {
            let Reverse((at_ns, place)) = self
                .due
                .peek()
                .copied()
                .filter(|Reverse((at_ns, _))| *at_ns <= now_ns)?;
            self.due.pop();
            if self.next[place] == at_ns {
                self.next[place] = u64::MAX;
                return Some(place);
            }
        }
    }

    /// The earliest deadline; `u64::MAX` if there is none.
    pub(super) fn next_ns(&self) -> u64 {
        self.due.peek().map_or(u64::MAX, |Reverse((at_ns, _))| *at_ns)
    }
}

/// Closed windows that some sessions have not handed out. All sessions close their windows at the same times.
#[derive(Debug, Default)]
pub(super) struct HeldWindows {
    /// End, and number of sessions that hold it, oldest first.
    closed: VecDeque<(u64, usize)>,
}

impl HeldWindows {
    /// `sessions` sessions closed a window at `end_ns`.
    pub(super) fn closed(&mut self, end_ns: u64, sessions: usize) {
        if sessions > 0 {
            self.closed.push_back((end_ns, sessions));
        }
    }

    /// A session that held its last `before` windows holds the last `after` of them.
    pub(super) fn handed_out(&mut self, before: usize, after: usize) {
        let ends = self.closed.len();
        for (_, sessions) in self.closed.range_mut(ends - before..ends - after) {
            *sessions -= 1;
        }
        while self.closed.pop_front_if(|(_, sessions)| *sessions == 0).is_some() {}
    }

    /// End of the oldest held window.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        self.closed.front().map(|(end_ns, _)| *end_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_due_once_at_its_earliest_deadline() {
        let mut timers = Timers::default();
        for (place, at_ns) in [(1, 50), (0, 40), (1, 30), (1, 60), (0, 40)] {
            timers.wake_at(place, at_ns);
        }
        let due = |timers: &mut Timers, now_ns| std::iter::from_fn(|| timers.take_due(now_ns)).collect::<Vec<_>>();
        assert_eq!((timers.next_ns(), due(&mut timers, 29)), (30, vec![]));
        assert_eq!(due(&mut timers, 40), [1, 0]);
        timers.wake_at(1, 70);
        assert_eq!(due(&mut timers, 69), [0; 0]);
        assert_eq!((timers.next_ns(), due(&mut timers, 70)), (70, vec![1]));
        assert_eq!(timers.next_ns(), u64::MAX);
    }

    #[test]
    fn a_window_is_held_until_the_last_session_hands_it_out() {
        let mut held = HeldWindows::default();
        assert_eq!(held.oldest_ns(), None);
        held.closed(10, 2);
        held.handed_out(1, 0);
        assert_eq!(held.oldest_ns(), Some(10));
        // A third session came after the first end.
        held.closed(20, 3);
        held.handed_out(1, 0);
        held.handed_out(1, 1);
        assert_eq!(held.oldest_ns(), Some(10));
        held.handed_out(2, 1);
        for _ in 0..2 {
            assert_eq!(held.oldest_ns(), Some(20));
            held.handed_out(1, 0);
        }
        assert_eq!(held.oldest_ns(), None);
        held.closed(30, 0);
        assert_eq!(held.oldest_ns(), None);
    }
}
