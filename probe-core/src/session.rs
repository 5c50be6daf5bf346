//! One peer on one path: which probe was answered, in time or late or twice, and which was lost.
//!
//! | Probe | reply in time | reply after the timeout | no reply until the deadline |
//! |---|---|---|---|
//! | pending | `Ok`, received | `Late`, lost | lost, or as the engine knows better ([`Fate`]) |
//! | lost | `Late` | `Late` | |
//! | received, or lost and late | `Duplicate` | `Duplicate` | |
//! | never left, or not known | none | none | |

pub mod direction;
mod history;
mod patterns;
pub mod sequence;
mod window;

use std::net::IpAddr;

use crate::clock::Estimate;
use crate::observation::{Fate, Reply};
use crate::session::direction::Direction;
use crate::session::history::{History, Probe, State};
use crate::session::patterns::{LossPattern, Reordering};
use crate::session::window::{Ledger, Subject, Tally};
use crate::stats::report::{Path, Report};

/// What a probe is given beyond its timeout before it is declared lost. The ring buffer is drained before probes
/// expire; this covers a reply that is stamped, in time, but not visible in the ring yet.
pub const GRACE_NS: u64 = 20_000_000;

/// How long a closed window, all its probes resolved, waits for the next anchor to tell the direction of its losses.
pub const DIRECTION_HOLD_NS: u64 = 250_000_000;

/// How long a resolved probe is remembered, at least, so that late and duplicate replies are recognised.
pub const MEMORY_NS: u64 = 10_000_000_000;

/// Resolved probes remembered at most, whatever their age.
pub const MEMORY_PROBES: usize = 16_384;

/// What became of a probe, as one reply or its absence tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered in time.
    Ok,
    /// Not answered in time.
    Lost,
    /// Answered after its time; it stays lost.
    Late,
    /// Answered once more.
    Duplicate,
}

/// Whose wall clock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockOwner {
    /// This host's.
    ThisHost,
    /// The peer's.
    Peer,
}

/// The probes to one peer on one path, counted by windows.
///
/// A probe belongs to the window in which it was sent, and so does all that becomes of it. Only a late, duplicate or
/// reordered reply to a probe whose window was handed out counts in the open window.
#[derive(Debug)]
pub struct Session {
    subject: Subject,
    timeout_ns: u64,
    history: History,
    ledger: Ledger,
    direction: Direction,
    losses: LossPattern,
    reordering: Reordering,
    /// The peer's clock, for the next reply.
    estimate: Option<Estimate>,
    /// NextExp of RFC 4737 §3.3: one past the highest index answered in time.
    next_expected: u64,
    /// The latest time this session was told.
    now_ns: u64,
    /// Windows are handed out whatever is pending.
    ended: bool,
}

impl Session {
    /// A session that starts at `start_ns`, where a probe has `timeout_ns` from T1 to T4.
    pub fn new(peer: IpAddr, path: Path, timeout_ns: u64, start_ns: u64) -> Session {
        Session {
            subject: Subject {
                peer,
                path,
                same_clock: false,
                refused: None,
            },
            timeout_ns,
            history: History::default(),
            ledger: Ledger::new(start_ns),
            direction: Direction::default(),
            losses: LossPattern::default(),
            reordering: Reordering::default(),
            estimate: None,
            next_expected: 0,
            now_ns: start_ns,
            ended: false,
        }
    }

    /// Both ends run on one clock: one-way delays are valid, those already recorded too.
    pub fn set_same_clock(&mut self, same_clock: bool) {
        self.subject.same_clock = same_clock;
    }

    /// What is known of the peer's clock from now on.
    pub fn follow_clock(&mut self, estimate: Option<Estimate>) {
        self.estimate = estimate;
    }

    /// A wall clock was stepped, this host's or the peer's: the open window is marked. Round-trip delays do not rest on
    /// either.
    pub fn clock_stepped(&mut self, whose: ClockOwner) {
        let steps = &mut self.current().steps;
        match whose {
            ClockOwner::ThisHost => steps.own += 1,
            ClockOwner::Peer => steps.peer += 1,
        }
    }

    /// How many of the probes the peer says it refused. They look lost on the way forward.
    pub fn set_refused(&mut self, refused: Option<u64>) {
        self.subject.refused = refused;
    }

    /// The reflector keeps a counter of its own. A reply whose counter is not a copy of the sequence number proves
    /// as much; while neither is so, no loss has a direction.
    pub fn set_stateful(&mut self, stateful: bool) {
        self.direction
            .set_stateful(stateful, &mut self.history, &mut self.ledger);
    }

    /// A probe was handed to the kernel. Numbers ascend; one that does not is ignored. Numbers left out were not
    /// measured here, which breaks the comparison with the reflector's counter, and nothing else.
    pub fn sent(&mut self, seq: u32, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        if self.history.push(seq, now_ns, self.ledger.current()).is_some() {
            let counts = &mut self.current().counts;
            counts.sent += 1;
            counts.pending += 1;
        }
        self.forget();
    }

    /// The kernel refused a probe.
    pub fn send_failed(&mut self, seq: u32) {
        let Some(slot) = self.history.find(seq) else {
            return;
        };
        if self
            .history
            .get(slot)
            .is_some_and(|probe| probe.state == State::Pending)
        {
            self.resolve(slot, State::NeverLeft);
            self.place_losses();
        }
    }

    /// Takes a reply. `None` if it answers no probe of this session that is remembered.
    ///
    /// It is in time if the kernel's stamps say so, however long userspace took to read it, unless its probe was
    /// declared lost before.
    pub fn reply(&mut self, reply: &Reply) -> Option<Outcome> {
        let slot = self.history.find(reply.seq)?;
        let probe = self.history.get_mut(slot)?;
        let outcome = match probe.state {
            State::Pending if reply.elapsed_ns() <= self.timeout_ns => Outcome::Ok,
            State::Pending | State::Lost(_) => Outcome::Late,
            State::Answered | State::CollectorLost | State::Late => Outcome::Duplicate,
            State::NeverLeft => return None,
        };
        let first_counter = match probe.counter {
            Some(counter) => counter,
            None => {
                probe.counter = Some(reply.reflector_seq);
                probe.received_ns = reply.received_mono_ns;
                reply.reflector_seq
            }
        };
        match outcome {
            Outcome::Ok => self.answered(slot, reply),
            Outcome::Late | Outcome::Lost => self.late(slot, first_counter),
            Outcome::Duplicate => self.duplicate(slot, reply, first_counter),
        }
        self.place_losses();
        Some(outcome)
    }

    /// Resolves the probes whose time is over, as `fate` knows of each, given its sequence number and when it was sent.
    pub fn expire(&mut self, now_ns: u64, fate: &mut dyn FnMut(u32, u64) -> Fate) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some((slot, probe)) = self.history.oldest_pending()
            && self.deadline(probe.sent_ns) <= now_ns
        {
            let state = match fate(probe.index as u32, probe.sent_ns) {
                Fate::Unanswered => State::Lost(None),
                Fate::NeverLeft => State::NeverLeft,
                Fate::CollectorLost => State::CollectorLost,
            };
            self.resolve(slot, state);
        }
        self.place_losses();
        self.forget();
    }

    /// When [`Session::expire`] has something to do next.
    pub fn next_deadline(&mut self) -> Option<u64> {
        let expiry = self
            .history
            .oldest_pending()
            .map(|(_, probe)| self.deadline(probe.sent_ns));
        let held = self.ledger.oldest_closed().and_then(|(window, end_ns)| {
            let ready = window.tally.counts.pending == 0;
            ready.then(|| self.hand_out_by(end_ns))
        });
        [expiry, held].into_iter().flatten().min()
    }

    /// Closes the open window and opens the next.
    pub fn roll(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.ledger.roll(now_ns);
    }

    /// The oldest closed window, once none of its probes is pending. One with losses waits for their direction, at
    /// most until timeout + [`GRACE_NS`] + [`DIRECTION_HOLD_NS`] after its end; what is placed later is in the summary.
    /// A window in which nothing happened is left out.
    pub fn take_finished(&mut self) -> Option<Report> {
        while self.is_finished() {
            if let Some(report) = self.ledger.hand_out(self.subject)? {
                return Some(report);
            }
        }
        None
    }

    /// End of the oldest window that is closed but not handed out yet.
    pub fn held_window_end_ns(&self) -> Option<u64> {
        self.ledger.oldest_closed().map(|(_, end_ns)| end_ns)
    }

    /// The whole run until now, with what is pending.
    pub fn summary(&self, now_ns: u64) -> Report {
        self.ledger.summary(self.subject, now_ns)
    }

    /// Closes the open window and makes every window ready to be taken, pending probes or not.
    pub fn end(&mut self, now_ns: u64) {
        self.losses.end(&mut self.ledger);
        self.roll(now_ns);
        self.ended = true;
    }

    /// Probes still waiting.
    pub fn pending(&self) -> u64 {
        self.ledger.counts().pending
    }

    fn is_finished(&self) -> bool {
        let Some((window, end_ns)) = self.ledger.oldest_closed() else {
            return false;
        };
        let settled = window.last_lost.is_none_or(|slot| self.direction.is_settled(slot));
        let resolved = window.tally.counts.pending == 0;
        self.ended || (resolved && (settled || self.now_ns >= self.hand_out_by(end_ns)))
    }

    fn deadline(&self, sent_ns: u64) -> u64 {
        sent_ns.saturating_add(self.timeout_ns).saturating_add(GRACE_NS)
    }

    fn hand_out_by(&self, end_ns: u64) -> u64 {
        self.deadline(end_ns).saturating_add(DIRECTION_HOLD_NS)
    }

    fn current(&mut self) -> &mut Tally {
        self.ledger.of(self.ledger.current())
    }

    /// Moves a pending probe to `state` in the books.
    fn resolve(&mut self, slot: u64, state: State) {
        let Some(probe) = self.history.get_mut(slot) else {
            return;
        };
        probe.state = state;
        let window = probe.window;
        let counts = &mut self.ledger.of(window).counts;
        counts.pending -= 1;
        match state {
            State::Pending => counts.pending += 1,
            State::Answered => counts.received += 1,
            State::CollectorLost => {
                counts.received += 1;
                counts.collector_lost += 1;
            }
            State::NeverLeft => {
                counts.sent -= 1;
                counts.send_failed += 1;
            }
            State::Lost(_) | State::Late => {
                counts.lost += 1;
                counts.lost_unknown += 1;
                if let Some(window) = self.ledger.held(window) {
                    window.last_lost = window.last_lost.max(Some(slot));
                }
            }
        }
    }

    fn answered(&mut self, slot: u64, reply: &Reply) {
        self.resolve(slot, State::Answered);
        let Some(probe) = self.history.get_mut(slot) else {
            return;
        };
        probe.rtt_ns = reply.rtt_ns().and_then(|rtt| i64::try_from(rtt).ok());
        let Probe { index, window, .. } = *probe;
        let tally = self.ledger.of(window);
        tally.record(reply, self.estimate);
        if let Some(extent) = self.reordering.arrive(index) {
            tally
                .reordering_extent
                .record(i64::try_from(extent).unwrap_or(i64::MAX));
        }
        tally.counts.reordered += u64::from(index < self.next_expected);
        self.next_expected = self.next_expected.max(index + 1);
        self.vary(slot.checked_sub(1), slot);
        self.vary(Some(slot), slot + 1);
    }

    /// Records D(i) − D(i−1) once both delays are known, in whichever order they came.
    fn vary(&mut self, before: Option<u64>, slot: u64) {
        let Some(before) = before.and_then(|before| self.history.get(before)) else {
            return;
        };
        let Some(probe) = self.history.get(slot).filter(|probe| !probe.after_gap) else {
            return;
        };
        if let (Some(earlier), Some(later)) = (before.rtt_ns, probe.rtt_ns) {
            self.ledger.of_or_current(probe.window).ipdv.record(later - earlier);
        }
    }

    /// A probe answered too late is lost, and on neither way: whatever was claimed is withdrawn.
    fn late(&mut self, slot: u64, counter: u32) {
        let Some(&Probe { state, window, .. }) = self.history.get(slot) else {
            return;
        };
        if let State::Lost(way) = state {
            self.ledger.place(window, way, None);
            if let Some(probe) = self.history.get_mut(slot) {
                probe.state = State::Late;
            }
            self.direction
                .learnt(slot, counter, &mut self.history, &mut self.ledger);
        } else {
            self.resolve(slot, State::Late);
        }
        self.ledger.of(window).lost_late += 1;
        self.ledger.of_or_current(window).counts.late += 1;
    }

    fn duplicate(&mut self, slot: u64, reply: &Reply, first_counter: u32) {
        let Some(probe) = self.history.get_mut(slot) else {
            return;
        };
        let is_first = !std::mem::replace(&mut probe.duplicated, true);
        let tally = self.ledger.of_or_current(probe.window);
        tally.counts.duplicates += 1;
        tally.duplicated += u64::from(is_first);
        if reply.reflector_seq != first_counter {
            let (counter, received_ns) = (reply.reflector_seq, reply.received_mono_ns);
            self.direction
                .copied(slot, counter, received_ns, &mut self.history, &mut self.ledger);
        }
    }

    fn place_losses(&mut self) {
        self.direction.advance(&mut self.history, &mut self.ledger);
        self.losses.advance(&self.history, &mut self.ledger);
    }

    /// Forgets what is neither young nor needed to place losses, and whatever is too much.
    fn forget(&mut self) {
        let old = self.now_ns.saturating_sub(self.timeout_ns.max(MEMORY_NS));
        while let Some((slot, probe)) = self.history.forget_oldest(|slot, probe, count| {
            count > MEMORY_PROBES || (probe.sent_ns < old && !self.direction.needs(slot))
        }) {
            self.direction.forget(slot, &probe);
        }
    }
}

#[cfg(test)]
mod tests;
