//! Whole runs between two agents in every topology and IP version, checked by their JSON.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use support::{TOLERANCE_MS, count, delays, lab, ms, run_both};
use xtask::lab::Topology;

/// Two runs: at the default interval, and at 1 ms.
fn assert_nothing_is_lost(topology: Topology) {
    let Some(lab) = lab(topology) else { return };
    let [_, far] = lab.pair();
    let peers = [far.v4.to_string(), far.v6.to_string()];
    let paths = || peers.iter().flat_map(|peer| [(peer, "group"), (peer, "unicast")]);

    let [near, _] = run_both(&lab, 20, "");
    for (peer, path) in paths() {
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

    let [near, _] = run_both(&lab, 10, "--interval 1ms");
    for (peer, path) in paths() {
        near.assert_no_loss(peer, path);
        let sent = count(near.summary(peer, path), "sent");
        assert!((8_000..=10_001).contains(&sent), "{sent} probes of 10,000: {near:#?}");
    }
    lab.down().unwrap();
}

#[test]
fn patch_loses_nothing() {
    assert_nothing_is_lost(Topology::Patch);
}

#[test]
fn vxlan_loses_nothing() {
    assert_nothing_is_lost(Topology::Vxlan);
}

#[test]
fn delay_is_measured_in_each_direction() {
    let Some(lab) = lab(Topology::Delay) else { return };
    for delay in delays(&lab, &run_both(&lab, 10, "--interval 100ms")) {
        let allowed = delay.added_ms..=delay.added_ms + delay.directions * TOLERANCE_MS;
        assert!(allowed.contains(&delay.p50_ms), "{}: {} ms", delay.what, delay.p50_ms);
    }
    lab.down().unwrap();
}

#[test]
fn veth_works_in_every_attach_mode() {
    let Some(lab) = lab(Topology::Veth) else { return };
    let [_, far] = lab.pair();
    for (requested, used) in [
        ("auto", "xdp-generic"),
        ("xdp-native", "xdp-native"),
        ("xdp-generic", "xdp-generic"),
        ("tc", "tc"),
    ] {
        let [near, _] = run_both(&lab, 3, &format!("--attach {requested} --interval 10ms"));
        assert_eq!(near.start()["attach"]["receive"], used, "{near:#?}");
        assert!(!near.start()["attach_reason"].as_str().unwrap().is_empty());
        for peer in [far.v4.to_string(), far.v6.to_string()] {
            let summary = near.summary(&peer, "unicast");
            let (received, sent) = (count(summary, "received"), count(summary, "sent"));
            // Until both native programs are attached, the veth drops packets.
            assert!(received > 200 && received + 50 > sent, "{requested}: {summary:#}");
            assert_eq!(summary["attach"]["receive"], used);
        }
    }
    lab.down().unwrap();
}
