use probe_core::agent::event::DownReason;
use serde_json::Value;

use super::*;
use crate::command::{Command, read};
use crate::output::AgentFormat;
use crate::output::fixtures::unmeasured;

fn peer() -> IpAddr {
    [10, 1, 1, 6].into()
}

fn summary() -> Report {
    Report {
        end_ns: monotonic_ns(),
        ..unmeasured("10.1.1.6")
    }
}

/// The summary record of a run with these events.
fn reported(events: impl FnOnce(&mut Reporter)) -> Value {
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
    let mut records = written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.find(|record| record["type"] == "summary").unwrap()
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
fn the_attach_mode_is_taken_from_the_peers_identity() {
    let reported_mode = |receive: &str| {
        let identity = Identity {
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
        };
        reported(|reporter| reporter.introduced(peer(), &identity))["peer_attach"].clone()
    };
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
