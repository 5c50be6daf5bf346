//! Counts of the records in rotated files, and whether they add up.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Counts in a window and in the summary.
const COUNTS: [&str; 5] = ["sent", "received", "lost", "pending", "send_failed"];

/// All records of one agent so far.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Samples by their state.
    samples: BTreeMap<String, u64>,
    /// Sums of all windows, and the summary.
    windows: BTreeMap<&'static str, u64>,
    summary: Option<BTreeMap<&'static str, u64>>,
    /// Probes without a sample, because the ring buffer was full.
    collector_lost: u64,
    /// Whether the agent left out records.
    left_out: bool,
}

impl Records {
    /// Adds the records of a file.
    pub(super) fn add(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let place = || format!("line {} of {}", number + 1, path.display());
            let line = line.with_context(place)?;
            self.record(&serde_json::from_str(&line).with_context(place)?);
        }
        Ok(())
    }

    fn record(&mut self, record: &Value) {
        let counts = || COUNTS.map(|name| (name, record[name].as_u64().unwrap_or_default()));
        match record["type"].as_str() {
            Some("sample") => {
                let state = record["state"].as_str().unwrap_or_default();
                match self.samples.get_mut(state) {
                    Some(count) => *count += 1,
                    None => drop(self.samples.insert(state.to_owned(), 1)),
                }
            }
            Some("window") => {
                counts()
                    .into_iter()
                    .for_each(|(name, count)| *self.windows.entry(name).or_default() += count);
            }
            Some("summary") => {
                self.summary = Some(BTreeMap::from(counts()));
                self.collector_lost = record["collector_lost"].as_u64().unwrap_or_default();
            }
            Some("output") => self.left_out = true,
            _ => {}
        }
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples.values().sum()
    }

    /// What does not add up.
    pub(super) fn wrong(&self) -> Vec<String> {
        let Some(summary) = &self.summary else {
            return vec!["there is no summary".to_owned()];
        };
        let of_summary = |name| summary.get(name).copied().unwrap_or_default();
        let mut wrong = Vec::new();
        let mut equal = |what: &str, got: u64, want: u64| {
            if got != want {
                wrong.push(format!("{what}: {got} against {want}"));
            }
        };
        for name in COUNTS {
            let of_windows = self.windows.get(name).copied().unwrap_or_default();
            equal(&format!("windows and summary, {name}"), of_windows, of_summary(name));
        }
        let samples = |state| self.samples.get(state).copied().unwrap_or_default();
        // A reply that is late but comes before its probe has expired makes a late sample, and none of a loss.
        let lost = of_summary("lost").clamp(samples("lost"), samples("lost") + samples("late"));
        for (name, samples) in [
            ("received", samples("ok") + self.collector_lost),
            ("lost", lost),
            ("send_failed", samples("failed")),
        ] {
            equal(&format!("samples and summary, {name}"), samples, of_summary(name));
        }
        let resolved = ["received", "lost", "pending"].map(of_summary).iter().sum();
        equal("probes with an outcome and sent", resolved, of_summary("sent"));
        if self.left_out {
            wrong.push("records were left out, because the files were too slow".to_owned());
        }
        wrong
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples: Vec<_> = self
            .samples
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        write!(f, "samples: {}", samples.join(", "))?;
        let counts = COUNTS.map(|name| format!("{} {name}", self.windows.get(name).copied().unwrap_or_default()));
        write!(f, "; windows: {}", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn records(lines: &[Value]) -> Records {
        let mut records = Records::default();
        lines.iter().for_each(|line| records.record(line));
        records
    }

    #[test]
    fn a_record_that_is_missing_is_noticed() {
        let all = [
            json!({"type": "sample", "state": "ok"}),
            json!({"type": "sample", "state": "lost"}),
            json!({"type": "sample", "state": "late"}),
            json!({"type": "window", "sent": 2, "received": 2}),
            json!({"type": "window", "sent": 1, "lost": 1}),
            json!({"type": "summary", "sent": 3, "received": 2, "lost": 1, "collector_lost": 1}),
        ];
        assert!(records(&all).wrong().is_empty(), "{:?}", records(&all).wrong());
        // The late sample alone may stand for the loss.
        for (missing, wrong) in [(0, 1), (1, 0), (2, 0), (3, 2), (5, 1)] {
            let mut others = all.to_vec();
            others.remove(missing);
            let found = records(&others).wrong();
            assert_eq!(found.len(), wrong, "without {}: {found:?}", all[missing]);
        }
        let without_losses = records(&[&all[..1], &all[3..]].concat()).wrong();
        assert_eq!(without_losses.len(), 1, "{without_losses:?}");
        let left_out = [&all[..], &[json!({"type": "output", "left_out": {"sample": 1}})]].concat();
        assert_eq!(records(&left_out).wrong().len(), 1);
    }
}
