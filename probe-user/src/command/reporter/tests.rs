//! What reaches the output, without a port.

use clap::Parser as _;
use probe_core::stats::report::{ClockSteps, Counts, Path, Patterns};
use serde_json::Value;

use super::*;
use crate::command::args::Cli;
use crate::command::config::{Command, validate};
use crate::output::Format;

fn peer() -> IpAddr {
    [10, 1, 1, 6].into()
}

fn summary() -> Report {
    Report {
        peer: peer(),
        path: Path::Unicast,
        start_ns: 0,
        end_ns: monotonic_ns(),
        counts: Counts::default(),
        rtt_ns: None,
        residence_ns: None,
        forward_ns: None,
        backward_ns: None,
        pdv_ns: None,
        ipdv_ns: None,
        clock: None,
        forward_pdv_ns: None,
        backward_pdv_ns: None,
        steps: ClockSteps::default(),
        patterns: Patterns::default(),
    }
}

/// The summary of a run in which `events` happened to the peer.
fn reported(events: impl FnOnce(&mut Reporter)) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let mut reporter = Reporter::open(&OutputConfig {
        format: Format::Jsonl,
        output: Some(path.clone()),
        samples: None,
    })
    .unwrap();
    events(&mut reporter);
    reporter.end(&[summary()], &BTreeMap::new()).unwrap();
    let written = std::fs::read_to_string(path).unwrap();
    let mut records = written.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.find(|record| record["type"] == "summary").unwrap()
}

#[test]
fn a_peer_that_was_down_is_reported_as_such() {
    let found = Found::Multicast;
    let summary = reported(|reporter| {
        reporter.event(Event::PeerUp { peer: peer(), found }).unwrap();
        reporter.event(Event::PeerDown { peer: peer(), found }).unwrap();
        reporter.event(Event::PeerUp { peer: peer(), found }).unwrap();
    });
    assert_eq!(summary["downs"], 1);
    assert!(summary["down_ns"].as_u64().unwrap() > 0, "{summary:#}");
}

#[test]
fn a_peer_says_how_it_is_attached() {
    let said = |receive: &str| {
        let identity = Identity {
            name: "h2:p2".to_owned(),
            version: "0.1.0".to_owned(),
            receive: receive.to_owned(),
            egress: "tc".to_owned(),
            synchronised: false,
            error_ns: 0,
            clock: 0,
            stateful: true,
            responder: None,
        };
        reported(|reporter| reporter.introduced(peer(), &identity))["peer_attach"].clone()
    };
    assert_eq!(said("xdp-native"), "xdp-native");
    assert_eq!(said("\u{1b}[2J"), Value::Null, "what is no mode is not repeated");
    assert_eq!(reported(|_| {})["peer_attach"], Value::Null);
}

#[test]
fn a_subject_says_whom_it_probes() {
    let subject = |flags: &str| {
        let line = format!("kstamp agent --iface p1 {flags}");
        let Ok(Command::Agent(config)) = validate(Cli::parse_from(line.split_whitespace())) else {
            panic!("{flags}");
        };
        let subject = Subject::from(&*config);
        (subject.group_probes, subject.peers.to_vec())
    };
    assert_eq!(subject(""), (true, vec![]));
    assert_eq!(subject("--peer 10.1.1.6"), (true, vec![peer()]));
    assert_eq!(subject("--no-group --peer 10.1.1.6"), (false, vec![peer()]));
}
