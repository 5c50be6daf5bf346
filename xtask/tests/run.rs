//! `cargo xtask run` with two agents.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use xtask::exec;

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_records_and_samples_of_both_agents_are_there() {
    if !support::can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("samples");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args("run --topology veth --format jsonl --family v4 --duration 3s --built".split(' '));
    command.arg(support::kstamp()).args(["--", "--samples"]).arg(&file);
    let all = records(&exec::capture(&mut command).unwrap());
    let agents = |kind: &str| {
        let records = all.iter().filter(|record| record["type"] == kind);
        records
            .map(|record| record["agent"].as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    for kind in ["start", "window", "summary"] {
        assert_eq!(agents(kind).len(), 2, "{kind}: {:?}", agents(kind));
    }
    let of_samples: BTreeSet<String> = ["samples", "samples.agent2"]
        .iter()
        .map(|name| {
            let samples = records(&fs::read_to_string(directory.path().join(name)).unwrap());
            samples[0]["agent"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        of_samples.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        agents("start")
    );
}
