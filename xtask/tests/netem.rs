//! kstamp reports netem's delays, losses, duplicates and reordering in the right direction.
//!
//! Bounds are 99.9 % intervals for the sample size; a sample outside is repeated once ([`twice`]). The delay that an
//! emulated machine adds is far below the delays and the jitter that are set.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;
use support::{Agent, count, lab, ms, set_netem};
use xtask::lab::{Lab, Topology};

/// Quantile of the normal distribution for a two-sided interval of 99.9 %.
const Z: f64 = 3.29;

/// The direction in which netem acts, seen from the agent that probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A lab with a delay line of netem, and a reflector at its far end.
struct Fixture {
    lab: Lab,
    reflector: Agent,
}

impl Fixture {
    fn new() -> Option<Self> {
        let lab = lab(Topology::Delay)?;
        if !lab.delayed_by().is_some_and(|means| means.starts_with("netem")) {
            println!("SKIPPED: this kernel has no netem");
            return None;
        }
        let reflector = Agent::reflector(&lab, Duration::from_secs(10));
        Some(Self { lab, reflector })
    }

    /// Sets netem's options for packets of one direction; the others are delayed by 1 ms.
    fn set_one(&self, direction: Direction, options: &str) {
        match direction {
            Direction::Forward => set_netem(&self.lab, options, "delay 1ms"),
            Direction::Backward => set_netem(&self.lab, "delay 1ms", options),
        }
    }

    /// Probes agent2 from agent1 by unicast, and returns the summary.
    fn probe(&self, interval: &str, probes: u32) -> Value {
        let limit = Duration::from_secs(60);
        let agent = Agent::probe(&self.lab, interval, probes.into(), "--timeout 500ms", limit);
        let summary = agent.summary(&self.lab.pair()[1].v4.to_string(), "unicast").clone();
        assert_eq!(count(&summary, "sent"), u64::from(probes), "{summary:#}");
        summary
    }

    fn end(self) {
        assert!(self.reflector.stop().status.success());
        self.lab.down().unwrap();
    }
}

/// Fails if two samples in a row fail.
fn twice(sample: impl Fn() -> Result<(), String>) {
    if let Err(first) = sample() {
        println!("{first}: once more");
        if let Err(second) = sample() {
            panic!("{first}; {second}");
        }
    }
}

/// Fails if a value is outside an interval.
fn within(what: &str, value: f64, interval: RangeInclusive<f64>) -> Result<(), String> {
    let line = format!(
        "{what}: {value:.2}, expected {:.2} to {:.2}",
        interval.start(),
        interval.end()
    );
    println!("{line}");
    if interval.contains(&value) { Ok(()) } else { Err(line) }
}

/// The 99.9 % interval of the number of events that occur in each of `trials` with `probability`.
fn events(trials: u64, probability: f64) -> RangeInclusive<f64> {
    let mean = trials as f64 * probability;
    let spread = Z * (mean * (1.0 - probability)).sqrt();
    mean - spread..=mean + spread
}

#[test]
fn loss_is_reported_in_its_direction() {
    const PROBES: u32 = 4000;
    let Some(fixture) = Fixture::new() else { return };
    set_netem(&fixture.lab, "delay 1ms loss 1%", "delay 1ms loss 2%");
    twice(|| {
        let summary = fixture.probe("2ms", PROBES);
        let [forward, backward, unknown] =
            ["lost_forward", "lost_backward", "lost_unknown"].map(|field| count(&summary, field));
        // After the last reply the direction is unknown: one loss in a hundred runs.
        assert!(unknown <= 2, "{summary:#}");
        within("forward loss", forward as f64, events(PROBES.into(), 0.01))?;
        let reflected = u64::from(PROBES) - forward;
        within("backward loss", backward as f64, events(reflected, 0.02))
    });
    fixture.end();
}

#[test]
fn duplicates_are_counted() {
    const PROBES: u32 = 1500;
    let Some(fixture) = Fixture::new() else { return };
    for direction in [Direction::Forward, Direction::Backward] {
        fixture.set_one(direction, "delay 1ms duplicate 2%");
        twice(|| {
            let summary = fixture.probe("2ms", PROBES);
            assert_eq!(count(&summary, "lost"), 0, "{direction:?}: {summary:#}");
            assert_eq!(
                count(&summary, "received"),
                u64::from(PROBES),
                "a duplicate is no further reply: {summary:#}"
            );
            let duplicates = count(&summary, "duplicates") as f64;
            within(
                &format!("{direction:?} duplicates"),
                duplicates,
                events(PROBES.into(), 0.02),
            )
        });
    }
    fixture.end();
}

#[test]
fn reordering_is_counted() {
    const PROBES: u32 = 800;
    let Some(fixture) = Fixture::new() else { return };
    for direction in [Direction::Forward, Direction::Backward] {
        // A tenth is sent at once and overtakes the packet before it, which is delayed by one and a half intervals.
        fixture.set_one(direction, "delay 9ms reorder 10%");
        twice(|| {
            let summary = fixture.probe("6ms", PROBES);
            assert_eq!(count(&summary, "lost"), 0, "{direction:?}: {summary:#}");
            // A packet is reordered if it is delayed and the next one is not.
            let reordered = count(&summary, "reordered") as f64;
            within(
                &format!("{direction:?} reordering"),
                reordered,
                events(PROBES.into(), 0.1 * 0.9),
            )
        });
    }
    fixture.end();
}

#[test]
fn delay_and_jitter_are_reported_in_their_direction() {
    const PROBES: u32 = 600;
    let Some(fixture) = Fixture::new() else { return };
    let directions = [("forward_ns", 40.0, 8.0), ("backward_ns", 25.0, 4.0)];
    let [forward, backward] =
        directions.map(|(_, delay_ms, jitter_ms)| format!("delay {delay_ms}ms {jitter_ms}ms distribution normal"));
    set_netem(&fixture.lab, &forward, &backward);
    twice(|| {
        let summary = fixture.probe("8ms", PROBES);
        assert_eq!(count(&summary, "lost"), 0, "{summary:#}");
        let n = count(&summary, "received") as f64;
        for (field, delay_ms, jitter_ms) in directions {
            // Quantiles of the normal distribution, by probability and density: a few pauses of an emulated machine change
            // mean and deviation. The path itself adds up to 1 ms.
            for (name, deviations, probability, density) in [("p50", 0.0, 0.5, 0.3989), ("p90", 1.2816, 0.9, 0.1755)] {
                let expected = delay_ms + deviations * jitter_ms;
                let spread = Z * f64::sqrt(probability * (1.0 - probability) / n) / (density / jitter_ms);
                let interval = expected - spread..=expected + spread + 1.0;
                within(&format!("{field} {name}, ms"), ms(&summary, field, name), interval)?;
            }
        }
        Ok(())
    });
    fixture.end();
}
