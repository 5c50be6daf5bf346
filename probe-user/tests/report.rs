//! `kstamp report` on what agents have written.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use support::{KSTAMP, Pair, command, render};

const WINDOW: &str = r#"{"type":"window","agent":"h1:p1","peer":"10.1.1.6","peer_name":"h2:p2","path":"unicast","start":"2026-11-21T10:10:38Z","end":"2026-11-21T10:10:48Z","sent":20,"received":19,"lost":1,"pending":0,"lost_forward":1,"lost_backward":0,"lost_unknown":0,"late":0,"duplicates":0,"reordered":0,"send_failed":0,"rtt_ns":{"min":1000,"mean":2000,"p50":2000,"p90":3000,"p99":4000,"p999":4000,"max":4000,"stddev":10,"count":19}}"#;

fn report(directory: &Path, arguments: &str) -> Output {
    command(&format!("{KSTAMP} report {arguments}"))
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn two_agents_become_one_page() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let agent = |port: &str, duration: &str| {
        let [output, samples] = ["jsonl", "samples"].map(|what| file(&format!("{port}.{what}")));
        format!(
            "agent --iface {port} --family v4 --name h:{port} --interval 20ms --timeout 500ms --report 1s --duration {duration} \
             --output {} --samples {}",
            output.display(),
            samples.display()
        )
    };
    let far = pair.start(&pair.far, &agent("port2", "4s"));
    let near = pair.start(&pair.near, &agent("port1", "3s"));
    for agent in [near, far] {
        let (status, _, stderr) = agent.wait();
        assert!(status.success(), "{stderr}");
    }
    let output = report(
        directory.path(),
        "port1.jsonl port2.jsonl port1.samples port2.samples -o page.html",
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = fs::read_to_string(file("page.html")).unwrap();
    for expected in [
        "Measured by 2 agents, 2 pairs",
        "<th scope=\"row\">h:port1</th><td></td><td><i",
        "<th scope=\"row\">h:port2</th><td><i",
        "peer 10.1.1.6 up",
        "same-clock",
        "by samples",
        ">summary</td>",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    render(&file("page.html"));
}

#[test]
fn a_bad_line_is_named_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    file("good", &format!("{WINDOW}\n\n{WINDOW}\n"));
    file("cut", &format!("{WINDOW}\n{}", &WINDOW[..100]));
    file("old", &WINDOW.replace("\"agent\":\"h1:p1\",", ""));
    file("long", &"x".repeat(2 << 20));
    file("text", "PING 10.1.1.6\n");
    file("page", "kept");
    let table = [
        (
            "cut -o page",
            1,
            "kstamp: cut line 2: the line ends in the middle of a record",
        ),
        (
            "old -o page",
            1,
            "kstamp: old line 1: no `agent`, because an older kstamp wrote it; name its agent: --agent old=NAME",
        ),
        ("long -o page", 1, "kstamp: long line 1 is longer than a record can be"),
        ("text -o page", 1, "kstamp: text line 1: not a JSON object"),
        (
            "missing -o page",
            1,
            "kstamp: cannot read missing: No such file or directory",
        ),
        (". -o page", 1, "kstamp: cannot read .: Is a directory"),
        (
            "good -o /nowhere/page",
            1,
            "kstamp: cannot write /nowhere/page: No such file or directory",
        ),
        (
            "good ./good -o page",
            2,
            "kstamp: FILE good and FILE ./good are one file; give each its own",
        ),
        (
            "good -o good",
            2,
            "kstamp: FILE good and --output good are one file; give each its own",
        ),
    ];
    for (arguments, code, expected) in table {
        let output = report(directory.path(), arguments);
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {line}");
        assert!(
            line.starts_with(expected) && line.lines().count() == 1,
            "{arguments}: {line}"
        );
    }
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read("page"), "kept");
    assert!(read("good").starts_with(WINDOW));
    for arguments in ["good", "old --agent old=h1:p1"] {
        let output = report(directory.path(), arguments);
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("h1:p1 to h2:p2"),
            "{arguments}"
        );
    }
}
