//! JSON lines: one record per method and phase, and one per phase for the anatomy.

use std::io::{self, Write};
use std::net::IpAddr;

use probe_core::attach::AttachMode;
use probe_core::compare::Method;
use probe_core::compare::anatomy::Anatomy;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::Summary;
use serde::Serialize;

use crate::command::compare::output::{Comparison, PhaseResult, Setting};
use crate::output::fields;
use crate::output::jsonl::record;
use crate::output::time::Utc;

/// Fields of every record of a run.
#[derive(Serialize)]
struct Common<'a> {
    start: Utc,
    interface: &'a str,
    peer: IpAddr,
    peer_name: Option<&'a str>,
    phase: &'static str,
    busy: u32,
    cpu: Option<f64>,
    load: Option<f64>,
    cpus: usize,
    realtime: bool,
    interval_ns: u64,
    attach: AttachMode,
    peer_attach: Option<AttachMode>,
}

#[derive(Serialize)]
struct Compared<'a> {
    method: &'static str,
    #[serde(flatten)]
    common: Common<'a>,
    measured: bool,
    sent: u64,
    received: u64,
    lost: u64,
    #[serde(serialize_with = "fields::distribution")]
    rtt_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    floor_ns: Option<Summary>,
    bias_ns: Option<i64>,
    bias_ratio: Option<f64>,
    spread_ns: Option<i64>,
    spread_ratio: Option<f64>,
    p99_ratio: Option<f64>,
    notes: Vec<&'a String>,
}

#[derive(Serialize)]
struct Parts<'a> {
    method: &'static str,
    #[serde(flatten)]
    common: Common<'a>,
    clock: Option<&'static str>,
    #[serde(serialize_with = "fields::distribution")]
    send_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    forward_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    backward_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    path_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    far_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    receive_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    rtt_ns: Option<Summary>,
    #[serde(serialize_with = "fields::distribution")]
    unwatched_rtt_ns: Option<Summary>,
    refused: u64,
}

#[derive(Serialize)]
struct Floor {
    attach: AttachMode,
    #[serde(serialize_with = "fields::distribution")]
    floor_ns: Option<Summary>,
}

pub fn phase(setting: &Setting, result: &PhaseResult, out: &mut dyn Write) -> io::Result<()> {
    for method in Method::ALL {
        record("compare", &setting.agent, &compared(setting, result, method), out)?;
    }
    match &result.anatomy {
        Some(anatomy) => record("anatomy", &setting.agent, &parts(setting, result, anatomy), out),
        None => Ok(()),
    }
}

pub fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let mut phases = comparison.phases.iter();
    phases.try_for_each(|result| phase(&comparison.setting, result, out))
}

/// The record of `kstamp calibrate`.
pub fn floor(agent: &str, attach: AttachMode, floor: Option<Summary>, out: &mut dyn Write) -> io::Result<()> {
    let floor = Floor {
        attach,
        floor_ns: floor,
    };
    record("calibrate", agent, &floor, out)
}

fn common<'a>(setting: &'a Setting, result: &PhaseResult) -> Common<'a> {
    Common {
        start: setting.start,
        interface: &setting.interface,
        peer: setting.peer,
        peer_name: setting.peer_name.as_deref(),
        phase: result.phase.name(),
        busy: result.busy,
        cpu: result.cpu,
        load: result.load,
        cpus: setting.cpus,
        realtime: setting.realtime,
        interval_ns: u64::try_from(setting.interval.as_nanos()).unwrap_or(u64::MAX),
        attach: setting.attach,
        peer_attach: setting.peer_attach,
    }
}

fn compared<'a>(setting: &'a Setting, result: &'a PhaseResult, method: Method) -> Compared<'a> {
    let tally = result.tally(method);
    let versus = result.versus(method);
    Compared {
        method: method.name(),
        common: common(setting, result),
        measured: tally.is_some(),
        sent: tally.map_or(0, |tally| tally.sent),
        received: tally.map_or(0, |tally| tally.received),
        lost: tally.map_or(0, |tally| tally.lost),
        rtt_ns: result.rtt(method),
        floor_ns: setting.floor,
        bias_ns: versus.map(|versus| versus.bias_ns),
        bias_ratio: versus.and_then(|versus| versus.bias_ratio),
        spread_ns: versus.map(|versus| versus.spread_ns),
        spread_ratio: versus.and_then(|versus| versus.spread_ratio),
        p99_ratio: versus.and_then(|versus| versus.p99_ratio),
        notes: setting.notes.iter().chain(&result.notes).collect(),
    }
}

fn parts<'a>(setting: &'a Setting, result: &PhaseResult, anatomy: &Anatomy) -> Parts<'a> {
    let of = Distribution::summary;
    Parts {
        method: Method::Userspace.name(),
        common: common(setting, result),
        clock: setting.same_clock.then_some("same-clock"),
        send_ns: of(&anatomy.send),
        forward_ns: of(&anatomy.forward),
        backward_ns: of(&anatomy.backward),
        path_ns: of(&anatomy.path),
        far_ns: of(&anatomy.far),
        receive_ns: of(&anatomy.receive),
        rtt_ns: of(&anatomy.watched),
        unwatched_rtt_ns: of(&anatomy.unwatched),
        refused: anatomy.refused,
    }
}
