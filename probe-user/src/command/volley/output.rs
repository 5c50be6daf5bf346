//! Results of `kstamp volley`: one start, a row each interval, one summary.

pub mod heat;
pub mod html;
pub mod text;

use std::net::IpAddr;

use probe_core::attach::AttachMode;
use probe_core::stats::report::{OneWayClock, Summary};
use probe_core::volley::{Histogram, Mode, Refused, Snapshot, Totals};
use probe_io::volley::VolleySample;
use serde::Serialize;

use crate::output::fields;
use crate::output::model::Clock;
use crate::output::time::Utc;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolleyStart {
    pub version: String,
    pub interface: String,
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    pub port: u16,
    pub mode: Mode,
    pub mode_reason: String,
    pub path: &'static str,
    pub peer_attach: Option<AttachMode>,
    /// The rate that the peer agrees to, in probes per second; `None` if it did not report one.
    pub volley_limit: Option<u32>,
    pub forced: bool,
    /// In probes per second; `None` for no limit.
    pub rate_limit: Option<u64>,
    /// Probes in flight at once; `None` except in mode volley.
    pub balls: Option<u32>,
    /// Probes that leave at once; `None` except in mode train.
    pub batch: Option<u32>,
    /// `None` without pauses.
    pub burst: Option<BurstFields>,
    pub timeout_ns: u64,
    pub duration_ns: u64,
    pub every_ns: u64,
    pub samples_every: Option<u32>,
    pub clock: Clock,
    pub kernel: String,
    pub time: Utc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BurstFields {
    pub probes: u32,
    pub period_ns: u64,
}

/// Counts of an interval or a run: `sent` + `pending_before` = `received` + `lost` + `pending`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VolleyCounts {
    pub sent: u64,
    pub received: u64,
    /// Of `received`.
    pub implausible: u64,
    pub lost: u64,
    /// In flight at the end.
    pub pending: u64,
    /// In flight at the start; 0 for a whole run.
    pub pending_before: u64,
    pub lost_forward: u64,
    pub lost_backward: u64,
    pub lost_unknown: u64,
    pub late: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub samples_lost: u64,
    pub refused: RefusedFields,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RefusedFields {
    pub not_from_peer: u64,
    pub bad_checksum: u64,
    pub malformed: u64,
    pub unknown: u64,
    pub wrong_t1: u64,
}

impl VolleyCounts {
    pub fn new(totals: &Totals, pending_before: u64) -> Self {
        let Refused {
            not_from_peer,
            bad_checksum,
            malformed,
            unknown,
            wrong_t1,
        } = totals.refused;
        Self {
            sent: totals.sent,
            received: totals.received,
            implausible: totals.implausible,
            lost: totals.lost,
            pending: totals.pending,
            pending_before,
            lost_forward: totals.lost_forward,
            lost_backward: totals.lost_backward,
            lost_unknown: totals.lost_unknown,
            late: totals.late,
            duplicates: totals.duplicates,
            reordered: totals.reordered,
            samples_lost: totals.samples_lost,
            refused: RefusedFields {
                not_from_peer,
                bad_checksum,
                malformed,
                unknown,
                wrong_t1,
            },
        }
    }
}

/// An interval, or the whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VolleyResults {
    pub peer: IpAddr,
    pub path: &'static str,
    pub mode: Mode,
    pub start: Utc,
    pub end: Utc,
    #[serde(flatten)]
    pub counts: VolleyCounts,
    /// Probes sent per second.
    pub rate: u64,
    #[serde(serialize_with = "fields::distribution")]
    pub rtt_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub residence_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub forward_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub backward_ns: Option<Summary>,
    /// One-way delays are left out for it.
    pub clock_step_ns: Option<i64>,
    #[serde(flatten, serialize_with = "fields::one_way_clock")]
    pub clock: Option<OneWayClock>,
}

impl VolleyResults {
    /// The results of `part`, a snapshot or the difference of two, from `start` to `end`.
    pub fn new(peer: IpAddr, mode: Mode, part: &Snapshot, pending_before: u64, (start, end): (Utc, Utc)) -> Self {
        let duration_ns = end.unix_ns.saturating_sub(start.unix_ns).max(1);
        let rate = u128::from(part.totals.sent) * 1_000_000_000 / u128::from(duration_ns);
        let one_way = [&part.forward, &part.backward].map(|delays| delays.as_ref().and_then(Histogram::summary));
        Self {
            peer,
            path: path(mode),
            mode,
            start,
            end,
            counts: VolleyCounts::new(&part.totals, pending_before),
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            rtt_ns: part.rtt.summary(),
            residence_ns: part.residence.summary(),
            forward_ns: one_way[0],
            backward_ns: one_way[1],
            clock_step_ns: part.clock_step_ns,
            clock: part.forward.as_ref().map(|_| OneWayClock::SameClock),
        }
    }
}

/// The path of probes in this mode. Those of XDP programs go around the qdisc and TC.
pub fn path(mode: Mode) -> &'static str {
    match mode {
        Mode::Volley | Mode::Train => "xdp",
        Mode::Sendmmsg => "unicast",
    }
}

/// A probe with its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleFields {
    pub peer: IpAddr,
    pub path: &'static str,
    pub seq: u32,
    pub t1_ns: u64,
    pub t2_ns: u64,
    pub t3_ns: u64,
    pub t4_ns: u64,
    pub rtt_ns: Option<u64>,
    pub residence_ns: Option<u64>,
}

impl SampleFields {
    pub fn new(peer: IpAddr, mode: Mode, sample: &VolleySample) -> Self {
        Self {
            peer,
            path: path(mode),
            seq: sample.sequence,
            t1_ns: sample.t1_ns,
            t2_ns: sample.t2_ns,
            t3_ns: sample.t3_ns,
            t4_ns: sample.t4_ns,
            rtt_ns: sample.rtt_ns,
            residence_ns: sample.t3_ns.checked_sub(sample.t2_ns),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VolleySummary {
    #[serde(flatten)]
    pub results: VolleyResults,
    /// CPU time of the whole machine during the run, with softirqs and other processes; `None` if unknown.
    pub cpu_ns: Option<u64>,
    /// Several probes could be in one queue.
    pub self_queueing: bool,
    pub notes: Vec<String>,
}

#[cfg(test)]
pub mod tests;
