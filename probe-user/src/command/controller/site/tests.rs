use serde_json::Value;

use super::*;
use crate::command::controller::output::model::{Happened, Start};
use crate::command::controller::output::tests::report;
use crate::output::time::Utc;
use crate::serve::openapi::is_as_described;
use crate::serve::site::requests::{ask, json_of, take, text_of};

const LINK: &str = "/api/v1/history?link=1:1+2:1";

/// With one report and as many events as are kept, and more.
fn site() -> ControllerSite {
    let mut site = ControllerSite::new("h1");
    take(
        &mut site,
        Update::Start(Start {
            time: Utc { unix_ns: 1 },
            version: "0.1.0",
            listen: "127.0.0.1:6653".parse().unwrap(),
            tls: false,
            period_ns: 500_000_000,
            measure_only: false,
            taps: Vec::new(),
        }),
    );
    for number in 0..MAX_EVENTS + 3 {
        take(
            &mut site,
            Update::Event(Happened {
                time: Utc { unix_ns: 1 },
                event: "trouble",
                text: format!("<b>{number}"),
            }),
        );
    }
    take(&mut site, Update::Report(Box::new(report())));
    site
}

/// A report at this time, without the second link.
fn later(unix_ns: u64) -> Update {
    let mut report = report();
    report.links.truncate(1);
    report.links[0].time = Utc { unix_ns };
    Update::Report(Box::new(report))
}

#[test]
fn the_api_has_the_records_that_the_output_writes() {
    let mut site = site();
    let shown = json_of(&mut site, "/api/v1/links");
    let mut written = Vec::new();
    crate::command::controller::output::jsonl::report("h1", &report(), true, &mut written).unwrap();
    let written: Vec<Value> = written
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let of = |kind: &str| -> Vec<&Value> { written.iter().filter(|record| record["type"] == kind).collect() };
    for (name, kind) in [("links", "link"), ("switches", "switch")] {
        assert_eq!(shown[name].as_array().unwrap().iter().collect::<Vec<_>>(), of(kind));
    }
    assert_eq!(&shown["summary"], of("summary")[0]);
    assert_eq!(shown["start"]["period_ns"], 500_000_000);
    // Both directions are one path.
    for (query, number) in [
        ("", 1),
        ("?from=1&to=2", 1),
        ("?from=2&to=1", 1),
        ("?to=1", 1),
        ("?from=3", 0),
    ] {
        let paths = json_of(&mut site, &format!("/api/v1/paths{query}"));
        assert_eq!(paths["paths"].as_array().unwrap().len(), number, "{query}");
    }
    let events = json_of(&mut site, "/api/v1/events");
    let events = events["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["text"]), (MAX_EVENTS, &"<b>502".into()));
}

#[test]
fn a_request_that_is_wrong_is_refused_in_one_line() {
    let mut site = site();
    let table = [
        ("/api/v1/links?x=1", 400, "no parameter 'x'"),
        ("/api/v1/history", 400, "link is missing"),
        ("/api/v1/history?link=1", 400, "is not two ports"),
        ("/api/v1/history?link=1:1+9:9", 404, "/api/v1/links lists them"),
        ("/api/v1/paths?from=1&from=2", 400, "from is given twice"),
    ];
    for (address, status, part) in table {
        let page = ask(&mut site, address).unwrap();
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        assert_eq!(page.status.as_u16(), status, "{address}");
        assert!(text.contains(part) && !text.contains('\n'), "{address}: {text}");
    }
    assert!(ask(&mut site, "/api/v1/peers").is_none());
}

#[test]
fn a_link_has_an_hour_of_history_and_takes_it_along() {
    const S: u64 = 1_000_000_000;
    let mut site = ControllerSite::new("h1");
    take(&mut site, later(0));
    let rows = |site: &mut ControllerSite| json_of(site, LINK)["history"].as_array().unwrap().clone();
    assert_eq!(rows(&mut site)[0]["rtt_ns"]["lldp_echo"], 10_500_000);
    // Two hours, each second: one row in five seconds is kept, of the last hour.
    for second in 1..7_200 {
        take(&mut site, later(second * S));
    }
    let kept = rows(&mut site);
    assert!((600..=720).contains(&kept.len()), "{}", kept.len());
    let time = |row: &Value| row["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lasts_s = time(&kept[kept.len() - 1]).as_second() - time(&kept[0]).as_second();
    assert!((3_590..=3_600).contains(&lasts_s), "{lasts_s}");
    let mut empty = report();
    empty.links.clear();
    take(&mut site, Update::Report(Box::new(empty)));
    assert_eq!(ask(&mut site, LINK).unwrap().status, StatusCode::NOT_FOUND);
}

#[test]
fn metrics_have_the_last_report_and_a_link_takes_its_series_along() {
    let mut site = site();
    let mut two = report();
    // Another port of the same switches, so that no two links have the same labels.
    two.links[1].from.port = 7;
    // Two switches of one name.
    two.switches[1].name = two.switches[0].name.clone();
    two.links[0].to.switch = two.switches[0].name.clone();
    two.links[1].to.switch = two.switches[0].name.clone();
    take(&mut site, Update::Report(Box::new(two)));
    let text = text_of(&mut site, "/metrics");
    for line in [
        "kstamp_build_info{version=\"0.1.0\"} 1",
        "kstamp_link_rtt_seconds{src_switch=\"s<1> 1\",src_port=\"1\",dst_switch=\"s<1> 2\",dst_port=\"1\",method=\"lldp_echo\"} 0.0105",
        "dst_port=\"1\",state=\"missing\"} 1",
        "kstamp_links{state=\"valid\"} 1",
        "kstamp_switches 2",
        "kstamp_reroutes_total 1",
        "kstamp_controller_probes_answered_total 8",
        "kstamp_metrics_events_lost_total 3",
        "kstamp_switch_echo_seconds{switch=\"s<1> 1\"} 0.0003",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let up = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("kstamp_link_up{"))
            .map(|line| line.as_bytes()[line.len() - 1])
            .collect::<Vec<_>>()
    };
    assert_eq!(up(&text), *b"10");
    // No two series are the same.
    let mut series: Vec<&str> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series)
        .filter(|series| !series.starts_with('#'))
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all);
    take(&mut site, later(9));
    assert_eq!(up(&text_of(&mut site, "/metrics")), *b"1");
}

#[test]
fn links_with_series_are_bounded() {
    let mut site = site();
    let mut many = report();
    let link = many.links[0].clone();
    many.links = (0..2_007)
        .map(|port| {
            let mut link = link.clone();
            link.from.port = port;
            link
        })
        .collect();
    take(&mut site, Update::Report(Box::new(many)));
    let text = text_of(&mut site, "/metrics");
    assert_eq!(
        text.lines().filter(|line| line.starts_with("kstamp_link_up{")).count(),
        2_000
    );
    assert!(text.contains("kstamp_links_not_shown 7"), "{text}");
}

#[test]
fn a_new_reader_gets_the_last_report_and_a_summary_ends_it() {
    let mut site = site();
    let mut records = Records::wanted();
    site.greet(&mut records);
    site.update(later(9), 0, &mut records);
    assert_eq!(
        records.kinds(),
        [
            "start", "link", "link", "switch", "switch", "summary", "link", "switch", "switch", "summary"
        ]
    );
}

#[test]
fn the_page_is_of_files_and_the_drawing_is_escaped() {
    let mut site = site();
    assert_eq!(ControllerSite::new("h1").obstacle(), Some("no switch is connected"));
    assert_eq!(site.obstacle(), None);
    let page = text_of(&mut site, "/");
    let files: Vec<&str> = page
        .split(['"', '='])
        .filter(|part| part.starts_with("/controller/") || part.starts_with("/web/"))
        .collect();
    assert_eq!(files.len(), 6, "{files:?}");
    for file in files {
        assert!(!ask(&mut site, file).unwrap().body.is_empty(), "{file}");
    }
    let drawn = text_of(&mut site, "/drawing");
    assert!(
        drawn.contains("s&lt;1&gt;") && !drawn.contains("s<1>") && !drawn.contains("style="),
        "{drawn}"
    );
}

#[test]
fn the_document_describes_each_reply() {
    let mut site = site();
    let document = json_of(&mut site, "/api/v1/openapi.json");
    let schemas = &document["components"]["schemas"];
    for (address, schema) in [
        ("/api/v1/links", "Links"),
        (LINK, "History"),
        ("/api/v1/paths", "Paths"),
        ("/api/v1/events", "Events"),
    ] {
        let reply = json_of(&mut site, address);
        assert!(
            is_as_described(&reply, &schemas[schema], schemas),
            "{address}: {reply:#}\n{:#}",
            schemas[schema]
        );
    }
    let mut wrong = json_of(&mut site, "/api/v1/links");
    wrong["links"][0]["rtt_ns"]["other"] = 7.into();
    assert!(!is_as_described(&wrong, &schemas["Links"], schemas));
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(path == "/api/v1/stream" || ask(&mut site, path).is_some(), "{path}");
    }
}
