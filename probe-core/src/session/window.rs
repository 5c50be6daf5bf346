//! The books of a session: counts and distributions by window, and of all windows already handed out.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::clock::Estimate;
use crate::observation::Reply;
use crate::session::direction::Way;
use crate::stats::distribution::Distribution;
use crate::stats::report::{ClockSteps, Counts, OneWayClock, Path, Patterns, Report, Summary};

/// Whose books they are, and what backs their one-way delays beside what the replies say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) peer: IpAddr,
    pub(super) path: Path,
    pub(super) same_clock: bool,
    /// Probes that the peer says it refused; `None` if it does not say.
    pub(super) refused: Option<u64>,
}

/// Counts and distributions, of a window or of several.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) ipdv: Distribution,
    pub(super) steps: ClockSteps,
    pub(super) lost_late: u64,
    pub(super) duplicated: u64,
    pub(super) loss_period: Distribution,
    pub(super) loss_distance: Distribution,
    pub(super) reordering_extent: Distribution,
    rtt: Distribution,
    residence: Distribution,
    forward: Distribution,
    backward: Distribution,
    /// Largest sum of both ends' error bounds.
    synced_bound_ns: Option<u64>,
    /// Some reply came without an error bound of both ends, or refutes them.
    unsynced: bool,
    estimated: Estimated,
}

/// One-way delays by an estimate of the peer's clock.
#[derive(Debug, Clone, Default)]
struct Estimated {
    forward: Distribution,
    backward: Distribution,
    /// Largest bound of the estimates; `None` without a sample.
    bound_ns: Option<u64>,
    /// Of the last estimate, against this host's wall clock.
    offset_ns: i64,
    skew_ppb: i64,
}

impl Estimated {
    fn record(&mut self, reply: &Reply, estimate: Estimate) {
        self.forward.record(estimate.forward_ns(reply));
        self.backward.record(estimate.backward_ns(reply));
        self.bound_ns = self.bound_ns.max(Some(estimate.bound_ns()));
        // What the wall clock is ahead of the monotonic one.
        let wall_ns = reply.t4_ns.wrapping_sub(reply.received_mono_ns) as i64;
        self.offset_ns = estimate.offset_ns(reply.received_mono_ns).wrapping_sub(wall_ns);
        self.skew_ppb = estimate.skew_ppb();
    }

    fn merge(&mut self, later: &Estimated) {
        self.forward.merge(&later.forward);
        self.backward.merge(&later.backward);
        if later.bound_ns.is_some() {
            self.bound_ns = self.bound_ns.max(later.bound_ns);
            self.offset_ns = later.offset_ns;
            self.skew_ppb = later.skew_ppb;
        }
    }
}

impl Tally {
    /// Records the delays of a reply in time, if the reflector's two stamps make sense together.
    pub(super) fn record(&mut self, reply: &Reply, estimate: Option<Estimate>) {
        let (Some(rtt), Some(residence)) = (reply.rtt_ns(), reply.residence_ns()) else {
            return;
        };
        self.rtt.record(signed(rtt));
        if !reply.is_stamped() {
            self.unsynced = true;
            return;
        }
        self.residence.record(signed(residence));
        self.forward.record(reply.forward_ns());
        self.backward.record(reply.backward_ns());
        match (reply.own_error_ns, reply.reflector_error_ns) {
            (Some(own), Some(reflector)) if is_possible(reply, own.saturating_add(reflector)) => {
                self.synced_bound_ns = self.synced_bound_ns.max(Some(own.saturating_add(reflector)));
            }
            _ => self.unsynced = true,
        }
        if let Some(estimate) = estimate {
            self.estimated.record(reply, estimate);
        }
    }

    fn merge(&mut self, other: &Tally) {
        self.counts += other.counts;
        self.ipdv.merge(&other.ipdv);
        self.rtt.merge(&other.rtt);
        self.residence.merge(&other.residence);
        self.forward.merge(&other.forward);
        self.backward.merge(&other.backward);
        self.synced_bound_ns = self.synced_bound_ns.max(other.synced_bound_ns);
        self.unsynced |= other.unsynced;
        self.estimated.merge(&other.estimated);
        self.steps += other.steps;
        self.lost_late += other.lost_late;
        self.duplicated += other.duplicated;
        self.loss_period.merge(&other.loss_period);
        self.loss_distance.merge(&other.loss_distance);
        self.reordering_extent.merge(&other.reordering_extent);
    }

    /// One reply that does not vouch for both clocks takes the word of all: its delay is among the others.
    fn clock(&self, same_clock: bool) -> Option<OneWayClock> {
        if same_clock {
            return Some(OneWayClock::SameClock);
        }
        if let Some(bound_ns) = self.synced_bound_ns.filter(|_| !self.unsynced) {
            return Some(OneWayClock::Synced { bound_ns });
        }
        self.estimated.bound_ns.map(|bound_ns| OneWayClock::Estimated {
            bound_ns,
            offset_ns: self.estimated.offset_ns,
            skew_ppb: self.estimated.skew_ppb,
        })
    }

    /// One-way delays, there and back, as far as `clock` backs them.
    fn one_way(&self, clock: Option<OneWayClock>) -> [Option<Summary>; 2] {
        match clock {
            Some(OneWayClock::SameClock | OneWayClock::Synced { .. }) => {
                [self.forward.summary(), self.backward.summary()]
            }
            Some(OneWayClock::Estimated { .. }) => {
                [self.estimated.forward.summary(), self.estimated.backward.summary()]
            }
            None => [None, None],
        }
    }

    fn patterns(&self, refused: Option<u64>) -> Patterns {
        let of_policy = self.counts.lost - self.counts.lost_backward - self.lost_late;
        Patterns {
            lost_late: self.lost_late,
            lost_refused: refused.map(|refused| refused.min(of_policy)),
            duplicated: self.duplicated,
            loss_period: self.loss_period.summary(),
            loss_distance: self.loss_distance.summary(),
            reordering_extent: self.reordering_extent.summary(),
        }
    }

    fn report(&self, subject: Subject, start_ns: u64, end_ns: u64) -> Report {
        let clock = self.clock(subject.same_clock);
        let rtt_ns = self.rtt.summary();
        let [forward_ns, backward_ns] = self.one_way(clock);
        let above_least = |delay: Summary| delay.shifted(delay.min.saturating_neg());
        Report {
            peer: subject.peer,
            path: subject.path,
            start_ns,
            end_ns,
            counts: self.counts,
            rtt_ns,
            residence_ns: self.residence.summary(),
            forward_ns,
            backward_ns,
            pdv_ns: rtt_ns.map(above_least),
            ipdv_ns: self.ipdv.summary(),
            forward_pdv_ns: forward_ns.map(above_least),
            backward_pdv_ns: backward_ns.map(above_least),
            clock,
            steps: self.steps,
            patterns: self.patterns(subject.refused),
        }
    }
}

/// Whether a reply may have been stamped by clocks that differ by no more than `bound_ns`: none arrives before it leaves. A
/// reflector whose PTP stamps are TAI, which its Error Estimate does not tell, is off by more.
fn is_possible(reply: &Reply, bound_ns: u64) -> bool {
    reply.forward_ns().min(reply.backward_ns()) >= signed(bound_ns).saturating_neg()
}

fn signed(duration_ns: u64) -> i64 {
    i64::try_from(duration_ns).unwrap_or(i64::MAX)
}

/// A window that is not handed out yet.
#[derive(Debug)]
pub(super) struct Window {
    start_ns: u64,
    /// When it was closed, if it is.
    pub(super) end_ns: Option<u64>,
    pub(super) tally: Tally,
    /// Slot of the last probe lost in it.
    pub(super) last_lost: Option<u64>,
}

impl Window {
    fn open(start_ns: u64) -> Window {
        Window {
            start_ns,
            end_ns: None,
            tally: Tally::default(),
            last_lost: None,
        }
    }
}

/// All windows of a session, numbered from 0, and the sum of those handed out.
#[derive(Debug)]
pub(super) struct Ledger {
    start_ns: u64,
    handed_out: Tally,
    /// Windows not handed out; the last is open.
    windows: VecDeque<Window>,
    /// Number of the first of `windows`.
    first: u64,
    /// Losses placed after their probes were forgotten: in no window, but in the summary.
    forgotten_forward: u64,
    forgotten_backward: u64,
}

impl Ledger {
    pub(super) fn new(start_ns: u64) -> Ledger {
        Ledger {
            start_ns,
            handed_out: Tally::default(),
            windows: VecDeque::from([Window::open(start_ns)]),
            first: 0,
            forgotten_forward: 0,
            forgotten_backward: 0,
        }
    }

    /// Number of the open window.
    pub(super) fn current(&self) -> u64 {
        self.first + self.windows.len() as u64 - 1
    }

    /// The window with this number, unless it was handed out.
    pub(super) fn held(&mut self, window: u64) -> Option<&mut Window> {
        self.windows
            .get_mut(usize::try_from(window.checked_sub(self.first)?).ok()?)
    }

    /// Where what happens to a probe of `window` is counted: there, or in the sum if it was handed out.
    pub(super) fn of(&mut self, window: u64) -> &mut Tally {
        match window
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok())
        {
            Some(place) if place < self.windows.len() => &mut self.windows[place].tally,
            _ => &mut self.handed_out,
        }
    }

    /// Where something new about a probe of `window` is counted: there, or in the open window if it was handed out.
    pub(super) fn of_or_current(&mut self, window: u64) -> &mut Tally {
        let window = if window < self.first { self.current() } else { window };
        self.of(window)
    }

    /// Moves a loss in `window` from one way to another; `None` is unknown.
    pub(super) fn place(&mut self, window: u64, from: Option<Way>, to: Option<Way>) {
        let counts = &mut self.of(window).counts;
        *lost(counts, from) -= 1;
        *lost(counts, to) += 1;
    }

    /// Places losses whose probes, and so whose windows, are forgotten.
    pub(super) fn place_forgotten(&mut self, forward: u64, backward: u64) {
        self.forgotten_forward += forward;
        self.forgotten_backward += backward;
    }

    /// Closes the open window and opens the next.
    pub(super) fn roll(&mut self, now_ns: u64) {
        if let Some(open) = self.windows.back_mut() {
            open.end_ns = Some(now_ns);
        }
        self.windows.push_back(Window::open(now_ns));
    }

    /// The oldest window, if it is closed.
    pub(super) fn oldest_closed(&self) -> Option<(&Window, u64)> {
        let window = self.windows.front()?;
        window.end_ns.map(|end_ns| (window, end_ns))
    }

    /// Hands out the oldest window if it is closed. The inner value is `None` if nothing happened in it.
    pub(super) fn hand_out(&mut self, subject: Subject) -> Option<Option<Report>> {
        let end_ns = self.oldest_closed()?.1;
        let window = self.windows.pop_front()?;
        self.first += 1;
        self.handed_out.merge(&window.tally);
        let empty = window.tally.counts == Counts::default();
        // What the peer refused is known in sum only.
        let subject = Subject {
            refused: None,
            ..subject
        };
        Some((!empty).then(|| window.tally.report(subject, window.start_ns, end_ns)))
    }

    /// The whole run, every window included.
    pub(super) fn summary(&self, subject: Subject, now_ns: u64) -> Report {
        let mut all = self.handed_out.clone();
        self.windows.iter().for_each(|window| all.merge(&window.tally));
        all.counts = self.counts();
        all.report(subject, self.start_ns, now_ns)
    }

    /// The counts of the whole run.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.handed_out.counts;
        self.windows.iter().for_each(|window| counts += window.tally.counts);
        counts.lost_forward += self.forgotten_forward;
        counts.lost_backward += self.forgotten_backward;
        counts.lost_unknown -= self.forgotten_forward + self.forgotten_backward;
        counts
    }
}

/// The count of losses on one way.
fn lost(counts: &mut Counts, way: Option<Way>) -> &mut u64 {
    match way {
        Some(Way::Forward) => &mut counts.lost_forward,
        Some(Way::Backward) => &mut counts.lost_backward,
        None => &mut counts.lost_unknown,
    }
}
