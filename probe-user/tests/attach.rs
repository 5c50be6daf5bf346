//! Attaching beside foreign programs, and giving up a hook that drops replies.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use aya::programs::XdpMode;
use nix::net::if_::if_nametoindex;
use probe_core::rings::Rings;
use probe_io::backend::ebpf::object::Object;
use support::{FAR_V4, NEAR_V4, Pair, count, ip, summary};

/// Attaches an XDP program that passes everything to `port`, until the object is dropped.
fn attach_xdp(namespace: &str, port: &str) -> Object {
    let (namespace, port) = (namespace.to_owned(), port.to_owned());
    let in_namespace = move || {
        support::in_namespace(&namespace);
        // Without settings our program touches no packet.
        let mut object = Object::load(0, Rings::NONE).unwrap();
        let index = if_nametoindex(port.as_str()).unwrap();
        object
            .xdp()
            .unwrap()
            .attach_to_if_index(index, XdpMode::Driver)
            .unwrap();
        object
    };
    std::thread::spawn(in_namespace).join().unwrap()
}

#[test]
fn a_foreign_xdp_program_is_named_and_left_alone() {
    let Some(pair) = Pair::new() else { return };
    let theirs = attach_xdp(&pair.near, "port1");

    let refused = pair.output(&pair.near, "agent --iface port1 --attach xdp-generic");
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{line}");
    assert!(
        line.contains("kstamp_xdp (id ") && line.contains("--attach tc"),
        "{line}"
    );

    let far = pair.start(&pair.far, "agent --iface port2 --family v4 --interval 20ms");
    let near = pair.start(&pair.near, "agent --iface port1 --family v4 --interval 20ms");
    let start = near.await_type("start");
    assert_eq!(start["attach"]["receive"], "tc", "{start:#}");
    assert!(
        start["attach_reason"].as_str().unwrap().contains("kstamp_xdp (id "),
        "{start:#}"
    );
    far.await_type("peer");
    near.await_type("peer");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (status, records, stderr) = far.stop();
    assert!(status.success(), "{stderr}");
    let reflected = summary(&records, NEAR_V4, "unicast");
    assert!(
        count(reflected, "received") > 10 && count(reflected, "lost") == 0,
        "{reflected:#}"
    );
    assert!(near.stop().0.success());
    let link = ip(&pair.near, "-d link show port1");
    assert!(link.contains("xdp"), "the foreign program is still attached: {link}");
    drop(theirs);
}

#[test]
fn a_hook_that_drops_replies_is_given_up_while_running() {
    let Some(pair) = Pair::new() else { return };
    let (near, far) = (&pair.near, &pair.far);
    // Both ends in one namespace and a native XDP program on the other end: native XDP is safe and chosen.
    ip(far, &format!("link set port2 netns {near}"));
    ip(near, "link set port2 up");
    let theirs = attach_xdp(near, "port2");
    let agent = pair.start(near, "agent --iface port1 --family v4");
    let start = agent.await_type("start");
    assert_eq!(start["attach"]["receive"], "xdp-native", "{start:#}");

    // Without the program on the other end, what native XDP transmits is dropped.
    drop(theirs);
    ip(near, &format!("link set port2 netns {far}"));
    ip(far, &format!("address add {FAR_V4}/24 dev port2"));
    ip(far, "link set port2 up");
    let probing = format!("--peer {NEAR_V4} --family v4 --attach tc --interval 20ms --report 500ms");
    let prober = pair.started(far, &format!("agent --iface port2 {probing}"));
    let change = agent.await_type("attach");
    assert_eq!(change["receive"], "xdp-generic", "{change:#}");
    assert!(change["reason"].as_str().unwrap().contains("dropped"), "{change:#}");
    prober.await_record(2, "results after the change", |record| {
        record["type"] == "window" && record["path"] == "unicast" && record["received"].as_u64().unwrap() > 0
    });
    assert!(prober.stop().0.success());
    assert!(agent.stop().0.success());
}
