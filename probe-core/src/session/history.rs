//! The probes of a session that are still needed: those pending, and those resolved recently.

use std::collections::VecDeque;

use crate::direction::Direction;
use crate::session::sequence;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    /// In time.
    Answered,
    /// Answered in time, but the sample did not reach userspace.
    CollectorLost,
    /// No reply in time. The direction is `None` while it is unknown.
    Lost(Option<Direction>),
    /// A reply came after the timeout: lost, but in neither direction.
    Late,
    /// It did not leave this host.
    NeverLeft,
    /// The peer ended while it was pending.
    Withdrawn,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    /// The unwrapped sequence number.
    pub(super) index: u64,
    pub(super) sent_ns: u64,
    /// Number of the window in which the probe was sent.
    pub(super) window: u64,
    pub(super) state: State,
    /// T4 of the first reply, in time or late; 0 without one.
    pub(super) received_ns: u64,
    /// The reflector's counter in the first reply, in time or late.
    pub(super) counter: Option<u32>,
    pub(super) rtt_ns: Option<i64>,
    pub(super) duplicated: bool,
    /// This session did not measure the sequence numbers just before this one.
    pub(super) after_gap: bool,
    pub(super) anchor: Anchor,
}

impl Probe {
    /// Whether no reply tells if and when the probe arrived.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.state, State::Lost(_) | State::CollectorLost) && self.counter.is_none()
    }
}

/// Whether a probe is an anchor (see [`crate::session::loss_direction`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    No,
    /// Counters before this one cannot be compared with it.
    First,
    Next,
}

/// Probes in sending order. Slots number all probes of the session from 0, so they stay valid when old probes are
/// forgotten.
#[derive(Debug, Default)]
pub(super) struct History {
    probes: VecDeque<Probe>,
    forgotten: u64,
    /// All slots below are resolved.
    resolved: u64,
}

impl History {
    /// Adds a probe, if its number is ahead of all others.
    pub(super) fn push(&mut self, seq: u32, sent_ns: u64, window: u64) -> bool {
        let newest = self.probes.back().map(|probe| probe.index);
        let index = match newest {
            Some(newest) => sequence::unwrap(newest, seq).filter(|&index| index > newest),
            None => Some(u64::from(seq)),
        };
        let Some(index) = index else { return false };
        self.probes.push_back(Probe {
            index,
            sent_ns,
            window,
            state: State::Pending,
            received_ns: 0,
            counter: None,
            rtt_ns: None,
            duplicated: false,
            after_gap: newest.is_some_and(|newest| index != newest + 1),
            anchor: Anchor::No,
        });
        true
    }

    /// The slot of the probe with this sequence number.
    pub(super) fn find(&self, seq: u32) -> Option<u64> {
        let (front, back) = (self.probes.front()?, self.probes.back()?);
        let index = sequence::unwrap(back.index, seq)?;
        // Numbers have gaps only where a session paused, so the first guess is nearly always right.
        let guess = usize::try_from(index.checked_sub(front.index)?).ok()?;
        let place = match self.probes.get(guess) {
            Some(probe) if probe.index == index => guess,
            _ => self.probes.binary_search_by_key(&index, |probe| probe.index).ok()?,
        };
        Some(self.forgotten + place as u64)
    }

    pub(super) fn get(&self, slot: u64) -> Option<&Probe> {
        self.probes.get(self.place(slot)?)
    }

    pub(super) fn get_mut(&mut self, slot: u64) -> Option<&mut Probe> {
        let place = self.place(slot)?;
        self.probes.get_mut(place)
    }

    fn place(&self, slot: u64) -> Option<usize> {
        usize::try_from(slot.checked_sub(self.forgotten)?).ok()
    }

    /// The oldest slot that is remembered.
    pub(super) fn start(&self) -> u64 {
        self.forgotten
    }

    /// One past the newest slot.
    pub(super) fn end(&self) -> u64 {
        self.forgotten + self.probes.len() as u64
    }

    pub(super) fn oldest_pending(&mut self) -> Option<(u64, Probe)> {
        loop {
            let probe = *self.get(self.resolved)?;
            if probe.state == State::Pending {
                return Some((self.resolved, probe));
            }
            self.resolved += 1;
        }
    }

    /// All probes that are pending.
    pub(super) fn pending(&self) -> Vec<u64> {
        let is_pending = |&slot: &u64| self.get(slot).is_some_and(|probe| probe.state == State::Pending);
        (self.resolved.max(self.forgotten)..self.end())
            .filter(is_pending)
            .collect()
    }

    /// Removes the oldest probe if it is resolved and `unneeded` agrees, given its slot and the number of probes. The
    /// newest probe stays, because later numbers are unwrapped from it.
    pub(super) fn forget_oldest(&mut self, unneeded: impl FnOnce(u64, &Probe, usize) -> bool) -> Option<(u64, Probe)> {
        let (oldest, count) = (self.probes.front()?, self.probes.len());
        let resolved = oldest.state != State::Pending;
        if count == 1 || !resolved || !unneeded(self.forgotten, oldest, count) {
            return None;
        }
        let slot = self.forgotten;
        self.forgotten += 1;
        self.resolved = self.resolved.max(self.forgotten);
        Some((slot, self.probes.pop_front()?))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.probes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(probes: impl IntoIterator<Item = (u32, State)>) -> History {
        let mut history = History::default();
        for (seq, state) in probes {
            assert!(history.push(seq, 0, 0));
            history.probes.back_mut().unwrap().state = state;
        }
        history
    }

    #[test]
    fn a_number_is_found_before_and_after_a_gap_but_not_in_it() {
        let history = history([3, 4, 9, 10].map(|seq| (seq, State::Pending)));
        let found = [2, 3, 4, 5, 8, 9, 10, 11].map(|seq| history.find(seq));
        assert_eq!(found, [None, Some(0), Some(1), None, None, Some(2), Some(3), None]);
    }

    #[test]
    fn the_oldest_probe_is_forgotten_if_it_is_resolved_and_unneeded_and_not_the_newest() {
        let table = [
            (&[State::Answered, State::Pending][..], true, Some(0)),
            (&[State::Answered, State::Pending], false, None),
            (&[State::Pending, State::Answered], true, None),
            (&[State::Answered], true, None),
        ];
        for (states, unneeded, want) in table {
            let mut history = history((0..).zip(states.iter().copied()));
            let forgotten = history.forget_oldest(|_, _, _| unneeded);
            assert_eq!(forgotten.map(|(slot, _)| slot), want, "{states:?}");
        }
    }
}
