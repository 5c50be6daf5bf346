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
fn an_agent_writes_rows() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let samples = directory.path().join("samples.csv");
    let reflector = pair.reflector("--family v4");
    let arguments = format!(
        "agent --iface port1 --family v4 --name h1 --interval 20ms --timeout 200ms --report 400ms --duration 1s --format csv \
         --samples {}",
        samples.display()
    );
    let output = pair.output(&pair.near, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(reflector.stop().0.success());
    let rows = |text: &str| -> Vec<Vec<String>> {
        let cells = |line: &str| line.split(',').map(str::to_owned).collect();
        text.lines().map(cells).collect()
    };
    let results = rows(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(results[0][..3], ["type", "agent", "peer"]);
    for kind in ["window", "summary"] {
        let row = results.iter().find(|row| row[0] == kind).unwrap();
        assert_eq!(row[1..3], ["h1", "10.1.1.6"], "{row:?}");
    }
    let samples = rows(&fs::read_to_string(samples).unwrap());
    assert_eq!(samples.iter().filter(|row| row[0] == "type").count(), 1);
    let is_ok = |row: &&Vec<String>| row[12] == "ok" && row[10].parse::<u64>().is_ok();
    assert!(samples.iter().filter(is_ok).count() > 10, "{samples:?}");
    assert!(samples.iter().all(|row| row.len() == 14), "{samples:?}");
}

#[test]
fn records_become_rows_and_a_table() {
    const SAMPLE: &str = r#"{"type":"sample","agent":"h1:p1","peer":"10.1.1.6","path":"unicast","seq":7,"t1_ns":1795255838000000001,"rtt_ns":2000,"state":"ok"}"#;
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
    const HOPS: &str = r#"{"type":"hops","agent":"h1:p1","peer":"10.1.1.6","peer_name":"h2:p2","path":"unicast","start":"2026-11-21T10:10:38Z","end":"2026-11-21T10:10:48Z","own_devices":[],"far_devices":null,"both_halves":1,"own_half":0,"no_half":0,"contradictory":0,"parts":[{"segment":"own_switch","direction":"forward","delay_ns":null,"lost":2},{"segment":"reflector","direction":"both","delay_ns":{"min":1,"mean":2,"p50":2,"p90":3,"p99":4,"p999":4,"max":4,"stddev":1,"count":1},"lost":0}],"rest_ns":null,"clock":null,"clock_bound_ns":null,"lost":5,"lost_late":1,"lost_unknown":2,"outliers":0,"outliers_left_out":0,"threshold_ns":null}"#;
    fs::write(directory.path().join("in"), format!("{WINDOW}\n{HOPS}\n{SAMPLE}\n")).unwrap();
    fs::write(directory.path().join("bad"), format!("{WINDOW}\n{SAMPLE}\nx\n")).unwrap();
    let flags = "--format csv -o windows.csv --samples samples.csv --hops hops.csv --parquet table";
    let output = report(directory.path(), &format!("in {flags}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |name: &str| String::from_utf8(read(name)).unwrap();
    let (windows, samples) = (text("windows.csv"), text("samples.csv"));
    assert!(
        windows.starts_with("type,agent,peer,") && windows.lines().count() == 2,
        "{windows}"
    );
    assert!(windows.contains("\nwindow,h1:p1,10.1.1.6,h2:p2,"), "{windows}");
    assert!(
        samples.contains("\nsample,h1:p1,10.1.1.6,unicast,7,,1795255838000000001,"),
        "{samples}"
    );
    const HOP_ROWS: &str = "\
        hops,h1:p1,10.1.1.6,h2:p2,unicast,2026-11-21T10:10:38Z,2026-11-21T10:10:48Z,own_switch,forward,,,,,,,,,,2,,\n\
        hops,h1:p1,10.1.1.6,h2:p2,unicast,2026-11-21T10:10:38Z,2026-11-21T10:10:48Z,reflector,both,1,2,2,3,4,4,4,1,1,0,,\n\
        hops,h1:p1,10.1.1.6,h2:p2,unicast,2026-11-21T10:10:38Z,2026-11-21T10:10:48Z,,,,,,,,,,,,3,,\n";
    let hops = text("hops.csv");
    let (headings, rows) = hops.split_once('\n').unwrap();
    assert!(headings.ends_with(",lost,clock,clock_bound_ns"), "{hops}");
    assert_eq!(rows, HOP_ROWS);
    let table = read("table");
    assert!(table.starts_with(b"PAR1") && table.ends_with(b"PAR1"));
    // A failure leaves the outputs of before, and nothing beside them.
    assert_eq!(report(directory.path(), &format!("bad {flags}")).status.code(), Some(1));
    assert_eq!(
        (text("windows.csv"), text("samples.csv"), read("table")),
        (windows, samples, table)
    );
    let output = report(directory.path(), "in --parquet in");
    assert_eq!(
        output.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 6);
    // With --parquet alone there is no page.
    let output = report(directory.path(), "in --parquet other");
    assert!(output.status.success() && output.stdout.is_empty());
}

#[test]
fn the_commands_of_the_guide_work() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/guide/report.md");
    let guide = fs::read_to_string(guide).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let of = |agent: &str| WINDOW.replace("h1:p1", agent);
    let sample = r#"{"type":"sample","agent":"h1","peer":"10.1.1.6","path":"unicast","seq":7,"t1_ns":1,"rtt_ns":2,"state":"ok"}"#;
    for (name, line) in [
        ("h1.jsonl", of("h1")),
        ("h2.jsonl", of("h2")),
        ("h1-samples.jsonl", sample.to_owned()),
        ("old.jsonl", WINDOW.replace("\"agent\":\"h1:p1\",", "")),
    ] {
        fs::write(directory.path().join(name), line + "\n").unwrap();
    }
    let commands: Vec<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("    kstamp report "))
        .collect();
    assert_eq!(commands.len(), 7);
    for arguments in commands {
        let output = report(directory.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{arguments}: {stderr}"
        );
    }
    for name in [
        "report.html",
        "windows.csv",
        "samples.csv",
        "hops.csv",
        "results.parquet",
    ] {
        assert!(fs::metadata(directory.path().join(name)).unwrap().len() > 100, "{name}");
    }
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
    file("evil", &WINDOW.replace("window", "\\u001b[2J"));
    file("page", "kept");
    let table = [
        (
            "cut -o page",
            1,
            "kstamp: cut line 2: the line ends in the middle of a record",
        ),
        ("evil -o page", 1, "kstamp: evil line 1: a record of type '\u{fffd}[2J'"),
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
