//! The arithmetic of loss between two anchors.

use crate::session::direction::Duplicate;
use crate::session::history::{Anchor, History, Probe, State};
use crate::session::sequence::ahead;

/// An answered probe, as far as the placing of losses is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) slot: u64,
    pub(super) counter: u32,
    pub(super) sent_ns: u64,
    pub(super) received_ns: u64,
}

impl Mark {
    /// The anchor at `slot`, if there is one.
    pub(super) fn anchor(history: &History, slot: u64) -> Option<Mark> {
        let probe = history.get(slot).filter(|probe| probe.anchor != Anchor::No)?;
        Some(Mark {
            slot,
            counter: probe.counter?,
            sent_ns: probe.sent_ns,
            received_ns: probe.received_ns,
        })
    }
}

/// What became of the probes after one anchor, up to and with another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    /// How far the reflector's counter advanced.
    counted: u64,
    /// Counters that came back, in whatever reply.
    pub(super) seen: u64,
    /// Probes whose reply came, with a counter that nobody read.
    collected: u64,
    /// Probes to be placed: with no reply at all.
    pub(super) lost: u64,
}

/// What a span tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// How many of its lost probes were lost on which way.
    Losses { forward: u64, backward: u64 },
    /// One of its ends is not where it seems to be: a lost probe crossed it.
    Contradiction,
    /// The reflector may as well have begun anew in it, and counted past its old counter.
    BegunAnew,
}

impl Span {
    /// The probes after `from`, up to and with `to`; those `forgotten` are among them.
    pub(super) fn between(from: Mark, to: Mark, forgotten: Span, history: &History, copies: &[Duplicate]) -> Span {
        let counted = ahead(to.counter, from.counter).max(0).unsigned_abs();
        let within = |counter| ahead(counter, from.counter) > 0 && ahead(to.counter, counter) >= 0;
        // What has arrived after `from` came back after `from` was sent; else it is of the time before a restart.
        let copies = copies.iter().filter(|copy| copy.received_ns > from.sent_ns);
        let mut span = Span {
            counted: u64::from(counted),
            seen: forgotten.seen + copies.filter(|copy| within(copy.counter)).count() as u64,
            ..forgotten
        };
        for slot in from.slot + 1..=to.slot {
            if let Some(probe) = history.get(slot) {
                span.add(probe);
            }
        }
        span
    }

    /// Adds one probe.
    pub(super) fn add(&mut self, probe: &Probe) {
        match (probe.state, probe.counter) {
            (State::Pending | State::NeverLeft, _) => {}
            (_, Some(_)) => self.seen += 1,
            (State::CollectorLost, None) => self.collected += 1,
            (_, None) => self.lost += 1,
        }
    }

    /// Where its lost probes were lost, if the counter was `began_at` at its beginning.
    ///
    /// Had the reflector begun anew in between, it would have counted from 0 beyond `began_at`, and more probes than
    /// `began_at` would seem to be lost forward. One that is `mature` would hardly get so far unseen.
    pub(super) fn verdict(&self, began_at: u32, mature: bool) -> Verdict {
        let backward = self.counted.checked_sub(self.seen + self.collected);
        let forward = backward.and_then(|backward| self.lost.checked_sub(backward));
        match backward.zip(forward) {
            None => Verdict::Contradiction,
            Some((_, forward)) if !mature && forward > u64::from(began_at) => Verdict::BegunAnew,
            Some((backward, forward)) => Verdict::Losses { forward, backward },
        }
    }
}
