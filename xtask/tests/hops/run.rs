//! agent1 probes agent2 in a lab, and what it has measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::lab::Lab;

use crate::support::{Agent, Finished, count};

/// Longest wait for an agent, its records and its end.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn hop_options(lab: &Lab, number: usize) -> String {
    format!("--hops --host-netns {}", lab.host_netns(lab.pair()[number]).display())
}

pub struct Running {
    near: Agent,
    far: Agent,
    samples: PathBuf,
}

impl Running {
    pub fn start(lab: &Lab, far_options: &str) -> Self {
        let [near, far] = lab.pair();
        let reflector = Agent::start(lab, far, "reflect", &format!("--family v4 {far_options}"));
        reflector.await_start(LIMIT);
        let samples = lab.scratch().unwrap().join("samples");
        let options = format!(
            "--family v4 --no-group --peer {} --interval 4ms --report 2s --samples {} {}",
            far.v4,
            samples.display(),
            hop_options(lab, 0)
        );
        let near = Agent::start(lab, near, "agent", &options);
        near.await_start(LIMIT);
        Self {
            near,
            far: reflector,
            samples,
        }
    }

    /// Agents have yet to learn at which devices they see probes.
    pub fn await_both_halves(&self) {
        self.near.await_record(LIMIT, "probe with both halves", |record| {
            record["type"] == "hops" && count(record, "both_halves") > 0
        });
    }

    /// Nothing may be hurt by then.
    pub fn end(self) -> Run {
        // The last losses of a phase have to time out, and the other half has to come.
        sleep(Duration::from_secs(5));
        self.near.signal(Signal::SIGTERM);
        let near = self.near.wait(LIMIT).assert_success();
        let far = self.far.stop();
        assert!(far.status.success(), "{far:#?}");
        Run {
            near,
            samples: read(&self.samples),
        }
    }
}

fn read(file: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut records = BTreeMap::<String, Vec<Value>>::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let record: Value = serde_json::from_str(line).expect(line);
        records
            .entry(record["type"].as_str().unwrap().to_owned())
            .or_default()
            .push(record);
    }
    records
}

pub struct Run {
    pub near: Finished,
    /// Records of single probes by type.
    samples: BTreeMap<String, Vec<Value>>,
}

impl Run {
    pub fn hop_samples(&self) -> &[Value] {
        self.samples.get("hop_sample").map_or(&[], Vec::as_slice)
    }

    /// The segments of each probe add up to its round trip to the nanosecond.
    pub fn assert_sums(&self) {
        let samples: BTreeMap<u64, &Value> = self.samples["sample"]
            .iter()
            .filter(|sample| sample["state"] == "ok")
            .map(|sample| (count(sample, "seq"), sample))
            .collect();
        let mut compared = 0;
        for probe in self.hop_samples().iter().filter(|probe| probe["state"] == "ok") {
            let parts = probe["parts"].as_array().unwrap();
            let sum: u64 = parts.iter().map(|part| count(part, "delay_ns")).sum();
            assert_eq!(sum + count(probe, "rest_ns"), count(probe, "elapsed_ns"), "{probe:#}");
            let sample = samples[&count(probe, "seq")];
            assert_eq!(
                count(probe, "elapsed_ns"),
                count(sample, "rtt_ns") + count(sample, "residence_ns"),
                "{sample:#}"
            );
            if probe["far_half"] == true {
                assert_eq!(part_ns(probe, "reflector"), count(sample, "residence_ns"), "{probe:#}");
            }
            compared += 1;
        }
        assert_eq!(compared, samples.len(), "each answered probe is split");
    }

    /// Losses by segment and direction add up to those of each window, and those of the windows to the lost probes.
    pub fn assert_losses_add_up(&self) {
        let mut lost = 0;
        let windows = self.near.of_type("hops");
        for hops in &windows {
            let parts = hops["parts"].as_array().unwrap();
            let placed: u64 = parts.iter().map(|part| count(part, "lost")).sum();
            assert_eq!(
                placed + count(hops, "lost_late") + count(hops, "lost_unknown"),
                count(hops, "lost"),
                "{hops:#}"
            );
            let window = self.near.records.iter().find(|record| {
                record["type"] == "window" && record["start"] == hops["start"] && record["path"] == hops["path"]
            });
            let window = window.unwrap_or_else(|| panic!("no window of {hops:#}"));
            assert_eq!(count(window, "lost"), count(hops, "lost"), "{hops:#} {window:#}");
            lost += count(hops, "lost");
        }
        let records = self
            .hop_samples()
            .iter()
            .filter(|probe| probe["state"] == "lost")
            .count() as u64;
        assert_eq!(lost, records, "{windows:#?}");
    }
}

/// How long a probe was in a segment, in both directions together.
pub fn part_ns(probe: &Value, segment: &str) -> u64 {
    let parts = probe["parts"].as_array().unwrap().iter();
    let of_it = parts.filter(|part| part["segment"] == segment);
    of_it.map(|part| part["delay_ns"].as_u64().unwrap()).sum()
}

pub fn median_ns(probes: &[&Value], segment: &str) -> u64 {
    let mut values: Vec<_> = probes.iter().map(|probe| part_ns(probe, segment)).collect();
    values.sort_unstable();
    values[values.len() / 2]
}
