use probe_controller::link_delay::{LinkState, Statistic};

use super::*;
use crate::command::controller::output::drawing::{Drawing, Sketch};
use crate::command::controller::output::model::{
    ByMethod, ControllerReport, Directions, End, LinkCounts, LinkLine, PathLine, Silence, SummaryLine, SwitchLine,
};
use crate::output::time::Utc;

const TIME: Utc = Utc { unix_ns: 0 };

fn end(dpid: &str, port: u32) -> End {
    End {
        dpid: dpid.to_owned(),
        port,
        switch: format!("s<{dpid}>"),
        name: None,
    }
}

fn link(state: LinkState, rtt_ns: Option<i64>) -> LinkLine {
    LinkLine {
        time: TIME,
        from: end("1", 1),
        to: end("2", 1),
        state,
        silent: Silence::default(),
        lldp_ns: Directions {
            forward: Some(6_000_000),
            backward: None,
        },
        rtt_ns: ByMethod {
            lldp_echo: rtt_ns,
            ..ByMethod::default()
        },
        error_ns: ByMethod {
            lldp_echo: rtt_ns.map(|_| 500_000),
            ..ByMethod::default()
        },
        off_ns: ByMethod::default(),
        kernel_ns: Directions::default(),
        by: rtt_ns.map(|_| Statistic::Minimum),
        weight_ns: None,
        in_tree: false,
        negatives: 3,
    }
}

pub fn report() -> ControllerReport {
    let switch = |dpid: &str| SwitchLine {
        time: TIME,
        dpid: dpid.to_owned(),
        name: format!("s<{dpid}>"),
        address: "127.0.0.1:1".parse().unwrap(),
        ports: 2,
        echo_ns: Some(300_000),
        echo_p50_ns: None,
        baseline_ns: None,
    };
    let links = vec![link(LinkState::Valid, Some(10_500_000)), link(LinkState::Missing, None)];
    ControllerReport {
        time: TIME,
        summary: SummaryLine {
            time: TIME,
            switches: 2,
            links: LinkCounts::of(links.iter().map(|link| link.state)),
            segments: 0,
            hosts: 0,
            negatives: 3,
            storms: 0,
            reroutes: 1,
            broadcasts: 0,
            forged: 0,
            sent: 9,
            answered: 8,
            lost: 1,
            unheard: 0,
            late: 0,
            mismatched: 0,
            packet_ins_over_limit: 0,
            hosts_displaced: 0,
            pairs_displaced: 0,
            rules_restored: 0,
            events_dropped: 0,
        },
        links,
        switches: vec![switch("1"), switch("2")],
        paths: vec![PathLine {
            time: TIME,
            from: "1".to_owned(),
            to: "2".to_owned(),
            switches: vec!["s<1>".to_owned(), "s<2>".to_owned()],
            hops: Vec::new(),
            delay_ns: 5_250_000,
            from_hosts: Vec::new(),
            to_hosts: Vec::new(),
        }],
    }
}

#[test]
fn json_has_the_documented_fields_and_null_for_unknown_values() {
    let mut out = Vec::new();
    jsonl::report("h1", &report(), true, &mut out).unwrap();
    let lines: Vec<serde_json::Value> = out
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["link", "link", "switch", "switch", "path", "summary"]);
    assert!(lines.iter().all(|line| line["agent"] == "h1"));
    assert_eq!(
        (&lines[0]["from"]["dpid"], &lines[0]["from"]["port"]),
        (&"1".into(), &1.into())
    );
    assert_eq!(
        (&lines[0]["state"], &lines[0]["by"]),
        (&"valid".into(), &"minimum".into())
    );
    assert_eq!(lines[0]["lldp_ns"]["forward"], 6_000_000);
    assert_eq!(lines[0]["rtt_ns"]["lldp_echo"], 10_500_000);
    assert_eq!(lines[0]["error_ns"]["lldp_echo"], 500_000);
    for null in [
        &lines[0]["rtt_ns"]["bounce"],
        &lines[0]["rtt_ns"]["kernel"],
        &lines[1]["rtt_ns"]["lldp_echo"],
    ] {
        assert!(null.is_null());
    }
    assert_eq!(
        (&lines[2]["echo_ns"], &lines[4]["delay_ns"]),
        (&300_000.into(), &5_250_000.into())
    );
    assert_eq!((&lines[5]["negatives"], &lines[5]["reroutes"]), (&3.into(), &1.into()));
}

#[test]
fn text_has_a_row_for_each_link_and_names_missing_samples() {
    let mut out = Vec::new();
    text::report(&report(), true, None, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for part in [
        "s<1>:1 – s<2>:1",
        "10.50 ms",
        "valid, 3 × below zero",
        "missing",
        "s<1> – s<2>",
        "1 reroute",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_drawing_is_complete_and_escaped_and_reloads_until_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.html");
    let mut drawing = Drawing::create(&path, 5).unwrap();
    let first = std::fs::read_to_string(&path).unwrap();
    assert!(first.contains("http-equiv=\"refresh\" content=\"5\"") && first.ends_with("</html>"));
    drawing.draw(&report(), true);
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(!page.contains("refresh") && page.ends_with("</html>"));
    assert!(page.contains("10.50 ms") && page.contains("s&lt;1&gt;") && !page.contains("s<1>"));
    // No draft is left.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    let error = Drawing::create(&directory.path().join("no/net.html"), 5).err().unwrap();
    assert!(error.to_string().contains("no/net.html: No such file"), "{error}");
    assert!(Drawing::create(directory.path(), 5).is_err());
}

#[test]
fn a_draft_is_not_written_through_a_symlink() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("other"), "kept").unwrap();
    std::os::unix::fs::symlink(path("other"), path("page.part")).unwrap();
    let mut drawing = Drawing::create(&path("page"), 1).unwrap();
    assert_eq!(std::fs::read_to_string(path("other")).unwrap(), "kept");
    assert!(!path("page.part").exists());
    // A draft that cannot be removed is not written to either.
    std::fs::create_dir(path("page.part")).unwrap();
    let before = std::fs::read_to_string(path("page")).unwrap();
    drawing.draw(&report(), true);
    assert_eq!(std::fs::read_to_string(path("page")).unwrap(), before);
}

/// Everything that has a place on the paper.
fn places(svg: &str) -> Vec<String> {
    let attributes = svg.split(['<', '>', ' ']).filter(|part| {
        let of = ["x=", "y=", "width=", "height=", "d=\"", "Q", "viewBox="];
        of.iter().any(|name| part.starts_with(name))
    });
    attributes.map(str::to_owned).collect()
}

#[test]
fn a_new_delay_moves_nothing_in_the_drawing_but_changes_the_colour() {
    let mut sketch = Sketch::default();
    let before = sketch.draw(&report()).0;
    let mut later = report();
    later.links[0] = link(LinkState::Valid, Some(123_456));
    later.links[1].state = LinkState::Stale;
    let after = sketch.draw(&later).0;
    assert_eq!(places(&before), places(&after));
    assert!(
        before.contains("10.50 ms") && before.contains("link valid slow4"),
        "{before}"
    );
    assert!(
        after.contains("123 µs") && after.contains("link valid slow1"),
        "{after}"
    );
    // Another sketch of the same network is the same.
    assert_eq!(Sketch::default().draw(&later).0, after);
}

#[test]
fn a_link_that_loses_lldp_in_one_direction_has_an_arrow_that_way() {
    let mut sketch = Sketch::default();
    let mut drawn = |forward, backward| {
        let mut report = report();
        report.links = vec![link(LinkState::Stale, None)];
        report.links[0].silent = Silence { forward, backward };
        sketch.draw(&report).0
    };
    // The first switch is on the left.
    for (silence, label) in [
        ((true, false), "lost →"),
        ((false, true), "lost ←"),
        ((true, true), "stale"),
    ] {
        let svg = drawn(silence.0, silence.1);
        assert!(svg.contains(&format!(">{label}<")), "{label}: {svg}");
    }
}

#[test]
fn a_large_network_is_drawn_without_labels_and_a_huge_one_not_at_all() {
    let large = |switches: usize| {
        let one = report();
        let switch = |number: usize| SwitchLine {
            dpid: number.to_string(),
            name: format!("a switch with a very long name {number}"),
            ..one.switches[0].clone()
        };
        ControllerReport {
            switches: (1..=switches).map(switch).collect(),
            ..one
        }
    };
    let svg = |switches| Sketch::default().draw(&large(switches)).0;
    assert!(svg(200).contains(">10.50 ms<") && !svg(300).contains(">10.50 ms<"));
    assert!(svg(300).contains(">a switch with a ver…<") && svg(300).matches("<path").count() == 2);
    assert!(svg(501).contains("is not drawn") && !svg(501).contains("<svg"));
    assert!(svg(0).contains("No switch"));
}
