//! The arithmetic of loss between two anchors.

use crate::core::history::{History, State};
use crate::core::sequence::ahead;

/// An answered probe, as far as the placing of losses is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) slot: u64,
    pub(super) counter: u32,
    pub(super) received_ns: u64,
}

impl Mark {
    /// The anchor at `slot`, if there is one.
    pub(super) fn anchor(history: &History, slot: u64) -> Option<Mark> {
        let probe = history.get(slot).filter(|probe| probe.anchor)?;
        Some(Mark {
            slot,
            counter: probe.counter?,
            received_ns: probe.received_ns,
        })
    }
}

/// What became of the probes after one anchor, up to and with another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    /// Probes that left this host.
    sent: u64,
    /// Counters that came back, in whatever reply.
    returned: u64,
    /// Of `returned`: in replies beyond the first to a probe.
    additional: u64,
    /// How far the reflector's counter advanced.
    counted: u64,
    /// Probes to be placed: with no reply at all.
    pub(super) lost: u64,
}

impl Span {
    /// The probes after `from`, up to and with `to`.
    pub(super) fn between(from: Mark, to: Mark, history: &History, extra: &[u32]) -> Span {
        let within = |counter: u32| ahead(counter, from.counter) > 0 && ahead(to.counter, counter) >= 0;
        let additional = extra.iter().filter(|&&counter| within(counter)).count() as u64;
        let counted = ahead(to.counter, from.counter).max(0).unsigned_abs();
        let mut span = Span {
            returned: additional,
            additional,
            counted: u64::from(counted),
            ..Span::default()
        };
        for slot in from.slot + 1..=to.slot {
            if let Some(probe) = history.get(slot) {
                span.add(probe.state, probe.counter.is_none_or(within));
            }
        }
        span
    }

    /// Adds one probe; `within` tells whether the counter of its reply, if it had one, lies in the span too.
    pub(super) fn add(&mut self, state: State, within: bool) {
        self.sent += u64::from(state != State::NeverLeft);
        match state {
            State::Answered | State::CollectorLost => self.returned += 1,
            State::Late => self.returned += u64::from(within),
            State::Lost(_) => self.lost += 1,
            State::Pending | State::NeverLeft => {}
        }
    }

    pub(super) fn join(&mut self, other: Span) {
        self.sent += other.sent;
        self.returned += other.returned;
        self.lost += other.lost;
    }

    /// Forward and backward loss; `None` if they contradict what became of the probes.
    pub(super) fn losses(&self) -> Option<(u64, u64)> {
        let forward = (self.sent + self.additional).checked_sub(self.counted)?;
        let backward = self.counted.checked_sub(self.returned)?;
        (forward + backward == self.lost).then_some((forward, backward))
    }
}
