//! Counts and distributions of a session: by window, and in sum for the windows already handed out.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::clock::Estimate;
use crate::direction::Direction;
use crate::observation::{Reply, SendFailure};
use crate::session::waiting::{Delay, Waiting};
use crate::stats::distribution::Distribution;
use crate::stats::report::{ClockSteps, Counts, Delays, OneWayClock, Path, Patterns, Report, Summary};

/// What the reports are about, with the facts that no reply carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) peer: IpAddr,
    pub(super) path: Path,
    pub(super) same_clock: bool,
    /// Probes that the peer reported as refused; `None` if it reports nothing.
    pub(super) refused: Option<u64>,
    /// Windows have their delays in buckets.
    pub(super) delays: bool,
}

/// Counts and distributions of one window or of several.
#[derive(Debug, Clone, Default)]
pub(super) struct WindowStats {
    pub(super) counts: Counts,
    /// Probes that never left this host, by reason.
    pub(super) failures: BTreeMap<SendFailure, u64>,
    ipdv: Distribution,
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
    /// The largest sum of both error bounds.
    synced_bound_ns: Option<u64>,
    /// Some reply lacked an error bound, or contradicted the bounds.
    unsynced: bool,
    estimated: Estimated,
}

/// One-way delays computed with the estimate of the peer's clock.
#[derive(Debug, Clone, Default)]
struct Estimated {
    forward: Distribution,
    backward: Distribution,
    /// The largest bound of all estimates; `None` without a sample.
    bound_ns: Option<u64>,
    /// The last estimate, against this host's wall clock.
    offset_ns: i64,
    skew_ppb: i64,
}

impl Estimated {
    fn record(&mut self, reply: &Reply, estimate: Estimate, waiting: &mut Waiting) {
        waiting.push(Delay::EstimatedForward, estimate.forward_ns(reply));
        waiting.push(Delay::EstimatedBackward, estimate.backward_ns(reply));
        self.bound_ns = self.bound_ns.max(Some(estimate.bound_ns()));
        let wall_ahead_ns = reply.t4_ns.wrapping_sub(reply.received_mono_ns) as i64;
        self.offset_ns = estimate.offset_ns(reply.received_mono_ns).wrapping_sub(wall_ahead_ns);
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

impl WindowStats {
    /// Records a reply in time, if the reflector's two stamps are consistent. Its delays wait in `waiting`.
    fn record(&mut self, reply: &Reply, estimate: Option<Estimate>, waiting: &mut Waiting) {
        let Some(rtt) = reply.rtt_ns() else {
            return;
        };
        waiting.push(Delay::Rtt, signed(rtt));
        let Some(residence) = reply.residence_ns() else {
            self.unsynced = true;
            return;
        };
        waiting.push(Delay::Residence, signed(residence));
        waiting.push(Delay::Forward, reply.forward_ns());
        waiting.push(Delay::Backward, reply.backward_ns());
        match reply.synced_bound_ns() {
            Some(bound_ns) => self.synced_bound_ns = self.synced_bound_ns.max(Some(bound_ns)),
            None => self.unsynced = true,
        }
        if let Some(estimate) = estimate {
            self.estimated.record(reply, estimate, waiting);
        }
    }

    /// Adds waiting delays to their distributions.
    fn place(&mut self, waiting: &Waiting) {
        waiting.each(|delay, value_ns| self.distribution(delay).record(value_ns));
    }

    fn distribution(&mut self, delay: Delay) -> &mut Distribution {
        match delay {
            Delay::Rtt => &mut self.rtt,
            Delay::Residence => &mut self.residence,
            Delay::Forward => &mut self.forward,
            Delay::Backward => &mut self.backward,
            Delay::EstimatedForward => &mut self.estimated.forward,
            Delay::EstimatedBackward => &mut self.estimated.backward,
            Delay::Ipdv => &mut self.ipdv,
        }
    }

    /// Removes all samples and counts, and keeps the memory.
    fn cleared(self) -> Self {
        let clear = |mut distribution: Distribution| {
            distribution.clear();
            distribution
        };
        Self {
            ipdv: clear(self.ipdv),
            loss_period: clear(self.loss_period),
            loss_distance: clear(self.loss_distance),
            reordering_extent: clear(self.reordering_extent),
            rtt: clear(self.rtt),
            residence: clear(self.residence),
            forward: clear(self.forward),
            backward: clear(self.backward),
            estimated: Estimated {
                forward: clear(self.estimated.forward),
                backward: clear(self.estimated.backward),
                ..Estimated::default()
            },
            ..Self::default()
        }
    }

    fn merge(&mut self, other: &WindowStats) {
        self.counts += other.counts;
        for (why, number) in &other.failures {
            *self.failures.entry(*why).or_default() += number;
        }
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

    /// One unsynchronised reply voids `Synced` for the window.
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

    /// One-way delays, forward and backward, if `clock` makes them meaningful.
    fn one_way(&self, clock: Option<OneWayClock>) -> Option<[&Distribution; 2]> {
        match clock? {
            OneWayClock::SameClock | OneWayClock::Synced { .. } => Some([&self.forward, &self.backward]),
            OneWayClock::Estimated { .. } => Some([&self.estimated.forward, &self.estimated.backward]),
        }
    }

    fn delays(&self, same_clock: bool) -> Delays {
        let [forward, backward] = match self.one_way(self.clock(same_clock)) {
            Some(one_way) => one_way.map(Distribution::native),
            None => Default::default(),
        };
        Delays {
            rtt: self.rtt.native(),
            residence: self.residence.native(),
            forward,
            backward,
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
        let one_way = self.one_way(clock);
        let [forward_ns, backward_ns] = one_way.map_or([None, None], |delays| delays.map(Distribution::summary));
        let above_least = |delay: Summary| delay.shifted(delay.min.saturating_neg());
        Report {
            peer: subject.peer,
            path: subject.path,
            start_ns,
            end_ns,
            counts: self.counts,
            failures: self.failures.clone(),
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
            delays: None,
        }
    }
}

fn signed(duration_ns: u64) -> i64 {
    i64::try_from(duration_ns).unwrap_or(i64::MAX)
}

#[derive(Debug)]
pub(super) struct Window {
    start_ns: u64,
    /// `None` while the window is open.
    pub(super) end_ns: Option<u64>,
    pub(super) stats: WindowStats,
    /// Slot of the last lost probe.
    pub(super) last_lost: Option<u64>,
}

impl Window {
    /// `empty` may have the memory of an earlier window.
    fn open(start_ns: u64, empty: WindowStats) -> Self {
        Self {
            start_ns,
            end_ns: None,
            stats: empty,
            last_lost: None,
        }
    }
}

/// All windows of a session, numbered from 0.
#[derive(Debug)]
pub(super) struct Windows {
    start_ns: u64,
    /// The sum of the windows handed out.
    handed_out: WindowStats,
    /// Windows not handed out yet; the last is open.
    held: VecDeque<Window>,
    /// Number of the first held window.
    first: u64,
    /// Delays that are not yet in the distributions of their window.
    waiting: Waiting,
    /// The memory of the last window that was handed out and not empty. The next window takes it, so an idle session frees it.
    spare: Option<WindowStats>,
    /// Losses whose direction became known after their probes were forgotten: they count in the summary only.
    forgotten_forward: u64,
    forgotten_backward: u64,
}

impl Windows {
    pub(super) fn new(start_ns: u64) -> Self {
        Self {
            start_ns,
            handed_out: WindowStats::default(),
            held: VecDeque::from([Window::open(start_ns, WindowStats::default())]),
            first: 0,
            waiting: Waiting::default(),
            spare: None,
            forgotten_forward: 0,
            forgotten_backward: 0,
        }
    }

    pub(super) fn current(&self) -> u64 {
        self.first + self.held.len() as u64 - 1
    }

    /// The window with this number, unless it was handed out.
    pub(super) fn held_mut(&mut self, window: u64) -> Option<&mut Window> {
        self.held
            .get_mut(usize::try_from(window.checked_sub(self.first)?).ok()?)
    }

    /// When the window with this number began, unless it was handed out.
    pub(super) fn start_of(&self, window: u64) -> Option<u64> {
        let place = usize::try_from(window.checked_sub(self.first)?).ok()?;
        Some(self.held.get(place)?.start_ns)
    }

    /// The statistics that hold the probes sent in `window`: its own, or the sum once it was handed out.
    pub(super) fn stats_of(&mut self, window: u64) -> &mut WindowStats {
        self.stats_and_waiting(window).0
    }

    fn stats_and_waiting(&mut self, window: u64) -> (&mut WindowStats, &mut Waiting) {
        let stats = match window.checked_sub(self.first) {
            Some(place) => &mut self.held[place as usize].stats,
            None => &mut self.handed_out,
        };
        (stats, &mut self.waiting)
    }

    /// Records a reply in time to a probe sent in `window`.
    pub(super) fn record(&mut self, window: u64, reply: &Reply, estimate: Option<Estimate>) -> &mut WindowStats {
        self.make_room(window);
        let (stats, waiting) = self.stats_and_waiting(window);
        stats.record(reply, estimate, waiting);
        stats
    }

    /// Records the delay variation of a probe sent in `window`, in that window or the open one, as
    /// [`Windows::stats_of_or_current`] does.
    pub(super) fn record_ipdv(&mut self, window: u64, ipdv_ns: i64) {
        let window = self.held_or_current(window);
        self.make_room(window);
        self.waiting.push(Delay::Ipdv, ipdv_ns);
    }

    /// Makes room for the delays of one more reply in `window`.
    fn make_room(&mut self, window: u64) {
        if !self.waiting.has_room(window) {
            self.settle();
        }
        self.waiting.set_window(window);
    }

    /// Moves the waiting delays to the distributions of their window.
    fn settle(&mut self) {
        let (stats, waiting) = self.stats_and_waiting(self.waiting.window());
        stats.place(waiting);
        waiting.clear();
    }

    /// The statistics for a new event about a probe sent in `window`: its own, or the open window's once it was handed
    /// out.
    pub(super) fn stats_of_or_current(&mut self, window: u64) -> &mut WindowStats {
        self.stats_of(self.held_or_current(window))
    }

    fn held_or_current(&self, window: u64) -> u64 {
        if window < self.first { self.current() } else { window }
    }

    /// Changes the direction of a loss in `window`; `None` is unknown.
    pub(super) fn move_loss(&mut self, window: u64, from: Option<Direction>, to: Option<Direction>) {
        let counts = &mut self.stats_of(window).counts;
        *lost(counts, from) -= 1;
        *lost(counts, to) += 1;
    }

    /// Losses get a direction after their probes were forgotten.
    pub(super) fn move_forgotten_losses(&mut self, forward: u64, backward: u64) {
        self.forgotten_forward += forward;
        self.forgotten_backward += backward;
    }

    /// Closes the open window and opens the next.
    pub(super) fn roll(&mut self, now_ns: u64) {
        if let Some(open) = self.held.back_mut() {
            open.end_ns = Some(now_ns);
        }
        let empty = self.spare.take().unwrap_or_default();
        self.held.push_back(Window::open(now_ns, empty));
    }

    /// Number of closed windows.
    pub(super) fn closed(&self) -> usize {
        self.held.len() - 1
    }

    /// The oldest window, if it is closed.
    pub(super) fn oldest_closed(&self) -> Option<(&Window, u64)> {
        let window = self.held.front()?;
        window.end_ns.map(|end_ns| (window, end_ns))
    }

    /// Hands out the oldest window if it is closed. The inner value is `None` if the window is empty.
    pub(super) fn hand_out(&mut self, subject: Subject) -> Option<Option<Report>> {
        let end_ns = self.oldest_closed()?.1;
        self.settle();
        let window = self.held.pop_front()?;
        self.first += 1;
        self.handed_out.merge(&window.stats);
        let empty = window.stats.counts == Counts::default();
        // The peer reports one total, not one per window.
        let subject = Subject {
            refused: None,
            ..subject
        };
        Some((!empty).then(|| {
            let mut report = window.stats.report(subject, window.start_ns, end_ns);
            let delays = subject.delays.then(|| window.stats.delays(subject.same_clock));
            report.delays = delays.map(Box::new);
            self.spare = Some(window.stats.cleared());
            report
        }))
    }

    pub(super) fn summary(&self, subject: Subject, now_ns: u64) -> Report {
        let mut all = self.handed_out.clone();
        if self.waiting.window() < self.first {
            all.place(&self.waiting);
        }
        for (number, window) in (self.first..).zip(&self.held) {
            if number == self.waiting.window() {
                let mut stats = window.stats.clone();
                stats.place(&self.waiting);
                all.merge(&stats);
            } else {
                all.merge(&window.stats);
            }
        }
        all.counts = self.counts();
        all.report(subject, self.start_ns, now_ns)
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.handed_out.counts;
        self.held.iter().for_each(|window| counts += window.stats.counts);
        counts.lost_forward += self.forgotten_forward;
        counts.lost_backward += self.forgotten_backward;
        counts.lost_unknown -= self.forgotten_forward + self.forgotten_backward;
        counts
    }
}

fn lost(counts: &mut Counts, direction: Option<Direction>) -> &mut u64 {
    match direction {
        Some(Direction::Forward) => &mut counts.lost_forward,
        Some(Direction::Backward) => &mut counts.lost_backward,
        None => &mut counts.lost_unknown,
    }
}
