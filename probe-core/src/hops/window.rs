//! The hops of one window of a peer.

use std::net::IpAddr;
use std::sync::Arc;

use crate::direction::Direction;
use crate::hops::event::{Halves, HopWindow, LostAt, PartDurations};
use crate::hops::ordinary::Quantiles;
use crate::hops::split::{PARTS, Split};
use crate::hops::stamp::{Hook, Part, Segment};
use crate::stats::distribution::Distribution;
use crate::stats::report::{OneWayClock, Path, Report};

/// Outliers of one window that become events.
const MAX_OUTLIERS: u64 = 16;

/// Distributions that a window can take over from an earlier one, with their memory.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// In the order of [`Split::all`].
    parts: [Distribution; PARTS],
    rest: Distribution,
    elapsed: Distribution,
    by_clocks: [Distribution; 2],
    estimated: [Distribution; 2],
}

impl Durations {
    fn record(&mut self, split: &Split) {
        for (distribution, (_, took_ns)) in self.parts.iter_mut().zip(split.all()) {
            took_ns
                .into_iter()
                .for_each(|took_ns| distribution.record(signed(took_ns)));
        }
        self.rest.record(signed(split.rest_ns));
        self.elapsed.record(signed(split.elapsed_ns));
        let one_way = [
            (&mut self.by_clocks, split.underlay_by_clocks_ns),
            (&mut self.estimated, split.underlay_estimated_ns),
        ];
        for (distributions, took_ns) in one_way {
            let both = distributions.iter_mut().zip(took_ns.into_iter().flatten());
            both.for_each(|(distribution, took_ns)| distribution.record(took_ns));
        }
    }

    /// Removes all samples, and keeps the memory.
    pub fn clear(&mut self) {
        let Self {
            parts,
            rest,
            elapsed,
            by_clocks,
            estimated,
        } = self;
        let one_way = by_clocks.iter_mut().chain(estimated);
        let all = parts.iter_mut().chain(one_way).chain([rest, elapsed]);
        all.for_each(Distribution::clear);
    }

    /// The distributions of the underlay forward and backward, as `clock` has them.
    fn one_way(&self, clock: OneWayClock) -> &[Distribution; 2] {
        match clock {
            OneWayClock::SameClock | OneWayClock::Synced { .. } => &self.by_clocks,
            OneWayClock::Estimated { .. } => &self.estimated,
        }
    }

    fn quantiles(&self, clock: Option<OneWayClock>) -> Option<Quantiles> {
        let elapsed = self.elapsed.summary()?;
        let median = |distribution: &Distribution| distribution.summary().map(|summary| unsigned(summary.p50));
        let mut medians_ns = [None; PARTS + 1];
        let distributions = self.parts.iter().chain([&self.rest]);
        for (place, distribution) in medians_ns.iter_mut().zip(distributions) {
            *place = median(distribution);
        }
        Some(Quantiles {
            probes: elapsed.count,
            p99_ns: unsigned(elapsed.p99),
            medians_ns,
            underlay_ns: match clock.map(|clock| self.one_way(clock)) {
                Some(both) => both
                    .each_ref()
                    .map(|distribution| distribution.summary().map(|summary| summary.p50)),
                None => [None; 2],
            },
        })
    }
}

/// A window that was not handed out yet.
#[derive(Debug)]
pub(super) struct Window {
    pub start_ns: u64,
    /// Its probes that are not settled.
    pub unsettled: u32,
    durations: Box<Durations>,
    halves: Halves,
    lost_at: LostAt,
    outliers: u64,
    report: Option<Closed>,
}

/// What the agent says about a window.
#[derive(Debug, Clone, Copy)]
struct Closed {
    end_ns: u64,
    lost: u64,
    clock: Option<OneWayClock>,
}

impl Window {
    /// `durations` are without samples.
    pub fn open(start_ns: u64, durations: Box<Durations>) -> Self {
        Self {
            start_ns,
            unsettled: 0,
            durations,
            halves: Halves::default(),
            lost_at: LostAt::default(),
            outliers: 0,
            report: None,
        }
    }

    pub fn close(&mut self, report: &Report) {
        self.report = Some(Closed {
            end_ns: report.end_ns,
            lost: report.counts.lost,
            clock: report.clock,
        });
    }

    /// Whether the agent has handed it out, and all its probes are settled.
    pub fn is_ready(&self) -> bool {
        self.report.is_some() && self.unsettled == 0
    }

    pub fn answered(&mut self, split: &Split) {
        let halves = &mut self.halves;
        let number = if split.has_both_halves() {
            &mut halves.both
        } else if split.has_own_half() {
            &mut halves.own
        } else {
            &mut halves.none
        };
        *number += 1;
        halves.contradictory += u64::from(split.is_contradictory);
        self.durations.record(split);
    }

    /// `None` is unknown.
    pub fn lost(&mut self, at: Option<Part>) {
        match at {
            Some(part) => *self.lost_at.at.entry(part).or_default() += 1,
            None => self.lost_at.unknown += 1,
        }
    }

    pub fn answered_late(&mut self) {
        self.lost_at.late += 1;
    }

    /// Counts an outlier, and returns whether it becomes an event.
    pub fn has_room_for_outlier(&mut self) -> bool {
        self.outliers += 1;
        self.outliers <= MAX_OUTLIERS
    }

    /// `None` before it is closed. Returns the memory of its distributions, too.
    pub fn hand_out(self, of: &Subject) -> Option<(HopWindow, Option<Quantiles>, Box<Durations>)> {
        let Closed { end_ns, lost, clock } = self.report?;
        let mut lost_at = self.lost_at;
        lost_at.unknown += lost.saturating_sub(lost_at.total());
        let durations = &self.durations;
        let window = HopWindow {
            peer: of.peer,
            path: of.path,
            start_ns: self.start_ns,
            end_ns,
            own_hooks: of.own_hooks.clone(),
            far_hooks: of.far_hooks.clone(),
            halves: self.halves,
            parts: parts(durations, clock, of.delays),
            rest_ns: durations.rest.summary().filter(|rest| rest.max > 0),
            clock,
            lost_at,
            outliers: self.outliers,
            outliers_left_out: self.outliers.saturating_sub(MAX_OUTLIERS),
            threshold_ns: of.threshold_ns,
        };
        Some((window, durations.quantiles(clock), self.durations))
    }
}

/// What a window is about.
#[derive(Debug)]
pub(super) struct Subject {
    pub peer: IpAddr,
    pub path: Path,
    pub own_hooks: Arc<[Hook]>,
    pub far_hooks: Arc<[Hook]>,
    pub threshold_ns: Option<u64>,
    /// Parts have their durations in buckets.
    pub delays: bool,
}

fn parts(durations: &Durations, clock: Option<OneWayClock>, delays: bool) -> Vec<PartDurations> {
    let one_way = clock.map(|clock| durations.one_way(clock));
    let of_one_way = one_way.into_iter().flat_map(|distributions| {
        let directions = [Direction::Forward, Direction::Backward].into_iter();
        directions.zip(distributions).map(|(direction, distribution)| {
            let part = Part {
                segment: Segment::Underlay,
                direction: Some(direction),
            };
            (part, distribution)
        })
    });
    let names = Split::default().all().map(|(part, _)| part);
    let of_parts = names.into_iter().zip(&durations.parts);
    let mut all: Vec<PartDurations> = of_parts
        .chain(of_one_way)
        .filter_map(|(part, distribution)| {
            Some(PartDurations {
                part,
                summary: distribution.summary()?,
                delays: delays.then(|| distribution.native()),
            })
        })
        .collect();
    all.sort_by_key(|durations| durations.part);
    all
}

fn signed(duration_ns: u64) -> i64 {
    i64::try_from(duration_ns).unwrap_or(i64::MAX)
}

fn unsigned(duration_ns: i64) -> u64 {
    u64::try_from(duration_ns).unwrap_or(0)
}
