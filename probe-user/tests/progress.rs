//! Long commands show progress on a terminal, and nothing elsewhere.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use nix::pty::openpty;
use support::{FAR_V4, Pair};

const CLEAR: &str = "\r\x1b[K";
const CALIBRATE: &str = "calibrate --duration 1900ms";

/// Runs `kstamp ARGUMENTS…` in a namespace with the same terminal as output and standard error. Returns what it shows.
fn on_terminal(namespace: &str, arguments: &str) -> String {
    let terminal = openpty(None, None).unwrap();
    let line = format!("ip netns exec {namespace} {} {arguments}", env!("CARGO_BIN_EXE_kstamp"));
    let mut command: Command = support::command(&line);
    command
        .stdin(Stdio::null())
        .stdout(terminal.slave.try_clone().unwrap())
        .stderr(terminal.slave);
    let mut child = command.spawn().unwrap();
    // Its ends of the terminal are closed here, so that reading ends with the child.
    drop(command);
    let mut shown = Vec::new();
    // Linux reports the end of a terminal as an error (EIO).
    let _ = File::from(terminal.master).read_to_end(&mut shown);
    let shown = String::from_utf8(shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    shown
}

#[test]
fn progress_is_shown_on_a_terminal_alone() {
    let Some(pair) = Pair::new() else { return };
    let _reflector = pair.reflector("");
    for (arguments, line) in [
        (CALIBRATE.to_owned(), "calibrating: 1 of 2 s"),
        (
            format!("compare --iface port1 --peer {FAR_V4} --duration 2s --timeout 300ms"),
            "idle: 1 of 2 s",
        ),
        (
            format!(
                "agent --iface port1 --peer {FAR_V4} --no-group --count 20 --interval 100ms --timeout 300ms --report 500ms"
            ),
            "measuring: 1 of 2 s",
        ),
    ] {
        let shown = on_terminal(&pair.near, &arguments);
        assert!(shown.contains(&format!("{CLEAR}{line}")), "{shown}");
        // The line is cleared before results and at the end.
        let left = shown
            .split(CLEAR)
            .filter(|part| part.contains(" of 2 s") || part.contains("ing: "));
        for part in left {
            assert!(!part.contains('\n'), "{shown}");
        }
    }
    let output = pair.output(&pair.near, CALIBRATE);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|written| String::from_utf8(written).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    assert!(!stdout.contains('\r'), "{stdout}");
}
