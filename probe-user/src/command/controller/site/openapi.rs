//! The OpenAPI document.

use serde_json::{Map, Value, json};

use crate::output::records::RECORDS;
use crate::serve::openapi::{fields, list, object, parameter, record, reference, reply};

/// What a row of a link's history has of the record `link`.
const OF_ROW: [&str; 5] = ["time", "state", "rtt_ns.lldp_echo", "rtt_ns.bounce", "rtt_ns.kernel"];

pub(super) fn document() -> Value {
    let dpid = json!({"type": "string"});
    let link = json!({"type": "string", "pattern": "^[0-9a-f]{16}:[0-9]+ [0-9a-f]{16}:[0-9]+$"});
    let stream = json!({
        "200": {"description": "Records, until the client ends it.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        "503": {"description": "There are too many readers."},
    });
    let itself = json!({"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "kstamp controller",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a controller with --web-listen measures. Names are those of the JSON records. Fields may be added, none is renamed.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "paths": {
            "/api/v1/links": get("Links and switches of the last report.", &[], "Links", false),
            "/api/v1/history": get(
                "The round trips of a link in the last hour; the oldest first.",
                &[parameter("link", &link, "Its ports, as in `from` and `to` of the record: datapath:port datapath:port.", true)],
                "History",
                true,
            ),
            "/api/v1/paths": get(
                "Paths of least delay between switches; both directions are one path.",
                &[
                    parameter("from", &dpid, "Datapath of one switch.", false),
                    parameter("to", &dpid, "Datapath of the other one.", false),
                ],
                "Paths",
                false,
            ),
            "/api/v1/events": get("The last events; the newest first.", &[], "Events", false),
            "/api/v1/stream": {"get": {
                "summary": "Each event, and with each report its links and switches, ended by `summary`, as server-sent events: the type is that of the record, and the data is the record.",
                "responses": stream,
            }},
            "/api/v1/openapi.json": {"get": {"summary": "This document.", "responses": itself}},
        },
        "components": {"schemas": schemas()},
    })
}

fn get(summary: &str, parameters: &[Value], schema: &str, has_missing: bool) -> Value {
    let error =
        |why: &str| json!({"description": why, "content": {"application/json": {"schema": reference("Error")}}});
    let mut responses = json!({"200": reply(schema, schema), "400": error("A parameter is wrong.")});
    if has_missing {
        responses["404"] = error("There is no such link.");
    }
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses}})
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    add("Error", object([("error", json!({"type": "string"}))]));
    let of = |kind: &str| {
        let ours = RECORDS.iter().filter(|record| record.commands == "controller");
        let fields = ours
            .filter(|record| record.kind == kind)
            .flat_map(|record| record.fields.iter());
        fields.copied().flatten().collect::<Vec<_>>()
    };
    for (name, kind) in [
        ("Start", "start"),
        ("Link", "link"),
        ("Switch", "switch"),
        ("Path", "path"),
        ("Event", "event"),
        ("Summary", "summary"),
    ] {
        add(name, record(kind, &mut of(kind).into_iter(), &[]));
    }
    let row = of("link");
    add(
        "Row",
        fields(&mut row.into_iter().filter(|(name, ..)| OF_ROW.contains(name))),
    );
    let or_null = |schema: &str| json!({"oneOf": [reference(schema), {"type": "null"}]});
    add(
        "Links",
        object([
            ("start", or_null("Start")),
            ("links", list("Link")),
            ("switches", list("Switch")),
            ("summary", or_null("Summary")),
        ]),
    );
    add(
        "History",
        object([("link", reference("Link")), ("history", list("Row"))]),
    );
    add(
        "Paths",
        object([
            ("paths", list("Path")),
            (
                "cut",
                json!({"type": "boolean", "description": "Whether there are more."}),
            ),
        ]),
    );
    add("Events", object([("events", list("Event"))]));
    Value::Object(schemas)
}
