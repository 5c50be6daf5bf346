//! What was measured, as it is reported: results over time, and single probes. The field names are those of
//! [`crate::output::model`].

use std::net::IpAddr;

use probe_common::family::Family;
use probe_core::identity::Identity;
use probe_core::observation::Reply;
use probe_core::session::Outcome;
use probe_core::stats::report::{ClockSteps, Counts, OneWayClock, Path, Patterns, Report, Summary};
use serde::Serialize;

use crate::output::fields;
use crate::output::model::{Attach, AttachMode, Engine, Method};
use crate::output::time::{Utc, UtcOffset};

/// What is said of a result beside what was measured.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// From monotonic time to UTC.
    pub utc: UtcOffset,
    /// How it is asked.
    pub method: Method,
    /// How stamps are obtained.
    pub engine: Engine,
    /// How the programs are attached.
    pub attach: Attach,
    /// Who the peer is, if it said so.
    pub peer: Option<&'a Identity>,
    /// How long it was down in the meantime.
    pub downtime: Downtime,
}

/// How often, and for how long, a peer did not answer, from when that was noticed until it answered again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Downtime {
    /// Times that it went down.
    pub downs: u64,
    /// For how long it was down, in all.
    pub down_ns: u64,
}

/// One peer and path over one window or a whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// The peer's address.
    pub peer: IpAddr,
    /// What it calls itself, if it said so.
    pub peer_name: Option<String>,
    /// Version of IP.
    #[serde(with = "fields::FamilyName")]
    pub family: Family,
    /// How the peer was addressed.
    #[serde(with = "fields::PathName")]
    pub path: Path,
    /// How the peer was asked.
    pub method: Method,
    /// How stamps are obtained.
    pub engine: Engine,
    /// How the programs are attached.
    pub attach: Attach,
    /// How the peer's receive program is attached, if it said so.
    pub peer_attach: Option<AttachMode>,
    /// When it began.
    pub start: Utc,
    /// When it ended.
    pub end: Utc,
    /// What was counted: each count is a field of the result.
    #[serde(flatten, with = "fields::CountsFields")]
    pub counts: Counts,
    /// Round-trip delay less the reflector's residence.
    #[serde(serialize_with = "fields::distribution")]
    pub rtt_ns: Option<Summary>,
    /// Reflector residence.
    #[serde(serialize_with = "fields::distribution")]
    pub residence_ns: Option<Summary>,
    /// One-way delay to the peer.
    #[serde(serialize_with = "fields::distribution")]
    pub forward_ns: Option<Summary>,
    /// One-way delay from the peer.
    #[serde(serialize_with = "fields::distribution")]
    pub backward_ns: Option<Summary>,
    /// What backs the one-way delays: the fields `clock`, `clock_bound_ns`, `clock_offset_ns` and `clock_skew_ppb`.
    #[serde(flatten, serialize_with = "fields::one_way_clock")]
    pub clock: Option<OneWayClock>,
    /// Round-trip delay variation against the least delay.
    #[serde(serialize_with = "fields::distribution")]
    pub pdv_ns: Option<Summary>,
    /// Round-trip delay variation against the packet before.
    #[serde(serialize_with = "fields::distribution")]
    pub ipdv_ns: Option<Summary>,
    /// Variation of the one-way delay to the peer against its least.
    #[serde(serialize_with = "fields::distribution")]
    pub forward_pdv_ns: Option<Summary>,
    /// Variation of the one-way delay from the peer against its least.
    #[serde(serialize_with = "fields::distribution")]
    pub backward_pdv_ns: Option<Summary>,
    /// Steps of wall clocks: the fields `own_clock_steps` and `peer_clock_steps`.
    #[serde(flatten, with = "fields::ClockStepsFields")]
    pub steps: ClockSteps,
    /// How probes were lost, overtaken and duplicated: each is a field of the result.
    #[serde(flatten, with = "fields::PatternsFields")]
    pub patterns: Patterns,
    /// How long the peer was down: the fields `downs` and `down_ns`.
    #[serde(flatten)]
    pub downtime: Downtime,
}

impl Results {
    /// What the core reports, with what it does not know.
    pub fn new(report: &Report, context: Context<'_>) -> Self {
        Self {
            peer: report.peer,
            peer_name: context.peer.map(|peer| peer.name.clone()),
            family: Family::of(report.peer),
            path: report.path,
            method: context.method,
            engine: context.engine,
            attach: context.attach,
            peer_attach: context.peer.and_then(|peer| AttachMode::of_name(&peer.receive)),
            start: context.utc.utc(report.start_ns),
            end: context.utc.utc(report.end_ns),
            counts: report.counts,
            rtt_ns: report.rtt_ns,
            residence_ns: report.residence_ns,
            forward_ns: report.forward_ns,
            backward_ns: report.backward_ns,
            clock: report.clock,
            pdv_ns: report.pdv_ns,
            ipdv_ns: report.ipdv_ns,
            forward_pdv_ns: report.forward_pdv_ns,
            backward_pdv_ns: report.backward_pdv_ns,
            steps: report.steps,
            patterns: report.patterns,
            downtime: context.downtime,
        }
    }
}

/// One probe, or one more reply to it. What is not known is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The peer's address.
    pub peer: IpAddr,
    /// How the peer was addressed.
    #[serde(with = "fields::PathName")]
    pub path: Path,
    /// Sequence number of the probe.
    pub seq: u32,
    /// When the probe was given to the kernel, UTC since 1970; only of a lost one, which has no stamps.
    pub sent_ns: Option<u64>,
    /// T1, UTC since 1970: the probe left this host.
    pub t1_ns: Option<u64>,
    /// T2, UTC since 1970: the probe reached the reflector.
    pub t2_ns: Option<u64>,
    /// T3, UTC since 1970: the reply left the reflector.
    pub t3_ns: Option<u64>,
    /// T4, UTC since 1970: the reply reached this host.
    pub t4_ns: Option<u64>,
    /// Round-trip delay less the residence, by monotonic stamps.
    pub rtt_ns: Option<u64>,
    /// Reflector residence.
    pub residence_ns: Option<u64>,
    /// What became of it.
    #[serde(with = "fields::OutcomeName")]
    pub state: Outcome,
}

impl Sample {
    /// What became of a probe: with the reply, or, if it is lost, with when it was sent.
    pub fn new(peer: IpAddr, path: Path, seq: u32, sent: Option<Utc>, reply: Option<&Reply>, state: Outcome) -> Self {
        let stamped = reply.filter(|reply| reply.is_stamped());
        Self {
            peer,
            path,
            seq,
            sent_ns: sent.map(|sent| sent.unix_ns),
            t1_ns: reply.map(|reply| reply.t1_ns),
            t2_ns: stamped.map(|reply| reply.t2_ns),
            t3_ns: stamped.map(|reply| reply.t3_ns),
            t4_ns: reply.map(|reply| reply.t4_ns),
            rtt_ns: reply.and_then(Reply::rtt_ns),
            residence_ns: stamped.and_then(Reply::residence_ns),
            state,
        }
    }
}
