//! A short `cargo xtask soak`.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::process::Command;

use xtask::{exec, workspace};

#[test]
fn twenty_thousand_probes_leak_nothing_and_are_all_in_the_rotated_files() {
    if !support::can_run() {
        return;
    }
    let mut command = Command::new(workspace::xtask_binary().unwrap());
    command
        .args(["soak", "--count", "20000", "--built"])
        .arg(support::kstamp());
    let output = exec::output(&mut command).unwrap();
    let [printed, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{printed}{errors}");
    assert!(output.status.success());
    assert!(printed.contains("agent1: samples: ") && printed.contains("; windows: 20000 sent, "));
}
