//! `kstamp ping` while the path to its target changes.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use serde_json::Value;
use support::{FAR_V4, Pair, Running, ip, run};

fn answered(record: &Value) -> bool {
    record["type"] == "sample" && record["state"] == "ok"
}

/// Waits until five more probes are answered.
fn goes_on(ping: &Running, what: &str) {
    let before = ping.records().iter().filter(|record| answered(record)).count();
    ping.await_record(before + 5, what, answered);
}

#[test]
fn ping_by_programs_follows_devices_addresses_and_routes() {
    follows("ebpf");
}

#[test]
fn ping_by_a_socket_follows_devices_addresses_and_routes() {
    follows("socket");
}

fn follows(engine: &str) {
    let Some(pair) = Pair::new() else { return };
    let (near, far) = (&pair.near, &pair.far);
    run(&format!(
        "ip link add port3 netns {near} type veth peer name port4 netns {far}"
    ));
    ip(near, "address add 10.1.1.8/32 dev port3");
    ip(far, &format!("address add {FAR_V4}/24 dev port4"));
    ip(near, "link set port3 up");
    ip(far, "link set port4 up");
    let _far = pair.reflector("--family v4");
    let _other = pair.started(far, "reflect --iface port4 --family v4");
    let ping = pair.started(
        near,
        &format!("ping {FAR_V4} -p 1910 -i 50ms -W 300ms --engine {engine}"),
    );
    let says = |what: &str| {
        let said = || ping.stderr().contains(what);
        let waited = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            said()
        });
        assert!(waited, "{engine}: no '{what}': {}", ping.stderr());
    };
    goes_on(&ping, "first replies");

    ip(near, "address delete 10.1.1.5/24 dev port1");
    ip(near, "address add 10.1.1.7/24 dev port1");
    says("its source address is 10.1.1.7 now");
    goes_on(&ping, "replies from the new address");

    ip(near, &format!("route add {FAR_V4}/32 dev port3 src 10.1.1.8"));
    says("the route leaves by port3 now");
    goes_on(&ping, "replies by the new route");

    ip(near, &format!("route delete {FAR_V4}/32 dev port3"));
    says("the route leaves by port1 now");
    ip(near, "link delete port1");
    says("there is no route");
    pair.connect();
    says("port1 was created anew");
    goes_on(&ping, "replies by the new device");

    ip(near, "link delete port1");
    let failed = |record: &Value| record["type"] == "sample" && record["state"] == "failed";
    ping.await_record(1, "probes that do not leave", failed);
    let (status, records, stderr) = ping.stop();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("did not leave"), "{stderr}");
    assert!(records.iter().any(|record| record["type"] == "summary"), "{records:#?}");
}
