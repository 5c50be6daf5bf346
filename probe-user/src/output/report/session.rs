//! The results of one agent for one peer and path.

use std::ops::AddAssign;

use probe_core::stats::distribution::Distribution;

use crate::output::report::hops::SessionHops;
use crate::output::report::record::{Quantiles, Results, Sample, State};
use crate::output::report::timeline::{Merge, Timeline};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub forward: u64,
    pub backward: u64,
    pub unknown: u64,
    pub send_failed: u64,
    pub late: u64,
    pub duplicates: u64,
}

impl AddAssign for Counts {
    /// Files are not to be trusted: a sum that is too large stays at its largest value.
    fn add_assign(&mut self, other: Self) {
        let add = |sum: &mut u64, part: u64| *sum = sum.saturating_add(part);
        add(&mut self.sent, other.sent);
        add(&mut self.received, other.received);
        add(&mut self.lost, other.lost);
        add(&mut self.forward, other.forward);
        add(&mut self.backward, other.backward);
        add(&mut self.unknown, other.unknown);
        add(&mut self.send_failed, other.send_failed);
        add(&mut self.late, other.late);
        add(&mut self.duplicates, other.duplicates);
    }
}

/// Quantiles of one distribution, or of several: the smallest minimum, the mean of the medians, and the largest of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    pub quantiles: Quantiles,
    /// Of several distributions, whose quantiles cannot be added.
    pub is_merged: bool,
}

impl From<Quantiles> for Band {
    fn from(quantiles: Quantiles) -> Self {
        Self {
            quantiles,
            is_merged: false,
        }
    }
}

impl Band {
    fn of(distribution: &Distribution) -> Option<Self> {
        let summary = distribution.summary()?;
        let quantiles = Quantiles {
            min: summary.min,
            p50: summary.p50,
            p90: summary.p90,
            p99: summary.p99,
            p999: summary.p999,
            max: summary.max,
            count: summary.count,
        };
        Some(quantiles.into())
    }

    fn merged(self, other: Self) -> Self {
        let (one, two) = (self.quantiles, other.quantiles);
        let weights = [one.count, two.count].map(i128::from);
        let weighted = i128::from(one.p50) * weights[0] + i128::from(two.p50) * weights[1];
        let p50 = weighted.checked_div(weights[0] + weights[1]).unwrap_or(0);
        let quantiles = Quantiles {
            min: one.min.min(two.min),
            p50: i64::try_from(p50).unwrap_or(i64::MAX),
            p90: one.p90.max(two.p90),
            p99: one.p99.max(two.p99),
            p999: one.p999.max(two.p999),
            max: one.max.max(two.max),
            count: one.count.saturating_add(two.count),
        };
        Self {
            quantiles,
            is_merged: true,
        }
    }
}

fn merge(one: &mut Option<Band>, other: Option<Band>) {
    *one = match (*one, other) {
        (Some(one), Some(other)) => Some(one.merged(other)),
        (one, other) => one.or(other),
    };
}

/// Counts and delays of some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    pub counts: Counts,
    pub rtt: Option<Band>,
    pub forward: Option<Band>,
    pub backward: Option<Band>,
}

impl Merge for Part {
    fn merge(&mut self, other: Self) {
        self.counts += other.counts;
        merge(&mut self.rtt, other.rtt);
        merge(&mut self.forward, other.forward);
        merge(&mut self.backward, other.backward);
    }
}

impl From<&Results> for Part {
    fn from(results: &Results) -> Self {
        Self {
            counts: Counts {
                sent: results.sent,
                received: results.received,
                lost: results.lost,
                forward: results.lost_forward,
                backward: results.lost_backward,
                unknown: results.lost_unknown,
                send_failed: results.send_failed,
                late: results.late,
                duplicates: results.duplicates,
            },
            rtt: results.rtt_ns.map(Band::from),
            forward: results.forward_ns.map(Band::from),
            backward: results.backward_ns.map(Band::from),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Sampled {
    counts: Counts,
    rtt: Distribution,
}

impl Merge for Sampled {
    fn merge(&mut self, other: Self) {
        self.counts += other.counts;
        self.rtt.merge(&other.rtt);
    }
}

/// The records of a whole run, of windows or of samples: the first that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Summary,
    Windows,
    Samples,
}

#[derive(Debug, Clone, Default)]
pub struct Session {
    pub peer_name: Option<String>,
    /// The clock of one-way delays, and the bound on their error.
    pub clock: Option<(String, Option<u64>)>,
    summary: Option<Part>,
    whole: Option<Part>,
    windows: Timeline<Part>,
    samples: Timeline<Sampled>,
    round_trips: Distribution,
    sampled: Counts,
    pub hops: SessionHops,
}

/// A column of time: from, to, and its value.
pub type Span = (u64, u64, Part);

impl Session {
    pub fn add_window(&mut self, window: &Results) {
        self.about(window);
        let (start_ns, lasts_ns) = (window.start.unix_ns, window.end.unix_ns - window.start.unix_ns);
        // By its middle, so that windows which are a little longer than a column have one each.
        self.windows.at(start_ns + lasts_ns / 2, lasts_ns).merge(window.into());
        self.whole.get_or_insert_default().merge(window.into());
    }

    pub fn add_summary(&mut self, summary: &Results) {
        self.about(summary);
        self.summary.get_or_insert_default().merge(summary.into());
    }

    fn about(&mut self, results: &Results) {
        if results.peer_name.is_some() {
            self.peer_name.clone_from(&results.peer_name);
        }
        if let Some(clock) = &results.clock {
            self.clock = Some((clock.clone(), results.clock_bound_ns));
        }
    }

    /// Adds a sample of this time.
    pub fn add_sample(&mut self, at_ns: u64, sample: &Sample) {
        let mut counts = Counts::default();
        match sample.state {
            State::Ok => (counts.sent, counts.received) = (1, 1),
            State::Lost => (counts.sent, counts.lost, counts.unknown) = (1, 1, 1),
            State::Failed => counts.send_failed = 1,
            State::Late => counts.late = 1,
            State::Duplicate => counts.duplicates = 1,
        }
        self.sampled += counts;
        let column = self.samples.at(at_ns, 0);
        column.counts += counts;
        if let (State::Ok, Some(rtt_ns)) = (sample.state, sample.rtt_ns) {
            let rtt_ns = i64::try_from(rtt_ns).unwrap_or(i64::MAX);
            column.rtt.record(rtt_ns);
            self.round_trips.record(rtt_ns);
        }
    }

    /// The whole run, and the records that it is from.
    pub fn total(&self) -> (Part, Source) {
        let sampled = Part {
            counts: self.sampled,
            rtt: Band::of(&self.round_trips),
            ..Part::default()
        };
        let summary = self.summary.map(|part| (part, Source::Summary));
        let windows = self.whole.map(|part| (part, Source::Windows));
        summary.or(windows).unwrap_or((sampled, Source::Samples))
    }

    /// Delays over time: of samples, which have finer columns, or else of windows.
    pub fn delays(&self) -> Vec<Span> {
        match self.samples.is_empty() {
            true => self.of_windows(),
            false => self.of_samples(),
        }
    }

    /// Losses over time: of windows, which know the direction, or else of samples.
    pub fn losses(&self) -> Vec<Span> {
        match self.windows.is_empty() {
            true => self.of_samples(),
            false => self.of_windows(),
        }
    }

    fn of_windows(&self) -> Vec<Span> {
        let to = |from: u64| from.saturating_add(self.windows.width_ns());
        self.windows
            .columns()
            .map(|(from, part)| (from, to(from), *part))
            .collect()
    }

    fn of_samples(&self) -> Vec<Span> {
        let part = |column: &Sampled| Part {
            counts: column.counts,
            rtt: Band::of(&column.rtt),
            ..Part::default()
        };
        let to = |from: u64| from.saturating_add(self.samples.width_ns());
        self.samples
            .columns()
            .map(|(from, column)| (from, to(from), part(column)))
            .collect()
    }

    /// Round-trip times in nanoseconds, and the share of those that were not longer: of samples, or else the known quantiles.
    pub fn cumulative(&self) -> Vec<(i64, f64)> {
        let count = self.round_trips.count();
        if count == 0 {
            let Some(Band { quantiles, .. }) = self.total().0.rtt else {
                return Vec::new();
            };
            let Quantiles {
                min,
                p50,
                p90,
                p99,
                p999,
                max,
                ..
            } = quantiles;
            return vec![
                (min, 0.0),
                (p50, 0.5),
                (p90, 0.9),
                (p99, 0.99),
                (p999, 0.999),
                (max, 1.0),
            ];
        }
        let mut up_to = 0;
        let step = |(value, number)| {
            up_to += number;
            (value, up_to as f64 / count as f64)
        };
        self.round_trips.bins().map(step).collect()
    }

    pub fn has_samples(&self) -> bool {
        !self.samples.is_empty()
    }
}
