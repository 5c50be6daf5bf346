//! `irtt`: UDP probes between two Go processes, stamped in userspace.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool, read};

const PORT: u16 = 2112;
const FILE: &str = "irtt.json";

#[derive(Debug)]
pub(super) struct Irtt;

impl Tool for Irtt {
    fn name(&self) -> &'static str {
        "irtt"
    }

    fn how(&self) -> &'static str {
        "UDP, stamped and answered by a Go process"
    }

    fn reflector(&self, place: &Place) -> Option<(Command, Ready)> {
        // Any interval and any duration.
        Some((
            place.at_far("irtt", ["server", "-i", "0", "-d", "0"]),
            Ready::Port(PORT),
        ))
    }

    fn sender(&self, place: &Place, pace: Pace, _: Detail) -> Command {
        let mut command = place.at_near("irtt", ["client", "-Q", "--wait=500ms"]);
        command.args(["-i", &format!("{}us", pace.interval.as_micros())]);
        command.args(["-d", &format!("{}us", pace.duration().as_micros())]);
        command.arg("-o").arg(place.file(FILE)).arg(place.target());
        command
    }

    fn answers(&self, scratch: &Path, _: &str, detail: Detail) -> Result<Answers> {
        let report: Value = serde_json::from_str(&read(scratch, FILE)?).context("irtt wrote no JSON")?;
        let count = |name: &str| {
            report["stats"][name]
                .as_u64()
                .with_context(|| format!("irtt wrote no {name}"))
        };
        let trips = report["round_trips"].as_array().map(Vec::as_slice).unwrap_or_default();
        let each = trips.iter().filter_map(|trip| trip["delay"]["rtt"].as_u64());
        Ok(Answers {
            sent: count("packets_sent")?,
            received: count("packets_received")?,
            rtts_ns: if detail == Detail::Each {
                each.collect()
            } else {
                Vec::new()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn report_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let report = r#"{"stats":{"packets_sent":3,"packets_received":2},"round_trips":[{"delay":{"rtt":1000}},{"delay":{}},{"delay":{"rtt":2000}}]}"#;
        fs::write(scratch.path().join(FILE), report).unwrap();
        let answers = Irtt.answers(scratch.path(), "", Detail::Each).unwrap();
        assert_eq!((answers.sent, answers.received), (3, 2));
        assert_eq!(answers.rtts_ns, [1000, 2000]);
    }
}
