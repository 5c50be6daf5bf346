//! `sockperf`: UDP probes between two C++ processes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool, number_after, read};

const PORT: u16 = 11111;
const FILE: &str = "sockperf.csv";

#[derive(Debug)]
pub(super) struct Sockperf;

impl Tool for Sockperf {
    fn name(&self) -> &'static str {
        "sockperf"
    }

    fn how(&self) -> &'static str {
        "UDP, stamped and answered by a C++ process"
    }

    fn reflector(&self, place: &Place) -> Option<(Command, Ready)> {
        let command = place.at_far("sockperf", ["server", "-i", &place.target(), "-p", &PORT.to_string()]);
        Some((command, Ready::Port(PORT)))
    }

    /// It runs for whole seconds, after a warm-up of 400 ms that is not in its log.
    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let mode = if detail == Detail::Each {
            "ping-pong"
        } else {
            "under-load"
        };
        let mut command = place.at_near("sockperf", [mode, "-i", &place.target(), "-p", &PORT.to_string()]);
        let seconds = pace.duration().as_secs_f64().ceil().max(1.0);
        command.args([
            "-t",
            &seconds.to_string(),
            "--mps",
            &pace.rate().to_string(),
            "--full-rtt",
        ]);
        match detail {
            Detail::Each => command.arg("--full-log").arg(place.file(FILE)),
            // The default is every hundredth.
            Detail::Counts => command.args(["--reply-every", "1"]),
        };
        command
    }

    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers> {
        let (_, total) = printed.split_once("[Total Run]").context("sockperf printed no total")?;
        let line = total.lines().next().unwrap_or_default();
        let mut answers = Answers {
            sent: number_after(line, "SentMessages=")?,
            received: number_after(line, "ReceivedMessages=")?,
            rtts_ns: Vec::new(),
        };
        if detail == Detail::Each {
            answers.rtts_ns = read(scratch, FILE)?.lines().filter_map(rtt_of).collect();
        }
        Ok(answers)
    }
}

/// The round trip of a line `packet, txTime(sec), rxTime(sec), rtt(usec)`.
fn rtt_of(line: &str) -> Option<u64> {
    let mut fields = line.split(", ");
    fields.next()?.parse::<u64>().ok()?;
    let us: f64 = fields.nth(2)?.parse().ok()?;
    (us >= 0.0).then(|| (us * 1e3).round() as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn log_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let log = "---\npacket, txTime(sec), rxTime(sec), rtt(usec)\n0, 2.407048527, 2.407239364, 190.837\n1, 2.4, 2.5, 145.154\n---\n";
        fs::write(scratch.path().join(FILE), log).unwrap();
        let printed = "sockperf: [Total Run] RunTime=1.000 sec; Warm up time=400 msec; SentMessages=201; ReceivedMessages=200\nsockperf: [Valid Duration] RunTime=0.540 sec; SentMessages=109; ReceivedMessages=109\n";
        let answers = Sockperf.answers(scratch.path(), printed, Detail::Each).unwrap();
        assert_eq!((answers.sent, answers.received), (201, 200));
        assert_eq!(answers.rtts_ns, [190_837, 145_154]);
    }
}
