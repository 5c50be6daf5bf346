//! `kstamp volley`: kernel programs send, answer and count.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::place::Place;
use crate::bench::tool::{Answers, Detail, Pace, Ready, Tool};
use crate::bench::tools::kstamp;

/// `kstamp volley` in one of its modes at the near end, `kstamp reflect` at the far one.
#[derive(Debug)]
pub(in crate::bench) struct Volley {
    mode: &'static str,
    how: &'static str,
    /// What makes it send one probe after the other: several at once would delay one another.
    singly: [&'static str; 2],
}

/// Closed loop.
pub(in crate::bench) const VOLLEY: Volley = Volley {
    mode: "volley",
    how: "STAMP, sent, answered and counted by XDP programs",
    singly: ["--balls", "1"],
};

/// Open loop.
pub(in crate::bench) const TRAIN: Volley = Volley {
    mode: "train",
    how: "STAMP, sent at a pace, answered and counted by XDP programs",
    singly: ["--batch", "1"],
};

impl Tool for Volley {
    fn name(&self) -> &'static str {
        self.mode
    }

    fn how(&self) -> &'static str {
        self.how
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
        command.args("--format jsonl --timeout 200ms --mode".split(' '));
        command.args([
            self.mode,
            "--peer",
            &place.target(),
            "--rate",
            &pace.rate().to_string(),
            "--duration",
        ]);
        command.arg(format!("{}ns", pace.duration().as_nanos()));
        if detail == Detail::Each {
            command.args(self.singly).args("--samples-every 1 --samples".split(' '));
            command.arg(place.file(kstamp::FILE));
        }
        command
    }

    fn answers(&self, scratch: &Path, printed: &str, detail: Detail) -> Result<Answers> {
        kstamp::answers(scratch, printed, detail)
    }
}
