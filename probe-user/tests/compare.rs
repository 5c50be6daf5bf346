//! `kstamp compare` and `kstamp calibrate` between two namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Pair, count, ip, render};

const METHODS: [&str; 3] = ["userspace", "socket", "kernel"];
/// The parts of a round trip on a common clock.
const PARTS: [&str; 5] = ["send_ns", "forward_ns", "far_ns", "backward_ns", "receive_ns"];

const COMPARE: &str = "compare --iface port1 --peer 10.1.1.6";

fn compare(pair: &Pair, far: &str, flags: &str) -> (Vec<Value>, String) {
    let reflector = pair.reflector(&format!("--family v4 {far}"));
    let comparison = pair.start(&pair.near, &format!("{COMPARE} --duration 1s {flags}"));
    let (status, records, stderr) = comparison.wait();
    assert!(status.success(), "{stderr}");
    assert!(reflector.stop().0.success());
    (records, stderr)
}

fn of<'a>(records: &'a [Value], method: &str, phase: &str) -> &'a Value {
    let mut found = records.iter().filter(|record| record["type"] == "compare");
    found
        .find(|record| record["method"] == method && record["phase"] == phase)
        .unwrap_or_else(|| panic!("no {method}, {phase}: {records:#?}"))
}

#[test]
fn three_methods_are_measured_idle_and_loaded_and_the_page_renders() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    let (records, _) = compare(&pair, "", &format!("--stress 2 --html {}", page.display()));

    for (phase, busy) in [("idle", 0), ("loaded", 2)] {
        for method in METHODS {
            let record = of(&records, method, phase);
            let [sent, received, lost] = ["sent", "received", "lost"].map(|field| count(record, field));
            assert_eq!(sent, received + lost, "{record:#}");
            // A round is always finished, however late the process is woken.
            assert_eq!(sent, count(of(&records, "kernel", phase), "sent"), "{record:#}");
            assert!(received > 0 && count(record, "busy") == busy, "{record:#}");
            let rtt = &record["rtt_ns"];
            // The last T3 of the method socket is never reported.
            assert!(
                count(rtt, "count") >= received - 1 && count(rtt, "p50") > 0,
                "{record:#}"
            );
            assert!(count(&record["floor_ns"], "p99") > 0, "{record:#}");
            assert_eq!(record["bias_ns"].is_null(), method == "kernel", "{record:#}");
        }
        // True on any machine: waking two processes takes longer than waking none.
        let median = |method| count(&of(&records, method, phase)["rtt_ns"], "p50");
        assert!(median("kernel") < median("userspace"), "{records:#?}");

        let anatomy = records
            .iter()
            .find(|record| record["type"] == "anatomy" && record["phase"] == phase);
        let anatomy = anatomy.unwrap_or_else(|| panic!("no anatomy, {phase}: {records:#?}"));
        assert_eq!(
            (&anatomy["clock"], count(anatomy, "refused")),
            (&"same-clock".into(), 0),
            "{anatomy:#}"
        );
        assert!(anatomy["path_ns"].is_null(), "{anatomy:#}");
        let whole = &anatomy["rtt_ns"];
        let mean = |part: &Value| part["mean"].as_i64().unwrap_or_else(|| panic!("{anatomy:#}"));
        for part in PARTS {
            assert_eq!(count(&anatomy[part], "count"), count(whole, "count"), "{anatomy:#}");
        }
        let sum: i64 = PARTS.iter().map(|part| mean(&anatomy[*part])).sum();
        // The parts add up to the nanosecond; means are truncated.
        assert!((0..5).contains(&(mean(whole) - sum)), "{anatomy:#}");
    }
    renders(&page);
}

/// Checks the page, and renders it in Chromium, if installed.
fn renders(page: &Path) {
    let text = std::fs::read_to_string(page).unwrap();
    assert!(
        !text.contains("http://www") || !text.contains("src="),
        "the page needs nothing else"
    );
    assert_eq!(text.matches("<svg ").count(), 8, "four plots in each phase");
    assert!(!text.contains("#01"), "a colour that the page does not define");
    render(page);
}

#[test]
fn without_a_responder_only_kernel_is_measured() {
    let Some(pair) = Pair::new() else { return };
    let (records, _) = compare(&pair, "--responder off", "");
    let kernel = of(&records, "kernel", "idle");
    assert!(count(kernel, "received") > 0, "{kernel:#}");
    for method in ["userspace", "socket"] {
        let record = of(&records, method, "idle");
        assert_eq!(
            (&record["measured"], count(record, "sent")),
            (&false.into(), 0),
            "{record:#}"
        );
        assert!(record["rtt_ns"].is_null() && record["bias_ns"].is_null(), "{record:#}");
        assert!(record["notes"].to_string().contains("only kernel"), "{record:#}");
    }
    assert!(
        !records.iter().any(|record| record["type"] == "anatomy"),
        "{records:#?}"
    );
}

#[test]
fn a_peer_that_does_not_answer_has_empty_cells() {
    let Some(pair) = Pair::new() else { return };
    let arguments = format!("{COMPARE} --duration 300ms --timeout 200ms");
    let (status, records, stderr) = pair.start(&pair.near, &arguments).wait();
    assert!(status.success(), "{stderr}");
    let kernel = of(&records, "kernel", "idle");
    assert_eq!(count(kernel, "sent"), count(kernel, "lost"), "{kernel:#}");
    assert!(count(kernel, "sent") > 0 && kernel["rtt_ns"].is_null(), "{kernel:#}");
    let output = pair.output(&pair.near, &arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("answered no probe of kernel") && text.contains("nothing to compare"),
        "{text}"
    );
}

#[test]
fn an_absent_peer_is_reported() {
    let Some(pair) = Pair::new() else { return };
    let arguments = "compare --iface port1 --peer 10.1.1.99 --duration 200ms --timeout 200ms";
    let output = pair.output(&pair.near, arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("does not answer at all"), "{text}");
    assert!(text.replace('\n', " ").contains("never left this host"), "{text}");
}

#[test]
fn a_far_end_with_few_privileges_still_stamps() {
    let Some(pair) = Pair::new() else { return };
    let (records, stderr) = compare(&pair, "--user nobody --responder realtime", "--realtime");
    let anatomy = records.iter().find(|record| record["type"] == "anatomy");
    let anatomy = anatomy.unwrap_or_else(|| panic!("no anatomy: {records:#?}"));
    assert!(count(&anatomy["rtt_ns"], "count") > 0, "{anatomy:#}");
    assert!(!stderr.contains("normal priority"), "{stderr}");
}

#[test]
fn a_page_that_cannot_be_written_fails_before_the_run() {
    let Some(pair) = Pair::new() else { return };
    let start = Instant::now();
    let output = pair.output(&pair.near, &format!("{COMPARE} --html /nowhere/page.html"));
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(
        line.contains("/nowhere/page.html") && line.lines().count() == 1,
        "{line}"
    );
    // A run takes ten.
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn busy_processes_end_even_if_the_comparison_is_killed() {
    let Some(pair) = Pair::new() else { return };
    let reflector = pair.start(&pair.far, "reflect --iface port2 --family v4");
    reflector.await_type("start");
    let comparison = pair.start(&pair.near, &format!("{COMPARE} --duration 500ms --stress 2"));
    let children = await_children(comparison.pid(), 2);
    comparison.signal(Signal::SIGKILL);
    let end = Instant::now() + Duration::from_secs(5);
    while children.iter().any(|&pid| is_busy(pid)) {
        assert!(Instant::now() < end, "{children:?} go on");
        std::thread::sleep(Duration::from_millis(20));
    }
    // They end with the first thread of kstamp, the programs are detached with the last.
    loop {
        let link = ip(&pair.near, "-d link show port1");
        if !link.contains("xdp") {
            break;
        }
        assert!(Instant::now() < end, "{link}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// They start with the second phase; before the first, all programs are loaded three times.
fn await_children(parent: u32, number: usize) -> Vec<u32> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if children.len() >= number && children.iter().all(|&pid| is_busy(pid)) {
            return children;
        }
        assert!(Instant::now() < end, "no busy processes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_busy(pid: u32) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|&byte| byte == 0).any(|word| word == b"busy")
}

#[test]
fn calibrate_reports_the_floor_and_leaves_nothing_behind() {
    let Some(pair) = Pair::new() else { return };
    let links = || ip(&pair.near, "-o link").lines().count();
    let before = links();
    let output = pair.output(&pair.near, "calibrate --duration 200ms --format jsonl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&record["type"], &record["attach"]),
        (&"calibrate".into(), &"xdp-native".into()),
        "{record:#}"
    );
    let floor = &record["floor_ns"];
    let [p50, p99] = ["p50", "p99"].map(|field| count(floor, field));
    assert!(p50 > 0 && p50 <= p99, "{record:#}");
    assert!(count(floor, "count") > 100, "{record:#}");
    assert_eq!(links(), before, "calibrate leaves no link behind");
}
