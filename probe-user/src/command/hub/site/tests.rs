#[path = "../../../../examples/hub_page/made_up.rs"]
mod made_up;
mod source {
    pub use crate::command::hub::site::Source;
}

use probe_hub::hub::fleet::{Now, PortId};
use serde_json::Value;

use self::made_up::{MadeUp, alert, beat, measure, name};
use super::*;
use crate::command::hub::site::cells::{Known, news, version_of};
use crate::command::hub::site::view::View;
use crate::serve::openapi::is_as_described;
use crate::serve::site::requests::{ask, json_of, text_of};

const HOSTS: u32 = 24;
const PAIR: &str = "/api/v1/pair?from=host-0014/eth0&to=host-0008/eth0";

fn site() -> HubSite<MadeUp> {
    let now = Now::read();
    let source = MadeUp::new(HOSTS, now);
    beat(&mut source.fleet(), HOSTS, now);
    alert(&mut source.alerts(), now.utc_ns);
    HubSite::new(source)
}

/// The head of the reply to a request for cells, and the number of bytes of all columns.
fn cells(site: &mut HubSite<MadeUp>, query: &str) -> (Value, usize) {
    let body = ask(site, &format!("/api/v1/cells?{query}")).unwrap().body;
    let (length, rest) = body.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
    assert_eq!(length % 4, 0);
    (serde_json::from_slice(&rest[..length]).unwrap(), rest.len() - length)
}

#[test]
fn the_page_gets_all_cells_once_and_then_those_that_change() {
    let mut site = site();
    let (head, bytes) = cells(&mut site, "");
    let pairs = HOSTS * (HOSTS - 1);
    assert_eq!(
        (head["cells"].as_u64(), bytes),
        (Some(pairs.into()), 15 * pairs as usize)
    );
    assert_eq!(head["hosts"][13]["name"], "host-0014");
    assert_eq!(head["silent"][0], serde_json::json!([3, 9, "forward"]));
    let known = format!(
        "since={}&hosts={}",
        head["version"],
        head["hosts_version"].as_str().unwrap()
    );
    assert_eq!(cells(&mut site, &known).0["cells"], 0);
    measure(&mut site.source.matrix(), HOSTS, 5, realtime_ns());
    let (delta, bytes) = cells(&mut site, &known);
    assert_eq!((delta["hosts"].is_null(), bytes), (true, 15 * (HOSTS as usize - 1)));
    // Of other hosts, or of a hub that has begun again, it needs all.
    for unknown in ["since=1&hosts=0", &known.replace("since=", "since=9")] {
        let (head, _) = cells(&mut site, unknown);
        assert!(head["hosts"].is_array() && head["cells"] == pairs, "{unknown}");
    }
    let (head, _) = cells(&mut site, "zone=zone-2");
    assert_eq!((&head["cells"], &head["hosts_in_all"]), (&0.into(), &HOSTS.into()));
    assert_eq!(head["zones"], serde_json::json!(["zone-1"]));
}

#[test]
fn a_pair_of_hosts_has_the_worst_of_its_pairs_of_ports() {
    let now = Now::read();
    let source = MadeUp::new(3, now);
    let mut fleet = source.fleet();
    let mut presence = fleet.port(PortId(2)).unwrap().presence.clone();
    presence.port = "host-0001/eth1".parse().unwrap();
    presence.addresses = vec!["10.9.9.9".parse().unwrap()];
    let content = serde_json::to_vec(&presence).unwrap();
    let allowed = |_: &_| Some(vec!["10.0.0.0/8".parse().unwrap()]);
    fleet.offer(&presence.port.tokens(), Some(&content), 9, now);
    fleet.settle(&allowed, now);
    let mut matrix = source.matrix();
    let mut worse = *matrix.cell(PortId(0), PortId(1)).unwrap();
    (worse.lost_forward, worse.received) = (3, 7);
    let version = matrix.version();
    matrix.take(PortId(3), &mut vec![worse]);
    let view = View::new(&fleet, None, now.monotonic_ns);
    let known = Known {
        since: version,
        hosts_version: version_of(&view),
    };
    let (rows, is_all) = news(&view, &matrix, &known, now.utc_ns);
    let rows: Vec<_> = rows
        .iter()
        .map(|(from, to, cell)| (*from, *to, cell.lost_forward))
        .collect();
    assert_eq!((rows, is_all), (vec![(0, 1, 3)], false));
}

#[test]
fn the_worst_pairs_come_first_and_one_pair_has_its_probes() {
    let mut site = site();
    let top = json_of(&mut site, "/api/v1/top?limit=3");
    assert_eq!(top["loss"][0]["lost_forward"], 10);
    assert_eq!(top["loss"].as_array().unwrap().len(), 3);
    let slowest = [0, 1].map(|index| top["p99"][index]["p99_ns"].as_u64().unwrap());
    assert!(slowest[0] >= slowest[1], "{slowest:?}");
    let pairs = json_of(&mut site, "/api/v1/matrix?from=host-0006&to=host-0004/eth0");
    assert_eq!(pairs["pairs"].as_array().unwrap().len(), 1);
    assert_eq!(pairs["pairs"][0]["p50_ns"], Value::Null);
    let cut = json_of(&mut site, "/api/v1/matrix?limit=7");
    assert_eq!((cut["pairs"].as_array().unwrap().len(), &cut["cut"]), (7, &true.into()));
    assert_eq!(cut["pairs"][0]["lost"], 10);
    let pair = json_of(&mut site, PAIR);
    assert_eq!(pair["by"], "window");
    let probe = &pair["windows"][0]["probes"][0];
    assert!(probe["t1"].is_string() && probe["residence_ns"] == 3_312, "{probe}");
    assert!(probe["t4"].as_str() > probe["t3"].as_str());
    let days = json_of(&mut site, &format!("{PAIR}&range=7d"));
    assert_eq!(
        (&days["by"], &days["windows"][0]["probes"]),
        (&"quarter".into(), &serde_json::json!([]))
    );
}

#[test]
fn wrong_requests_are_refused_in_one_line() {
    let mut site = site();
    for (address, status, line) in [
        ("/api/v1/hosts?x=1", 400, "no parameter 'x'; there are limit"),
        (
            "/api/v1/matrix?from=a.b",
            400,
            "from: 'a.b' is not HOST or HOST/INTERFACE",
        ),
        ("/api/v1/cells?since=x", 400, "since: 'x' is not the version of a reply"),
        ("/api/v1/pair?to=h/p", 400, "from is missing; write HOST/INTERFACE"),
        (
            &format!("{PAIR}&range=0s"),
            400,
            "range: '0s' is not a time from 1s to 400d",
        ),
        (
            "/api/v1/pair?from=h/p&to=h/q",
            404,
            "no port h/p; /api/v1/ports lists them",
        ),
        ("/api/v1/top?limit=0", 400, "limit: '0' is not a number from 1 to 1000"),
    ] {
        let page = ask(&mut site, address).unwrap();
        let reply: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(
            (page.status.as_u16(), reply["error"].as_str()),
            (status, Some(line)),
            "{address}"
        );
    }
    assert_eq!(ask(&mut site, "/api/v1/other"), None);
}

#[test]
fn the_document_describes_each_reply() {
    let mut site = site();
    let document = json_of(&mut site, "/api/v1/openapi.json");
    let schemas = &document["components"]["schemas"];
    for (address, schema) in [
        ("/api/v1/hosts", "Hosts"),
        ("/api/v1/ports?host=host-0001", "Ports"),
        ("/api/v1/matrix", "Pairs"),
        (PAIR, "PairWindows"),
        ("/api/v1/alerts", "Alerts"),
        ("/api/v1/top", "Top"),
    ] {
        let reply = json_of(&mut site, address);
        assert!(
            is_as_described(&reply, &schemas[schema], schemas),
            "{address}: {reply:#}\n{:#}",
            schemas[schema]
        );
    }
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(path == "/api/v1/stream" || ask(&mut site, path).is_some(), "{path}");
    }
}

#[test]
fn metrics_are_of_the_hub_of_hosts_and_of_the_worst_pairs() {
    let mut site = site();
    let text = text_of(&mut site, "/metrics");
    for line in [
        "kstamp_fleet_connected 1",
        "kstamp_fleet_coordinating 1",
        "kstamp_fleet_ports{state=\"alive\"} 24",
        "kstamp_fleet_alerts{kind=\"silent\"} 2",
        "kstamp_fleet_alerts{kind=\"clock\"} 0",
        "kstamp_fleet_host_alive{host=\"host-0001\"} 1",
        "kstamp_fleet_pair_loss_ratio{from=\"host-0006/eth0\",to=\"host-0004/eth0\",direction=\"forward\"} 1",
        "kstamp_fleet_hosts_not_shown 0",
    ] {
        assert!(
            text.lines().any(|got| got.starts_with(line)),
            "{line} is not in\n{text}"
        );
    }
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("kstamp_fleet_host_worst_p99_seconds{"), 24);
    assert_eq!(series("kstamp_fleet_pair_loss_ratio{"), 3 * 50);
}

#[test]
fn readers_of_the_stream_get_alerts_once_and_their_end() {
    let mut site = site();
    let mut records = Records::wanted();
    site.tick(0, &mut records);
    site.tick(0, &mut records);
    assert_eq!(records.kinds(), ["alert", "alert"]);
    let mut greeting = Records::wanted();
    site.greet(&mut greeting);
    assert_eq!(greeting.text(), records.text());
    site.source
        .alerts()
        .answering(name(3), name(9), realtime_ns(), realtime_ns());
    let mut records = Records::wanted();
    site.tick(0, &mut records);
    let text = records.text();
    assert!(
        text.contains("\"end\":\"recovered\"") && records.kinds().len() == 1,
        "{text}"
    );
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(
        HubSite::new(MadeUp::default()).obstacle(),
        Some("no port has announced itself")
    );
    assert_eq!(site().obstacle(), None);
}

#[test]
fn the_page_is_of_files() {
    let mut site = site();
    let page = text_of(&mut site, "/");
    let files: Vec<&str> = page
        .split(['"', '='])
        .filter(|part| part.starts_with("/hub/") || part.starts_with("/web/"))
        .collect();
    assert_eq!(files.len(), 5, "{files:?}");
    for file in files {
        let text = text_of(&mut site, file);
        let imports = text
            .split("from \"./")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for import in imports {
            assert!(ask(&mut site, &format!("/hub/{import}")).is_some(), "{file}: {import}");
        }
    }
}
