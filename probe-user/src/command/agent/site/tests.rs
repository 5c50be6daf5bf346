use std::collections::BTreeSet;

use probe_core::agent::event::Found;
use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{Delays, OneWayClock};
use probe_host::clock::ClockState;
use serde_json::{Value, json};

use super::*;
use crate::output::fixtures;
use crate::output::metrics::{Detail, State};
use crate::output::model::{InterfaceEvent, PeerEvent, Results};
use crate::serve::site::requests::{ask, json_of, take};

fn site() -> AgentSite {
    let mut site = AgentSite::new(
        "h1:p1",
        Arc::new(Mutex::new(Metrics::new(Detail::Peer, None))),
        10_000_000_000,
    );
    let bins = [(161_000, 10), (900_000, 10)];
    let delays = Delays {
        rtt: NativeHistogram::new(10_610_000, bins.into_iter()),
        ..Delays::default()
    };
    let good = Results {
        peer_name: Some("<img src=x>".to_owned()),
        delays: Some(Box::new(delays)),
        ..fixtures::good()
    };
    let synced = Results {
        peer_name: Some("<img src=x>".to_owned()),
        clock: Some(OneWayClock::Synced { bound_ns: 7 }),
        ..fixtures::good_group()
    };
    let change = |event| Event::Peer(fixtures::peer_change(event, Found::Multicast, Some("<img src=x>")));
    for event in [
        Event::Start(fixtures::start()),
        change(PeerEvent::Up),
        change(PeerEvent::Down),
        change(PeerEvent::Moved),
        Event::Interface(fixtures::interface_change(InterfaceEvent::Joined)),
        Event::Ovs(fixtures::ovs_change(Some(fixtures::port_facts()))),
        Event::Attach(fixtures::attach_change()),
        Event::Clock(fixtures::clock_step(None, 7)),
        Event::Windows(fixtures::windows(vec![good, synced])),
        Event::Hops(fixtures::troubled_hops()),
        Event::Outlier(fixtures::outlier()),
        Event::Outlier(fixtures::unknown_outlier()),
        Event::Hops(fixtures::hops()),
    ] {
        take(&mut site, Update::Event(Box::new(event)));
    }
    let clock = ClockState {
        synchronised: true,
        error_ns: 5,
        tai_offset_s: 37,
    };
    let state = State {
        clock: Some(clock),
        ..State::default()
    };
    take(&mut site, Update::State(Box::new(state)));
    site
}

const REPLIES: [(&str, &str); 8] = [
    ("/api/v1/peers", "Peers"),
    ("/api/v1/windows?peer=10.1.1.6", "Windows"),
    ("/api/v1/windows?peer=10.1.1.6&path=group&by=minute&limit=7", "Windows"),
    ("/api/v1/windows?peer=10.1.1.6&since=2026-11-21T10:10:00Z", "Windows"),
    (
        "/api/v1/windows?peer=10.1.1.6&since=0381-09-06T09%3A03%3A59Z",
        "Windows",
    ),
    ("/api/v1/events", "Events"),
    ("/api/v1/hops", "AllHops"),
    ("/api/v1/outliers?peer=10.1.1.6", "Outliers"),
];

/// Goes through a value beside its schema, and notes each described field that is there.
fn compare(value: &Value, name: &str, schema: &Value, schemas: &Value, seen: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return compare(value, name, &schemas[name], schemas, seen);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        if value.is_null() {
            assert!(choices.contains(&json!({"type": "null"})), "{name}: null");
            return;
        }
        let fits = |choice: &&Value| {
            let name = choice["$ref"].as_str().unwrap_or_default().rsplit('/').next().unwrap();
            let kind = &schemas[name]["properties"]["type"]["const"];
            schemas[name].is_object() && (kind.is_null() || *kind == value["type"])
        };
        let choice = choices.iter().find(fits).unwrap_or_else(|| panic!("{name}: {value}"));
        return compare(value, name, choice, schemas, seen);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        schema["const"] == *value || kinds.contains(&kind),
        "{name} is a {kind}, not {schema}"
    );
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = format!("{name}.{field}");
                let property = &schema["properties"][field];
                assert!(property.is_object(), "{path} is not described");
                compare(value, &path, property, schemas, seen);
                seen.insert(path);
            }
            for field in schema["required"].as_array().unwrap() {
                assert!(
                    fields.contains_key(field.as_str().unwrap()),
                    "{name}: no {field} in {value}"
                );
            }
        }
        Value::Array(items) if schema["items"]["prefixItems"].is_null() && schema["prefixItems"].is_null() => {
            items
                .iter()
                .for_each(|item| compare(item, name, &schema["items"], schemas, seen));
        }
        _ => {}
    }
}

#[test]
fn the_document_has_each_field_of_the_replies_and_no_other() {
    let mut site = site();
    let document = json_of(&mut site, "/api/v1/openapi.json");
    let schemas = &document["components"]["schemas"];
    let mut seen = BTreeSet::new();
    for (address, schema) in REPLIES {
        let reply = json_of(&mut site, address);
        compare(&reply, schema, &schemas[schema], schemas, &mut seen);
    }
    let refusal = ask(&mut site, "/api/v1/peers?x=1").unwrap();
    let refusal: Value = serde_json::from_slice(&refusal.body).unwrap();
    compare(&refusal, "Error", &schemas["Error"], schemas, &mut seen);
    for (name, schema) in schemas.as_object().unwrap() {
        for field in schema["properties"].as_object().unwrap().keys() {
            assert!(
                seen.contains(&format!("{name}.{field}")),
                "{name}.{field} is in no reply"
            );
        }
    }
    for path in document["paths"].as_object().unwrap().keys() {
        let is_known = path == "/api/v1/stream" || ask(&mut site, &format!("{path}?peer=10.1.1.6")).is_some();
        assert!(is_known, "{path}");
    }
}

#[test]
fn replies_have_the_newest_first_and_say_when_they_are_cut() {
    let mut site = site();
    let events = json_of(&mut site, "/api/v1/events?limit=2");
    assert_eq!(events["cut"], true);
    let kinds: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["type"])
        .collect();
    assert_eq!(kinds, ["clock", "attach"]);
    let all = json_of(&mut site, "/api/v1/events");
    assert_eq!(
        (all["events"].as_array().unwrap().len(), &all["cut"]),
        (7, &json!(false))
    );
    let peers = json_of(&mut site, "/api/v1/peers");
    assert_eq!(peers["peers"][0]["peer_name"], "<img src=x>");
    assert_eq!(peers["agent"]["attach"]["receive"], "xdp-generic");
    assert_eq!(peers["agent"]["ovs"]["tunnels"][0]["key"], "42");
    assert_eq!(peers["status"]["updates_lost"], 3);
    assert_eq!(peers["peers"][0]["paths"][0]["recent"]["p50_ns"], json!([161_400]));
    let windows = json_of(&mut site, "/api/v1/windows?peer=10.1.1.6");
    let window = &windows["windows"][0];
    assert_eq!(
        (&window["rtt_ns"]["p50"], &window["agent"]),
        (&json!(161_400), &json!("h1:p1"))
    );
    assert_eq!(window["rtt_buckets"].as_array().unwrap().len(), 2);
    let since = format!(
        "/api/v1/windows?peer=10.1.1.6&since={}",
        window["end"].as_str().unwrap()
    );
    assert_eq!(json_of(&mut site, &since)["windows"], json!([]));
}

#[test]
fn wrong_parameters_are_refused_in_one_line() {
    let mut site = site();
    let table = [
        ("peers?pear=1", 400, "no parameter 'pear'; there are limit"),
        ("peers?limit=0", 400, "limit: '0' is not a number from 1 to 20000"),
        (
            "events?limit=20001",
            400,
            "limit: '20001' is not a number from 1 to 20000",
        ),
        ("events?limit=1&limit=1", 400, "limit is given twice"),
        ("windows", 400, "peer is missing; write its address"),
        ("windows?peer=h2", 400, "peer: 'h2' is not an address"),
        (
            "windows?peer=10.1.1.6&path=x",
            400,
            "path: 'x' is not unicast, group or cold",
        ),
        (
            "windows?peer=10.1.1.6&by=hour",
            400,
            "by: 'hour' is not report or minute",
        ),
        (
            "windows?peer=10.1.1.6&since=now",
            400,
            "since: 'now' is not a time of RFC 3339",
        ),
        (
            "windows?peer=10.9.9.9",
            404,
            "no peer 10.9.9.9; /api/v1/peers lists them",
        ),
    ];
    for (address, status, error) in table {
        let page = ask(&mut site, &format!("/api/v1/{address}")).unwrap();
        assert_eq!(page.status, status, "{address}");
        let body: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(body, json!({ "error": error }), "{address}");
    }
    assert!(ask(&mut site, "/api/v1/none").is_none());
}

#[test]
fn hops_are_those_of_the_last_window_with_all_losses_by_place() {
    let mut site = site();
    let hops = &json_of(&mut site, "/api/v1/hops?peer=10.1.1.6")["hops"][0];
    assert_eq!(
        (&hops["latest"]["type"], &hops["latest"]["lost"]),
        (&json!("hops"), &json!(0))
    );
    assert_eq!(
        (&hops["lost"], &hops["lost_unknown"], &hops["outliers"]),
        (&json!(14), &json!(3), &json!(5))
    );
    assert_eq!(
        hops["places"],
        json!([
            {"segment": "underlay", "direction": "forward", "lost": 7},
            {"segment": "underlay", "direction": "backward", "lost": 2},
            {"segment": "reflector", "direction": "both", "lost": 1},
        ])
    );
    let outliers = json_of(&mut site, "/api/v1/outliers?limit=1");
    assert_eq!(
        (&outliers["outliers"][0]["largest_segment"], &outliers["cut"]),
        (&Value::Null, &json!(true))
    );
    for of in ["hops", "outliers"] {
        assert_eq!(
            json_of(&mut site, &format!("/api/v1/{of}?peer=10.1.1.7"))[of],
            json!([])
        );
    }
}

#[test]
fn a_peer_that_is_gone_is_no_longer_listed() {
    let mut site = site();
    let mut change = fixtures::peer_change(PeerEvent::Down, Found::Multicast, None);
    change.reason = Some(probe_core::agent::event::DownReason::Ended);
    take(&mut site, Update::Event(Box::new(Event::Peer(change))));
    assert_eq!(json_of(&mut site, "/api/v1/peers")["peers"], json!([]));
    assert_eq!(json_of(&mut site, "/api/v1/hops")["hops"], json!([]));
    assert_eq!(ask(&mut site, "/api/v1/windows?peer=10.1.1.6").unwrap().status, 404);
}

#[test]
fn the_page_needs_only_files_of_the_server() {
    let mut site = site();
    let page = ask(&mut site, "/").unwrap();
    let mut texts = vec![String::from_utf8(page.body.to_vec()).unwrap()];
    let mut known = BTreeSet::new();
    while let Some(text) = texts.pop() {
        // Addresses in attributes and imports.
        for address in text
            .split('"')
            .filter(|part| part.starts_with("/web/") || part.starts_with("./") || part.starts_with("/agent/"))
        {
            let address = address.replace("./", "/agent/");
            if known.insert(address.clone()) {
                let file = ask(&mut site, &address).unwrap_or_else(|| panic!("no {address}"));
                if !address.contains("uplot") {
                    texts.push(String::from_utf8(file.body.to_vec()).unwrap());
                }
            }
        }
        assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
        for unsafe_way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(unsafe_way), "{unsafe_way}");
        }
    }
    assert!(known.len() >= 10, "{known:?}");
}

#[test]
fn the_stream_has_each_record_of_the_end_by_itself() {
    let mut site = site();
    let mut records = Records::wanted();
    let end = fixtures::end(vec![fixtures::good(), fixtures::good_group()], [("probe_reflected", 3)]);
    site.update(Update::Event(Box::new(Event::End(end))), 0, &mut records);
    let text = records.text();
    let mut types = Vec::new();
    for message in text.split_terminator("\n\n") {
        let (kind, data) = message.split_once('\n').unwrap();
        let record: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(kind.strip_prefix("event: ").unwrap(), record["type"]);
        types.push(record["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, ["summary", "summary", "counters"]);
}
