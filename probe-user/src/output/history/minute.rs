//! Windows of one minute, put together. Delays are added in buckets, so that quantiles are those of all samples.

use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{Counts, OneWayClock, Summary};

use crate::output::history::row::{Row, SCHEMA, without_fit};
use crate::output::model::Results;
use crate::output::time::Utc;

const MINUTE_NS: u64 = 60_000_000_000;

#[derive(Debug, Clone)]
pub(super) struct Minute {
    start: Utc,
    end: Utc,
    counts: Counts,
    rtt: Merged,
    forward: Merged,
    backward: Merged,
    /// Backs forward and backward. Of several, the last.
    clock: Option<OneWayClock>,
}

impl Minute {
    /// The minute in which a window begins, still without it.
    pub(super) fn of(results: &Results) -> Self {
        Self {
            start: results.start,
            end: results.end,
            counts: Counts::default(),
            rtt: Merged::default(),
            forward: Merged::default(),
            backward: Merged::default(),
            clock: None,
        }
    }

    /// Whether a window begins in this minute.
    pub(super) fn has(&self, results: &Results) -> bool {
        self.start.unix_ns / MINUTE_NS == results.start.unix_ns / MINUTE_NS
    }

    pub(super) fn add(&mut self, results: &Results) {
        self.end = self.end.max(results.end);
        self.counts += results.counts;
        if let Some(clock) = results.clock {
            if self.clock.is_none_or(|own| own.name() != clock.name()) {
                (self.forward, self.backward, self.clock) = (Merged::default(), Merged::default(), None);
            }
            // The wider bound holds for both.
            if self.clock.is_none_or(|own| own.bound_ns() < clock.bound_ns()) {
                self.clock = Some(without_fit(clock));
            }
        }
        let Some(delays) = &results.delays else { return };
        self.rtt.add(results.rtt_ns, &delays.rtt);
        self.forward.add(results.forward_ns, &delays.forward);
        self.backward.add(results.backward_ns, &delays.backward);
    }

    pub(super) fn row(&self) -> Row {
        Row {
            start: self.start,
            end: self.end,
            counts: self.counts,
            rtt_ns: self.rtt.summary(),
            forward_ns: self.forward.summary(),
            backward_ns: self.backward.summary(),
            clock: self.clock,
            rtt_buckets: self.rtt.histogram.coarse(SCHEMA),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Merged {
    histogram: NativeHistogram,
    /// Exact minimum, maximum and count; mean and standard deviation to the nanosecond. Its quantiles are not used.
    moments: Option<Summary>,
}

impl Merged {
    fn add(&mut self, summary: Option<Summary>, histogram: &NativeHistogram) {
        let Some(summary) = summary else { return };
        self.histogram.add(histogram);
        self.moments = Some(match self.moments {
            Some(moments) => both(moments, summary),
            None => summary,
        });
    }

    fn summary(&self) -> Option<Summary> {
        let moments = self.moments?;
        let [p50, p90, p99, p999] = self
            .histogram
            .quantiles([0.5, 0.9, 0.99, 0.999])?
            .map(|value| value.clamp(moments.min, moments.max));
        Some(Summary {
            p50,
            p90,
            p99,
            p999,
            ..moments
        })
    }
}

/// Minimum, maximum, mean, standard deviation and count of two sets of samples.
fn both(a: Summary, b: Summary) -> Summary {
    let count = a.count + b.count;
    let (of_a, of_b) = (a.count as f64 / count as f64, b.count as f64 / count as f64);
    let distance = b.mean as f64 - a.mean as f64;
    let variance = of_a * (a.stddev as f64).powi(2) + of_b * (b.stddev as f64).powi(2) + of_a * of_b * distance.powi(2);
    Summary {
        min: a.min.min(b.min),
        max: a.max.max(b.max),
        mean: a.mean + (distance * of_b).round() as i64,
        stddev: variance.sqrt().round() as i64,
        count,
        ..a
    }
}
