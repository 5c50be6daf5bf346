//! The result model. Field names are stable: fields may be added, never renamed. `crate::reference` describes them.

pub mod hops;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;

use probe_common::family::Family;
use probe_core::agent::event::{DownReason, Found};
use probe_core::attach::AttachMode;
use probe_core::identity::Identity;
use probe_core::observation::{Reply, SendFailure};
use probe_core::session::Outcome;
use probe_core::stats::report::{ClockSteps, Counts, Delays, OneWayClock, Path, Patterns, Report, Summary};
use probe_host::clock::ClockState;
use probe_host::ovs::PortFacts;
use probe_io::port::Engine;
use serde::{Deserialize, Serialize};

use crate::output::fields;
use crate::output::model::hops::{Hops, Outlier};
use crate::output::time::{Utc, UtcOffset};

/// Writes events in one format.
pub trait Exporter {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()>;
}

/// Of an agent or a reflector: one start, any number of others, one end.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Start(Start),
    Attach(AttachChange),
    Interface(InterfaceChange),
    Peer(PeerChange),
    Clock(ClockStep),
    Ovs(OvsChange),
    Windows(Windows),
    Hops(Hops),
    Outlier(Outlier),
    Counters(Counters),
    End(End),
}

impl Event {
    /// Type and number of its records.
    pub fn kind(&self) -> (&'static str, u64) {
        match self {
            Self::Start(_) => ("start", 1),
            Self::Attach(_) => ("attach", 1),
            Self::Interface(_) => ("interface", 1),
            Self::Peer(_) => ("peer", 1),
            Self::Clock(_) => ("clock", 1),
            Self::Ovs(_) => ("ovs", 1),
            Self::Windows(windows) => ("window", windows.results.len() as u64),
            Self::Hops(_) => ("hops", 1),
            Self::Outlier(_) => ("outlier", 1),
            Self::Counters(_) => ("counters", 1),
            Self::End(end) => ("summary", end.results.len() as u64),
        }
    }
}

/// Where the programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Attach {
    /// `None` of a reflector.
    pub egress: Option<AttachMode>,
    pub receive: AttachMode,
}

impl Attach {
    /// No programs: sockets send and receive.
    pub const SOCKETS: Self = Self {
        egress: Some(AttachMode::Socket),
        receive: AttachMode::Socket,
    };
}

/// State of this host's clock against UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clock {
    pub synchronised: bool,
    pub error_ns: u64,
    pub tai_offset_s: i32,
}

impl From<ClockState> for Clock {
    fn from(state: ClockState) -> Self {
        let ClockState {
            synchronised,
            error_ns,
            tai_offset_s,
        } = state;
        Self {
            synchronised,
            error_ns,
            tai_offset_s,
        }
    }
}

/// What runs, where, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    pub version: String,
    pub interface: String,
    pub attach: Attach,
    pub attach_reason: String,
    pub engine: Engine,
    pub authenticated: bool,
    pub clock: Clock,
    pub kernel: String,
    pub name: String,
    pub fleet: Option<String>,
    pub ovs: Option<Box<PortFacts>>,
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub ports: Vec<u16>,
    pub groups: Vec<IpAddr>,
    pub peers: Vec<IpAddr>,
    pub group_probes: bool,
    pub interval_ns: Option<u64>,
    pub timeout_ns: Option<u64>,
    pub allowed: Vec<String>,
    pub rate: u32,
    pub rate_source: u32,
    pub rate_group: u32,
    pub volley_limit: u32,
    pub user: String,
    pub capabilities: Vec<String>,
    pub time: Utc,
}

/// How a peer is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Stamp,
    /// Legacy agents, by ASCII numbers.
    Echo,
}

/// The receive program was attached to another hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachChange {
    pub receive: AttachMode,
    pub reason: String,
    pub time: Utc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceEvent {
    Down,
    Up,
    Deleted,
    Back,
    /// It has got the first address of an IP version.
    Joined,
}

/// The interface came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceChange {
    pub event: InterfaceEvent,
    pub interface: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<IpAddr>,
    pub time: Utc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerEvent {
    Up,
    Down,
    /// It has given up another address.
    Moved,
}

/// A peer came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerChange {
    pub event: PeerEvent,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "fields::down_reason")]
    pub reason: Option<DownReason>,
    pub peer: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<IpAddr>,
    #[serde(with = "fields::FoundName")]
    pub found: Found,
    pub method: Method,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub time: Utc,
}

/// A wall clock was stepped: one-way delays across it are invalid, round-trip delays are not affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockStep {
    pub peer: Option<IpAddr>,
    pub by_ns: i64,
    pub left_out: u64,
    pub time: Utc,
}

/// What Open vSwitch knows of the port has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OvsChange {
    pub interface: String,
    /// `None`: it has no such port any more.
    pub ovs: Option<PortFacts>,
    pub time: Utc,
}

impl fmt::Display for OvsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {} is ", self.interface)?;
        match &self.ovs {
            Some(facts) => write!(f, "now port {facts}"),
            None => f.write_str("no port of Open vSwitch any more"),
        }
    }
}

/// The results of one report interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    pub time: Utc,
    pub results: Vec<Results>,
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub results: Vec<Results>,
    pub counters: Counters,
}

/// Packets since the start, by counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    #[serde(flatten)]
    pub values: BTreeMap<String, u64>,
    pub time: Utc,
}

/// The fields of a result that the core does not know.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub utc: UtcOffset,
    pub method: Method,
    pub engine: Engine,
    pub attach: Attach,
    pub peer: Option<&'a Identity>,
    pub moved_from: Option<IpAddr>,
    pub downtime: Downtime,
    pub interface_down_ns: u64,
}

/// How often and how long a peer was down, from when the core noticed until it answered again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Downtime {
    pub downs: u64,
    pub down_ns: u64,
}

/// One peer and path over one window or a whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    pub moved_from: Option<IpAddr>,
    #[serde(with = "fields::FamilyName")]
    pub family: Family,
    #[serde(with = "fields::PathName")]
    pub path: Path,
    pub method: Method,
    pub engine: Engine,
    pub attach: Attach,
    pub peer_attach: Option<AttachMode>,
    pub start: Utc,
    pub end: Utc,
    #[serde(flatten, with = "fields::CountsFields")]
    pub counts: Counts,
    #[serde(serialize_with = "fields::failures")]
    pub send_failed_by: BTreeMap<SendFailure, u64>,
    #[serde(serialize_with = "fields::distribution")]
    pub rtt_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub residence_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub forward_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub backward_ns: Option<Summary>,
    #[serde(flatten, serialize_with = "fields::one_way_clock")]
    pub clock: Option<OneWayClock>,
    #[serde(serialize_with = "fields::distribution")]
    pub pdv_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub ipdv_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub forward_pdv_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    pub backward_pdv_ns: Option<Summary>,
    #[serde(flatten, with = "fields::ClockStepsFields")]
    pub steps: ClockSteps,
    #[serde(flatten, with = "fields::PatternsFields")]
    pub patterns: Patterns,
    #[serde(flatten)]
    pub downtime: Downtime,
    /// How long this host's interface was down or without carrier.
    pub interface_down_ns: u64,
    /// In buckets, for metrics; no record has them.
    #[serde(skip)]
    pub delays: Option<Box<Delays>>,
}

impl Results {
    pub fn new(report: &Report, context: Context<'_>) -> Self {
        Self {
            peer: report.peer,
            peer_name: context.peer.map(|peer| peer.name.clone()),
            moved_from: context.moved_from,
            family: Family::of(report.peer),
            path: report.path,
            method: context.method,
            engine: context.engine,
            attach: context.attach,
            peer_attach: context.peer.and_then(|peer| peer.receive.parse().ok()),
            start: context.utc.utc(report.start_ns),
            end: context.utc.utc(report.end_ns),
            counts: report.counts,
            send_failed_by: report.failures.clone(),
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
            interface_down_ns: context.interface_down_ns,
            delays: report.delays.clone(),
        }
    }
}

/// One probe, or a duplicate or late reply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub peer: IpAddr,
    #[serde(with = "fields::PathName")]
    pub path: Path,
    pub seq: u32,
    pub sent_ns: Option<u64>,
    pub t1_ns: Option<u64>,
    pub t2_ns: Option<u64>,
    pub t3_ns: Option<u64>,
    pub t4_ns: Option<u64>,
    pub rtt_ns: Option<u64>,
    pub residence_ns: Option<u64>,
    #[serde(serialize_with = "fields::outcome")]
    pub state: Outcome,
    /// Why the probe did not leave.
    pub reason: Option<String>,
}

impl Sample {
    /// With the reply or, of a lost or failed probe, the time of sending.
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
            reason: match state {
                Outcome::Failed(why) => Some(why.name()),
                _ => None,
            },
        }
    }
}
