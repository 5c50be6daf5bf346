//! The arithmetic of loss between two anchors.

use crate::session::history::{Anchor, History, Probe, State};
use crate::session::sequence::ahead;

/// A reply beyond the first to its probe, with a counter of its own: the network duplicated the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) slot: u64,
    pub(super) counter: u32,
    pub(super) received_ns: u64,
}

/// An answered probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) slot: u64,
    pub(super) counter: u32,
    pub(super) sent_ns: u64,
    pub(super) received_ns: u64,
}

impl Mark {
    pub(super) fn anchor(history: &History, slot: u64) -> Option<Self> {
        let probe = history.get(slot).filter(|probe| probe.anchor != Anchor::No)?;
        Some(Self {
            slot,
            counter: probe.counter?,
            sent_ns: probe.sent_ns,
            received_ns: probe.received_ns,
        })
    }
}

/// The probes after one anchor, up to and including another, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    /// Advance of the reflector's counter.
    counted: u64,
    /// Counters that some reply carried.
    pub(super) seen: u64,
    /// Probes whose sample, with the counter, did not reach userspace.
    collector_lost: u64,
    /// Probes without any reply.
    pub(super) lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Losses {
        forward: u64,
        backward: u64,
    },
    /// A lost probe crossed one of the two anchors.
    Contradiction,
    /// The reflector may have restarted and counted past its old counter.
    Restarted,
}

impl Span {
    /// The probes after `from`, up to and including `to`, of which the history has `forgotten` some.
    pub(super) fn between(from: Mark, to: Mark, forgotten: Span, history: &History, duplicates: &[Duplicate]) -> Self {
        let counted = ahead(to.counter, from.counter).max(0).unsigned_abs();
        let within = |counter| ahead(counter, from.counter) > 0 && ahead(to.counter, counter) >= 0;
        // A counter after that of `from` was received after `from` was sent, or it is from before a restart.
        let duplicates = duplicates
            .iter()
            .filter(|duplicate| duplicate.received_ns > from.sent_ns);
        let mut span = Self {
            counted: u64::from(counted),
            seen: forgotten.seen + duplicates.filter(|duplicate| within(duplicate.counter)).count() as u64,
            ..forgotten
        };
        for slot in from.slot + 1..=to.slot {
            if let Some(probe) = history.get(slot) {
                span.add(probe);
            }
        }
        span
    }

    pub(super) fn add(&mut self, probe: &Probe) {
        match (probe.state, probe.counter) {
            (State::Pending | State::NeverLeft | State::Withdrawn, _) => {}
            (_, Some(_)) => self.seen += 1,
            (State::CollectorLost, None) => self.collector_lost += 1,
            (_, None) => self.lost += 1,
        }
    }

    /// What the numbers say if the counter was `start_counter` at the first anchor.
    ///
    /// A reflector that restarted in between has counted from 0 to beyond `start_counter`, so more probes than
    /// `start_counter` seem to be lost forward. If it was `mature`, it would hardly get so far unseen.
    pub(super) fn verdict(&self, start_counter: u32, mature: bool) -> Verdict {
        let backward = self.counted.checked_sub(self.seen + self.collector_lost);
        let forward = backward.and_then(|backward| self.lost.checked_sub(backward));
        match backward.zip(forward) {
            None => Verdict::Contradiction,
            Some((_, forward)) if !mature && forward > u64::from(start_counter) => Verdict::Restarted,
            Some((backward, forward)) => Verdict::Losses { forward, backward },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_belongs_to_the_span_in_which_it_was_counted() {
        let [from, to] = [(0, 100, 10), (1, 103, 20)].map(|(slot, counter, sent_ns)| Mark {
            slot,
            counter,
            sent_ns,
            received_ns: sent_ns + 5,
        });
        let table = [
            ("of the first anchor", 100, 11, 0),
            ("between", 101, 11, 1),
            ("after the second anchor", 104, 11, 0),
            (
                "received no later than the first anchor left, so before a restart",
                101,
                10,
                0,
            ),
        ];
        for (why, counter, received_ns, want) in table {
            let duplicate = Duplicate {
                slot: 0,
                counter,
                received_ns,
            };
            let span = Span::between(from, to, Span::default(), &History::default(), &[duplicate]);
            assert_eq!(span.seen, want, "{why}");
        }
    }
}
