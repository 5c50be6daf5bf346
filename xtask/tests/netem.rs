//! netem as the test of truth: what it does to packets is what kstamp reports, and in the direction in which it does it.
//!
//! Bounds are 99.9 % intervals of what the sample size allows, and what chance leads out of them, one sample in a thousand,
//! it does not lead out of them twice ([`twice`]). What an emulated machine adds to delays is far below the delays and the
//! jitter that are set.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;
use support::{Agent, can_run, count, ms, pair};
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

/// A lab with a delay line, and who answers at its far end.
struct Scene {
    lab: Lab,
    reflector: Agent,
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = line()?;
        let reflector = Agent::start(&lab, &lab.agents()[1], "reflect", &["--family", "v4"]);
        reflector.await_record(Duration::from_secs(10), "start", |record| record["type"] == "start");
        Some(Self { lab, reflector })
    }

    /// Has netem do something to packets that go each way.
    fn set(&self, forward: &str, backward: &str) {
        // Frames from agent1 leave the line by port22.
        for (port, words) in [("port22", forward), ("port12", backward)] {
            let line = format!("qdisc replace dev {port} root netem limit 100000 {words}");
            let status = self.lab.command("agent3", "tc", line.split(' ')).status().unwrap();
            assert!(status.success(), "tc {line}");
        }
    }

    /// The same, to packets that go one way; the others are delayed by 1 ms.
    fn set_one(&self, way: Way, words: &str) {
        match way {
            Way::Forward => self.set(words, "delay 1ms"),
            Way::Backward => self.set("delay 1ms", words),
        }
    }

    /// Probes agent2 from agent1 by unicast for a while; the summary.
    fn probe(&self, interval: &str, probes: u32) -> Value {
        let options = ["--timeout", "500ms"];
        let agent = pair::probe(&self.lab, interval, probes.into(), &options, Duration::from_secs(60));
        let summary = agent.summary(&self.lab.agents()[1].v4.to_string(), "unicast").clone();
        assert_eq!(count(&summary, "sent"), u64::from(probes), "{summary:#}");
        summary
    }

    fn end(self) {
        assert!(self.reflector.stop().status.success());
        self.lab.down().unwrap();
    }
}

/// Fails if two samples in a row are not as they must be.
fn twice(sample: impl Fn() -> Result<(), String>) {
    if let Err(first) = sample() {
        println!("{first}: once more");
        if let Err(second) = sample() {
            panic!("{first}; {second}");
        }
    }
}

/// Whether what was found lies in an interval.
fn within(what: &str, found: f64, interval: RangeInclusive<f64>) -> Result<(), String> {
    let line = format!(
        "{what}: {found:.2}, expected {:.2} to {:.2}",
        interval.start(),
        interval.end()
    );
    println!("{line}");
    if interval.contains(&found) { Ok(()) } else { Err(line) }
}

/// The 99.9 % interval of a count of events that each of `trials` has with `probability`.
fn events(trials: u64, probability: f64) -> RangeInclusive<f64> {
    let mean = trials as f64 * probability;
    let spread = Z * (mean * (1.0 - probability)).sqrt();
    mean - spread..=mean + spread
}

#[test]
fn loss_is_found_in_its_direction() {
    const PROBES: u32 = 4000;
    let Some(scene) = Scene::new() else { return };
    scene.set("delay 1ms loss 1%", "delay 1ms loss 2%");
    twice(|| {
        let summary = scene.probe("2ms", PROBES);
        let [forward, backward, unknown] =
            ["lost_forward", "lost_backward", "lost_unknown"].map(|field| count(&summary, field));
        // Behind the last answered probe there is no next reply to tell the direction by: one loss in a hundred runs.
        assert!(unknown <= 2, "{summary:#}");
        within("forward loss", forward as f64, events(PROBES.into(), 0.01))?;
        let reflected = u64::from(PROBES) - forward;
        within("backward loss", backward as f64, events(reflected, 0.02))
    });
    scene.end();
}

#[test]
fn duplicates_are_found() {
    const PROBES: u32 = 1500;
    let Some(scene) = Scene::new() else { return };
    for way in [Way::Forward, Way::Backward] {
        scene.set_one(way, "delay 1ms duplicate 2%");
        twice(|| {
            let summary = scene.probe("2ms", PROBES);
            assert_eq!(count(&summary, "lost"), 0, "{way:?}: {summary:#}");
            assert_eq!(
                count(&summary, "received"),
                u64::from(PROBES),
                "a duplicate is no reply more: {summary:#}"
            );
            let duplicates = count(&summary, "duplicates") as f64;
            within(&format!("{way:?} duplicates"), duplicates, events(PROBES.into(), 0.02))
        });
    }
    scene.end();
}

#[test]
fn reordering_is_found() {
    const PROBES: u32 = 800;
    let Some(scene) = Scene::new() else { return };
    for way in [Way::Forward, Way::Backward] {
        // A tenth goes at once and overtakes the one before, which is held for one and a half intervals; no more than that.
        scene.set_one(way, "delay 9ms reorder 10%");
        twice(|| {
            let summary = scene.probe("6ms", PROBES);
            assert_eq!(count(&summary, "lost"), 0, "{way:?}: {summary:#}");
            // Reordered is who is overtaken: was held back, and the next one was not.
            let reordered = count(&summary, "reordered") as f64;
            within(
                &format!("{way:?} reordering"),
                reordered,
                events(PROBES.into(), 0.1 * 0.9),
            )
        });
    }
    scene.end();
}

#[test]
fn delay_and_jitter_are_found_in_their_direction() {
    const PROBES: u32 = 600;
    let Some(scene) = Scene::new() else { return };
    let ways = [("forward_ns", 40.0, 8.0), ("backward_ns", 25.0, 4.0)];
    let [forward, backward] =
        ways.map(|(_, delay_ms, jitter_ms)| format!("delay {delay_ms}ms {jitter_ms}ms distribution normal"));
    scene.set(&forward, &backward);
    twice(|| {
        let summary = scene.probe("8ms", PROBES);
        assert_eq!(count(&summary, "lost"), 0, "{summary:#}");
        let n = count(&summary, "received") as f64;
        for (field, delay_ms, jitter_ms) in ways {
            // Quantiles: an emulated machine pauses now and then, and a few of these make another mean and deviation. Of
            // the normal distribution, by their probability and density; the path itself adds up to 1 ms.
            for (name, deviations, probability, density) in [("p50", 0.0, 0.5, 0.3989), ("p90", 1.2816, 0.9, 0.1755)] {
                let expected = delay_ms + deviations * jitter_ms;
                let spread = Z * f64::sqrt(probability * (1.0 - probability) / n) / (density / jitter_ms);
                let interval = expected - spread..=expected + spread + 1.0;
                within(&format!("{field} {name}, ms"), ms(&summary, field, name), interval)?;
            }
        }
        Ok(())
    });
    scene.end();
}
