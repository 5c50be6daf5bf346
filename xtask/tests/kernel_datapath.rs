//! Whole runs on Open vSwitch's kernel datapath, in both IP versions; skipped where the kernel has none.
//!
//! Made for emulated machines: few probes, coarse bounds.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::time::Duration;

use support::{Agent, Finished, can_run, count, ms};
use xtask::lab::{Datapath, Lab, Options, Topology};

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

/// A run of ten seconds with probes each 100 ms; the second agent runs longer, so that its end is not taken for loss.
fn run_both(lab: &Lab) -> [Finished; 2] {
    let [near, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    let interval = ["--interval", "100ms"];
    let far = Agent::start(lab, far, "agent", &[&interval[..], &["--duration", "30s"]].concat());
    let near = Agent::start(lab, near, "agent", &[&interval[..], &["--duration", "8s"]].concat());
    let near = near.wait(Duration::from_secs(20));
    let far = far.stop();
    for agent in [&near, &far] {
        assert!(agent.status.success(), "{agent:#?}");
        agent.assert_consistent();
    }
    [near, far]
}

/// Both agents see both addresses of the other by both paths, without loss, on one clock.
fn all_is_answered(topology: Topology) {
    if !on_the_kernel_datapath() {
        return;
    }
    let lab = Lab::up(topology, &Options::default()).unwrap();
    assert_eq!(lab.datapath(), Datapath::Kernel.describe());
    let [near, _] = run_both(&lab);
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
    let [first, second, ..] = lab.agents() else {
        panic!("two agents")
    };
    let agents = run_both(&lab);
    let sides = [(&agents[0], second, 20.0, 30.0), (&agents[1], first, 30.0, 20.0)];
    for (agent, peer, forward, backward) in sides {
        for peer in [peer.v4.to_string(), peer.v6.to_string()] {
            for path in ["unicast", "group"] {
                let summary = agent.summary(&peer, path);
                let within = |field: &str, low: f64, width: f64| {
                    let p50 = ms(summary, field, "p50");
                    assert!((low..=low + width).contains(&p50), "{field} {p50} ms: {summary:#}");
                };
                within("rtt_ns", 50.0, 2.0);
                within("forward_ns", forward, 1.0);
                within("backward_ns", backward, 1.0);
            }
        }
    }
    lab.down().unwrap();
}
