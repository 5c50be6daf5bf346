//! netem as the test of truth: what it does to packets is what kstamp reports, and in the direction in which it does it.
//!
//! Bounds are 99.9 % intervals of what the sample size allows ([`within`]), so one run in a thousand fails for each
//! assertion; what an emulated machine adds to delays is far below the delays and the jitter that are set.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Agent, can_run, count, ms};
use xtask::lab::{Lab, Options, Topology};

/// Quantile of the normal distribution for a two-sided interval of 99.9 %.
const Z: f64 = 3.29;

/// Which way netem works on packets, seen from the agent that probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

/// The delay line, with netem under our control.
fn line() -> Option<Lab> {
    if !can_run() {
        return None;
    }
    let lab = Lab::up(Topology::Delay, &Options::default()).unwrap();
    if lab.delay_line().is_some_and(|line| line.starts_with("netem")) {
        return Some(lab);
    }
    println!("SKIPPED: this kernel has no netem");
    None
}

/// Has netem do `words` to packets that go `way`, and nothing to the others.
fn set(lab: &Lab, way: Way, words: &str) {
    // Frames from agent1 leave the line by port22.
    let (port, other) = match way {
        Way::Forward => ("port22", "port12"),
        Way::Backward => ("port12", "port22"),
    };
    for (port, words) in [(port, words), (other, "delay 1ms")] {
        let line = format!("qdisc replace dev {port} root netem limit 100000 {words}");
        let status = lab.command("agent3", "tc", line.split(' ')).status().unwrap();
        assert!(status.success(), "tc {line}");
    }
}

/// Probes agent2 from agent1 by unicast for a while; the summary.
fn probe(lab: &Lab, interval: &str, probes: u32) -> Value {
    let [near, far, ..] = lab.agents() else {
        panic!("two agents")
    };
    let reflector = Agent::start(lab, far, "reflect", &["--family", "v4"]);
    reflector.await_record(Duration::from_secs(10), "start", |record| record["type"] == "start");
    let (peer, probes) = (far.v4.to_string(), probes.to_string());
    let arguments = [
        "--family",
        "v4",
        "--no-group",
        "--peer",
        &peer,
        "--interval",
        interval,
        "--timeout",
        "1s",
        "--count",
        &probes,
    ];
    let agent = Agent::start(lab, near, "agent", &arguments).wait(Duration::from_secs(60));
    assert!(agent.status.success(), "{agent:#?}");
    agent.assert_consistent();
    let summary = agent.summary(&peer, "unicast").clone();
    assert_eq!(count(&summary, "sent").to_string(), probes, "{summary:#}");
    assert!(reflector.stop().status.success());
    summary
}

/// A count of events that each of `trials` has with `probability`, in its 99.9 % interval.
fn within(found: u64, trials: u64, probability: f64, what: &str) {
    let mean = trials as f64 * probability;
    let spread = Z * (mean * (1.0 - probability)).sqrt();
    let found = found as f64;
    println!("{what}: {found} of {trials}, {mean:.0} ± {spread:.0} expected");
    assert!(
        (mean - spread..=mean + spread).contains(&found),
        "{what}: {found}, not {mean:.1} ± {spread:.1}"
    );
}

#[test]
fn loss_is_found_in_its_direction() {
    const PROBES: u32 = 4000;
    let Some(lab) = line() else { return };
    for (way, there, elsewhere) in [
        (Way::Forward, "lost_forward", "lost_backward"),
        (Way::Backward, "lost_backward", "lost_forward"),
    ] {
        set(&lab, way, "delay 1ms loss 1%");
        let summary = probe(&lab, "2ms", PROBES);
        // Behind the last answered probe there is no next reply to tell the direction by: one loss in a hundred runs.
        let directed = count(&summary, there) + count(&summary, "lost_unknown");
        within(directed, PROBES.into(), 0.01, &format!("{way:?} loss"));
        assert!(count(&summary, "lost_unknown") <= 2, "{summary:#}");
        assert_eq!(count(&summary, elsewhere), 0, "{way:?}: {summary:#}");
    }
    lab.down().unwrap();
}

#[test]
fn duplicates_are_found() {
    const PROBES: u32 = 1500;
    let Some(lab) = line() else { return };
    for way in [Way::Forward, Way::Backward] {
        set(&lab, way, "delay 1ms duplicate 2%");
        let summary = probe(&lab, "2ms", PROBES);
        within(
            count(&summary, "duplicates"),
            PROBES.into(),
            0.02,
            &format!("{way:?} duplicates"),
        );
        assert_eq!(count(&summary, "lost"), 0, "{way:?}: {summary:#}");
        assert_eq!(
            count(&summary, "received"),
            u64::from(PROBES),
            "a duplicate is no reply more: {summary:#}"
        );
    }
    lab.down().unwrap();
}

#[test]
fn reordering_is_found() {
    const PROBES: u32 = 800;
    let Some(lab) = line() else { return };
    for way in [Way::Forward, Way::Backward] {
        // A tenth goes at once and overtakes the one before, which is held for one and a half intervals; no more than that.
        set(&lab, way, "delay 9ms reorder 10%");
        let summary = probe(&lab, "6ms", PROBES);
        // Reordered is who is overtaken: was held back, and the next one was not.
        within(
            count(&summary, "reordered"),
            PROBES.into(),
            0.1 * 0.9,
            &format!("{way:?} reordering"),
        );
        assert_eq!(count(&summary, "lost"), 0, "{way:?}: {summary:#}");
    }
    lab.down().unwrap();
}

#[test]
fn delay_and_jitter_are_found_in_their_direction() {
    const PROBES: u32 = 600;
    const DELAY_MS: f64 = 40.0;
    const JITTER_MS: f64 = 8.0;
    let Some(lab) = line() else { return };
    for (way, there, elsewhere) in [
        (Way::Forward, "forward_ns", "backward_ns"),
        (Way::Backward, "backward_ns", "forward_ns"),
    ] {
        set(
            &lab,
            way,
            &format!("delay {DELAY_MS}ms {JITTER_MS}ms distribution normal"),
        );
        let summary = probe(&lab, "8ms", PROBES);
        let n = count(&summary, "received") as f64;
        let (mean, stddev) = (ms(&summary, there, "mean"), ms(&summary, there, "stddev"));
        println!("{way:?}: {mean:.2} ms, standard deviation {stddev:.2} ms");
        // The standard errors of a mean and of a standard deviation; to the mean, the path itself adds up to 1 ms.
        let of_mean = Z * JITTER_MS / n.sqrt();
        let of_stddev = Z * JITTER_MS / (2.0 * n).sqrt();
        assert!(
            (DELAY_MS - of_mean..=DELAY_MS + of_mean + 1.0).contains(&mean),
            "{way:?}: {summary:#}"
        );
        assert!((stddev - JITTER_MS).abs() <= of_stddev, "{way:?}: {summary:#}");
        // The median, not the mean: an emulated machine pauses now and then.
        assert!(
            (1.0..3.0).contains(&ms(&summary, elsewhere, "p50")),
            "{way:?}: {summary:#}"
        );
        assert_eq!(count(&summary, "lost"), 0, "{way:?}: {summary:#}");
    }
    lab.down().unwrap();
}
