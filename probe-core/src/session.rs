//! One peer on one path: which probes were answered in time, late or twice, and which were lost.
//!
//! | Probe | reply in time | reply after the timeout | no reply until the deadline |
//! |---|---|---|---|
//! | pending | `Ok`, received | `Late`, lost | lost, unless the engine knows better ([`Fate`]) |
//! | lost | `Late` | `Late` | |
//! | received, or lost and late | `Duplicate` | `Duplicate` | |
//! | never left, withdrawn, or unknown | none | none | |

mod history;
mod loss_direction;
mod patterns;
pub mod sequence;
mod waiting;
mod window;

use std::net::IpAddr;

use crate::clock::Estimate;
use crate::observation::{Fate, Reply, SendFailure};
use crate::session::history::{History, Probe, State};
use crate::session::loss_direction::LossDirection;
use crate::session::patterns::{LossPattern, Reordering};
use crate::session::window::{Subject, WindowStats, Windows};
use crate::stats::report::{Path, Report};

/// A probe is declared lost this long after its timeout: a reply may be stamped in time, but not be visible in the ring
/// buffer yet.
pub const GRACE_NS: u64 = 20_000_000;

/// A closed window whose probes are all resolved waits at most this long for the direction of its losses.
pub const DIRECTION_HOLD_NS: u64 = 250_000_000;

/// Resolved probes are remembered at least this long, to recognise late and duplicate replies.
pub const MIN_MEMORY_NS: u64 = 10_000_000_000;

/// But never more than these.
pub const MAX_PROBES: usize = 16_384;

/// What one reply, or its absence, says about a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered in time.
    Ok,
    Lost,
    /// Answered after the timeout; the probe stays lost.
    Late,
    /// One more answer.
    Duplicate,
    /// The probe did not leave this host.
    Failed(SendFailure),
}

/// A pending probe whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    pub seq: u32,
    pub sent_ns: u64,
    /// Start of the window in which it counts; `None` once that was handed out.
    pub window_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockOwner {
    ThisHost,
    Peer,
}

/// The probes to one peer on one path.
///
/// All events about a probe count in the window in which it was sent. Once that window was handed out, late, duplicate
/// and reordered replies count in the open one.
#[derive(Debug)]
pub struct Session {
    subject: Subject,
    timeout_ns: u64,
    history: History,
    windows: Windows,
    loss_direction: LossDirection,
    losses: LossPattern,
    reordering: Reordering,
    /// The peer's clock.
    estimate: Option<Estimate>,
    /// The latest time seen.
    now_ns: u64,
    /// Windows are handed out with pending probes.
    ended: bool,
}

impl Session {
    /// `timeout_ns` is from T1 to T4.
    pub fn new(peer: IpAddr, path: Path, timeout_ns: u64, start_ns: u64) -> Self {
        Self {
            subject: Subject {
                peer,
                path,
                same_clock: false,
                refused: None,
                delays: false,
            },
            timeout_ns,
            history: History::default(),
            windows: Windows::new(start_ns),
            loss_direction: LossDirection::default(),
            losses: LossPattern::default(),
            reordering: Reordering::default(),
            estimate: None,
            now_ns: start_ns,
            ended: false,
        }
    }

    /// Both ends read one clock, so one-way delays are valid, including those already recorded.
    pub fn set_same_clock(&mut self, same_clock: bool) {
        self.subject.same_clock = same_clock;
    }

    pub fn set_clock_estimate(&mut self, estimate: Option<Estimate>) {
        self.estimate = estimate;
    }

    /// Applies to pending probes, too.
    pub fn set_timeout(&mut self, timeout_ns: u64) {
        self.timeout_ns = timeout_ns;
    }

    /// Marks the open window. Round-trip delays do not depend on wall clocks.
    pub fn clock_stepped(&mut self, whose: ClockOwner) {
        let steps = &mut self.current().steps;
        match whose {
            ClockOwner::ThisHost => steps.own += 1,
            ClockOwner::Peer => steps.peer += 1,
        }
    }

    /// Windows have their delays in buckets from now on.
    pub fn keep_delays(&mut self, keep: bool) {
        self.subject.delays = keep;
    }

    /// The number of these probes that the peer refused. They count as forward loss.
    pub fn set_refused(&mut self, refused: Option<u64>) {
        self.subject.refused = refused;
    }

    /// The reflector keeps a counter of its own. A reply whose counter is no copy of the sequence number proves it, too.
    /// Without either, losses have no direction.
    pub fn set_stateful(&mut self, stateful: bool) {
        self.loss_direction
            .set_stateful(stateful, &mut self.history, &mut self.windows);
    }

    /// A probe was handed to the kernel. A number that does not ascend is ignored. A gap in the numbers only breaks the
    /// comparison with the reflector's counter.
    pub fn sent(&mut self, seq: u32, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        if self.history.push(seq, now_ns, self.windows.current()) {
            let counts = &mut self.current().counts;
            counts.sent += 1;
            counts.pending += 1;
        }
        self.forget();
    }

    /// These probes were due while the process did not run.
    pub fn not_sent(&mut self, probes: u64) {
        self.current().counts.not_sent += probes;
    }

    /// The kernel refused a probe.
    pub fn send_failed(&mut self, seq: u32, why: SendFailure) {
        let Some(slot) = self.history.find(seq) else {
            return;
        };
        if self
            .history
            .get(slot)
            .is_some_and(|probe| probe.state == State::Pending)
        {
            self.never_left(slot, why);
            self.evaluate_losses();
        }
    }

    /// The peer has ended and answers no pending probe, so these are no longer measured.
    pub fn withdraw_pending(&mut self) {
        for slot in self.history.pending() {
            self.resolve(slot, State::Withdrawn);
            if let Some(probe) = self.history.get_mut(slot) {
                // Whether it was counted by the reflector is not known.
                probe.after_gap = true;
            }
        }
        self.evaluate_losses();
    }

    /// Returns `None` if the reply answers no probe that is remembered.
    ///
    /// The kernel's stamps decide whether it is in time, however late userspace reads it, unless the probe was already
    /// declared lost.
    pub fn reply(&mut self, reply: &Reply) -> Option<Outcome> {
        let slot = self.history.find(reply.seq)?;
        let probe = self.history.get_mut(slot)?;
        let outcome = match probe.state {
            State::Pending if reply.elapsed_ns() <= self.timeout_ns => Outcome::Ok,
            State::Pending | State::Lost(_) => Outcome::Late,
            State::Answered | State::CollectorLost | State::Late => Outcome::Duplicate,
            State::NeverLeft | State::Withdrawn => return None,
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
            Outcome::Late | Outcome::Lost | Outcome::Failed(_) => self.late(slot, first_counter),
            Outcome::Duplicate => self.duplicate(slot, reply, first_counter),
        }
        self.evaluate_losses();
        Some(outcome)
    }

    /// Start of the window in which the probe counts, if it is pending.
    pub fn window_of_pending(&self, seq: u32) -> Option<u64> {
        let probe = self.history.get(self.history.find(seq)?)?;
        self.windows
            .start_of(probe.window)
            .filter(|_| probe.state == State::Pending)
    }

    /// Resolves the probes whose time is over.
    pub fn expire(&mut self, now_ns: u64, fate: &mut dyn FnMut(Overdue) -> Fate) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some((slot, probe)) = self.history.oldest_pending()
            && self.deadline(probe.sent_ns) <= now_ns
        {
            let overdue = Overdue {
                seq: probe.index as u32,
                sent_ns: probe.sent_ns,
                window_ns: self.windows.start_of(probe.window),
            };
            match fate(overdue) {
                Fate::Unanswered => self.resolve(slot, State::Lost(None)),
                Fate::NeverLeft(why) => self.never_left(slot, why),
                Fate::CollectorLost => self.resolve(slot, State::CollectorLost),
            }
        }
        self.evaluate_losses();
        self.forget();
    }

    /// When to call [`Session::expire`] next.
    pub fn next_deadline(&mut self) -> Option<u64> {
        let expiry = self
            .history
            .oldest_pending()
            .map(|(_, probe)| self.deadline(probe.sent_ns));
        let held = self.windows.oldest_closed().and_then(|(window, end_ns)| {
            let ready = window.stats.counts.pending == 0;
            ready.then(|| self.hand_out_by(end_ns))
        });
        [expiry, held].into_iter().flatten().min()
    }

    /// Closes the open window and opens the next.
    pub fn roll(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.windows.roll(now_ns);
    }

    /// The oldest closed window, once none of its probes is pending. A window with losses waits for their direction, at
    /// most until timeout + [`GRACE_NS`] + [`DIRECTION_HOLD_NS`] after its end; directions found later are only in the
    /// summary. Empty windows are skipped.
    pub fn take_finished(&mut self) -> Option<Report> {
        while self.is_finished() {
            if let Some(report) = self.windows.hand_out(self.subject)? {
                return Some(report);
            }
        }
        None
    }

    /// Number of windows that are closed but not handed out yet.
    pub fn held_windows(&self) -> usize {
        self.windows.closed()
    }

    /// The whole run until now.
    pub fn summary(&self, now_ns: u64) -> Report {
        self.windows.summary(self.subject, now_ns)
    }

    /// Closes the open window, and makes all windows ready to be taken, even with pending probes.
    pub fn end(&mut self, now_ns: u64) {
        self.losses.end(&mut self.windows);
        self.roll(now_ns);
        self.ended = true;
    }

    pub fn pending(&self) -> u64 {
        self.windows.counts().pending
    }

    fn is_finished(&self) -> bool {
        let Some((window, end_ns)) = self.windows.oldest_closed() else {
            return false;
        };
        let settled = window.last_lost.is_none_or(|slot| self.loss_direction.is_settled(slot));
        let resolved = window.stats.counts.pending == 0;
        self.ended || (resolved && (settled || self.now_ns >= self.hand_out_by(end_ns)))
    }

    fn deadline(&self, sent_ns: u64) -> u64 {
        sent_ns.saturating_add(self.timeout_ns).saturating_add(GRACE_NS)
    }

    fn hand_out_by(&self, end_ns: u64) -> u64 {
        self.deadline(end_ns).saturating_add(DIRECTION_HOLD_NS)
    }

    fn current(&mut self) -> &mut WindowStats {
        self.windows.stats_of(self.windows.current())
    }

    /// Moves a pending probe to `state`, which is another, and counts it there.
    fn resolve(&mut self, slot: u64, state: State) {
        let Some(probe) = self.history.get_mut(slot) else {
            return;
        };
        probe.state = state;
        let window = probe.window;
        let counts = &mut self.windows.stats_of(window).counts;
        counts.pending -= 1;
        match state {
            State::Pending => {}
            State::Answered => counts.received += 1,
            State::CollectorLost => {
                counts.received += 1;
                counts.collector_lost += 1;
            }
            State::NeverLeft => {
                counts.sent -= 1;
                counts.send_failed += 1;
            }
            State::Withdrawn => counts.sent -= 1,
            State::Lost(_) | State::Late => {
                counts.lost += 1;
                counts.lost_unknown += 1;
                if let Some(window) = self.windows.held_mut(window) {
                    window.last_lost = window.last_lost.max(Some(slot));
                }
            }
        }
    }

    fn never_left(&mut self, slot: u64, why: SendFailure) {
        let Some(&Probe { window, .. }) = self.history.get(slot) else {
            return;
        };
        self.resolve(slot, State::NeverLeft);
        *self.windows.stats_of(window).failures.entry(why).or_default() += 1;
    }

    fn answered(&mut self, slot: u64, reply: &Reply) {
        self.resolve(slot, State::Answered);
        let Some(probe) = self.history.get_mut(slot) else {
            return;
        };
        probe.rtt_ns = reply.rtt_ns().and_then(|rtt| i64::try_from(rtt).ok());
        let Probe { index, window, .. } = *probe;
        let stats = self.windows.record(window, reply, self.estimate);
        if let Some(extent) = self.reordering.arrive(index) {
            stats.counts.reordered += 1;
            stats
                .reordering_extent
                .record(i64::try_from(extent).unwrap_or(i64::MAX));
        }
        self.record_ipdv(slot.checked_sub(1), slot);
        self.record_ipdv(Some(slot), slot + 1);
    }

    /// Records D(i) − D(i−1) once both delays are known, in whichever order they came.
    fn record_ipdv(&mut self, before: Option<u64>, slot: u64) {
        let Some(before) = before.and_then(|before| self.history.get(before)) else {
            return;
        };
        let Some(probe) = self.history.get(slot).filter(|probe| !probe.after_gap) else {
            return;
        };
        if let (Some(earlier), Some(later)) = (before.rtt_ns, probe.rtt_ns) {
            self.windows.record_ipdv(probe.window, later - earlier);
        }
    }

    /// A probe answered too late was lost in neither direction, so any claim is withdrawn.
    fn late(&mut self, slot: u64, counter: u32) {
        let Some(&Probe { state, window, .. }) = self.history.get(slot) else {
            return;
        };
        if let State::Lost(direction) = state {
            self.windows.move_loss(window, direction, None);
            if let Some(probe) = self.history.get_mut(slot) {
                probe.state = State::Late;
            }
            self.loss_direction
                .observed(slot, counter, &mut self.history, &mut self.windows);
        } else {
            self.resolve(slot, State::Late);
        }
        self.windows.stats_of(window).lost_late += 1;
        self.windows.stats_of_or_current(window).counts.late += 1;
    }

    fn duplicate(&mut self, slot: u64, reply: &Reply, first_counter: u32) {
        let Some(probe) = self.history.get_mut(slot) else {
            return;
        };
        let is_first = !std::mem::replace(&mut probe.duplicated, true);
        let stats = self.windows.stats_of_or_current(probe.window);
        stats.counts.duplicates += 1;
        stats.duplicated += u64::from(is_first);
        if reply.reflector_seq != first_counter {
            let (counter, received_ns) = (reply.reflector_seq, reply.received_mono_ns);
            self.loss_direction
                .duplicated(slot, counter, received_ns, &mut self.history, &mut self.windows);
        }
    }

    fn evaluate_losses(&mut self) {
        self.loss_direction.advance(&mut self.history, &mut self.windows);
        self.losses.advance(&self.history, &mut self.windows);
    }

    /// Forgets probes that are neither recent nor needed as evidence, and those beyond [`MAX_PROBES`].
    fn forget(&mut self) {
        let old = self.now_ns.saturating_sub(self.timeout_ns.max(MIN_MEMORY_NS));
        while let Some((slot, probe)) = self.history.forget_oldest(|slot, probe, count| {
            count > MAX_PROBES || (probe.sent_ns < old && !self.loss_direction.needs(slot))
        }) {
            self.loss_direction.forget(slot, &probe);
        }
    }
}

#[cfg(test)]
mod tests;
