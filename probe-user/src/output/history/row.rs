//! One row of the history: the fields of a window that the page shows.

use probe_core::stats::native::Buckets;
use probe_core::stats::report::{Counts, OneWayClock, Summary};
use serde::Serialize;

use crate::output::field_lists::Field;
use crate::output::fields;
use crate::output::model::Results;
use crate::output::time::Utc;

/// Buckets of a heat map: eight for each power of two.
pub const SCHEMA: u8 = 3;

/// A window, or a minute of them. Names are those of the record `window`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub start: Utc,
    pub end: Utc,
    #[serde(flatten, with = "fields::CountsFields")]
    pub counts: Counts,
    #[serde(serialize_with = "fields::distribution")]
    pub rtt_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub forward_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub backward_ns: Option<Summary>,
    /// Without offset and skew.
    #[serde(flatten, serialize_with = "fields::one_way_clock")]
    pub clock: Option<OneWayClock>,
    pub rtt_buckets: Buckets,
}

/// The field of a row that no record has.
#[rustfmt::skip]
pub const ROW: &[Field] = &[
    ("rtt_buckets", "buckets", "Round-trip times in buckets, for a heat map: pairs of an index i and a number of replies. The bucket has times above 2^((i − 1) / 8) s, up to 2^(i / 8) s."),
];

impl Row {
    pub fn of_window(results: &Results) -> Self {
        let delays = results.delays.as_deref();
        Self {
            start: results.start,
            end: results.end,
            counts: results.counts,
            rtt_ns: results.rtt_ns,
            forward_ns: results.forward_ns,
            backward_ns: results.backward_ns,
            clock: results.clock.map(without_fit),
            rtt_buckets: delays.map(|delays| delays.rtt.coarse(SCHEMA)).unwrap_or_default(),
        }
    }
}

/// Offset and skew are of one time, and a row is of a minute.
pub(super) fn without_fit(clock: OneWayClock) -> OneWayClock {
    match clock {
        OneWayClock::Estimated { bound_ns, .. } => OneWayClock::Estimated {
            bound_ns,
            offset_ns: 0,
            skew_ppb: 0,
        },
        other => other,
    }
}
