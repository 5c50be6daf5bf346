//! Decides in which direction probes were lost, from the counter that a stateful reflector keeps of its replies.
//!
//! 1. Each reply carries a counter. A counter that no reply carried belongs to a probe that arrived and whose reply was
//!    lost.
//! 2. An answered probe is *in order* if every probe answered before it has a smaller counter and every probe answered
//!    after it a larger one. It becomes an *anchor* once no pending probe can have overtaken it: all probes sent before
//!    its reply was received are resolved. A lost probe may have crossed it, too: where probes overtook each other
//!    recently, a probe is no anchor if a lost one was sent within the longest recent round trip before or after it.
//! 3. Between two anchors, the counters that no reply carried (less those of samples that did not reach userspace) were
//!    lost backward; the other lost probes were lost forward. If either number is negative, a lost probe crossed an
//!    anchor: the older anchor is dropped, and the span grows until its numbers make sense. If they never do, nothing
//!    is claimed.
//! 4. If the counter falls back on a probe that was sent after the larger one was received, the reflector restarted, or
//!    evicted the session from its table. Nothing is claimed across that, before the first anchor, or after the last.
//! 5. A late reply, or a duplicate with another counter, is new evidence: all conclusions since the last anchor before
//!    it are withdrawn and drawn again. A claim depends on the evidence, not on the order in which it came. The work for
//!    this is limited ([`CREDIT_PER_PROBE`]); beyond the limit, nothing is claimed about the probes so far.
//!
//! Three cases look like something else: a probe that was duplicated in the forward direction and whose second reply was lost;
//! a lost probe that crossed the very first or the newest anchor; and a reflector that restarted after
//! [`MIN_MATURE_COUNTER`] or more replies, and of which every reply was lost until it had counted past its old counter.

use std::collections::VecDeque;
use std::ops::Range;

use crate::direction::Direction;
use crate::session::history::{Anchor, History, Probe, State};
use crate::session::loss_direction::span::{Duplicate, Mark, Span, Verdict};
use crate::session::sequence::ahead;
use crate::session::window::Windows;

mod span;

const MAX_JOINED_SPANS: usize = 16;

/// After more anchors in a row that contradict those before, the reflector must have restarted.
pub(super) const MAX_CONTRADICTIONS: u32 = 32;

/// Overtaking and round trips within this time are recent: they may occur again.
const RECENT_NS: u64 = 10_000_000_000;

/// More duplicates at a time come from a loop in the network, and no counter can be trusted then.
pub(super) const MAX_DUPLICATES: usize = 256;

/// Probes that may be looked at again for each new probe, because of late or duplicate replies.
const CREDIT_PER_PROBE: u64 = 64;

/// The most of them at once: less than a tenth of a second of work.
const MAX_CREDIT: u64 = 1 << 18;

/// A reflector that restarts below this counter may count past it before any of its replies is seen.
pub(super) const MIN_MATURE_COUNTER: u32 = 64;

/// Assigns the losses of one session to a direction.
#[derive(Debug, Default)]
pub(super) struct LossDirection {
    /// The reflector keeps a counter of its own.
    stateful: bool,
    /// All slots below have been looked at.
    scanned: u64,
    /// Slots below are never looked at again.
    floor: u64,
    /// The answered probe with the highest counter since the reflector started.
    highest: Option<Mark>,
    /// Probes in order so far that are not anchors yet, by ascending counter.
    candidates: VecDeque<Mark>,
    /// The newest one.
    anchor: Option<Mark>,
    /// Send time of the last probe that another one overtook.
    overtaken_ns: Option<u64>,
    /// The longest recent round trip, and the send time of its probe.
    longest_trip: Option<(u64, u64)>,
    /// The reflector has counted to [`MIN_MATURE_COUNTER`] since it started.
    mature: bool,
    duplicates: Vec<Duplicate>,
    /// Sum of the probes after the newest anchor that the history has forgotten.
    forgotten: Span,
    /// In a row.
    contradictions: u32,
    /// Probes that may be looked at once more. Each new one adds to it.
    credit: Credit,
    /// Slots below have no directions left to withdraw.
    withdrawn: u64,
}

/// Limits the cost of new evidence, which a hostile peer can send without end.
#[derive(Debug)]
struct Credit {
    left: u64,
    /// All slots below have added to it.
    earned: u64,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            left: MAX_CREDIT,
            earned: 0,
        }
    }
}

impl Credit {
    fn earn(&mut self, slot: u64) {
        if slot >= self.earned {
            self.earned = slot + 1;
            self.left = (self.left + CREDIT_PER_PROBE).min(MAX_CREDIT);
        }
    }

    fn spend(&mut self, probes: u64) -> bool {
        let left = self.left.checked_sub(probes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

impl LossDirection {
    pub(super) fn set_stateful(&mut self, stateful: bool, history: &mut History, windows: &mut Windows) {
        if std::mem::replace(&mut self.stateful, stateful) != stateful {
            self.start_over_from(None, history, windows);
            self.advance(history, windows);
        }
    }

    /// Whether no further anchor can tell the direction of a loss at `slot`.
    pub(super) fn is_settled(&self, slot: u64) -> bool {
        !self.stateful || self.anchor.is_none_or(|anchor| slot < anchor.slot)
    }

    /// Whether the probe at `slot` may still be needed as evidence.
    pub(super) fn needs(&self, slot: u64) -> bool {
        self.anchor.is_some_and(|anchor| slot >= anchor.slot)
    }

    /// The history forgets a probe.
    pub(super) fn forget(&mut self, slot: u64, probe: &Probe) {
        if self.anchor.is_some_and(|anchor| slot > anchor.slot) {
            self.forgotten.add(probe);
        }
        let after_anchor = |counter| self.anchor.is_some_and(|anchor| ahead(counter, anchor.counter) > 0);
        let leaving = self.duplicates.extract_if(.., |duplicate| duplicate.slot <= slot);
        self.forgotten.seen += leaving.filter(|duplicate| after_anchor(duplicate.counter)).count() as u64;
    }

    /// Evaluates the probes resolved since the last call.
    pub(super) fn advance(&mut self, history: &mut History, windows: &mut Windows) {
        self.scanned = self.scanned.max(history.start());
        while let Some(&probe) = history.get(self.scanned) {
            if probe.state == State::Pending {
                break;
            }
            if !self.stateful && probe.counter.is_some_and(|counter| counter != probe.index as u32) {
                self.stateful = true;
                self.start_over_from(None, history, windows);
                continue;
            }
            self.look_at(self.scanned, &probe);
            self.credit.earn(self.scanned);
            self.scanned += 1;
        }
        let open_since = history.oldest_pending().map_or(u64::MAX, |(_, probe)| probe.sent_ns);
        while let Some(mark) = self.candidates.pop_front_if(|mark| mark.received_ns <= open_since) {
            self.try_anchor(mark, history, windows);
        }
    }

    /// A resolved probe got a late reply, or a duplicate with another counter: conclusions near it may be wrong.
    pub(super) fn observed(&mut self, slot: u64, counter: u32, history: &mut History, windows: &mut Windows) {
        let is_below_floor = slot < self.floor;
        if slot >= self.scanned || (is_below_floor && self.withdrawn >= self.floor) {
            return;
        }
        let base = match self.anchor {
            Some(newest) if newest.slot < slot && ahead(counter, newest.counter) > 0 => Some(newest),
            _ => self
                .anchors(history, slot)
                .find(|anchor| ahead(counter, anchor.counter) > 0),
        };
        let again_from = match base {
            Some(base) => base.slot,
            None if is_below_floor => history.start(),
            None => self.floor,
        };
        if !self
            .credit
            .spend(self.scanned.saturating_sub(again_from.max(history.start())))
        {
            self.give_up(history, windows);
            return;
        }
        if is_below_floor {
            withdraw(history.start(), history, windows);
            self.withdrawn = self.floor;
        }
        self.start_over_from(base, history, windows);
    }

    /// Claims nothing about the probes so far, and never looks at them again.
    fn give_up(&mut self, history: &mut History, windows: &mut Windows) {
        withdraw(self.withdrawn.max(history.start()), history, windows);
        self.duplicates.clear();
        self.restart();
        self.floor = history.end();
        self.scanned = self.floor;
        self.withdrawn = self.floor;
    }

    /// The probe at `slot` got one more reply, with another counter than its first: the network duplicated the probe.
    pub(super) fn duplicated(
        &mut self,
        slot: u64,
        counter: u32,
        received_ns: u64,
        history: &mut History,
        windows: &mut Windows,
    ) {
        if self
            .duplicates
            .iter()
            .any(|duplicate| (duplicate.slot, duplicate.counter) == (slot, counter))
        {
            return;
        }
        if self.duplicates.len() < MAX_DUPLICATES {
            self.duplicates.push(Duplicate {
                slot,
                counter,
                received_ns,
            });
            self.observed(slot, counter, history, windows);
            return;
        }
        self.observed(slot, counter, history, windows);
        self.duplicates.clear();
        self.restart();
        self.floor = history.end();
        self.scanned = self.floor;
    }

    /// Counters from now on cannot be compared with those before.
    fn restart(&mut self) {
        self.highest = None;
        self.anchor = None;
        self.mature = false;
        self.candidates.clear();
        self.forgotten = Span::default();
        self.contradictions = 0;
    }

    /// Withdraws all conclusions since `base`; without it, all of them.
    fn start_over_from(&mut self, base: Option<Mark>, history: &mut History, windows: &mut Windows) {
        let forgotten = std::mem::take(&mut self.forgotten);
        self.restart();
        // Probes are forgotten in order: those after the newest anchor only once every older anchor is.
        if base.is_some() {
            self.forgotten = forgotten;
        }
        self.anchor = base;
        self.highest = base;
        self.mature = base.is_some_and(|base| base.counter >= MIN_MATURE_COUNTER);
        self.scanned = base.map_or(self.floor, |base| base.slot + 1).max(history.start());
        withdraw(self.scanned, history, windows);
    }

    fn look_at(&mut self, slot: u64, probe: &Probe) {
        // The lost sample had a counter. The late reply may carry the same one or another.
        if probe.after_gap || (probe.state == State::CollectorLost && probe.counter.is_some()) {
            self.restart();
        }
        let Some(counter) = probe.counter else { return };
        self.note_delay(probe);
        let mut duplicates = self
            .duplicates
            .iter()
            .filter(|duplicate| duplicate.slot == slot)
            .peekable();
        if duplicates.peek().is_some() {
            // Nothing tells which of its arrivals is out of order, so the probe itself cannot be a candidate.
            let counters = duplicates.map(|duplicate| duplicate.counter).chain([counter]);
            let lowest = counters.min_by_key(|&other| ahead(other, counter));
            self.end_candidacies(lowest.unwrap_or(counter));
            return;
        }
        let mark = Mark {
            slot,
            counter,
            sent_ns: probe.sent_ns,
            received_ns: probe.received_ns,
        };
        if let Some(highest) = self.highest.filter(|highest| ahead(counter, highest.counter) <= 0) {
            if probe.sent_ns < highest.received_ns {
                self.overtaken_ns = Some(probe.sent_ns);
                self.end_candidacies(counter);
                return;
            }
            self.restart();
        }
        self.highest = Some(mark);
        self.candidates.push_back(mark);
    }

    fn note_delay(&mut self, probe: &Probe) {
        let elapsed_ns = probe.received_ns.saturating_sub(probe.sent_ns);
        let is_longer = |(longest_ns, at_ns)| longest_ns <= elapsed_ns || !is_recent(at_ns, probe.sent_ns);
        if self.longest_trip.is_none_or(is_longer) {
            self.longest_trip = Some((elapsed_ns, probe.sent_ns));
        }
    }

    /// Whether a probe without a reply was sent so close to `mark` that it may have overtaken it, or been overtaken.
    fn may_be_crossed(&self, mark: Mark, history: &History) -> bool {
        let reorders = self.overtaken_ns.is_some_and(|at_ns| is_recent(at_ns, mark.sent_ns));
        let Some((longest_ns, _)) = self.longest_trip.filter(|_| reorders) else {
            return false;
        };
        let near = |slot: &u64| {
            let probe = history.get(*slot);
            probe.is_some_and(|probe| probe.sent_ns.abs_diff(mark.sent_ns) <= longest_ns)
        };
        let is_silent = |slot: u64| history.get(slot).is_some_and(Probe::is_silent);
        (mark.slot..).take_while(near).any(is_silent) || (0..mark.slot).rev().take_while(near).any(is_silent)
    }

    /// A probe sent later has `counter`, so candidates with a larger one are not in order.
    fn end_candidacies(&mut self, counter: u32) {
        let overtaken = |candidate: &mut Mark| ahead(counter, candidate.counter) <= 0;
        while self.candidates.pop_back_if(overtaken).is_some() {}
    }

    /// Makes a candidate the newest anchor if the losses since the last one make sense.
    fn try_anchor(&mut self, mark: Mark, history: &mut History, windows: &mut Windows) {
        if self.may_be_crossed(mark, history) {
            return;
        }
        let Some(newest) = self.anchor else {
            self.make_anchor(mark, Anchor::First, history);
            return;
        };
        let mut from = newest;
        for _ in 0..=MAX_JOINED_SPANS {
            let span = Span::between(from, mark, self.forgotten, history, &self.duplicates);
            match span.verdict(from.counter, self.mature) {
                Verdict::Losses { forward, backward } => {
                    // There is none after the newest, which is before `mark`.
                    clear_anchors(from.slot + 1..mark.slot, history);
                    self.assign(from, mark, (forward, backward), history, windows);
                    self.make_anchor(mark, Anchor::Next, history);
                    return;
                }
                Verdict::Restarted if from.slot == newest.slot => {
                    self.make_anchor(mark, Anchor::First, history);
                    return;
                }
                Verdict::Restarted | Verdict::Contradiction => {}
            }
            match self.anchor_before(from.slot, history) {
                Some(before) => from = before,
                None => break,
            }
        }
        // A lost probe crossed one of these anchors, and nothing tells which.
        withdraw(from.slot + 1, history, windows);
        self.anchor = Some(from);
        self.contradictions += 1;
        if self.contradictions > MAX_CONTRADICTIONS {
            self.make_anchor(mark, Anchor::First, history);
        }
    }

    fn make_anchor(&mut self, mark: Mark, kind: Anchor, history: &mut History) {
        if let Some(probe) = history.get_mut(mark.slot) {
            probe.anchor = kind;
        }
        self.anchor = Some(mark);
        self.mature |= mark.counter >= MIN_MATURE_COUNTER;
        self.forgotten = Span::default();
        self.contradictions = 0;
    }

    /// The anchor before that at `slot`, unless the reflector restarted in between.
    fn anchor_before(&self, slot: u64, history: &History) -> Option<Mark> {
        let is_first = history.get(slot).is_none_or(|probe| probe.anchor == Anchor::First);
        self.anchors(history, slot).next().filter(|_| !is_first)
    }

    /// Newest first.
    fn anchors(&self, history: &History, slot: u64) -> impl Iterator<Item = Mark> {
        let oldest = self.floor.max(history.start());
        (oldest..slot).rev().filter_map(|slot| Mark::anchor(history, slot))
    }

    /// Assigns the losses of a span. Which probe was lost in which direction is unknown: forgotten probes come first,
    /// and forward losses before backward ones.
    fn assign(
        &mut self,
        from: Mark,
        to: Mark,
        (forward, backward): (u64, u64),
        history: &mut History,
        windows: &mut Windows,
    ) {
        if !self.stateful {
            return;
        }
        let forgotten_forward = forward.min(self.forgotten.lost);
        let forgotten_backward = backward.min(self.forgotten.lost - forgotten_forward);
        windows.move_forgotten_losses(forgotten_forward, forgotten_backward);
        let mut forward = forward - forgotten_forward;
        for slot in from.slot..to.slot {
            if is_lost(history, slot) {
                let direction = if forward > 0 {
                    Direction::Forward
                } else {
                    Direction::Backward
                };
                forward = forward.saturating_sub(1);
                set_direction(slot, Some(direction), history, windows);
            }
        }
    }
}

fn is_recent(at_ns: u64, now_ns: u64) -> bool {
    at_ns.abs_diff(now_ns) <= RECENT_NS
}

fn is_lost(history: &History, slot: u64) -> bool {
    history
        .get(slot)
        .is_some_and(|probe| matches!(probe.state, State::Lost(_)))
}

/// Changes the direction of the loss at `slot`, if it is one.
fn set_direction(slot: u64, direction: Option<Direction>, history: &mut History, windows: &mut Windows) {
    if let Some(probe) = history.get_mut(slot)
        && let State::Lost(before) = probe.state
    {
        probe.state = State::Lost(direction);
        windows.move_loss(probe.window, before, direction);
    }
}

/// Withdraws every direction from `slot` on.
fn withdraw(slot: u64, history: &mut History, windows: &mut Windows) {
    clear_anchors(slot..history.end(), history);
    (slot..history.end()).for_each(|slot| set_direction(slot, None, history, windows));
}

fn clear_anchors(slots: Range<u64>, history: &mut History) {
    for slot in slots {
        if let Some(probe) = history.get_mut(slot) {
            probe.anchor = Anchor::No;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 2 * RECENT_NS;
    const TRIP: u64 = 5;

    fn probe(sent_ns: u64, received_ns: u64, counter: u32) -> Probe {
        let mut history = History::default();
        history.push(0, sent_ns, 0);
        let probe = history.get_mut(0).unwrap();
        (probe.received_ns, probe.counter) = (received_ns, Some(counter));
        *probe
    }

    #[test]
    fn a_round_trip_is_the_longest_until_it_is_no_longer_recent() {
        let table = [
            (&[(0, 5), (1, 9)][..], 9),
            (&[(0, 9), (1, 5)], 9),
            (&[(0, 9), (RECENT_NS, 5)], 9),
            (&[(0, 9), (RECENT_NS + 1, 5)], 5),
            (&[(0, 9), (1, 9), (RECENT_NS + 1, 5)], 9),
        ];
        for (trips, want) in table {
            let mut direction = LossDirection::default();
            for (sent_ns, trip_ns) in trips {
                direction.note_delay(&probe(*sent_ns, sent_ns + trip_ns, 0));
            }
            assert_eq!(
                direction.longest_trip.map(|(trip_ns, _)| trip_ns),
                Some(want),
                "{trips:?}"
            );
        }
    }

    #[test]
    fn a_lost_probe_may_have_crossed_probes_within_a_round_trip_if_probes_overtake() {
        let lost = State::Lost(None);
        let table = [
            ("just after", lost, NOW + TRIP, NOW, true),
            ("just before", lost, NOW - TRIP, NOW, true),
            ("long after", lost, NOW + TRIP + 1, NOW, false),
            ("long before", lost, NOW - TRIP - 1, NOW, false),
            ("its counter was lost", State::CollectorLost, NOW + 1, NOW, true),
            ("it did not leave", State::NeverLeft, NOW + 1, NOW, false),
            ("overtaken recently", lost, NOW + 1, NOW - RECENT_NS, true),
            ("overtaken long ago", lost, NOW + 1, NOW - RECENT_NS - 1, false),
        ];
        for (why, state, sent_ns, overtaken_ns, want) in table {
            let mut history = History::default();
            history.push(0, sent_ns.min(NOW), 0);
            history.push(1, sent_ns.max(NOW), 0);
            let slot = u64::from(sent_ns < NOW);
            history.get_mut(1 - slot).unwrap().state = state;
            let answered = history.get_mut(slot).unwrap();
            (answered.state, answered.counter) = (State::Answered, Some(7));
            let mark = Mark {
                slot,
                counter: 7,
                sent_ns: NOW,
                received_ns: NOW + TRIP,
            };
            let direction = LossDirection {
                overtaken_ns: Some(overtaken_ns),
                longest_trip: Some((TRIP, NOW)),
                ..LossDirection::default()
            };
            assert_eq!(direction.may_be_crossed(mark, &history), want, "{why}");
        }
    }

    #[test]
    fn a_duplicate_is_forgotten_with_its_probe_and_still_counts_after_the_anchor() {
        for (slot, counter, remembered, seen) in [(3, 99, 0, 1), (3, 100, 0, 1), (3, 101, 0, 2), (4, 101, 1, 1)] {
            let mut direction = LossDirection {
                anchor: Some(Mark {
                    slot: 1,
                    counter: 100,
                    sent_ns: 0,
                    received_ns: 1,
                }),
                duplicates: vec![Duplicate {
                    slot,
                    counter,
                    received_ns: 1,
                }],
                ..LossDirection::default()
            };
            let mut answered = probe(0, 1, 102);
            answered.state = State::Answered;
            direction.forget(3, &answered);
            let result = (direction.duplicates.len(), direction.forgotten.seen);
            assert_eq!(result, (remembered, seen), "slot {slot}, counter {counter}");
        }
    }
}
