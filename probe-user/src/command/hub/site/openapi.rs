//! The OpenAPI document, made of the lists of fields that the replies consist of.

use serde_json::{Map, Value, json};

use crate::command::hub::site::api::{DEFAULT_LIMIT, DEFAULT_TOP, MAX_LIMIT, MAX_TOP};
use crate::command::hub::site::rows::{ALERT, HOST, HUB, PAIR, PORT, PROBE};
use crate::output::field_lists::{DISTRIBUTION, ONE_WAY_CLOCK, of_history};
use crate::output::history::ROW;
use crate::serve::openapi::{self, fields, get, list, object, parameter, reference, reply, require};
use crate::serve::site::BINARY;

/// A name as `probe_hub::name` has it.
const HOST_PATTERN: &str = "[A-Za-z0-9_-]{1,63}";
const INTERFACE_PATTERN: &str = "[!-.0-9;-~]{1,15}";

pub fn document() -> Value {
    let host = json!({"type": "string", "pattern": format!("^{HOST_PATTERN}$")});
    let port = json!({"type": "string", "pattern": format!("^{HOST_PATTERN}/{INTERFACE_PATTERN}$")});
    let end = json!({"type": "string", "pattern": format!("^{HOST_PATTERN}(/{INTERFACE_PATTERN})?$")});
    let range = json!({"type": "string", "pattern": "^[1-9][0-9]?[mhd]$", "default": "1h"});
    let mut paths = json!({
        "/api/v1/hosts": get("This hub, and all hosts.", &[limit(DEFAULT_LIMIT, MAX_LIMIT)], &reply("hosts", "Hosts"), None),
        "/api/v1/ports": get(
            "Measured ports.",
            &[parameter("host", &host, "Of this host only.", false), limit(DEFAULT_LIMIT, MAX_LIMIT)],
            &reply("ports", "Ports"),
            None,
        ),
        "/api/v1/matrix": get(
            "The newest window of each pair of ports; the worst pairs first.",
            &[
                parameter("from", &end, "Host or port that probes.", false),
                parameter("to", &end, "Host or port that is probed.", false),
                limit(DEFAULT_LIMIT, MAX_LIMIT),
            ],
            &reply("pairs", "Pairs"),
            None,
        ),
        "/api/v1/pair": get(
            "One pair of ports over time, the newest first: windows with single probes, or for a long range minutes or quarters of an hour.",
            &[
                parameter("from", &port, "Port that probes.", true),
                parameter("to", &port, "Port that is probed.", true),
                parameter("range", &range, "How far back, such as 15m, 1h or 7d.", false),
            ],
            &reply("windows", "PairWindows"),
            Some("There is no such port."),
        ),
        "/api/v1/alerts": get("Alerts that are raised, and the last ones that were resolved; the newest first.", &[], &reply("alerts", "Alerts"), None),
        "/api/v1/top": get(
            "The pairs with the highest loss, and those with the highest 99th percentile.",
            &[limit(DEFAULT_TOP, MAX_TOP)],
            &reply("pairs", "Top"),
            None,
        ),
        "/api/v1/cells": get(
            "The matrix of hosts in columns, for the page: it may change with each version.",
            &[
                parameter("since", &json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}), "Only cells that have changed since the reply of this `version`.", false),
                parameter("hosts", &json!({"type": "string"}), "`hosts_version` of that reply.", false),
                parameter("zone", &json!({"type": "string"}), "Hosts of this zone only.", false),
            ],
            &json!({"description": "cells", "content": {BINARY: {}}}),
            None,
        ),
    });
    let unavailable = json!({
        "description": "The windows cannot be read from the NATS server now.",
        "content": {"application/json": {"schema": reference("Error")}},
    });
    paths["/api/v1/pair"]["get"]["responses"]["503"] = unavailable;
    openapi::document(
        "kstamp hub",
        "What a hub with --listen knows of its fleet. Names are those of the JSON records. Fields may be added, none is renamed.",
        "Alerts as they are raised and resolved, as server-sent events: the type is `alert`, and the data is an object as in /api/v1/alerts.",
        paths,
        schemas(),
    )
}

fn limit(default: usize, most: usize) -> Value {
    let schema = json!({"type": "integer", "minimum": 1, "maximum": most, "default": default});
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
    for (name, list) in [
        ("Hub", HUB),
        ("Host", HOST),
        ("Port", PORT),
        ("Pair", PAIR),
        ("Alert", ALERT),
        ("Probe", PROBE),
    ] {
        add(name, fields(&mut list.iter()));
    }
    add("Distribution", fields(&mut DISTRIBUTION.iter()));
    let mut window = fields(&mut of_history(&[]).chain(ONE_WAY_CLOCK).chain(ROW));
    require(&mut window, "probes", list("Probe"));
    add("PairWindow", window);
    let is_cut = json!({"type": "boolean", "description": "Whether there are more."});
    let of = |name: &'static str, schema: &str| object([(name, list(schema)), ("cut", is_cut.clone())]);
    let mut hosts = of("hosts", "Host");
    require(&mut hosts, "hub", reference("Hub"));
    add("Hosts", hosts);
    add("Ports", of("ports", "Port"));
    let mut pairs = of("pairs", "Pair");
    require(&mut pairs, "version", json!({"type": "integer"}));
    require(&mut pairs, "time", json!({"type": "string", "format": "date-time"}));
    add("Pairs", pairs);
    let mut windows = of("windows", "PairWindow");
    for name in ["from", "to"] {
        require(&mut windows, name, json!({"type": "string"}));
    }
    require(&mut windows, "by", json!({"enum": ["window", "minute", "quarter"]}));
    add("PairWindows", windows);
    let more = json!({"type": "integer", "description": "Raised alerts beyond those."});
    add(
        "Alerts",
        object([("alerts", list("Alert")), ("more", more), ("resolved", list("Alert"))]),
    );
    add("Top", object([("loss", list("Pair")), ("p99", list("Pair"))]));
    Value::Object(schemas)
}
