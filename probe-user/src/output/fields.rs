//! How the core's types are written in JSON; the core itself knows of no output form.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::core::event::{Family, Found};
use crate::core::report::{Counts, OneWayClock, Path, Summary};
use crate::core::session::Outcome;

/// The fields of [`Counts`]; the compiler checks that they are those.
#[derive(Serialize)]
#[serde(remote = "Counts")]
pub(super) struct CountsFields {
    sent: u64,
    received: u64,
    lost: u64,
    pending: u64,
    lost_forward: u64,
    lost_backward: u64,
    lost_unknown: u64,
    late: u64,
    duplicates: u64,
    reordered: u64,
    collector_lost: u64,
    send_failed: u64,
}

/// The fields of [`Summary`]; the compiler checks that they are those.
#[derive(Serialize)]
#[serde(remote = "Summary")]
struct SummaryFields {
    min: i64,
    mean: i64,
    p50: i64,
    p90: i64,
    p99: i64,
    p999: i64,
    max: i64,
    stddev: i64,
    count: u64,
}

/// A distribution, or null where there is no sample.
pub(super) fn distribution<S: Serializer>(summary: &Option<Summary>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Distribution<'a>(#[serde(with = "SummaryFields")] &'a Summary);

    summary.as_ref().map(Distribution).serialize(serializer)
}

/// `unicast` or `group`.
#[derive(Serialize)]
#[serde(remote = "Path", rename_all = "lowercase")]
pub(super) enum PathName {
    Unicast,
    Group,
}

/// `v4` or `v6`.
#[derive(Serialize)]
#[serde(remote = "Family", rename_all = "lowercase")]
pub(super) enum FamilyName {
    V4,
    V6,
}

/// `multicast` or `static`.
#[derive(Serialize)]
#[serde(remote = "Found", rename_all = "lowercase")]
pub(super) enum FoundName {
    Multicast,
    Static,
}

/// `ok`, `lost`, `late` or `duplicate`.
#[derive(Serialize)]
#[serde(remote = "Outcome", rename_all = "lowercase")]
pub(super) enum OutcomeName {
    Ok,
    Lost,
    Late,
    Duplicate,
}

/// `clock` and its bound, both null where nothing backs a one-way delay.
pub(super) fn one_way_clock<S: Serializer>(clock: &Option<OneWayClock>, serializer: S) -> Result<S::Ok, S::Error> {
    let (name, bound_ns) = match clock {
        Some(OneWayClock::SameClock) => (Some("same-clock"), None),
        Some(OneWayClock::Synced { bound_ns }) => (Some("synced"), Some(bound_ns)),
        None => (None, None),
    };
    let mut fields = serializer.serialize_map(Some(2))?;
    fields.serialize_entry("clock", &name)?;
    fields.serialize_entry("clock_bound_ns", &bound_ns)?;
    fields.end()
}
