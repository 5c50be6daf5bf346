//! JSON names of the core's types; the core itself knows no output format.

use std::collections::BTreeMap;

use probe_common::family::Family;
use probe_core::agent::event::{DownReason, Found};
use probe_core::direction::Direction;
use probe_core::hops::{Part, Role, Segment};
use probe_core::observation::SendFailure;
use probe_core::session::Outcome;
use probe_core::stats::report::{ClockSteps, Counts, OneWayClock, Path, Patterns, Summary};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Serialize)]
#[serde(remote = "Counts")]
pub struct CountsFields {
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
    #[serde(getter = "Counts::unanswered")]
    unanswered: u64,
    not_sent: u64,
}

#[derive(Serialize, Deserialize)]
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

/// Null without samples.
pub fn distribution<S: Serializer>(summary: &Option<Summary>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Distribution<'a>(#[serde(with = "SummaryFields")] &'a Summary);

    summary.as_ref().map(Distribution).serialize(serializer)
}

pub fn read_distribution<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Summary>, D::Error> {
    #[derive(Deserialize)]
    struct Distribution(#[serde(with = "SummaryFields")] Summary);

    Ok(Option::deserialize(deserializer)?.map(|Distribution(summary)| summary))
}

#[derive(Serialize)]
#[serde(remote = "Patterns")]
pub struct PatternsFields {
    lost_late: u64,
    lost_refused: Option<u64>,
    duplicated: u64,
    #[serde(serialize_with = "distribution")]
    loss_period: Option<Summary>,
    #[serde(serialize_with = "distribution")]
    loss_distance: Option<Summary>,
    #[serde(serialize_with = "distribution")]
    reordering_extent: Option<Summary>,
}

#[derive(Serialize)]
#[serde(remote = "ClockSteps")]
pub struct ClockStepsFields {
    #[serde(rename = "own_clock_steps")]
    own: u64,
    #[serde(rename = "peer_clock_steps")]
    peer: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Path", rename_all = "lowercase")]
pub enum PathName {
    Unicast,
    Group,
    Cold,
}

#[derive(Serialize)]
#[serde(remote = "Family", rename_all = "lowercase")]
pub enum FamilyName {
    V4,
    V6,
}

#[derive(Serialize)]
#[serde(remote = "Found", rename_all = "lowercase")]
pub enum FoundName {
    Multicast,
    Introduced,
    Static,
    Assigned,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "lowercase")]
pub enum RoleName {
    Leg,
    Tunnel,
    Nic,
}

/// `None`: both directions together.
pub fn direction_name(direction: Option<Direction>) -> &'static str {
    match direction {
        Some(Direction::Forward) => "forward",
        Some(Direction::Backward) => "backward",
        None => "both",
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Part")]
pub struct PartFields {
    #[serde(with = "self::segment")]
    segment: Segment,
    #[serde(with = "self::direction")]
    direction: Option<Direction>,
}

/// The value with this name.
fn read<'de, T, D: Deserializer<'de>>(
    all: impl IntoIterator<Item = (T, &'static str)>,
    from: D,
) -> Result<T, D::Error> {
    let name = String::deserialize(from)?;
    let found = all.into_iter().find(|(_, known)| *known == name);
    let unknown = || de::Error::custom(format!("'{name}' is not known to this kstamp"));
    found.map(|(value, _)| value).ok_or_else(unknown)
}

mod segment {
    use super::*;

    pub fn serialize<S: Serializer>(segment: &Segment, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(segment.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Segment, D::Error> {
        read(Segment::ALL.map(|segment| (segment, segment.name())), deserializer)
    }
}

pub mod direction {
    use super::*;

    pub fn serialize<S: Serializer>(direction: &Option<Direction>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(direction_name(*direction))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Direction>, D::Error> {
        let all = [Some(Direction::Forward), Some(Direction::Backward), None];
        read(
            all.map(|direction| (direction, direction_name(direction))),
            deserializer,
        )
    }
}

pub fn down_reason<S: Serializer>(reason: &Option<DownReason>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = reason.map(|reason| match reason {
        DownReason::Silent => "silent",
        DownReason::Ended => "ended",
        DownReason::NoAddress => "no-address",
        DownReason::SpeaksStamp => "stamp",
        DownReason::Removed => "removed",
    });
    name.serialize(serializer)
}

pub fn outcome<S: Serializer>(outcome: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match outcome {
        Outcome::Ok => "ok",
        Outcome::Lost => "lost",
        Outcome::Late => "late",
        Outcome::Duplicate => "duplicate",
        Outcome::Failed(_) => "failed",
    })
}

/// A number for each reason.
pub fn failures<S: Serializer>(failures: &BTreeMap<SendFailure, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(failures.iter().map(|(why, number)| (why.name(), number)))
}

/// Four fields, all null without one-way delays.
pub fn one_way_clock<S: Serializer>(clock: &Option<OneWayClock>, serializer: S) -> Result<S::Ok, S::Error> {
    let estimate = match clock {
        Some(OneWayClock::Estimated {
            offset_ns, skew_ppb, ..
        }) => Some((offset_ns, skew_ppb)),
        _ => None,
    };
    let mut fields = serializer.serialize_map(Some(4))?;
    fields.serialize_entry("clock", &clock.map(OneWayClock::name))?;
    fields.serialize_entry("clock_bound_ns", &clock.and_then(OneWayClock::bound_ns))?;
    fields.serialize_entry("clock_offset_ns", &estimate.map(|(offset_ns, _)| offset_ns))?;
    fields.serialize_entry("clock_skew_ppb", &estimate.map(|(_, skew_ppb)| skew_ppb))?;
    fields.end()
}
