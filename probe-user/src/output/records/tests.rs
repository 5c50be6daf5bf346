use std::collections::{BTreeMap, BTreeSet};

use probe_core::agent::event::Found;
use probe_core::attach::AttachMode;
use probe_core::session::Outcome;
use probe_core::stats::report::Path;
use probe_io::ping::answer::{ReplyPacket, ReturnedTlv};
use probe_io::port::Engine;
use serde_json::Value;

use super::*;
use crate::command::compare::output::jsonl as compare;
use crate::command::compare::output::tests::comparison;
use crate::command::controller::output::tests::report;
use crate::command::controller::output::{jsonl as controller, model};
use crate::command::hub::output as hub;
use crate::command::path::output::tests as path;
use crate::command::ping::output::{PingSample, PingStart};
use crate::command::volley::output::tests as volley;
use crate::output::field_lists::DISTRIBUTION;
use crate::output::fixtures;
use crate::output::jsonl::record;
use crate::output::left_out::{self, LeftOut};
use crate::output::model::hops::Probe;
use crate::output::model::{Event, InterfaceEvent, PeerEvent, Sample, Start};
use crate::output::time::UtcOffset;

const AGENT: &str = "h1:p1";

/// Lines of the commands that a record belongs to.
fn written() -> Vec<(&'static str, String)> {
    let event = |event| fixtures::exported(fixtures::jsonl(), [event]);
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    };
    let results = || vec![fixtures::good(), fixtures::troubled()];
    let peer = |event| fixtures::peer_change(event, Found::Multicast, Some("h2:p2"));
    let sample = Sample::new(fixtures::ip("10.1.1.6"), Path::Unicast, 7, None, None, Outcome::Lost);
    let ping = PingSample {
        sample: sample.clone(),
        forward_ns: Some(1),
        backward_ns: None,
        clock: None,
        reply: Some(ReplyPacket {
            length: 56,
            ttl: Some(63),
            dscp: None,
            probe_ttl: None,
            tlvs: vec![ReturnedTlv {
                flags: 0x80,
                kind: 200,
                value: vec![1],
                unused: false,
            }],
            is_cut: false,
            tlvs_forged: false,
        }),
    };
    let start = fixtures::start();
    let ping_start = PingStart {
        version: start.version.clone(),
        target: "h2".to_owned(),
        peer: fixtures::ip("10.1.1.6"),
        port: 862,
        engine: Engine::Ebpf,
        engine_reason: String::new(),
        interface: None,
        size: 44,
        ssid: 1,
        dscp: 0,
        authenticated: false,
        interval_ns: 1,
        timeout_ns: 1,
        clock: start.clock,
        kernel: start.kernel.clone(),
        time: start.time,
    };
    let controller_start = model::ControllerEvent::Start(model::Start {
        time: start.time,
        version: "0.1.0",
        listen: "0.0.0.0:6653".parse().unwrap(),
        tls: false,
        period_ns: 1,
        measure_only: false,
        taps: Vec::new(),
    });
    let controller_event = model::ControllerEvent::Event(model::Happened {
        time: start.time,
        event: "link_up",
        text: String::new(),
    });
    let hub_start = hub::HubEvent::Start(hub::Start {
        time: start.time,
        version: "0.1.0",
        name: "hub".to_owned(),
        state: "/var/lib/kstamp/hub".into(),
        servers: Vec::new(),
        nats_server: None,
        hosts: 1,
        listen: None,
    });
    let hub_event = hub::HubEvent::Event(hub::Happened {
        time: start.time,
        event: "enrolled",
        text: String::new(),
    });
    vec![
        ("hub", text(&|out| hub::jsonl(AGENT, &hub_start, out).unwrap())),
        ("hub", text(&|out| hub::jsonl(AGENT, &hub_event, out).unwrap())),
        ("agent", event(Event::Start(start))),
        ("agent", event(Event::Start(fixtures::reflector()))),
        ("agent", event(Event::Ovs(fixtures::ovs_change(None)))),
        (
            "agent",
            event(Event::Ovs(fixtures::ovs_change(Some(fixtures::port_facts())))),
        ),
        (
            "agent",
            event(Event::Start(Start {
                ovs: Some(Box::new(fixtures::port_facts())),
                ..fixtures::start()
            })),
        ),
        ("agent", event(Event::Attach(fixtures::attach_change()))),
        (
            "agent",
            event(Event::Interface(fixtures::interface_change(InterfaceEvent::Joined))),
        ),
        ("agent", event(Event::Peer(peer(PeerEvent::Down)))),
        ("agent", event(Event::Peer(peer(PeerEvent::Moved)))),
        ("agent", event(Event::Clock(fixtures::clock_step(None, 1)))),
        ("agent", event(Event::Windows(fixtures::windows(results())))),
        ("agent", event(Event::End(fixtures::end(results(), [])))),
        ("agent", event(Event::Hops(fixtures::troubled_hops()))),
        ("agent", event(Event::Hops(fixtures::unseen_hops()))),
        ("agent", event(Event::Outlier(fixtures::outlier()))),
        ("agent", event(Event::Outlier(fixtures::unknown_outlier()))),
        (
            "agent",
            text(&|out| record("hop_sample", AGENT, &hop_sample(), out).unwrap()),
        ),
        (
            "agent",
            text(&|out| left_out::json(AGENT)(&LeftOut::now(BTreeMap::from([("sample", 1)])), out).unwrap()),
        ),
        ("agent", text(&|out| record("sample", AGENT, &sample, out).unwrap())),
        ("ping", text(&|out| record("start", AGENT, &ping_start, out).unwrap())),
        ("ping", text(&|out| record("sample", AGENT, &ping, out).unwrap())),
        (
            "path",
            text(&|out| record("start", AGENT, &path::start(), out).unwrap()),
        ),
        (
            "path",
            text(&|out| record("forwarding", AGENT, &path::forwarding(), out).unwrap()),
        ),
        (
            "path",
            text(&|out| record("summary", AGENT, &path::summary(), out).unwrap()),
        ),
        ("compare", text(&|out| compare::write(&comparison(), out).unwrap())),
        (
            "volley",
            text(&|out| record("start", AGENT, &volley::start(), out).unwrap()),
        ),
        (
            "volley",
            text(&|out| record("row", AGENT, &volley::results(), out).unwrap()),
        ),
        (
            "volley",
            text(&|out| record("summary", AGENT, &volley::summary(), out).unwrap()),
        ),
        (
            "volley",
            text(&|out| record("sample", AGENT, &volley::sample(), out).unwrap()),
        ),
        (
            "calibrate",
            text(&|out| compare::floor(AGENT, AttachMode::Tc, None, out).unwrap()),
        ),
        (
            "controller",
            text(&|out| controller::event(AGENT, &controller_start, out).unwrap()),
        ),
        (
            "controller",
            text(&|out| controller::event(AGENT, &controller_event, out).unwrap()),
        ),
        (
            "controller",
            text(&|out| controller::report(AGENT, &report(), true, out).unwrap()),
        ),
    ]
}

/// Of a probe that was answered, with what is known of one that was lost.
fn hop_sample() -> Probe {
    let sample = Probe::new(&fixtures::hop_sample(), UtcOffset::new(0, 0));
    let outlier = fixtures::outlier();
    Probe {
        elapsed_ns: Some(outlier.elapsed_ns),
        parts: outlier.parts,
        rest_ns: Some(outlier.rest_ns),
        ..sample
    }
}

/// All fields by dotted name; a distribution is one field.
fn flatten(name: &str, value: &Value, fields: &mut Vec<(String, Value)>) {
    match value {
        // One field for each reason.
        Value::Object(_) if ["left_out", "send_failed_by"].contains(&name) => {
            fields.push((name.to_owned(), value.clone()))
        }
        Value::Object(object) if ["ovs", "reply"].contains(&name) || !object.contains_key("p999") => {
            if ["ovs", "reply"].contains(&name) {
                fields.push((name.to_owned(), value.clone()));
            }
            for (field, value) in object {
                let name = [name, field].into_iter().filter(|part| !part.is_empty());
                flatten(&name.collect::<Vec<_>>().join("."), value, fields);
            }
        }
        Value::Object(object) => {
            let found: BTreeSet<_> = object.keys().map(String::as_str).collect();
            assert_eq!(found, DISTRIBUTION.iter().map(|&(name, ..)| name).collect(), "{name}");
            fields.push((name.to_owned(), value.clone()));
        }
        Value::Array(items) => {
            fields.push((name.to_owned(), value.clone()));
            let objects = items.iter().filter(|item| item.is_object());
            objects.for_each(|item| flatten(&format!("{name}[]"), item, fields));
        }
        _ => fields.push((name.to_owned(), value.clone())),
    }
}

fn has_type(value: &Value, kind: &str) -> bool {
    match kind.trim_end_matches('?') {
        _ if value.is_null() => kind.ends_with('?'),
        "ns" | "s" | "ppb" | "1/s" | "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "string" | "time" => value.is_string(),
        "distribution" | "object" => value.is_object(),
        kind if kind.starts_with("list") => value.is_array(),
        kind => panic!("{kind}"),
    }
}

#[test]
fn every_field_is_described_and_every_description_has_a_field() {
    let mut missing: BTreeMap<_, BTreeSet<&str>> = RECORDS
        .iter()
        .map(|record| {
            let names = record
                .fields
                .iter()
                .flat_map(|fields| fields.iter().map(|&(name, ..)| name));
            ((record.commands, record.kind), names.collect())
        })
        .collect();
    for (command, line) in written()
        .iter()
        .flat_map(|(command, text)| text.lines().map(move |line| (command, line)))
    {
        let mut object: Value = serde_json::from_str(line).unwrap();
        let kind = object.as_object_mut().unwrap().remove("type").unwrap();
        let agent = object.as_object_mut().unwrap().remove("agent");
        let who = if *command == "compare" { "h1:port1" } else { AGENT };
        assert_eq!(agent, Some(who.into()), "{line}");
        let described = RECORDS
            .iter()
            .find(|record| record.kind == kind && record.commands.split([',', ' ']).any(|of| of == *command))
            .unwrap_or_else(|| panic!("no record {kind} of {command}"));
        let fields: BTreeMap<_, _> = described
            .fields
            .iter()
            .flat_map(|fields| fields.iter().map(|&(name, kind, _)| (name, kind)))
            .collect();
        let mut found = Vec::new();
        flatten("", &object, &mut found);
        for (name, value) in found {
            let kind = fields
                .get(&*name)
                .unwrap_or_else(|| panic!("{name} is not described: {line}"));
            assert!(has_type(&value, kind), "{name} is not of type {kind}: {line}");
            missing
                .get_mut(&(described.commands, described.kind))
                .map(|names| names.remove(&*name));
        }
    }
    missing.retain(|_, names| !names.is_empty());
    assert!(missing.is_empty(), "described, but in no record: {missing:?}");
}
