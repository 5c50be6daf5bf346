//! Adds windows up to minutes, and minutes to quarters of an hour, where the samples are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{Counts, OneWayClock, Path, Report, Summary};

use crate::agent::batch::delay;
use crate::agent::recorder::Interval;
use crate::message::windows::{Clock, Window, address_bytes};
use crate::name::PortName;

/// What was measured in some time.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    /// Since 1970, as `end_ns`.
    pub start_ns: u64,
    pub end_ns: u64,
    cells: BTreeMap<(IpAddr, Path), Cell>,
}

/// Adds up what ends within one period of UTC.
#[derive(Debug)]
pub struct Rollup {
    period_ns: u64,
    open: Option<Sum>,
}

impl Rollup {
    pub fn new(period_ns: u64) -> Self {
        Self { period_ns, open: None }
    }

    /// Returns the period before, if this is in another one: later, or earlier because the clock was set.
    pub fn add(&mut self, sum: &Sum) -> Option<Sum> {
        // A sum that ends with a period belongs to it.
        let period = |end_ns: u64| end_ns.saturating_sub(1) / self.period_ns;
        let complete = self.open.take_if(|open| period(open.end_ns) != period(sum.end_ns));
        match &mut self.open {
            Some(open) => open.add(sum),
            open => *open = Some(sum.clone()),
        }
        complete
    }

    /// Ends the period, although it may not be over.
    pub fn finish(&mut self) -> Option<Sum> {
        self.open.take()
    }
}

impl Sum {
    /// Of one interval; the times are since 1970.
    pub fn of(interval: &Interval, start_ns: u64, end_ns: u64) -> Self {
        let cells = interval.windows.iter().map(|measured| {
            let report = &measured.report;
            ((report.peer, report.path), Cell::new(report, measured.port.clone()))
        });
        Self {
            start_ns,
            end_ns,
            cells: cells.collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.end_ns = self.end_ns.max(other.end_ns);
        for (key, theirs) in &other.cells {
            match self.cells.get_mut(key) {
                Some(own) => own.add(theirs),
                None => {
                    self.cells.insert(*key, theirs.clone());
                }
            }
        }
    }

    pub fn windows(&self) -> Vec<Window> {
        self.cells
            .iter()
            .map(|(&(peer, path), cell)| cell.window(peer, path))
            .collect()
    }
}

/// One peer and path.
#[derive(Debug, Clone)]
struct Cell {
    port: Option<PortName>,
    counts: Counts,
    rtt: Option<Delays>,
    residence: Option<Delays>,
    forward: Option<Delays>,
    backward: Option<Delays>,
    clock: Option<OneWayClock>,
}

impl Cell {
    fn new(report: &Report, port: Option<PortName>) -> Self {
        let delays = report.delays.as_ref();
        let delays = |summary: &Option<Summary>, pick: fn(&probe_core::stats::report::Delays) -> &NativeHistogram| {
            summary
                .as_ref()
                .zip(delays)
                .map(|(summary, delays)| Delays::new(summary, pick(delays)))
        };
        Self {
            port,
            counts: report.counts,
            rtt: delays(&report.rtt_ns, |delays| &delays.rtt),
            residence: delays(&report.residence_ns, |delays| &delays.residence),
            forward: delays(&report.forward_ns, |delays| &delays.forward),
            backward: delays(&report.backward_ns, |delays| &delays.backward),
            clock: report.clock,
        }
    }

    fn add(&mut self, other: &Self) {
        if other.port.is_some() {
            self.port.clone_from(&other.port);
        }
        self.counts += other.counts;
        for (own, theirs) in [
            (&mut self.rtt, &other.rtt),
            (&mut self.residence, &other.residence),
            (&mut self.forward, &other.forward),
            (&mut self.backward, &other.backward),
        ] {
            match (own, theirs) {
                (Some(own), Some(theirs)) => own.add(theirs),
                (own @ None, Some(theirs)) => *own = Some(theirs.clone()),
                (_, None) => {}
            }
        }
        self.clock = weaker(self.clock, other.clock);
    }

    fn window(&self, peer: IpAddr, path: Path) -> Window {
        let (clock, clock_bound_ns) = Clock::of(self.clock);
        let delay = |delays: &Option<Delays>| {
            let delays = delays.as_ref()?;
            Some(delay(&delays.summary()?, &delays.histogram))
        };
        Window {
            address: address_bytes(peer),
            peer: self.port.as_ref().map(ToString::to_string).unwrap_or_default(),
            group: path == Path::Group,
            counts: Some(self.counts.into()),
            rtt: delay(&self.rtt),
            residence: delay(&self.residence),
            forward: delay(&self.forward),
            backward: delay(&self.backward),
            clock: clock.into(),
            clock_bound_ns,
            probes: Vec::new(),
        }
    }
}

/// The weaker of two clocks, with the larger bound. A window without one-way delays has no say.
fn weaker(one: Option<OneWayClock>, other: Option<OneWayClock>) -> Option<OneWayClock> {
    let rank = |clock: &OneWayClock| match clock {
        OneWayClock::SameClock => 0,
        OneWayClock::Synced { .. } => 1,
        OneWayClock::Estimated { .. } => 2,
    };
    let bound = |clock: Option<OneWayClock>| clock.and_then(OneWayClock::bound_ns);
    let largest_ns = bound(one).max(bound(other));
    let mut weaker = [one, other].into_iter().flatten().max_by_key(rank)?;
    if let OneWayClock::Synced { bound_ns } | OneWayClock::Estimated { bound_ns, .. } = &mut weaker {
        *bound_ns = largest_ns.unwrap_or(*bound_ns);
    }
    Some(weaker)
}

/// Count, minimum, maximum and mean are exact. The standard deviation is that of the windows, whose own ones are whole
/// nanoseconds. Quantiles are those of the histogram, within 1.9 % unless it had to become coarser.
#[derive(Debug, Clone)]
struct Delays {
    min: i64,
    max: i64,
    count: u64,
    /// Sum of the squared deviations from the mean.
    squares: f64,
    histogram: NativeHistogram,
}

impl Delays {
    fn new(summary: &Summary, histogram: &NativeHistogram) -> Self {
        Self {
            min: summary.min,
            max: summary.max,
            count: summary.count,
            squares: summary.count as f64 * (summary.stddev as f64).powi(2),
            histogram: histogram.clone(),
        }
    }

    /// Chan, Golub and LeVeque, with the exact difference of the means: delays between clocks that disagree by years are large.
    fn add(&mut self, other: &Self) {
        let (own, theirs) = (i128::from(self.count), i128::from(other.count));
        let difference = other.histogram.sum_ns() * own - self.histogram.sum_ns() * theirs;
        let product = (own * theirs) as f64;
        let all = (own + theirs) as f64;
        self.squares += other.squares + (difference as f64).powi(2) / product / all;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.histogram.add(&other.histogram);
    }

    fn summary(&self) -> Option<Summary> {
        let quantiles = self.histogram.quantiles([0.5, 0.9, 0.99, 0.999])?;
        let [p50, p90, p99, p999] = quantiles.map(|ns| ns.clamp(self.min, self.max));
        Some(Summary {
            min: self.min,
            mean: (self.histogram.sum_ns() / i128::from(self.count)) as i64,
            p50,
            p90,
            p99,
            p999,
            max: self.max,
            stddev: (self.squares / self.count as f64).sqrt().round() as i64,
            count: self.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use probe_core::stats::distribution::Distribution;
    use proptest::prelude::*;

    use super::*;
    use crate::agent::probes::Picked;
    use crate::agent::recorder::Measured;
    use crate::agent::test_data::report;
    use crate::message::windows::{MINUTE_NS, QUARTER_NS};

    fn sum(end_ns: u64, samples: &[i64]) -> Sum {
        let interval = Interval {
            start_ns: 0,
            end_ns: 0,
            windows: vec![Measured {
                report: report(samples),
                port: None,
                probes: Picked::default(),
            }],
        };
        Sum::of(&interval, end_ns - 10, end_ns)
    }

    fn times(sum: Option<Sum>) -> Option<(u64, u64)> {
        sum.map(|sum| (sum.start_ns, sum.end_ns))
    }

    #[test]
    fn a_period_is_complete_when_a_window_ends_in_another_one() {
        let mut minutes = Rollup::new(100);
        for (end_ns, want) in [
            (1_020, None),
            (1_060, None),
            // It ends with the minute.
            (1_100, None),
            (1_101, Some((1_010, 1_100))),
            // A clock was set back.
            (1_050, Some((1_091, 1_101))),
            // Nothing was measured for a while.
            (1_990, Some((1_040, 1_050))),
        ] {
            assert_eq!(times(minutes.add(&sum(end_ns, &[1]))), want, "{end_ns}");
        }
        assert_eq!(times(minutes.finish()), Some((1_980, 1_990)));
        assert_eq!(times(minutes.finish()), None);
    }

    #[test]
    fn the_weakest_clock_backs_the_sum() {
        let same = Some(OneWayClock::SameClock);
        let synced = |bound_ns| Some(OneWayClock::Synced { bound_ns });
        let estimated = |bound_ns| {
            Some(OneWayClock::Estimated {
                bound_ns,
                offset_ns: 0,
                skew_ppb: 0,
            })
        };
        for (one, other, want) in [
            (None, None, None),
            (None, synced(1), synced(1)),
            (same, None, same),
            (same, synced(3), synced(3)),
            (synced(9), synced(3), synced(9)),
            (synced(9), estimated(3), estimated(9)),
        ] {
            assert_eq!(weaker(one, other), want);
            assert_eq!(weaker(other, one), want);
        }
    }

    #[test]
    fn peers_that_come_and_go_are_kept_apart() {
        let mut all = Rollup::new(QUARTER_NS);
        let mut other = sum(50, &[7, 8]);
        other.cells = other
            .cells
            .into_iter()
            .map(|((_, path), cell)| (("10.0.0.3".parse().unwrap(), path), cell))
            .collect();
        for sum in [sum(20, &[1]), other, sum(90, &[2, 3])] {
            all.add(&sum);
        }
        let windows = all.finish().unwrap().windows();
        let received: Vec<_> = windows.iter().map(|window| window.counts.unwrap().received).collect();
        assert_eq!(received, [3, 2]);
    }

    proptest! {
        #[test]
        fn minutes_and_quarters_say_what_all_samples_would(
            windows in prop::collection::vec(prop::collection::vec(1_i64..3_000_000, 1..40), 1..12)
        ) {
            let (mut minutes, mut quarters) = (Rollup::new(MINUTE_NS), Rollup::new(QUARTER_NS));
            let mut exact = Distribution::default();
            for (number, samples) in (1..).zip(&windows) {
                samples.iter().for_each(|ns| exact.record(*ns));
                if let Some(minute) = minutes.add(&sum(number * MINUTE_NS / 3, samples)) {
                    prop_assert!(quarters.add(&minute).is_none());
                }
            }
            quarters.add(&minutes.finish().unwrap());
            let [window] = &quarters.finish().unwrap().windows()[..] else {
                panic!("one peer");
            };
            let want = exact.summary().unwrap();
            for delay in [&window.rtt, &window.forward] {
                let got = delay.as_ref().unwrap();
                prop_assert_eq!((got.min, got.mean, got.max, got.count), (want.min, want.mean, want.max, want.count));
                prop_assert!(got.stddev.abs_diff(want.stddev) <= 1, "{} {}", got.stddev, want.stddev);
                for (got, want) in [(got.p50, want.p50), (got.p90, want.p90), (got.p99, want.p99), (got.p999, want.p999)] {
                    prop_assert!(got.abs_diff(want) as f64 <= 0.025 * want as f64 + 1.0, "{got} {want}");
                }
                prop_assert_eq!(got.histogram.as_ref().unwrap().native().unwrap().count(), want.count);
            }
        }
    }
}
