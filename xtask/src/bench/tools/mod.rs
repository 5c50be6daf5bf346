//! The tools that are compared: how each is started, and how what it reports is read.

mod asyncio;
mod icmp;
mod irtt;
mod kstamp;
mod sockperf;
mod stamp_suite;

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::place::Place;

/// How fast and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Time between two probes.
    pub(super) interval: Duration,
    /// Probes.
    pub(super) count: u32,
}

impl Pace {
    /// Probes a second, rounded.
    fn rate(self) -> u64 {
        (1.0 / self.interval.as_secs_f64()).round() as u64
    }

    /// From the first probe to the last.
    pub(super) fn duration(self) -> Duration {
        self.interval * self.count
    }
}

/// What a tool is asked to tell. Telling of each probe costs some of them time, so it is asked only where it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Each probe's round trip.
    Each,
    /// How many were sent and answered.
    Counts,
}

/// What a tool says of its run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// With [`Detail::Each`], each answered probe's round trip.
    pub(super) rtts_ns: Vec<u64>,
}

/// When a reflector can be used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// Once this UDP port is bound.
    Port(u16),
    /// Once it has printed a line that contains this.
    Line(&'static str),
}

/// A tool.
pub(super) trait Tool: Sync {
    /// As it is called.
    fn name(&self) -> &'static str;

    /// Who stamps and who answers, in a few words.
    fn how(&self) -> &'static str;

    /// Where it can be had, if it is missing.
    fn missing(&self) -> Option<String>;

    /// What has to run at the far end, if not the kernel answers.
    fn reflector(&self, place: &Place) -> Option<(Command, Ready)>;

    /// What sends.
    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command;

    /// What it reported: in files that it was told to write into `scratch`, and in what it printed to both streams.
    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers>;
}

/// All of them, kstamp first.
pub(super) fn all() -> Vec<Box<dyn Tool>> {
    vec![
        Box::new(kstamp::Kstamp),
        Box::new(icmp::Ping),
        Box::new(icmp::Fping),
        Box::new(irtt::Irtt),
        Box::new(sockperf::Sockperf),
        Box::new(stamp_suite::StampSuite),
        Box::new(asyncio::Asyncio),
    ]
}

/// Those of the given names, and kstamp; all if none is given.
pub(super) fn chosen(names: &[String]) -> Result<Vec<Box<dyn Tool>>> {
    let all = all();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|tool| tool.name() != *name)) {
        let known: Vec<_> = all.iter().map(|tool| tool.name()).collect();
        bail!("--tool {unknown}: no such tool; there are {}", known.join(", "));
    }
    let wanted =
        |tool: &dyn Tool| names.is_empty() || tool.name() == "kstamp" || names.iter().any(|name| name == tool.name());
    Ok(all.into_iter().filter(|tool| wanted(tool.as_ref())).collect())
}

/// Why a program that a package brings cannot be used.
fn missing_program(program: &str, package: &str) -> Option<String> {
    which::which(program)
        .is_err()
        .then(|| format!("{program} is not installed (package {package})"))
}

/// The number that follows `before` in `text`.
fn number_after(text: &str, before: &str) -> Result<u64> {
    let rest = text
        .rsplit_once(before)
        .with_context(|| format!("no \"{before}\" in what it printed"))?
        .1;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits
        .parse()
        .with_context(|| format!("no number after \"{before}\" in what it printed"))
}

/// Milliseconds as a tool prints them, in nanoseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let ms: f64 = text.parse().ok()?;
    (ms >= 0.0).then(|| (ms * 1e6).round() as u64)
}
