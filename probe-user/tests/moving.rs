//! `kstamp ping` while the path to its target changes.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use serde_json::Value;
use support::{FAR_V4, NEAR_V4, Pair, Running, count, ip, run};

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

#[test]
fn an_agent_notices_another_device_with_the_same_index() {
    for engine in ["ebpf", "socket"] {
        let Some(pair) = Pair::new() else { return };
        let (near, far) = (&pair.near, &pair.far);
        let _far = pair.reflector("--family v4");
        let probing = format!("--peer {FAR_V4} --family v4 --interval 20ms --timeout 200ms --report 500ms");
        let agent = pair.started(near, &format!("agent --iface port1 --engine {engine} {probing}"));
        let results = |path: &'static str| {
            move |record: &Value| record["type"] == "window" && record["path"] == path && count(record, "received") > 0
        };
        agent.await_record(1, "results", results("unicast"));
        let index = ip(near, "-o link show port1").split(':').next().unwrap().to_owned();
        // One process, so that no poll comes in between.
        let recreate = format!(
            "link delete port1\n\
             link add port1 index {index} type veth peer name port2 netns {far}\n\
             address add {NEAR_V4}/24 dev port1\n\
             link set port1 up\n"
        );
        let batch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(batch.path(), recreate).unwrap();
        ip(near, &format!("-batch {}", batch.path().display()));
        ip(far, &format!("address add {FAR_V4}/24 dev port2"));
        ip(far, "link set port2 up");
        assert_eq!(ip(near, "-o link show port1").split(':').next(), Some(index.as_str()));
        for event in ["deleted", "back"] {
            agent.await_record(1, event, |record: &Value| record["event"] == event);
        }
        for path in ["unicast", "group"] {
            let before = agent.records().iter().filter(|record| results(path)(record)).count();
            agent.await_record(before + 2, "results of the new device", results(path));
        }
        assert!(agent.stop().0.success());
    }
}
