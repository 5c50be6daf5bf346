//! `kstamp controller --web-listen`, with a real Open vSwitch.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::Controller;
use crate::support::http::{ADDRESS, Events, await_json, get, within};
use crate::support::ovs::{OpenVSwitch, can_switch};

/// Waits for metrics that satisfy `wanted`.
fn await_metrics(namespace: &str, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let text = get(namespace, "/metrics").text().to_owned();
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < end, "no {what} in\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn states(reply: &Value) -> Vec<&str> {
    let links = reply["links"].as_array().unwrap().iter();
    links.map(|link| link["state"].as_str().unwrap()).collect()
}

#[test]
fn metrics_and_api_follow_the_links_of_a_real_switch() {
    if !can_switch() {
        return;
    }
    let switch = OpenVSwitch::linked();
    let namespace = switch.namespace.as_str();
    let controller = within(namespace, || Controller::start(&["--web-listen", ADDRESS]));
    assert_eq!(get(namespace, "/readyz").0, 503);
    switch.connect_to(&format!("tcp:{}", controller.address));
    let found = await_json(namespace, "/api/v1/links", |reply| {
        matches!(states(reply)[..], ["valid" | "below_resolution"])
    });
    assert_eq!(get(namespace, "/readyz").0, 200);
    let link = &found["links"][0];
    assert_eq!(
        (&link["from"]["switch"], &link["to"]["switch"], &link["from"]["port"]),
        (&"br1".into(), &"br2".into(), &5.into())
    );
    // The output has the same record.
    let same = controller.wait("the link", |line| {
        line["type"] == "link" && line["time"] == link["time"]
    });
    assert_eq!(&same, link);
    let labels = r#"{src_switch="br1",src_port="5",dst_switch="br2",dst_port="5""#;
    let up = format!("kstamp_link_up{labels}}} 1");
    let metrics = await_metrics(namespace, "link", |text| text.contains(&up));
    assert!(
        metrics.contains(&format!("kstamp_link_rtt_seconds{labels},method=\"lldp_echo\"}} ")),
        "{metrics}"
    );
    let name = "0000000000000001:5+0000000000000002:5";
    let history = get(namespace, &format!("/api/v1/history?link={name}")).json();
    assert_eq!(
        history["history"][0]["rtt_ns"].as_object().unwrap().len(),
        3,
        "{history:#}"
    );
    let drawing = get(namespace, "/drawing").text().to_owned();
    assert!(drawing.contains(">br1<") && drawing.contains(">br2<"), "{drawing}");
    within(namespace, || {
        let mut reader = Events::open("/api/v1/stream");
        assert_eq!(reader.next("start")["listen"], controller.address.to_string());
        reader.next("summary");
        switch.run("ip link set l1 down");
        assert_eq!(reader.next("event")["event"], "link_down");
    });
    let down = await_json(namespace, "/api/v1/links", |reply| states(reply) == ["missing"]);
    assert_eq!(
        down["links"][0]["silent"],
        serde_json::json!({"forward": true, "backward": true})
    );
    await_metrics(namespace, "link that is down", |text| {
        text.contains(&format!("kstamp_link_up{labels}}} 0")) && !text.contains("kstamp_link_rtt_seconds")
    });
    let events = get(namespace, "/api/v1/events").json();
    let kinds: Vec<&Value> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["event"])
        .collect();
    assert!(
        kinds.contains(&&"link_up".into()) && kinds.contains(&&"switch_up".into()),
        "{kinds:?}"
    );
}
