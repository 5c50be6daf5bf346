//! `stamp-suite`: STAMP between two Rust processes, with the kernel's socket timestamps if its build has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool, milliseconds};
use crate::setup;

const PORT: u16 = 862;

#[derive(Debug)]
pub(super) struct StampSuite;

impl Tool for StampSuite {
    fn name(&self) -> &'static str {
        "stamp-suite"
    }

    fn how(&self) -> &'static str {
        "STAMP, a Rust process with socket stamps"
    }

    fn missing(&self) -> Option<String> {
        let why = "stamp-suite is not installed (cargo install stamp-suite --features hwtstamp)";
        binary().is_none().then(|| why.to_owned())
    }

    fn reflector(&self, place: &Place) -> Option<(Command, Ready)> {
        let arguments = ["-i", "-S", &place.target(), "-o", &PORT.to_string()];
        Some((place.at_far(binary()?, arguments), Ready::Port(PORT)))
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let program = binary().unwrap_or_else(|| "stamp-suite".into());
        let mut command = place.at_near(program, ["-r", &place.target(), "-p", &PORT.to_string(), "-L", "1"]);
        command.args([
            "-c",
            &pace.count.to_string(),
            "-d",
            &format!("{}us", pace.interval.as_micros()),
        ]);
        command.args(["--output-format", "json"]);
        if detail == Detail::Each {
            command.arg("-R");
        }
        command
    }

    fn answers(&self, _: &Path, printed: &str, _: Detail) -> Result<Answers> {
        let summary = printed.lines().find(|line| line.starts_with(r#"{"type":"summary""#));
        let summary: Value = serde_json::from_str(summary.context("stamp-suite printed no summary")?)?;
        let count = |name: &str| {
            summary[name]
                .as_u64()
                .with_context(|| format!("stamp-suite printed no {name}"))
        };
        let each = printed
            .lines()
            .filter_map(|line| line.strip_prefix("seq=")?.split_once(" rtt="));
        Ok(Answers {
            sent: count("packets_sent")?,
            received: count("packets_received")?,
            rtts_ns: each
                .filter_map(|(_, rtt)| milliseconds(rtt.split_once("ms")?.0))
                .collect(),
        })
    }
}

/// In `PATH`, or in the directory of set-up.
fn binary() -> Option<PathBuf> {
    which::which("stamp-suite").ok().or_else(setup::stamp_suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_read() {
        let printed = "INFO starting\nseq=0 rtt=0.505ms ttl=255 reflector_recv_ts=1\nseq=1 rtt=1.5ms ttl=255\n{\"type\":\"summary\",\"packets_sent\":3,\"packets_received\":2}\n";
        let answers = StampSuite.answers(Path::new(""), printed, Detail::Each).unwrap();
        assert_eq!((answers.sent, answers.received), (3, 2));
        assert_eq!(answers.rtts_ns, [505_000, 1_500_000]);
    }
}
