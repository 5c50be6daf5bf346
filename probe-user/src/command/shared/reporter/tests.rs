use probe_core::agent::event::DownReason;
use serde_json::Value;

use super::*;
use crate::command::{Command, read};
use crate::output::AgentFormat;
use crate::output::fixtures::{self, unmeasured};

fn peer() -> IpAddr {
    [10, 1, 1, 6].into()
}

fn summary() -> Report {
    Report {
        end_ns: monotonic_ns(),
        ..unmeasured("10.1.1.6")
    }
}

fn identity(receive: &str) -> Identity {
    Identity {
        name: "h2:p2".to_owned(),
        version: "0.1.0".to_owned(),
        instance: None,
        receive: receive.to_owned(),
        egress: "tc".to_owned(),
        synchronised: false,
        error_ns: 0,
        stateful: true,
        responder: None,
        volley_limit: None,
    }
}

/// The summary record of a run with these events.
fn reported(events: impl FnOnce(&mut Reporter)) -> Value {
    let records = all_reported(events);
    let mut summaries = records.into_iter().filter(|record| record["type"] == "summary");
    summaries.next().unwrap()
}

fn all_reported(events: impl FnOnce(&mut Reporter)) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let mut reporter = Reporter::open(&OutputConfig {
        agent: "h1:p1".to_owned(),
        format: AgentFormat::Jsonl,
        output: Some(path.clone()),
        samples: None,
    })
    .unwrap();
    events(&mut reporter);
    reporter.end(&[summary()], &[], &BTreeMap::new()).unwrap();
    drop(reporter);
    let written = std::fs::read_to_string(path).unwrap();
    let records = written.lines().map(|line| serde_json::from_str(line).unwrap());
    records.collect()
}

#[test]
fn records_of_hops_have_the_times_of_the_windows_before_them() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let window = fixtures::hop_window();
    // As if the clock were set between them.
    let utc = UtcOffset::new(0, HOUR_NS);
    let records = all_reported(|reporter| {
        reporter.utc = utc;
        reporter.hop_event(&HopEvent::Window(Box::new(window.clone()))).unwrap();
    });
    let hops = records.iter().find(|record| record["type"] == "hops").unwrap();
    assert_eq!(hops["start"], serde_json::json!(utc.utc(window.start_ns)));
}

#[test]
fn a_peer_that_was_down_is_reported_as_such() {
    let found = Found::Multicast;
    let summary = reported(|reporter| {
        reporter.event(Event::PeerUp { peer: peer(), found }).unwrap();
        let reason = DownReason::Silent;
        reporter
            .event(Event::PeerDown {
                peer: peer(),
                found,
                reason,
            })
            .unwrap();
        reporter.event(Event::PeerUp { peer: peer(), found }).unwrap();
    });
    assert_eq!(summary["downs"], 1);
    assert!(summary["down_ns"].as_u64().unwrap() > 0, "{summary:#}");
}

#[test]
fn a_peer_that_has_moved_was_not_down() {
    let found = Found::Multicast;
    let new: IpAddr = [10, 1, 1, 7].into();
    let moved = |peer, from| Event::PeerMoved { peer, found, from };
    let down = Event::PeerDown {
        peer: peer(),
        found,
        reason: DownReason::Ended,
    };
    let left = reported(|reporter| {
        reporter.event(down.clone()).unwrap();
        reporter.event(moved(new, peer())).unwrap();
    });
    assert_eq!((&left["downs"], &left["moved_from"]), (&0.into(), &Value::Null));
    let came = reported(|reporter| reporter.event(moved(peer(), new)).unwrap());
    assert_eq!((&came["downs"], &came["moved_from"]), (&0.into(), &"10.1.1.7".into()));
}

#[test]
fn hops_have_the_peers_name_and_samples_their_stamps() {
    let directory = tempfile::tempdir().unwrap();
    let [output, samples] = ["out", "samples"].map(|name| directory.path().join(name));
    let mut reporter = Reporter::open(&OutputConfig {
        agent: "h1:p1".to_owned(),
        format: AgentFormat::Jsonl,
        output: Some(output.clone()),
        samples: Some(samples.clone()),
    })
    .unwrap();
    reporter.introduced(peer(), &identity("tc"));
    for event in [
        HopEvent::Probe(Box::new(fixtures::hop_sample())),
        HopEvent::Window(Box::new(fixtures::hop_window())),
    ] {
        reporter.hop_event(&event).unwrap();
    }
    drop(reporter);
    let read = |path| serde_json::from_str::<Value>(&std::fs::read_to_string(path).unwrap()).unwrap();
    let hops = read(output);
    assert_eq!((&hops["type"], &hops["peer_name"]), (&"hops".into(), &"h2:p2".into()));
    let parts = hops["parts"].as_array().unwrap();
    assert_eq!(
        (&parts[0]["segment"], &parts[0]["direction"]),
        (&"own_switch".into(), &"forward".into())
    );
    let sample = read(samples);
    assert_eq!(
        (&sample["type"], &sample["lost_segment"]),
        (&"hop_sample".into(), &"underlay".into())
    );
    let [first, last] = [0, 1].map(|place| &sample["stamps"][place]);
    assert_eq!(
        (&first["device"], &last["device"]),
        (&"vxlan_sys_4789".into(), &"eth0".into())
    );
    let sent_ns = sample["sent_ns"].as_u64().unwrap();
    assert_eq!(first["at_ns"].as_u64().unwrap() - sent_ns, 12_000, "by one clock");
}

#[test]
fn the_attach_mode_is_taken_from_the_peers_identity() {
    let reported_mode =
        |receive: &str| reported(|reporter| reporter.introduced(peer(), &identity(receive)))["peer_attach"].clone();
    assert_eq!(reported_mode("xdp-native"), "xdp-native");
    assert_eq!(
        reported_mode("\u{1b}[2J"),
        Value::Null,
        "an unknown mode is not repeated"
    );
    assert_eq!(reported(|_| {})["peer_attach"], Value::Null);
}

#[test]
fn the_start_record_lists_what_is_probed() {
    for (flags, expected) in [
        ("", (true, vec![])),
        ("--peer 10.1.1.6", (true, vec![peer()])),
        ("--no-group --peer 10.1.1.6", (false, vec![peer()])),
    ] {
        let Ok(Command::Agent(config)) = read(&format!("agent --iface p1 {flags}")) else {
            panic!("{flags}");
        };
        assert_eq!(probed(Some(&config.core)), expected, "{flags}");
    }
}
