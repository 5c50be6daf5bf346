use std::time::Duration;

use probe_core::compare::anatomy::Stamps;
use probe_core::compare::ledger::{RoundTrip, SentProbe};

use super::*;

const TIMEOUT_NS: u64 = 2_000_000_000;

fn setting() -> Setting {
    Setting {
        agent: "h1:port1".to_owned(),
        version: "0.1.0".to_owned(),
        kernel: "6.18.0".to_owned(),
        interface: "port1".to_owned(),
        peer: "10.1.1.6".parse().unwrap(),
        peer_name: Some("<script>alert(1)</script>".to_owned()),
        attach: AttachMode::XdpNative,
        peer_attach: None,
        same_clock: true,
        interval: Duration::from_millis(10),
        duration: Duration::from_secs(10),
        cpus: 2,
        realtime: false,
        start: Utc {
            unix_ns: 1_795_000_000_000_000_000,
        },
        floor: None,
        notes: vec!["a remark".to_owned()],
    }
}

/// A hundred probes, of which one is lost, and one takes `longest_ns`.
fn tally(usual_ns: u64, longest_ns: u64) -> Tally {
    let departures: Vec<_> = (0..100)
        .map(|seq| SentProbe {
            seq,
            at_ns: u64::from(seq) * 10_000_000,
        })
        .collect();
    let arrival = |seq| RoundTrip {
        seq,
        rtt_ns: Some(if seq % 50 == 7 { longest_ns } else { usual_ns }),
    };
    let arrivals: Vec<_> = (0..99).map(arrival).collect();
    Tally::new(&departures, &arrivals, TIMEOUT_NS)
}

fn phase(phase: Phase, tallies: Vec<(Method, Tally)>) -> PhaseResult {
    PhaseResult {
        phase,
        busy: u32::from(phase == Phase::Loaded) * 4,
        cpu: Some(0.25),
        load: Some(0.5),
        unsent: 0,
        tallies,
        anatomy: None,
        notes: Vec::new(),
    }
}

pub fn comparison() -> Comparison {
    let mut anatomy = Anatomy::default();
    let stamps = Stamps {
        called_ns: 0,
        near_egress_ns: 5_000,
        far_ingress_ns: 9_000,
        far_egress_ns: 40_000,
        near_ingress_ns: 42_000,
        returned_ns: 60_000,
    };
    anatomy.record(&stamps, true);
    let mut idle = phase(
        Phase::Idle,
        vec![
            (Method::Userspace, tally(60_000, 900_000)),
            (Method::Kernel, tally(6_000, 20_000)),
        ],
    );
    idle.anatomy = Some(anatomy);
    let loaded = phase(
        Phase::Loaded,
        vec![
            (Method::Userspace, tally(90_000, 9_000_000)),
            (Method::Kernel, tally(3_000, 5_000)),
        ],
    );
    Comparison {
        setting: setting(),
        phases: vec![idle, loaded],
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_tables_have_a_dash_where_nothing_was_measured() {
    let comparison = comparison();
    let text = written(|out| text::phase(&comparison.phases[0], None, out));
    let row = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}: {text}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        row("socket")[1..]
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1,
        "{text}"
    );
    assert_eq!(
        row("userspace")[..6],
        ["userspace", "100", "99", "1.00", "%", "60.00"],
        "{text}"
    );
    assert_eq!(row("far process: wait")[5..7], ["31.00", "µs"], "{text}");
    assert!(text.contains("Idle: CPU 25 % used, load average 0.50"), "{text}");
    for columns in [40, 60, 80] {
        let text = written(|out| text::phase(&comparison.phases[0], Some(columns), out));
        assert!(text.contains("p50") && text.contains("p99"), "{text}");
    }
}

#[test]
fn the_verdict_states_the_figures() {
    let sentences = verdict::sentences(&comparison());
    let all = sentences.join("\n");
    assert!(all.contains("Idle, timestamps taken in processes give 60.0"), "{all}");
    assert!(all.contains("10.0 times as much"), "{all}");
    assert!(all.contains("a typical round trip of a process spends 90 %"), "{all}");
    assert!(
        all.contains("\"far process: wait and work\" (typically 31.00 µs"),
        "{all}"
    );
    assert!(
        all.contains("kstamp's p99 is 20.00 µs idle and 5.00 µs under load, 0.2 times; that of processes is 900"),
        "{all}"
    );

    let nothing = Comparison {
        setting: setting(),
        phases: vec![phase(Phase::Idle, vec![(Method::Kernel, Tally::default())])],
    };
    assert!(verdict::sentences(&nothing)[0].contains("nothing to compare"));
}

#[test]
fn the_verdict_does_not_take_sides() {
    let verdict_of = |process: (u64, u64), kernel: (u64, u64), floor: Option<u64>| {
        let tallies = vec![
            (Method::Userspace, tally(process.0, process.1)),
            (Method::Kernel, tally(kernel.0, kernel.1)),
        ];
        let mut setting = setting();
        setting.floor = floor.and_then(|p99| tally(p99 / 2, p99).rtt.summary());
        let phases = vec![phase(Phase::Idle, tallies)];
        verdict::sentences(&Comparison { setting, phases })[0].clone()
    };
    // Equal medians do not hide a difference in the tail.
    let tail = verdict_of((7_000, 900_000), (6_000, 20_000), Some(19_000));
    assert!(
        tail.contains("where the kernel's give 6.00 µs: the difference is below the noise floor"),
        "{tail}"
    );
    assert!(tail.contains("20.00 µs in the kernel: 45.0 times as much."), "{tail}");
    let same = verdict_of((60_000, 900_000), (60_000, 900_000), None);
    assert_eq!(same.matches("the difference is below").count(), 2, "{same}");
    let worse = verdict_of((60_000, 100_000), (90_000, 950_000), Some(19_000));
    assert!(worse.contains("30.0") && worse.contains("850"), "{worse}");
    assert_eq!(
        worse.matches("kernel timestamps are no better here").count(),
        2,
        "{worse}"
    );
    assert!(!worse.contains("times as much"), "{worse}");
}

#[test]
fn the_page_is_self_contained_and_escapes_peer_names() {
    let page = written(|out| html::write(&comparison(), out));
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Two plots in each phase, and two of the anatomy.
    assert_eq!(page.matches("<svg ").count(), 6);
    assert!(page.contains("var(--c0)") && page.contains("var(--ink)") && !page.contains("#010"));
    let empty = Comparison {
        setting: setting(),
        phases: vec![phase(Phase::Idle, vec![(Method::Kernel, Tally::default())])],
    };
    let page = written(|out| html::write(&empty, out));
    assert_eq!(page.matches("<svg ").count(), 0);
    assert!(page.contains("nothing to compare") && page.contains("</html>"));
}

#[test]
fn each_method_and_phase_is_a_json_object() {
    let lines = written(|out| jsonl::write(&comparison(), out));
    let records: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = records.iter().map(|record| record["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "compare", "compare", "compare", "anatomy", "compare", "compare", "compare"
        ]
    );
    let userspace = &records[0];
    assert_eq!(userspace["method"], "userspace");
    assert_eq!((&userspace["phase"], &userspace["busy"]), (&"idle".into(), &0.into()));
    assert_eq!((&userspace["sent"], &userspace["lost"]), (&100.into(), &1.into()));
    assert_eq!(userspace["rtt_ns"]["max"], 900_000);
    assert!(userspace["floor_ns"].is_null());
    let socket = &records[1];
    assert_eq!(
        (&socket["method"], &socket["measured"]),
        (&"socket".into(), &false.into())
    );
    assert!(socket["rtt_ns"].is_null() && socket["bias_ns"].is_null());
    let anatomy = &records[3];
    assert_eq!(
        (&anatomy["clock"], &anatomy["far_ns"]["p50"]),
        (&"same-clock".into(), &31_000.into())
    );
    assert!(anatomy["path_ns"].is_null());
}
