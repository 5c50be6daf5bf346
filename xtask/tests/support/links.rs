//! What a controller's records say of links.

use std::collections::BTreeMap;

use serde_json::Value;

/// No link is used in paths or for broadcast unless its delay is known and not negative.
pub fn assert_only_edges_are_used(records: &[Value]) {
    let mut links = 0;
    for link in records.iter().filter(|record| record["type"] == "link") {
        links += 1;
        assert!(is_edge(link) || link["weight_ns"].is_null(), "{link:#}");
    }
    assert!(links > 0, "no links in {records:#?}");
    // Of one report, links come before paths.
    let mut states = BTreeMap::new();
    for record in records {
        match record["type"].as_str() {
            Some("link") => {
                states.insert(link_key(record), record);
            }
            Some("path") => {
                for hop in record["hops"].as_array().unwrap() {
                    let link = states[&link_key(hop)];
                    assert!(is_edge(link), "{record:#} uses {link:#}");
                }
            }
            _ => {}
        }
    }
}

pub fn is_edge(link: &Value) -> bool {
    link["state"] == "valid" || link["state"] == "below_resolution"
}

/// The names of the switches at both ends, whichever comes first.
fn link_key(link: &Value) -> (String, String) {
    let port = |end: &Value| format!("{}/{}", end["switch"].as_str().unwrap(), end["port"]);
    let (from, to) = (port(&link["from"]), port(&link["to"]));
    if from < to { (from, to) } else { (to, from) }
}

/// Every report of the link between two switches.
pub fn links_between<'a>(records: &'a [Value], one: &str, other: &str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| {
        let switches = [&record["from"]["switch"], &record["to"]["switch"]];
        record["type"] == "link" && (switches == [one, other] || switches == [other, one])
    })
}

/// The last report of each link.
pub fn latest(records: &[Value]) -> BTreeMap<(String, String), &Value> {
    let links = records.iter().filter(|record| record["type"] == "link");
    links.map(|link| (link_key(link), link)).collect()
}
