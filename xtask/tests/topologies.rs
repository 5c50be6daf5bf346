//! Whole runs between two agents in every topology and IP version, judged by their JSON.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use support::pair::{assert_delay, run_both};
use support::{can_run, count, ms};
use xtask::lab::{Lab, Options, Topology};

fn default_interval_then_every_millisecond(topology: Topology) {
    if !can_run() {
        return;
    }
    let lab = Lab::up(topology, &Options::default()).unwrap();
    let [_, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    let peers = [far.v4.to_string(), far.v6.to_string()];

    let [near, _] = run_both(&lab, 20, &[]);
    for (peer, path) in peers.iter().flat_map(|peer| [(peer, "group"), (peer, "unicast")]) {
        near.assert_no_loss(peer, path);
        let summary = near.summary(peer, path);
        assert!(
            (37..=40).contains(&count(summary, "sent")),
            "40 probes in 20 s: {summary:#}"
        );
        assert_eq!(summary["clock"], "same-clock", "{summary:#}");
        assert!(ms(summary, "rtt_ns", "p50") < 50.0, "{summary:#}");
    }
    assert_eq!(
        near.of_type("window").len(),
        8,
        "two windows of two paths to two addresses: {near:#?}"
    );

    let [near, _] = run_both(&lab, 10, &["--interval", "1ms"]);
    for (peer, path) in peers.iter().flat_map(|peer| [(peer, "group"), (peer, "unicast")]) {
        near.assert_no_loss(peer, path);
        let sent = count(near.summary(peer, path), "sent");
        assert!((8_000..=10_001).contains(&sent), "{sent} probes of 10,000: {near:#?}");
    }
    lab.down().unwrap();
}

#[test]
fn patch_both_families() {
    default_interval_then_every_millisecond(Topology::Patch);
}

#[test]
fn vxlan_both_families() {
    default_interval_then_every_millisecond(Topology::Vxlan);
}

#[test]
fn delay_is_found_in_its_directions() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Topology::Delay, &Options::default()).unwrap();
    assert_delay(&lab, &run_both(&lab, 10, &["--interval", "100ms"]));
    lab.down().unwrap();
}

#[test]
fn veth_in_every_mode() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Topology::Veth, &Options::default()).unwrap();
    let [_, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    for (asked, got) in [
        ("auto", "xdp-generic"),
        ("xdp-native", "xdp-native"),
        ("xdp-generic", "xdp-generic"),
        ("tc", "tc"),
    ] {
        let [near, _] = run_both(&lab, 3, &["--attach", asked, "--interval", "10ms"]);
        assert_eq!(near.start()["attach"]["receive"], got, "{near:#?}");
        assert!(!near.start()["attach_reason"].as_str().unwrap().is_empty());
        for peer in [far.v4.to_string(), far.v6.to_string()] {
            let summary = near.summary(&peer, "unicast");
            let (received, sent) = (count(summary, "received"), count(summary, "sent"));
            // The two native programs are not attached in one instant; what is sent between is dropped by the veth.
            assert!(received > 200 && received + 50 > sent, "{asked}: {summary:#}");
            assert_eq!(summary["attach"]["receive"], got);
        }
    }
    lab.down().unwrap();
}
