//! The OpenAPI document, made of the lists of fields that the reference pages are made of.

use serde_json::{Map, Value, json};

use crate::command::agent::site::api::{ALL_LOSSES, DEFAULT_LIMIT, MAX_LIMIT, RECENT, STATUS};
use crate::output::field_lists::{DISTRIBUTION, Field, HOPS, ONE_WAY_CLOCK, OUTLIER, of_history};
use crate::output::history::{PEER, ROW};
use crate::output::records::RECORDS;
use crate::serve::openapi::{self, fields, get, list, object, parameter, reference, reply, require};

/// Records that are events.
const EVENTS: [&str; 5] = ["attach", "interface", "peer", "clock", "ovs"];
/// Fields of records that are absent where they have no meaning.
const ABSENT: [(&str, &str); 5] = [
    ("interface", "group"),
    ("peer", "reason"),
    ("peer", "moved_from"),
    ("peer", "name"),
    ("peer", "version"),
];

pub fn document() -> Value {
    let paths = json!({
            "/api/v1/peers": get(
                "This agent, and its peers with their last windows.",
                &[limit()],
                &reply("peers", "Peers"),
                None,
            ),
            "/api/v1/windows": get(
                "Windows of the last hour, or minutes of the last day, of one peer and path; the newest first.",
                &[
                    of_peer(true),
                    parameter("path", &json!({"enum": ["unicast", "group", "cold"], "default": "unicast"}), "How it is probed.", false),
                    parameter("by", &json!({"enum": ["report", "minute"], "default": "report"}), "Windows, or minutes.", false),
                    parameter("since", &json!({"type": "string", "format": "date-time"}), "Only those that ended later.", false),
                    limit(),
                ],
                &reply("windows", "Windows"),
                Some("There is no such peer."),
            ),
            "/api/v1/events": get(
                "The last events: records of the types `attach`, `interface`, `peer` and `clock`; the newest first.",
                &[limit()],
                &reply("events", "Events"),
                None,
            ),
            "/api/v1/hops": get(
                "Where the probes to each peer spent their time in the last window, and where they were lost so far (`--hops`).",
                &[of_peer(false), limit()],
                &reply("hops", "AllHops"),
                None,
            ),
            "/api/v1/outliers": get(
                "The last probes whose round trip took longer than the threshold (`--hops`); the newest first.",
                &[of_peer(false), limit()],
                &reply("outliers", "Outliers"),
                None,
            ),
    });
    openapi::document(
        "kstamp agent",
        "What an agent with --listen measures. Names are those of the JSON records. Fields may be added, none is renamed.",
        "Each record as soon as there is one, as a server-sent event: its type is the type of the record, and its data is the record.",
        paths,
        schemas(),
    )
}

fn of_peer(is_required: bool) -> Value {
    let schema = json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]});
    parameter("peer", &schema, "Address of the peer.", is_required)
}

fn limit() -> Value {
    let schema = json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT});
    parameter(
        "limit",
        &schema,
        "At most so many; `cut` says whether there are more.",
        false,
    )
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    add("Distribution", fields(&mut DISTRIBUTION.iter()));
    add("Status", fields(&mut STATUS.iter()));
    add("Recent", fields(&mut RECENT.iter()));
    add("Start", record("start", &mut of_record("start")));
    let clock = [
        ("synchronised", "boolean", ""),
        ("error_ns", "ns", ""),
        ("tai_offset_s", "s", ""),
    ];
    add("Clock", fields(&mut clock.iter()));
    for kind in EVENTS {
        add(&title(kind), record(kind, &mut of_record(kind)));
    }
    add(
        "Window",
        record(
            "window",
            &mut of_history(&["peer", "path"]).chain(ONE_WAY_CLOCK).chain(ROW),
        ),
    );
    add(
        "OfPath",
        object([("path", json!({"type": "string"})), ("recent", reference("Recent"))]),
    );
    let mut peer = fields(&mut PEER.iter());
    require(&mut peer, "paths", list("OfPath"));
    add("Peer", peer);
    let is_cut = json!({"type": "boolean", "description": "Whether there are more."});
    let start = json!({"oneOf": [reference("Start"), {"type": "null"}], "description": "The record `start`."});
    let peers = [
        ("agent", start),
        ("status", reference("Status")),
        ("peers", list("Peer")),
        ("cut", is_cut.clone()),
    ];
    add("Peers", object(peers));
    add(
        "Windows",
        object([("windows", list("Window")), ("cut", is_cut.clone())]),
    );
    for (kind, list, name) in [("hops", HOPS, "Hops"), ("outlier", OUTLIER, "Outlier")] {
        add(name, record(kind, &mut list.iter()));
    }
    let mut of_hops = fields(&mut ALL_LOSSES.iter());
    require(&mut of_hops, "latest", reference("Hops"));
    add("OfHops", of_hops);
    add("AllHops", object([("hops", list("OfHops")), ("cut", is_cut.clone())]));
    add(
        "Outliers",
        object([("outliers", list("Outlier")), ("cut", is_cut.clone())]),
    );
    let events: Vec<Value> = EVENTS.iter().map(|kind| reference(&title(kind))).collect();
    let events = json!({"type": "array", "items": {"oneOf": events}});
    add("Events", object([("events", events), ("cut", is_cut)]));
    Value::Object(schemas)
}

/// The fields of an agent's record, which comes first among those of its type.
fn of_record(kind: &str) -> impl Iterator<Item = &'static Field> {
    let record = RECORDS.iter().find(|record| record.kind == kind);
    record
        .into_iter()
        .flat_map(|record| record.fields.iter().copied().flatten())
}

fn title(kind: &str) -> String {
    let (first, rest) = kind.split_at(1);
    format!("{}{rest}Event", first.to_uppercase())
}

/// The fields of a record, of which some are absent where they have no meaning.
fn record(kind: &str, list: &mut dyn Iterator<Item = &Field>) -> Value {
    let of_kind = ABSENT.iter().filter(|(of, _)| *of == kind);
    let absent: Vec<&str> = of_kind.map(|(_, name)| *name).collect();
    openapi::record(kind, list, &absent)
}
