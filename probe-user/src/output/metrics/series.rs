//! The sums of one peer and path, or of all peers.

use std::collections::BTreeMap;

use probe_core::direction::Direction;
use probe_core::hops::{Part, Segment};
use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{ClockSteps, Counts, OneWayClock};

use crate::output::model::Results;
use crate::output::model::hops::{Hops, PartResults};

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
    pub(super) hops: Option<HopSeries>,
}

/// Where probes spent their time, and where they were lost.
#[derive(Debug, Default)]
pub(super) struct HopSeries {
    /// They add up to the round trip with the residence time.
    pub(super) delays: BTreeMap<Part, NativeHistogram>,
    pub(super) lost: BTreeMap<Part, u64>,
    pub(super) lost_late: u64,
    pub(super) lost_unknown: u64,
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

    pub(super) fn add_hops(&mut self, hops: &Hops) {
        if self.since_ns == 0 {
            self.since_ns = hops.start.unix_ns;
        }
        let sums = self.hops.get_or_insert_default();
        for PartResults { part, lost, delays, .. } in &hops.parts {
            let is_round_trip = part.direction.is_none();
            let is_underlay = part.segment == Segment::Underlay;
            if let Some(delays) = delays.as_ref().filter(|_| is_round_trip || !is_underlay) {
                sums.delays.entry(*part).or_default().add(delays);
            }
            // It is lost in one direction.
            let directions = match is_underlay && is_round_trip {
                true => vec![Some(Direction::Forward), Some(Direction::Backward)],
                false => vec![part.direction],
            };
            for direction in directions {
                *sums.lost.entry(Part { direction, ..*part }).or_default() += lost;
            }
        }
        sums.lost_late += hops.lost_late;
        sums.lost_unknown += hops.lost_unknown;
    }
}
