//! Whole runs on Open vSwitch's kernel datapath, in both IP versions; skipped where the kernel has none.
//!
//! Made for emulated machines: few probes, coarse bounds.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use support::pair::{assert_delay, run_both};
use support::{can_run, count, ms};
use xtask::lab::{Datapath, Lab, Options, Topology};

const OFTEN: [&str; 2] = ["--interval", "100ms"];

/// Whether there is something to test here; says so if not.
fn on_the_kernel_datapath() -> bool {
    if !can_run() {
        return false;
    }
    let there = Datapath::detect() == Datapath::Kernel;
    if !there {
        println!("SKIPPED: this kernel has no openvswitch module");
    }
    there
}

/// Both agents see both addresses of the other by both paths, without loss, on one clock.
fn all_is_answered(topology: Topology) {
    if !on_the_kernel_datapath() {
        return;
    }
    let lab = Lab::up(topology, &Options::default()).unwrap();
    assert_eq!(lab.datapath(), Datapath::Kernel.describe());
    let [near, _] = run_both(&lab, 8, &OFTEN);
    // Internal ports of the kernel datapath take no native XDP.
    assert_eq!(near.start()["attach"]["receive"], "xdp-generic", "{near:#?}");
    let far = &lab.agents()[1];
    for peer in [far.v4.to_string(), far.v6.to_string()] {
        for path in ["group", "unicast"] {
            let summary = near.summary(&peer, path);
            near.assert_no_loss(&peer, path);
            // Unicast probes begin when the peer has been found.
            assert!((60..=81).contains(&count(summary, "sent")), "{summary:#}");
            assert_eq!(summary["clock"], "same-clock", "{summary:#}");
            assert!(ms(summary, "rtt_ns", "p50") < 20.0, "{summary:#}");
        }
    }
    lab.down().unwrap();
}

#[test]
fn patch_loses_nothing() {
    all_is_answered(Topology::Patch);
}

#[test]
fn vxlan_loses_nothing() {
    all_is_answered(Topology::Vxlan);
}

#[test]
fn delay_is_found_in_its_directions() {
    if !on_the_kernel_datapath() {
        return;
    }
    let lab = Lab::up(Topology::Delay, &Options::default()).unwrap();
    let line = lab.delay_line().unwrap();
    assert!(line.starts_with("netem"), "{line}");
    assert_delay(&lab, &run_both(&lab, 8, &OFTEN));
    lab.down().unwrap();
}
