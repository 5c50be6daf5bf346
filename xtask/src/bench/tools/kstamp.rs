//! kstamp itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool, read};

pub(super) const FILE: &str = "kstamp.samples";

/// On a bare veth pair native XDP needs a program at both ends, so the first end cannot choose it by itself.
const ATTACH: [&str; 2] = ["--attach", "xdp-native"];

/// `kstamp agent` at the near end, `kstamp reflect` at the far one.
#[derive(Debug)]
pub(super) struct Kstamp;

impl Tool for Kstamp {
    fn name(&self) -> &'static str {
        "kstamp"
    }

    fn how(&self) -> &'static str {
        "STAMP, stamped and answered by eBPF programs (native XDP)"
    }

    fn missing(&self) -> Option<String> {
        None
    }

    fn reflector(&self, place: &Place) -> Option<(Command, Ready)> {
        Some(reflector(place))
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let mut command = place.at_near(&place.kstamp, ["agent", "--iface", &place.near.interface]);
        command.args("--no-group --family v4 --format jsonl --timeout 100ms".split(' '));
        command.args(["--peer", &place.target(), "--interval"]);
        command.arg(format!("{}ns", pace.interval.as_nanos()));
        command.args(["--count", &pace.count.to_string()]).args(ATTACH);
        if detail == Detail::Each {
            command.arg("--samples").arg(place.file(FILE));
        }
        command
    }

    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers> {
        answers(scratch, printed, detail)
    }
}

/// `kstamp reflect` at the far end.
pub(super) fn reflector(place: &Place) -> (Command, Ready) {
    let arguments = ["reflect", "--format", "jsonl", "--iface", &place.far.interface];
    let mut command = place.at_far(&place.kstamp, arguments);
    command.args(ATTACH);
    (command, Ready::Line(r#""type":"start""#))
}

/// From the summary and, with [`Detail::Each`], the samples in [`FILE`].
pub(super) fn answers(scratch: &Path, printed: &str, detail: Detail) -> Result<Answers> {
    let lines = |text: &str| -> Vec<Value> {
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    let printed = lines(printed);
    let summary = printed.iter().find(|line| line["type"] == "summary");
    let summary = summary.context("kstamp printed no summary")?;
    let mut answers = Answers {
        sent: summary["sent"].as_u64().context("no sent in kstamp's summary")?,
        received: summary["received"]
            .as_u64()
            .context("no received in kstamp's summary")?,
        rtts_ns: Vec::new(),
    };
    if detail == Detail::Each {
        answers.rtts_ns = lines(&read(scratch, FILE)?)
            .iter()
            .filter_map(|sample| sample["rtt_ns"].as_u64())
            .collect();
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn results_are_read() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(
            scratch.path().join(FILE),
            "{\"rtt_ns\":1000}\n{\"rtt_ns\":null}\n{\"rtt_ns\":2000}\n",
        )
        .unwrap();
        let printed = "{\"type\":\"start\"}\n{\"type\":\"summary\",\"sent\":3,\"received\":2}\n";
        let answers = Kstamp.answers(scratch.path(), printed, Detail::Each).unwrap();
        assert_eq!((answers.sent, answers.received), (3, 2));
        assert_eq!(answers.rtts_ns, [1000, 2000]);
    }
}
