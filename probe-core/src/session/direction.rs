//! On which way probes were lost, told from the counter that a stateful reflector keeps of the probes it answered.
//!
//! 1. Each reply carries a counter, so each counter that no reply carried is a probe that arrived and whose reply did
//!    not come back.
//! 2. An answered probe is *in order* if every probe answered before it has a smaller counter and every probe answered
//!    after it a larger one. It becomes an *anchor* once no probe is pending that could have overtaken it (all that
//!    were sent before its reply was received are resolved), unless a lost one may have crossed it: where the network
//!    has lately let probes overtake one another, one that was sent within a round trip before or after, the longest
//!    that was lately seen.
//! 3. Between two anchors, the counters that no reply carried (less those whose samples were collected by nobody) were
//!    lost backward; the other lost probes were lost forward. Should either number be negative, a lost probe has crossed
//!    an anchor: the older anchor is given up, and the span grows until its numbers make sense; if they never do, nothing is claimed.
//! 4. A counter that falls back on a probe sent after the larger one was received is a reflector that began anew (it
//!    restarted, or the session was evicted from its table). Nothing is claimed across that, before the first anchor,
//!    or after the last.
//! 5. A reply that comes late, or once more with another counter, adds to what is known: all that was concluded since
//!    the last anchor before it is forgotten and concluded again. A claim so depends on what is known, not on when
//!    it was learnt.
//!
//! What it cannot see: a probe that the network duplicated on the way forward and whose second reply was lost; a lost
//! probe that crossed the very first or the newest anchor; and a reflector that began anew unseen, after
//! [`YOUNG`] answers and more, because all its replies were lost until it had counted past its old counter.

use std::collections::VecDeque;

use span::{Mark, Span, Verdict};

use crate::session::history::{Anchor, History, Probe, State};
use crate::session::sequence::ahead;
use crate::session::window::Ledger;

mod span;

/// Spans joined before a contradiction is left to the next anchor.
const JOINED_SPANS: usize = 16;

/// Anchors in a row that contradict those before, after which the reflector is taken to have begun anew.
const PATIENCE: u32 = 32;

/// What the network did within this time it may do again.
const LATELY_NS: u64 = 10_000_000_000;

/// Counters of additional replies remembered. More at a time is a loop in the network, where no count is to be trusted.
const COPIES: usize = 256;

/// A counter below this may have been passed again, unseen, since the reflector began anew.
const YOUNG: u32 = 64;

/// The way on which a probe was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It did not reach the reflector.
    Forward,
    /// The reply did not come back.
    Backward,
}

/// A reply beyond the first to its probe, with a counter of its own: the probe was duplicated on the way forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Duplicate {
    slot: u64,
    counter: u32,
    received_ns: u64,
}

/// Places the losses of one session.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// The reflector is known to keep a counter of its own.
    stateful: bool,
    /// The next slot to look at.
    scanned: u64,
    /// Slots below are not looked at again.
    floor: u64,
    /// The probe in order, or out of it, with the highest counter since the reflector began.
    highest: Option<Mark>,
    /// Probes in order so far that are not anchors yet; counters ascend.
    candidates: VecDeque<Mark>,
    /// The newest anchor.
    anchor: Option<Mark>,
    /// When a probe was last sent that another one overtook.
    overtaken_ns: Option<u64>,
    /// The longest time to a reply, and when its probe was sent.
    longest: Option<(u64, u64)>,
    /// The reflector has counted to [`YOUNG`] since it began.
    mature: bool,
    copies: Vec<Duplicate>,
    /// Probes after the newest anchor that are forgotten.
    forgotten: Span,
    /// Anchors refused in a row.
    refused: u32,
}

impl Direction {
    /// Whether the reflector keeps a counter of its own, as its identity tells or as a reply proved.
    pub(super) fn set_stateful(&mut self, stateful: bool, history: &mut History, ledger: &mut Ledger) {
        if std::mem::replace(&mut self.stateful, stateful) != stateful {
            self.conclude_again_from(None, history, ledger);
            self.advance(history, ledger);
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
    pub(super) fn forget(&mut self, slot: u64, probe: &Probe) {
        if self.anchor.is_some_and(|anchor| slot > anchor.slot) {
            self.forgotten.add(probe);
        }
        let after_anchor = |counter| self.anchor.is_some_and(|anchor| ahead(counter, anchor.counter) > 0);
        let leaving = self.copies.extract_if(.., |copy| copy.slot <= slot);
        self.forgotten.seen += leaving.filter(|copy| after_anchor(copy.counter)).count() as u64;
    }

    /// Looks at the probes resolved since the last call and places what losses it can.
    pub(super) fn advance(&mut self, history: &mut History, ledger: &mut Ledger) {
        self.scanned = self.scanned.max(history.start());
        while let Some(&probe) = history.get(self.scanned) {
            if probe.state == State::Pending {
                break;
            }
            if !self.stateful && probe.counter.is_some_and(|counter| counter != probe.index as u32) {
                self.stateful = true;
                self.conclude_again_from(None, history, ledger);
                continue;
            }
            self.look_at(self.scanned, &probe);
            self.scanned += 1;
        }
        let open_since = history.oldest_pending().map_or(u64::MAX, |(_, probe)| probe.sent_ns);
        while let Some(mark) = self.candidates.pop_front_if(|mark| mark.received_ns <= open_since) {
            self.judge(mark, history, ledger);
        }
    }

    /// The probe at `slot` was answered after its time, or once more with another counter than before: what was
    /// concluded near it may be wrong.
    pub(super) fn learnt(&mut self, slot: u64, counter: u32, history: &mut History, ledger: &mut Ledger) {
        if slot < self.floor {
            withdraw(history.start(), history, ledger);
        }
        if slot >= self.scanned {
            return;
        }
        let base = match self.anchor {
            Some(newest) if newest.slot < slot && ahead(counter, newest.counter) > 0 => Some(newest),
            _ => self
                .anchors(history, slot)
                .find(|anchor| ahead(counter, anchor.counter) > 0),
        };
        self.conclude_again_from(base, history, ledger);
    }

    /// The probe at `slot` was answered once more, with another counter than before.
    pub(super) fn copied(
        &mut self,
        slot: u64,
        counter: u32,
        received_ns: u64,
        history: &mut History,
        ledger: &mut Ledger,
    ) {
        if self
            .copies
            .iter()
            .any(|copy| (copy.slot, copy.counter) == (slot, counter))
        {
            return;
        }
        if self.copies.len() < COPIES {
            self.copies.push(Duplicate {
                slot,
                counter,
                received_ns,
            });
            self.learnt(slot, counter, history, ledger);
            return;
        }
        self.learnt(slot, counter, history, ledger);
        self.copies.clear();
        self.begin_anew();
        self.floor = history.end();
        self.scanned = self.floor;
    }

    /// Nothing that was counted before can be compared with what comes.
    fn begin_anew(&mut self) {
        self.highest = None;
        self.anchor = None;
        self.mature = false;
        self.candidates.clear();
        self.forgotten = Span::default();
        self.refused = 0;
    }

    /// Forgets what was concluded since `base`, or at all.
    fn conclude_again_from(&mut self, base: Option<Mark>, history: &mut History, ledger: &mut Ledger) {
        let forgotten = std::mem::take(&mut self.forgotten);
        let is_newest = base.is_some() && base.map(|base| base.slot) == self.anchor.map(|newest| newest.slot);
        self.begin_anew();
        if is_newest {
            self.forgotten = forgotten;
        }
        self.anchor = base;
        self.highest = base;
        self.mature = base.is_some_and(|base| base.counter >= YOUNG);
        self.scanned = base.map_or(self.floor, |base| base.slot + 1).max(history.start());
        withdraw(self.scanned, history, ledger);
    }

    /// Takes note of one resolved probe.
    fn look_at(&mut self, slot: u64, probe: &Probe) {
        // A sample that got lost had a counter; a later reply to the same probe may or may not carry that one.
        if probe.after_gap || (probe.state == State::CollectorLost && probe.counter.is_some()) {
            self.begin_anew();
        }
        let Some(counter) = probe.counter else { return };
        self.note_delay(probe);
        let mut copies = self.copies.iter().filter(|copy| copy.slot == slot).peekable();
        if copies.peek().is_some() {
            // Which of its arrivals is out of place, the others cannot tell: it ends candidacies, and has none.
            let counters = copies.map(|copy| copy.counter).chain([counter]);
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
            self.begin_anew();
        }
        self.highest = Some(mark);
        self.candidates.push_back(mark);
    }

    fn note_delay(&mut self, probe: &Probe) {
        let elapsed_ns = probe.received_ns.saturating_sub(probe.sent_ns);
        let is_longer = |(longest_ns, at_ns)| longest_ns < elapsed_ns || !is_lately(at_ns, probe.sent_ns);
        if self.longest.is_none_or(is_longer) {
            self.longest = Some((elapsed_ns, probe.sent_ns));
        }
    }

    /// Whether a probe without a reply was sent so near that it may have arrived on the other side of `mark`.
    fn may_be_crossed(&self, mark: Mark, history: &History) -> bool {
        let reorders = self.overtaken_ns.is_some_and(|at_ns| is_lately(at_ns, mark.sent_ns));
        let Some((longest_ns, _)) = self.longest.filter(|_| reorders) else {
            return false;
        };
        let near = |slot: &u64| {
            let probe = history.get(*slot);
            probe.is_some_and(|probe| probe.sent_ns.abs_diff(mark.sent_ns) <= longest_ns)
        };
        let is_silent = |slot: u64| history.get(slot).is_some_and(Probe::is_silent);
        (mark.slot + 1..).take_while(near).any(is_silent) || (0..mark.slot).rev().take_while(near).any(is_silent)
    }

    /// Something sent later has `counter`: what has a larger one is not in order.
    fn end_candidacies(&mut self, counter: u32) {
        let overtaken = |candidate: &mut Mark| ahead(counter, candidate.counter) <= 0;
        while self.candidates.pop_back_if(overtaken).is_some() {}
    }

    /// Makes a candidate the newest anchor, if the losses since the last one make sense.
    fn judge(&mut self, mark: Mark, history: &mut History, ledger: &mut Ledger) {
        if self.may_be_crossed(mark, history) {
            return;
        }
        let Some(newest) = self.anchor else {
            self.make_anchor(mark, Anchor::First, history);
            return;
        };
        let mut from = newest;
        for _ in 0..=JOINED_SPANS {
            let span = Span::between(from, mark, self.forgotten, history, &self.copies);
            match span.verdict(from.counter, self.mature) {
                Verdict::Losses { forward, backward } => {
                    clear_anchors(from.slot + 1, history);
                    self.place(from, mark, (forward, backward), history, ledger);
                    self.make_anchor(mark, Anchor::Next, history);
                    return;
                }
                Verdict::BegunAnew if from.slot == newest.slot => {
                    self.make_anchor(mark, Anchor::First, history);
                    return;
                }
                Verdict::BegunAnew | Verdict::Contradiction => {}
            }
            match self.anchor_before(from.slot, history) {
                Some(before) => from = before,
                None => break,
            }
        }
        // Some anchor of these was crossed, and nothing tells which.
        withdraw(from.slot + 1, history, ledger);
        self.anchor = Some(from);
        self.refused += 1;
        if self.refused > PATIENCE {
            self.make_anchor(mark, Anchor::First, history);
        }
    }

    fn make_anchor(&mut self, mark: Mark, kind: Anchor, history: &mut History) {
        if let Some(probe) = history.get_mut(mark.slot) {
            probe.anchor = kind;
        }
        self.anchor = Some(mark);
        self.mature |= mark.counter >= YOUNG;
        self.forgotten = Span::default();
        self.refused = 0;
    }

    /// The anchor before that at `slot`, since the reflector began.
    fn anchor_before(&self, slot: u64, history: &History) -> Option<Mark> {
        let is_first = history.get(slot).is_none_or(|probe| probe.anchor == Anchor::First);
        self.anchors(history, slot).next().filter(|_| !is_first)
    }

    /// The anchors before `slot`, newest first.
    fn anchors(&self, history: &History, slot: u64) -> impl Iterator<Item = Mark> {
        let oldest = self.floor.max(history.start());
        (oldest..slot).rev().filter_map(|slot| Mark::anchor(history, slot))
    }

    /// Writes down the losses of a span, the forgotten probes first. Where there are losses on both ways, which probe
    /// was lost on which is not known: forward comes first.
    fn place(
        &mut self,
        from: Mark,
        to: Mark,
        (forward, backward): (u64, u64),
        history: &mut History,
        ledger: &mut Ledger,
    ) {
        if !self.stateful {
            return;
        }
        let forgotten_forward = forward.min(self.forgotten.lost);
        let forgotten_backward = backward.min(self.forgotten.lost - forgotten_forward);
        ledger.place_forgotten(forgotten_forward, forgotten_backward);
        let mut forward = forward - forgotten_forward;
        for slot in from.slot + 1..to.slot {
            if is_lost(history, slot) {
                let way = if forward > 0 { Way::Forward } else { Way::Backward };
                forward = forward.saturating_sub(1);
                place(slot, Some(way), history, ledger);
            }
        }
    }
}

fn is_lately(at_ns: u64, now_ns: u64) -> bool {
    at_ns.abs_diff(now_ns) <= LATELY_NS
}

fn is_lost(history: &History, slot: u64) -> bool {
    history
        .get(slot)
        .is_some_and(|probe| matches!(probe.state, State::Lost(_)))
}

/// Moves the loss at `slot`, if it is one, to `way`.
fn place(slot: u64, way: Option<Way>, history: &mut History, ledger: &mut Ledger) {
    if let Some(probe) = history.get_mut(slot)
        && let State::Lost(before) = probe.state
    {
        probe.state = State::Lost(way);
        ledger.place(probe.window, before, way);
    }
}

/// From `slot` on, nothing is known of any loss.
fn withdraw(slot: u64, history: &mut History, ledger: &mut Ledger) {
    clear_anchors(slot, history);
    (slot..history.end()).for_each(|slot| place(slot, None, history, ledger));
}

fn clear_anchors(from: u64, history: &mut History) {
    for slot in from..history.end() {
        if let Some(probe) = history.get_mut(slot) {
            probe.anchor = Anchor::No;
        }
    }
}
