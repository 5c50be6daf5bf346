use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::command::volley::output::tests::{snapshot, start};
use crate::command::{Command, read};

const S: u64 = 1_000_000_000;

fn config(directory: &Path, flags: &str) -> VolleyConfig {
    let directory = directory.display();
    let line = format!("volley --iface p1 --peer 10.1.1.6 --format jsonl --output {directory}/out {flags}");
    match read(&line.replace("DIR", &directory.to_string())) {
        Ok(Command::Volley(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn plan() -> Plan {
    Plan {
        mode: Mode::Volley,
        reason: String::new(),
        rate_per_s: None,
        balls: 1,
        burst: probe_core::volley::Burst {
            probes: 256,
            period_ns: 250_000,
        },
        continuous: false,
        batch: 64,
        timeout_ns: S,
        slots: 4096,
    }
}

#[test]
fn rows_add_up_to_the_summary() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), "--html DIR/page --samples DIR/samples");
    let files = Files::open(&config).unwrap();
    let utc = UtcOffset::new(0, 0);
    let mut report = Report::new(files, start(), utc, snapshot(S, [0; 4])).unwrap();
    assert_eq!(report.step_ns(), 21_000_000, "whole milliseconds");
    for (at_ns, counts) in [
        (S + S / 2, [50, 0, 0, 1]),
        (2 * S, [100, 10, 0, 2]),
        (2 * S + S / 2, [120, 10, 0, 3]),
        (3 * S, [200, 20, 3, 4]),
    ] {
        report.add(&snapshot(at_ns, counts), false).unwrap();
    }
    report.samples(&[]);
    let files = report
        .end(&snapshot(4 * S - 1, [204, 20, 3, 0]), &plan(), 3 * S, None)
        .unwrap();
    let page = fs::read_to_string(directory.path().join("page")).unwrap();
    assert!(page.contains("var(--h0)"), "{page}");
    drop(files);
    let text = fs::read_to_string(directory.path().join("out")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = records.iter().map(|record| record["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "row", "row", "row", "summary"]);
    let count = |record: &Value, field: &str| record[field].as_u64().unwrap();
    for record in &records[1..] {
        let [sent, before, received, lost, pending] =
            ["sent", "pending_before", "received", "lost", "pending"].map(|field| count(record, field));
        assert_eq!(sent + before, received + lost + pending, "{record:#}");
    }
    let summary = &records[4];
    for field in ["sent", "received", "lost"] {
        let sum: u64 = records[1..4].iter().map(|row| count(row, field)).sum();
        assert_eq!(sum, count(summary, field), "{field}");
    }
    assert_eq!((count(summary, "sent"), count(summary, "pending_before")), (227, 0));
    assert_eq!(count(summary, "rate"), 113, "over the two seconds in which it sent");
    assert_eq!(summary["self_queueing"], false);
}

#[test]
fn one_way_delays_end_when_the_clock_is_stepped() {
    let directory = tempfile::tempdir().unwrap();
    for (step_ns, words) in [
        (5_000_000, "stepped forward by 5.00 ms"),
        (-2_000, "stepped back by 2.00 µs"),
    ] {
        let config = config(directory.path(), "--html DIR/page");
        let files = Files::open(&config).unwrap();
        let mut report = Report::new(files, start(), UtcOffset::new(0, 0), snapshot(0, [0; 4])).unwrap();
        report.add(&snapshot(S, [50, 0, 0, 0]), false).unwrap();
        let stepped = |at_ns, counts| snapshot(at_ns, counts).without_stepped(Some(step_ns));
        report.add(&stepped(2 * S, [80, 0, 0, 0]), false).unwrap();
        let run = stepped(3 * S, [90, 0, 0, 0]);
        drop(report.end(&run, &plan(), 3 * S, None).unwrap());
        let text = fs::read_to_string(directory.path().join("out")).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let table = [(1, 50, true), (2, 30, false), (3, 10, false), (4, 90, false)];
        for (index, number, has_one_way) in table {
            let record = &records[index];
            assert_eq!(record["rtt_ns"]["count"], number, "{record:#}");
            for field in ["forward_ns", "backward_ns", "clock"] {
                assert_eq!(record[field].is_null(), !has_one_way, "{field}: {record:#}");
            }
            let step = if has_one_way { Value::Null } else { step_ns.into() };
            assert_eq!(record["clock_step_ns"], step, "{record:#}");
        }
        let notes = records[4]["notes"].to_string();
        assert!(
            notes.contains(words) && notes.contains("one-way delays are left out"),
            "{notes}"
        );
        let page = fs::read_to_string(directory.path().join("page")).unwrap();
        assert!(page.contains(words), "{page}");
    }
}

#[test]
fn a_last_row_without_events_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::open(&config(directory.path(), "")).unwrap();
    let mut report = Report::new(files, start(), UtcOffset::new(0, 0), snapshot(0, [0; 4])).unwrap();
    assert_eq!(report.step_ns(), S);
    report.add(&snapshot(S, [5, 0, 0, 0]), false).unwrap();
    drop(report.end(&snapshot(S + 5, [5, 0, 0, 0]), &plan(), S, None).unwrap());
    let text = fs::read_to_string(directory.path().join("out")).unwrap();
    assert_eq!(text.matches("\"type\":\"row\"").count(), 1, "{text}");
}

#[test]
fn files_must_differ() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a"), "").unwrap();
    fs::hard_link(path("a"), path("b")).unwrap();
    for flags in ["--samples DIR/a --html DIR/b", "--samples DIR/out", "--html DIR/out"] {
        let line = format!("volley --iface p1 --peer 10.1.1.6 --output {}", path("out").display());
        let line = format!(
            "{line} {}",
            flags.replace("DIR", &directory.path().display().to_string())
        );
        let refused = match read(&line) {
            Ok(Command::Volley(config)) => Files::open(&config).is_err(),
            Ok(other) => panic!("{other:?}"),
            Err(_) => true,
        };
        assert!(refused, "{flags}");
    }
}

#[test]
fn a_run_queues_behind_itself_if_several_probes_are_in_flight() {
    let burst = |probes| probe_core::volley::Burst {
        probes,
        period_ns: 250_000,
    };
    let table = [
        (Mode::Volley, 1, 64, 256, false),
        (Mode::Volley, 2, 1, 1, true),
        (Mode::Train, 1, 64, 256, true),
        (Mode::Train, 16, 1, 256, false),
        (Mode::Train, 16, 64, 1, false),
        (Mode::Sendmmsg, 1, 1, 2, true),
        (Mode::Sendmmsg, 16, 64, 1, false),
    ];
    for (mode, balls, batch, probes, expected) in table {
        let plan = Plan {
            mode,
            balls,
            batch,
            burst: burst(probes),
            ..plan()
        };
        assert_eq!(is_self_queueing(&plan), expected, "{plan:?}");
        let notes = notes(&plan, expected, 0, &snapshot(0, [0; 4])).join("\n");
        assert_eq!(notes.contains("self-queueing"), expected);
        assert_eq!(notes.contains("path xdp"), mode != Mode::Sendmmsg);
    }
}

#[test]
fn a_rate_that_was_not_reached_is_explained() {
    let table = [
        (
            Some(1_000),
            749,
            Mode::Train,
            Some("this host was too busy or is too slow"),
        ),
        (Some(1_000), 749, Mode::Volley, Some("few --balls were in flight")),
        (Some(1_000), 750, Mode::Train, None),
        (Some(1), 1, Mode::Sendmmsg, None),
        (None, 5, Mode::Volley, None),
    ];
    for (rate_per_s, rate, mode, expected) in table {
        let plan = Plan {
            mode,
            rate_per_s,
            ..plan()
        };
        let notes = notes(&plan, false, rate, &snapshot(0, [0; 4])).join("\n");
        let words = expected.unwrap_or("probes a second");
        assert_eq!(notes.contains(words), expected.is_some(), "{notes}");
    }
}
