//! The sums of one peer and path, or of all peers.

use std::collections::BTreeMap;

use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{ClockSteps, Counts, OneWayClock};

use crate::output::model::Results;

#[derive(Debug, Default)]
pub(super) struct Series {
    /// Start of the first window, in nanoseconds since 1970.
    pub(super) since_ns: u64,
    pub(super) counts: Counts,
    pub(super) rtt: NativeHistogram,
    pub(super) residence: NativeHistogram,
    /// Forward and backward, by the name of the clock that backs them.
    pub(super) one_way: BTreeMap<&'static str, [NativeHistogram; 2]>,
    /// Of the last window.
    pub(super) clock: Option<OneWayClock>,
    pub(super) steps: ClockSteps,
}

impl Series {
    pub(super) fn add(&mut self, results: &Results) {
        if self.since_ns == 0 {
            self.since_ns = results.start.unix_ns;
        }
        self.counts += results.counts;
        self.steps += results.steps;
        self.clock = results.clock;
        let Some(delays) = &results.delays else { return };
        self.rtt.add(&delays.rtt);
        self.residence.add(&delays.residence);
        if let Some(clock) = results.clock {
            let [forward, backward] = self.one_way.entry(clock.name()).or_default();
            forward.add(&delays.forward);
            backward.add(&delays.backward);
        }
    }
}
