//! Records as they are read back: the fields that a report needs. Others are skipped, because versions add fields.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use probe_core::stats::report::Path;
use serde::Deserialize;

use crate::output::fields::PathName;
use crate::output::model::OvsChange;
use crate::output::model::hops::{Hops, Outlier};
use crate::output::time::Utc;

/// Why a line is not a record that a report can use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("not a JSON object with `type`: {0}; kstamp report reads what --format jsonl and --samples have written")]
    NoObject(String),
    #[error("the line ends in the middle of a record; remove it, or wait until kstamp has written it")]
    Cut,
    #[error("no `agent`, because an older kstamp wrote it; name its agent")]
    NoAgent,
    #[error("a record of type '{0}', and kstamp report reads those of agent, reflect and ping; leave this file out")]
    OfAnotherCommand(String),
    #[error("not a '{kind}' of kstamp agent, reflect or ping: {what}; correct the line or leave this file out")]
    Wrong { kind: &'static str, what: String },
}

#[derive(Debug)]
pub enum Record {
    Start(Box<Start>),
    Event(Event),
    Window(Box<Results>),
    Summary(Box<Results>),
    Sample(Sample),
    Hops(Box<Hops>),
    Outlier(Box<Outlier>),
    /// The stamps of a single probe, which no report shows.
    HopSample,
    LeftOut(LeftOut),
    Counters,
}

impl Record {
    /// Reads a line. `unnamed` measured if the record does not say who did.
    pub fn read<'a>(line: &'a [u8], unnamed: Option<&'a str>) -> Result<(Cow<'a, str>, Self), RecordError> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            r#type: Cow<'a, str>,
            #[serde(borrow, default)]
            agent: Option<Cow<'a, str>>,
        }
        let Head { r#type: kind, agent } = serde_json::from_slice(line).map_err(|error| match error.is_eof() {
            true => RecordError::Cut,
            false => RecordError::NoObject(without_place(&error)),
        })?;
        let record = match &*kind {
            "start" => Self::Start(Box::new(fields("start", line)?)),
            "window" => Self::Window(Box::new(checked("window", line)?)),
            "summary" => Self::Summary(Box::new(checked("summary", line)?)),
            "sample" => Self::Sample(fields("sample", line)?),
            "hops" => Self::Hops(Box::new(in_order(fields("hops", line)?))),
            "outlier" => Self::Outlier(Box::new(fields("outlier", line)?)),
            "hop_sample" => Self::HopSample,
            "output" => Self::LeftOut(fields("output", line)?),
            "counters" => Self::Counters,
            "attach" => Self::Event(Event::Attach(fields("attach", line)?)),
            "interface" => Self::Event(Event::Interface(fields("interface", line)?)),
            "peer" => Self::Event(Event::Peer(fields("peer", line)?)),
            "clock" => Self::Event(Event::Clock(fields("clock", line)?)),
            "ovs" => Self::Event(Event::Ovs(fields("ovs", line)?)),
            _ => return Err(RecordError::OfAnotherCommand(kind.chars().take(40).collect())),
        };
        let agent = agent.or(unnamed.map(Cow::Borrowed)).ok_or(RecordError::NoAgent)?;
        Ok((agent, record))
    }
}

fn fields<'a, T: Deserialize<'a>>(kind: &'static str, line: &'a [u8]) -> Result<T, RecordError> {
    serde_json::from_slice(line).map_err(|error| RecordError::Wrong {
        kind,
        what: without_place(&error),
    })
}

/// Counts add up, and the end is not before the start.
fn checked(kind: &'static str, line: &[u8]) -> Result<Results, RecordError> {
    let results: Results = fields(kind, line)?;
    let wrong = |what: &str| {
        Err(RecordError::Wrong {
            kind,
            what: what.to_owned(),
        })
    };
    let resolved = [results.received, results.lost, results.pending];
    if resolved.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) != Some(results.sent) {
        return wrong("`sent` is not `received` + `lost` + `pending`");
    }
    match results.end < results.start {
        true => wrong("`end` is before `start`"),
        false => Ok(results),
    }
}

/// Each part once, in the order of the path.
fn in_order(mut hops: Hops) -> Hops {
    hops.parts.sort_by_key(|part| part.part);
    hops.parts.dedup_by_key(|part| part.part);
    hops
}

/// The text of an error without its place in the line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// What ran; of `kstamp ping`, which has a target.
#[derive(Debug, Clone, Deserialize)]
pub struct Start {
    pub version: String,
    pub interface: Option<String>,
    pub attach: Option<Hooks>,
    pub engine: String,
    pub clock: ClockState,
    pub kernel: String,
    pub target: Option<String>,
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    pub interval_ns: Option<u64>,
    pub timeout_ns: Option<u64>,
    pub time: Utc,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Hooks {
    pub egress: Option<String>,
    pub receive: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ClockState {
    pub synchronised: bool,
    pub error_ns: u64,
}

/// A window or a summary.
#[derive(Debug, Clone, Deserialize)]
pub struct Results {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    #[serde(with = "PathName")]
    pub path: Path,
    pub start: Utc,
    pub end: Utc,
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub pending: u64,
    pub lost_forward: u64,
    pub lost_backward: u64,
    pub lost_unknown: u64,
    pub late: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub send_failed: u64,
    pub rtt_ns: Option<Quantiles>,
    pub forward_ns: Option<Quantiles>,
    pub backward_ns: Option<Quantiles>,
    pub clock: Option<String>,
    pub clock_bound_ns: Option<u64>,
    pub clock_offset_ns: Option<i64>,
    pub clock_skew_ppb: Option<i64>,
    pub residence_ns: Option<Quantiles>,
    pub pdv_ns: Option<Quantiles>,
    pub attach: Option<Hooks>,
    pub peer_attach: Option<String>,
    pub moved_from: Option<IpAddr>,
}

/// A distribution, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Quantiles {
    pub min: i64,
    pub p50: i64,
    pub p90: i64,
    pub p99: i64,
    pub p999: i64,
    pub max: i64,
    pub count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Lost,
    Late,
    Duplicate,
    Failed,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Sample {
    pub peer: IpAddr,
    #[serde(with = "PathName")]
    pub path: Path,
    pub sent_ns: Option<u64>,
    pub t1_ns: Option<u64>,
    pub rtt_ns: Option<u64>,
    pub state: State,
}

/// Records that a slow reader had made kstamp leave out, since the start of the run.
#[derive(Debug, Clone, Deserialize)]
pub struct LeftOut {
    pub left_out: BTreeMap<String, u64>,
    pub time: Utc,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    Attach(Attach),
    Interface(Interface),
    Peer(Peer),
    Clock(Clock),
    Ovs(OvsChange),
}

impl From<Event> for Happening {
    fn from(event: Event) -> Self {
        match event {
            Event::Attach(change) => change.into(),
            Event::Interface(change) => change.into(),
            Event::Peer(change) => change.into(),
            Event::Clock(step) => step.into(),
            Event::Ovs(change) => change.into(),
        }
    }
}

/// Something that happened, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Happening {
    pub time: Utc,
    pub text: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Attach {
    pub receive: String,
    reason: String,
    time: Utc,
}

impl From<Attach> for Happening {
    fn from(Attach { receive, reason, time }: Attach) -> Self {
        let text = format!("receives by {receive} from now on: {reason}");
        Self { time, text }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Interface {
    pub event: String,
    interface: String,
    time: Utc,
}

impl From<Interface> for Happening {
    fn from(Interface { event, interface, time }: Interface) -> Self {
        let text = format!("interface {interface}: {event}");
        Self { time, text }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Peer {
    pub event: String,
    pub reason: Option<String>,
    pub peer: IpAddr,
    pub moved_from: Option<IpAddr>,
    pub name: Option<String>,
    time: Utc,
}

impl From<Peer> for Happening {
    fn from(peer: Peer) -> Self {
        let name = peer.name.map(|name| format!(" ({name})")).unwrap_or_default();
        let reason = peer.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let from = peer.moved_from.map(|from| format!(" from {from}")).unwrap_or_default();
        Self {
            time: peer.time,
            text: format!("peer {}{name} {}{from}{reason}", peer.peer, peer.event),
        }
    }
}

impl From<OvsChange> for Happening {
    fn from(change: OvsChange) -> Self {
        Self {
            time: change.time,
            text: change.to_string(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Clock {
    peer: Option<IpAddr>,
    by_ns: i64,
    time: Utc,
}

impl From<Clock> for Happening {
    fn from(Clock { peer, by_ns, time }: Clock) -> Self {
        let whose = peer.map_or("this host's clock".to_owned(), |peer| format!("the clock of {peer}"));
        let by = crate::output::quantity::duration(by_ns);
        Self {
            time,
            text: format!("{whose} was stepped by {by}"),
        }
    }
}
