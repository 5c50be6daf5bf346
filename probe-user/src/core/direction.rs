//! On which way probes were lost, told from the counter that a stateful reflector keeps of the probes it answered.
//!
//! An answered probe is an *anchor* if every probe answered before it has a smaller counter and every probe answered
//! after it a larger one. Between two anchors A and B, with S probes sent, a counter that advanced by D, and R
//! distinct counters received, X of them on replies beyond the first to a probe:
//!
//! * forward loss = S − (D − X): what was sent and did not reach the reflector;
//! * backward loss = D − R: what the reflector answered and did not come back.
//!
//! A probe sent after B's reply was received cannot have overtaken B. So B is judged when every probe sent before
//! that is resolved, and a counter that falls back on a later one is a reflector that began anew (a restart, or the
//! session was evicted from its table): nothing is claimed across it. Nor is anything claimed before the first
//! anchor, after the last one, or for a reflector that may be stateless and only copy the sender's number.
//!
//! A probe that overtakes an anchor and whose own reply is then lost makes the span before it look wrong by one and
//! the span after it wrong by one the other way. Each span's two losses must therefore be ≥ 0 and add up to its lost
//! probes; where they do not, the span is joined with those before it until they do. Where a late or an additional
//! reply shows that a span was wrong, its claims and all since are withdrawn, and the next anchor judges them again.
//!
//! What it cannot see: a probe that the network duplicated on the way forward and whose second reply was lost; a lost
//! probe that had overtaken the very first anchor; and a reflector that restarted and counted past its old counter
//! within one round trip.

use super::history::{History, State};
use super::sequence::ahead;
use super::window::Ledger;
use span::{Mark, Span};
use std::collections::VecDeque;

mod span;

/// Spans joined before a contradiction is left to the next anchor.
const JOINED_SPANS: usize = 16;

/// Anchors in a row that contradict the one before, after which the reflector is taken to have begun anew.
const PATIENCE: u32 = 32;

/// Counters of additional replies remembered. More at a time is a loop in the network, where no count is to be trusted.
const EXTRA_COUNTERS: usize = 256;

/// The way on which a probe was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It did not reach the reflector.
    Forward,
    /// The reply did not come back.
    Backward,
}

/// Places the losses of one session.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// The reflector is known to keep a counter of its own.
    stateful: bool,
    /// The next slot to look at.
    scanned: u64,
    /// The answered probe with the highest counter since the reflector began.
    highest: Option<Mark>,
    /// Probes that are anchors unless a smaller counter shows up behind them; counters ascend.
    candidates: VecDeque<Mark>,
    /// The newest anchor.
    anchor: Option<Mark>,
    /// Slot of the first anchor since the reflector began.
    first_anchor: u64,
    /// Counters of replies beyond the first to their probe, since the reflector began.
    extra: Vec<u32>,
    /// Probes after the newest anchor that are forgotten.
    forgotten: Span,
    /// Anchors refused in a row.
    refused: u32,
}

impl Direction {
    /// Whether the reflector keeps a counter of its own, as its identity tells or as a reply proved.
    pub(super) fn set_stateful(&mut self, stateful: bool, history: &mut History, ledger: &mut Ledger) {
        if self.stateful == stateful {
            return;
        }
        self.stateful = stateful;
        let Some(newest) = self.anchor else { return };
        let mut end = Some(newest);
        while let Some(to) = end.filter(|to| to.slot > self.first_anchor) {
            end = self.anchor_before(history, to.slot);
            if let Some(from) = end {
                self.place_again(from, to, history, ledger);
            }
        }
    }

    /// Whether the way of a loss at `slot` will not become any clearer by the next anchor.
    pub(super) fn is_settled(&self, slot: u64) -> bool {
        !self.stateful || self.anchor.is_none_or(|anchor| slot < anchor.slot)
    }

    /// Whether the probe at `slot` is needed to place losses.
    pub(super) fn needs(&self, slot: u64) -> bool {
        self.anchor.is_some_and(|anchor| slot >= anchor.slot)
    }

    /// A probe needed no longer, or one too many, leaves the history.
    pub(super) fn forget(&mut self, slot: u64, state: State) {
        if self.anchor.is_some_and(|anchor| slot > anchor.slot) {
            self.forgotten.add(state, true);
        }
    }

    /// Looks at the probes resolved since the last call and places what losses it can.
    pub(super) fn advance(&mut self, history: &mut History, ledger: &mut Ledger) {
        while let Some(&probe) = history.get(self.scanned) {
            if probe.state == State::Pending {
                break;
            }
            if probe.after_gap {
                self.begin_anew();
            }
            if let (State::Answered, Some(counter)) = (probe.state, probe.counter) {
                if counter != probe.index as u32 {
                    self.set_stateful(true, history, ledger);
                }
                let mark = Mark {
                    slot: self.scanned,
                    counter,
                    received_ns: probe.received_ns,
                };
                self.consider(mark, probe.sent_ns);
            }
            self.scanned += 1;
        }
        let open_since = history.oldest_pending().map_or(u64::MAX, |(_, probe)| probe.sent_ns);
        while let Some(mark) = self.candidates.pop_front_if(|mark| mark.received_ns <= open_since) {
            self.judge(mark, history, ledger);
        }
    }

    /// The probe at `slot`, lost before, was answered after its time: what was said of its neighbours may be wrong.
    pub(super) fn late(&mut self, slot: u64, history: &mut History, ledger: &mut Ledger) {
        self.place_again_around(slot, history, ledger);
    }

    /// The probe at `slot` was answered once more, with another counter than before.
    pub(super) fn additional(&mut self, slot: u64, counter: u32, history: &mut History, ledger: &mut Ledger) {
        if self.extra.contains(&counter) {
            return;
        }
        if self.extra.len() == EXTRA_COUNTERS {
            self.drop_old_extra(history);
        }
        if self.extra.len() == EXTRA_COUNTERS {
            self.begin_anew();
            return;
        }
        self.extra.push(counter);
        if let Some(end) = self.span_of_counter(slot, counter, history) {
            self.place_again_around(end, history, ledger);
        }
    }

    /// Counters below every remembered anchor cannot matter any more.
    fn drop_old_extra(&mut self, history: &History) {
        let Some(oldest) = (history.start()..history.end()).find_map(|slot| Mark::anchor(history, slot)) else {
            return;
        };
        self.extra.retain(|&counter| ahead(counter, oldest.counter) > 0);
    }

    /// Nothing that was counted before can be compared with what comes.
    fn begin_anew(&mut self) {
        *self = Direction {
            stateful: self.stateful,
            scanned: self.scanned,
            ..Direction::default()
        };
    }

    /// An answered probe is a candidate if none before it has a larger counter, and ends the candidacy of those that do.
    fn consider(&mut self, mark: Mark, sent_ns: u64) {
        if let Some(highest) = self.highest.filter(|highest| ahead(mark.counter, highest.counter) <= 0) {
            if sent_ns < highest.received_ns {
                while self
                    .candidates
                    .pop_back_if(|candidate| ahead(mark.counter, candidate.counter) <= 0)
                    .is_some()
                {}
                return;
            }
            self.begin_anew();
        }
        self.highest = Some(mark);
        self.candidates.push_back(mark);
    }

    /// Makes a candidate the newest anchor, if the losses since the last one add up.
    fn judge(&mut self, mark: Mark, history: &mut History, ledger: &mut Ledger) {
        let Some(mut from) = self.anchor else {
            self.first_anchor = mark.slot;
            self.make_anchor(mark, history);
            return;
        };
        for _ in 0..=JOINED_SPANS {
            let mut span = Span::between(from, mark, history, &self.extra);
            span.join(self.forgotten);
            if let Some((forward, backward)) = span.losses() {
                for slot in from.slot + 1..mark.slot {
                    if let Some(probe) = history.get_mut(slot) {
                        probe.anchor = false;
                    }
                }
                self.place(from, mark, (forward, backward), history, ledger);
                self.make_anchor(mark, history);
                return;
            }
            match self.anchor_before(history, from.slot) {
                Some(before) => from = before,
                None => break,
            }
        }
        self.refused += 1;
        if self.refused > PATIENCE {
            self.begin_anew();
        }
    }

    fn make_anchor(&mut self, mark: Mark, history: &mut History) {
        if let Some(probe) = history.get_mut(mark.slot) {
            probe.anchor = true;
        }
        self.anchor = Some(mark);
        self.forgotten = Span::default();
        self.refused = 0;
    }

    /// The anchor before `slot`, not before the reflector began.
    fn anchor_before(&self, history: &History, slot: u64) -> Option<Mark> {
        let first = self.first_anchor.max(history.start());
        (first..slot).rev().find_map(|slot| Mark::anchor(history, slot))
    }

    /// The anchor that ends the span in which `counter` lies, if it is settled; `slot` is somewhere near.
    fn span_of_counter(&self, slot: u64, counter: u32, history: &History) -> Option<u64> {
        let newest = self.anchor?;
        let reaches = |mark: &Mark| ahead(mark.counter, counter) >= 0;
        let mut end = (slot.max(self.first_anchor)..=newest.slot)
            .filter_map(|slot| Mark::anchor(history, slot))
            .find(reaches)?;
        while let Some(before) = self.anchor_before(history, end.slot).filter(reaches) {
            end = before;
        }
        Some(end.slot)
    }

    /// Places the losses of the settled span in which `slot` lies once more.
    fn place_again_around(&mut self, slot: u64, history: &mut History, ledger: &mut Ledger) {
        let Some(newest) = self.anchor.filter(|anchor| slot <= anchor.slot) else {
            return;
        };
        let Some(from) = self.anchor_before(history, slot) else {
            return;
        };
        let end = (slot..=newest.slot).find_map(|slot| Mark::anchor(history, slot));
        self.place_again(from, end.unwrap_or(newest), history, ledger);
    }

    fn place_again(&mut self, from: Mark, to: Mark, history: &mut History, ledger: &mut Ledger) {
        let span = Span::between(from, to, history, &self.extra);
        match span.losses() {
            Some(losses) => self.place_remembered(from, to, losses, history, ledger),
            None => self.withdraw(from, history, ledger),
        }
    }

    /// Makes `anchor` the newest again: what came after is unknown until the next anchor.
    fn withdraw(&mut self, anchor: Mark, history: &mut History, ledger: &mut Ledger) {
        let Some(newest) = self.anchor.replace(anchor) else {
            return;
        };
        place_each(anchor, newest, || None, history, ledger);
        for slot in anchor.slot + 1..=newest.slot {
            if let Some(probe) = history.get_mut(slot) {
                probe.anchor = false;
            }
        }
    }

    /// Writes down the losses of a span, the forgotten probes first.
    fn place(
        &mut self,
        from: Mark,
        to: Mark,
        (forward, backward): (u64, u64),
        history: &mut History,
        ledger: &mut Ledger,
    ) {
        let forgotten_forward = forward.min(self.forgotten.lost);
        let forgotten_backward = self.forgotten.lost - forgotten_forward;
        if self.stateful {
            ledger.place_forgotten(forgotten_forward, forgotten_backward);
        }
        let remaining = (forward - forgotten_forward, backward - forgotten_backward);
        self.place_remembered(from, to, remaining, history, ledger);
    }

    /// Where a span has losses on both ways, which probe was lost on which is not known: forward comes first.
    fn place_remembered(
        &mut self,
        from: Mark,
        to: Mark,
        (mut forward, _): (u64, u64),
        history: &mut History,
        ledger: &mut Ledger,
    ) {
        let stateful = self.stateful;
        let way = || {
            let way = if forward > 0 { Way::Forward } else { Way::Backward };
            forward = forward.saturating_sub(1);
            stateful.then_some(way)
        };
        place_each(from, to, way, history, ledger);
    }
}

fn place_each(from: Mark, to: Mark, mut way: impl FnMut() -> Option<Way>, history: &mut History, ledger: &mut Ledger) {
    for slot in from.slot + 1..to.slot {
        if let Some(probe) = history.get_mut(slot)
            && let State::Lost(old) = probe.state
        {
            let new = way();
            probe.state = State::Lost(new);
            ledger.place(probe.window, old, new);
        }
    }
}
