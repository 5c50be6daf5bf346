//! Two legacy agents, `scripts/asyncio_agent.py`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool, missing_program, number_after, read};
use crate::workspace;

const FILE: &str = "asyncio.rtt";

#[derive(Debug)]
pub(super) struct Asyncio;

impl Tool for Asyncio {
    fn name(&self) -> &'static str {
        "asyncio"
    }

    fn how(&self) -> &'static str {
        "UDP, stamped and answered by a Python process"
    }

    fn missing(&self) -> Option<String> {
        missing_program("python3", "python3")
    }

    fn reflector(&self, place: &Place) -> Option<(Command, Ready)> {
        let mut command = place.at_far("python3", [script()]);
        command.args(["--iface", &place.far.interface, "--echo-only"]);
        Some((command, Ready::Line("ready")))
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let mut command = place.at_near("python3", [script()]);
        command.args([
            "--iface",
            &place.near.interface,
            "--to",
            &place.target(),
            "--timeout",
            "1",
        ]);
        command.args(["--interval", &format!("{:.6}", pace.interval.as_secs_f64())]);
        command.args(["--count", &pace.count.to_string()]);
        if detail == Detail::Each {
            command.arg("--samples").arg(place.file(FILE));
        }
        command
    }

    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers> {
        let mut answers = Answers {
            sent: number_after(printed, "sent ")?,
            received: number_after(printed, "received ")?,
            rtts_ns: Vec::new(),
        };
        if detail == Detail::Each {
            answers.rtts_ns = read(scratch, FILE)?
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect();
        }
        Ok(answers)
    }
}

fn script() -> String {
    workspace::root().join("scripts/asyncio_agent.py").display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn report_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join(FILE), "1000\n2000\n").unwrap();
        let printed = "ready\naverage latency 0.1 ms, 0 dropped\nsent 3, received 2, dropped 1\n";
        let answers = Asyncio.answers(scratch.path(), printed, Detail::Each).unwrap();
        assert_eq!((answers.sent, answers.received), (3, 2));
        assert_eq!(answers.rtts_ns, [1000, 2000]);
    }
}
