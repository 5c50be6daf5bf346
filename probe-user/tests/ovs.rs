//! What a real Open vSwitch knows of the measured port.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use probe_host::ovs::{Flow, trace};
use serde_json::{Value, json};
use support::ovs::{OpenVSwitch, can_switch};
use support::{Pair, ip};

/// Bridge br0 with `port1` (internal, moved to the far namespace) and `host1`, whose other end `eth0` is in the near one. A
/// patch joins br0 to br1, which has a tunnel.
fn network() -> Option<(OpenVSwitch, Pair)> {
    if !can_switch() {
        return None;
    }
    let (switch, pair) = (OpenVSwitch::start(), Pair::new()?);
    for bridge in ["br0", "br1"] {
        switch.vsctl(&format!("add-br {bridge} -- set bridge {bridge} datapath_type=netdev"));
    }
    switch.vsctl("set Open_vSwitch . ovs_version=3.1.0");
    switch.run("ip link add host1 type veth peer name eth0");
    switch.run("ip link set host1 up");
    switch.vsctl(
        "add-port br0 host1 -- set interface host1 ofport_request=1 \
         -- add-port br0 in1 tag=7 -- set interface in1 type=internal external_ids:iface-id=vm-1 \
         -- add-port br0 p01 -- set interface p01 type=patch options:peer=p10 \
         -- add-port br1 p10 -- set interface p10 type=patch options:peer=p01 \
         -- add-port br1 vx -- set interface vx type=vxlan options:remote_ip=172.31.1.2 options:key=42",
    );
    switch.run(&format!("ip link set eth0 netns {}", pair.near));
    switch.run(&format!("ip link set in1 netns {}", pair.far));
    for (namespace, port, address) in [(&pair.near, "eth0", "10.2.1.1"), (&pair.far, "in1", "10.2.1.2")] {
        ip(namespace, &format!("address add {address}/24 dev {port}"));
        ip(namespace, &format!("link set {port} up"));
    }
    Some((switch, pair))
}

fn agent(interface: &str, peer: &str, ovsdb: &str) -> String {
    format!("agent --iface {interface} --no-group --peer {peer} --family v4 --ovsdb {ovsdb}")
}

#[test]
fn an_agent_knows_its_port_and_notices_when_that_moves() {
    let Some((switch, pair)) = network() else { return };
    let ovsdb = switch.database().display().to_string();

    let internal = pair.start(&pair.far, &agent("in1", "10.2.1.1", &ovsdb));
    let start = internal.await_type("start");
    let vxlan = json!([{
        "name": "vx", "bridge": "br1", "type": "vxlan", "key": "42", "remote_ip": "172.31.1.2", "local_ip": null,
    }]);
    let facts = json!({
        "bridge": "br0", "datapath_type": "netdev", "port": "in1", "interface": "in1", "type": "internal",
        "ofport": start["ovs"]["ofport"], "vlan": 7, "iface_id": "vm-1", "tunnels": vxlan, "more_tunnels": 0,
        "version": "3.1.0",
    });
    assert_eq!(start["ovs"], facts, "{}", internal.stderr());
    assert!(start["ovs"]["ofport"].is_u64());
    assert!(internal.stop().0.success());

    let veth = pair.start(&pair.near, &agent("eth0", "10.2.1.2", &ovsdb));
    let start = veth.await_type("start");
    assert_eq!(
        (&start["ovs"]["interface"], &start["ovs"]["bridge"]),
        (&json!("host1"), &json!("br0"))
    );
    switch.vsctl("del-port host1 -- add-port br1 host1");
    let is_on = |bridge: Value| move |record: &Value| record["type"] == "ovs" && record["ovs"]["bridge"] == bridge;
    veth.await_record(1, "event", is_on(json!("br1")));
    switch.vsctl("del-port host1");
    veth.await_record(1, "event", |record| record["type"] == "ovs" && record["ovs"].is_null());
    let (status, records, stderr) = veth.stop();
    assert!(status.success(), "{stderr}");
    assert!(
        records
            .iter()
            .any(|record| record["type"] == "window" || record["type"] == "summary")
    );
}

#[test]
fn an_agent_measures_whatever_answers_as_the_database() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let _silent = UnixListener::bind(path("silent")).unwrap();
    std::fs::write(path("file"), "").unwrap();
    let away = "cannot read Open vSwitch's database at";
    for (ovsdb, warning) in [
        ("none".to_owned(), None),
        (
            path("none"),
            Some("No such file or directory (os error 2); trying again. Measuring goes on"),
        ),
        (
            path("file"),
            Some("Connection refused (os error 111); trying again. Measuring goes on"),
        ),
        (
            path("silent"),
            Some("it said nothing for 5 s; trying again. Measuring goes on"),
        ),
    ] {
        let begin = Instant::now();
        let running = pair.start(&pair.near, &agent("port1", "10.1.1.6", &ovsdb));
        let start = running.await_type("start");
        assert!(begin.elapsed() < Duration::from_secs(4), "{ovsdb} delays measuring");
        assert!(start["ovs"].is_null());
        while warning.is_some() && running.stderr().is_empty() && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Time for further attempts.
        std::thread::sleep(Duration::from_millis(1500));
        let (status, _, stderr) = running.stop();
        assert!(status.success(), "{stderr}");
        let lines: Vec<_> = stderr.lines().filter(|line| line.contains(away)).collect();
        assert_eq!(lines.len(), usize::from(warning.is_some()), "{ovsdb}: {stderr}");
        assert!(warning.is_none_or(|warning| lines[0].ends_with(warning)), "{stderr}");
    }
}

#[test]
fn the_forwarding_of_a_flow_is_traced() {
    let Some((switch, _pair)) = network() else { return };
    let flow = Flow {
        bridge: "br0".to_owned(),
        in_port: 1,
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        source: "10.2.1.1".parse().unwrap(),
        destination: "10.2.1.2".parse().unwrap(),
        source_port: 50_000,
        destination_port: 1910,
        ttl: 255,
    };
    let database = switch.database();
    // A patch port is used some time after the database has it.
    let begin = Instant::now();
    while trace(&database, &flow).unwrap().bridges.len() < 2 && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let traced = trace(&database, &flow).unwrap();
    assert_eq!(traced.bridges, ["br0", "br1"]);
    assert!(traced.megaflow.unwrap().contains("in_port=1"));
    assert_eq!(traced.actions.len(), 1);
    let v6 = Flow {
        source: "fd02::1".parse().unwrap(),
        destination: "fd02::2".parse().unwrap(),
        ..flow.clone()
    };
    assert!(trace(&database, &v6).unwrap().megaflow.unwrap().contains("ipv6"));

    let nowhere = Flow {
        bridge: "br9".to_owned(),
        ..flow.clone()
    };
    let error = trace(&database, &nowhere).unwrap_err().to_string();
    assert!(
        error.ends_with("it refused 'ofproto/trace': br9: unknown bridge"),
        "{error:?}"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let error = trace(&elsewhere.path().join("db.sock"), &flow).unwrap_err().to_string();
    assert!(
        error.contains("ovs-vswitchd.pid, which has the process of ovs-vswitchd: No such file"),
        "{error}"
    );
}
