//! The probes of a session that are still of interest: those pending, and those resolved not long ago.

use std::collections::VecDeque;

use crate::session::direction::Way;
use crate::session::sequence;

/// What is known of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Waiting for a reply.
    Pending,
    /// A reply came in time.
    Answered,
    /// A reply came in time, but its sample did not reach userspace.
    CollectorLost,
    /// No reply in time, and lost on the way given, if it is known.
    Lost(Option<Way>),
    /// No reply in time, but one afterwards: it was lost on neither way.
    Late,
    /// It did not leave this host.
    NeverLeft,
}

/// One probe, with what its reply told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    /// The sequence number, unwrapped.
    pub(super) index: u64,
    pub(super) sent_ns: u64,
    /// Number of the window in which it was sent.
    pub(super) window: u64,
    pub(super) state: State,
    /// When its first reply was received (T4), in time or late, if one was.
    pub(super) received_ns: u64,
    /// The reflector's counter in its first reply, in time or late.
    pub(super) counter: Option<u32>,
    /// Round-trip delay, if it has one.
    pub(super) rtt_ns: Option<i64>,
    /// It was answered more than once.
    pub(super) duplicated: bool,
    /// Sequence numbers before it were sent that this session did not measure.
    pub(super) after_gap: bool,
    /// Whether losses are placed up to here.
    pub(super) anchor: Anchor,
}

impl Probe {
    /// Whether it may have arrived, or not, and no reply tells when.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.state, State::Lost(_) | State::CollectorLost) && self.counter.is_none()
    }
}

/// Whether the reflector's counter is trusted at a probe, to place losses before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// It is not.
    No,
    /// From here on: what it was before cannot be compared.
    First,
    /// It is.
    Next,
}

/// Probes in the order in which they were sent.
///
/// A probe keeps its slot: slots count every probe the session ever had, so that they stay valid when old probes
/// are forgotten.
#[derive(Debug, Default)]
pub(super) struct History {
    probes: VecDeque<Probe>,
    forgotten: u64,
    /// Every slot below is resolved.
    resolved: u64,
}

impl History {
    /// Adds the probe with wire number `seq`, which must be ahead of every other; its slot, or `None` if it is not.
    pub(super) fn push(&mut self, seq: u32, sent_ns: u64, window: u64) -> Option<u64> {
        let newest = self.probes.back().map(|probe| probe.index);
        let index = match newest {
            Some(newest) => sequence::unwrap(newest, seq).filter(|&index| index > newest)?,
            None => u64::from(seq),
        };
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
        Some(self.end() - 1)
    }

    /// The slot of wire number `seq`, if its probe is remembered.
    pub(super) fn find(&self, seq: u32) -> Option<u64> {
        let (front, back) = (self.probes.front()?, self.probes.back()?);
        let index = sequence::unwrap(back.index, seq)?;
        // Numbers have gaps only where a session paused, so that the place is nearly always where it would be without.
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

    /// The oldest pending probe and its slot.
    pub(super) fn oldest_pending(&mut self) -> Option<(u64, Probe)> {
        loop {
            let probe = *self.get(self.resolved)?;
            if probe.state == State::Pending {
                return Some((self.resolved, probe));
            }
            self.resolved += 1;
        }
    }

    /// Takes the oldest probe out if it is resolved and `unneeded` agrees, given its slot and how many there are.
    /// The newest stays: later numbers are unwrapped from it.
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

    /// Number of probes remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.probes.len()
    }
}
