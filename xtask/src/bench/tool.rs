//! The interface of a tool for the benches: how to start it, and how to read its report.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::place::Place;

#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) count: u32,
}

impl Pace {
    /// Probes per second, rounded.
    pub(super) fn rate(self) -> u64 {
        (1.0 / self.interval.as_secs_f64()).round() as u64
    }

    /// From the first probe to the last.
    pub(super) fn duration(self) -> Duration {
        self.interval * self.count
    }
}

/// Detail of a tool's report. Reporting each probe costs some tools time, so it is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Each probe's round trip.
    Each,
    /// How many were sent and answered.
    Counts,
}

/// The result of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// With [`Detail::Each`], the round trips.
    pub(super) rtts_ns: Vec<u64>,
}

/// The sign that a reflector is ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// This UDP port is bound.
    Port(u16),
    /// A line with this text is printed.
    Line(&'static str),
}

pub(super) trait Tool: Sync {
    fn name(&self) -> &'static str;

    /// How it stamps and answers, in a few words.
    fn how(&self) -> &'static str;

    /// Why it cannot run, if it is missing.
    fn missing(&self) -> Option<String> {
        missing_program(self.name(), self.name())
    }

    /// The process at the far end, unless the kernel answers.
    fn reflector(&self, _: &Place) -> Option<(Command, Ready)> {
        None
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command;

    /// Reads the results from files in `scratch` and from the output on both streams.
    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers>;
}

/// The reason why a packaged program cannot run, if it is missing.
pub(super) fn missing_program(program: &str, package: &str) -> Option<String> {
    which::which(program)
        .is_err()
        .then(|| format!("{program} is not installed (package {package})"))
}

pub(super) fn read(scratch: &Path, file: &str) -> Result<String> {
    let path = scratch.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

pub(super) fn number_after(text: &str, before: &str) -> Result<u64> {
    let rest = text
        .rsplit_once(before)
        .with_context(|| format!("no \"{before}\" in the output"))?
        .1;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits
        .parse()
        .with_context(|| format!("no number after \"{before}\" in the output"))
}

/// Converts printed milliseconds to nanoseconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let ms: f64 = text.parse().ok()?;
    (ms >= 0.0).then(|| (ms * 1e6).round() as u64)
}
