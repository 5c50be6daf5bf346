//! The OpenAPI document.

use serde_json::{Map, Value, json};

use crate::output::records::RECORDS;
use crate::serve::openapi::{self, fields, get, list, object, parameter, record, reference, reply};

/// What a row of a link's history has of the record `link`.
const OF_ROW: [&str; 5] = ["time", "state", "rtt_ns.lldp_echo", "rtt_ns.bounce", "rtt_ns.kernel"];

pub(super) fn document() -> Value {
    let dpid = json!({"type": "string"});
    let link = json!({"type": "string", "pattern": "^[0-9a-f]{16}:[0-9]+ [0-9a-f]{16}:[0-9]+$"});
    let paths = json!({
            "/api/v1/links": get("Links and switches of the last report.", &[], &reply("Links", "Links"), None),
            "/api/v1/history": get(
                "The round trips of a link in the last hour; the oldest first.",
                &[parameter("link", &link, "Its ports, as in `from` and `to` of the record: datapath:port datapath:port.", true)],
                &reply("History", "History"),
                Some("There is no such link."),
            ),
            "/api/v1/paths": get(
                "Paths of least delay between switches; both directions are one path.",
                &[
                    parameter("from", &dpid, "Datapath of one switch.", false),
                    parameter("to", &dpid, "Datapath of the other one.", false),
                ],
                &reply("Paths", "Paths"),
                None,
            ),
            "/api/v1/events": get("The last events; the newest first.", &[], &reply("Events", "Events"), None),
    });
    openapi::document(
        "kstamp controller",
        "What a controller with --web-listen measures. Names are those of the JSON records. Fields may be added, none is renamed.",
        "Each event, and with each report its links and switches, ended by `summary`, as server-sent events: the type is that of the record, and the data is the record.",
        paths,
        schemas(),
    )
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
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
