//! `kstamp volley`: kernel programs send, answer and count.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool};
use crate::bench::tools::kstamp;

/// `kstamp volley` at the near end, `kstamp reflect` at the far one.
#[derive(Debug)]
pub(super) struct Volley;

impl Tool for Volley {
    fn name(&self) -> &'static str {
        "volley"
    }

    fn how(&self) -> &'static str {
        "STAMP, sent, answered and counted by XDP programs"
    }

    fn missing(&self) -> Option<String> {
        None
    }

    fn reflector(&self, place: &Place) -> Option<(Command, Ready)> {
        let (mut command, ready) = kstamp::reflector(place);
        command.args("--rate 0 --rate-source 0 --volley-limit 10000000".split(' '));
        Some((command, ready))
    }

    fn sender(&self, place: &Place, pace: Pace, detail: Detail) -> Command {
        let mut command = place.at_near(&place.kstamp, ["volley", "--iface", &place.near.interface]);
        command.args("--format jsonl --timeout 200ms".split(' '));
        command.args([
            "--peer",
            &place.target(),
            "--rate",
            &pace.rate().to_string(),
            "--duration",
        ]);
        command.arg(format!("{}ns", pace.duration().as_nanos()));
        if detail == Detail::Each {
            // Several in flight would delay one another.
            command.args("--balls 1 --samples-every 1 --samples".split(' '));
            command.arg(place.file(kstamp::FILE));
        }
        command
    }

    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers> {
        kstamp::answers(scratch, printed, detail)
    }
}
