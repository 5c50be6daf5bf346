//! Whole runs on Open vSwitch's kernel datapath, in both IP versions; skipped where the kernel has none.
//!
//! For emulated machines: few probes, coarse bounds.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use support::{TOLERANCE_MS, can_run, count, delays, ms, run_both, set_netem};
use xtask::lab::{Datapath, Lab, Topology};

const OFTEN: &str = "--interval 100ms";

/// A lab with the kernel datapath, if one can be built.
fn lab(topology: Topology) -> Option<Lab> {
    if can_run() && Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: this kernel has no openvswitch module");
        return None;
    }
    support::lab(topology)
}

/// Both agents measure both addresses of the other on both paths, without loss, on one clock.
fn assert_nothing_is_lost(topology: Topology) {
    let Some(lab) = lab(topology) else { return };
    assert_eq!(lab.datapath(), Datapath::Kernel.describe());
    let [near, _] = run_both(&lab, 8, OFTEN);
    // Internal ports of the kernel datapath have no native XDP.
    assert_eq!(near.start()["attach"]["receive"], "xdp-generic", "{near:#?}");
    let [_, far] = lab.pair();
    for peer in [far.v4.to_string(), far.v6.to_string()] {
        for path in ["group", "unicast"] {
            let summary = near.summary(&peer, path);
            near.assert_no_loss(&peer, path);
            // Unicast probes begin after discovery.
            assert!((60..=81).contains(&count(summary, "sent")), "{summary:#}");
            assert_eq!(summary["clock"], "same-clock", "{summary:#}");
            assert!(ms(summary, "rtt_ns", "p50") < 20.0, "{summary:#}");
        }
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
    let delayed_by = lab.delayed_by().unwrap();
    assert!(delayed_by.starts_with("netem"), "{delayed_by}");
    let delayed = delays(&lab, &run_both(&lab, 8, OFTEN));
    // What an emulated machine adds to a delay grows with the load of its host, so the same line is measured with 1 ms each way
    // too.
    set_netem(&lab, "delay 1ms", "delay 1ms");
    let short = delays(&lab, &run_both(&lab, 8, OFTEN));
    for (delayed, short) in delayed.iter().zip(&short) {
        let line = format!("{}: {} ms, with 1 ms {} ms", delayed.what, delayed.p50_ms, short.p50_ms);
        println!("{line}");
        assert!(delayed.p50_ms >= delayed.added_ms, "{line}");
        let emulation_ms = short.p50_ms - short.directions;
        let error_ms = delayed.p50_ms - delayed.added_ms - emulation_ms;
        assert!(error_ms.abs() <= delayed.directions * TOLERANCE_MS, "{line}");
    }
    lab.down().unwrap();
}
