//! Figures as a table and as JSON.

use std::fs;

use serde_json::json;

use crate::figures::{REPEAT, ROUNDS, SINGLES, SOFTIRQ_BATCH, SOFTIRQ_BATCHES, Singles, median};
use crate::softirqs::Attached;
use crate::subject::{EMPTY_TC, EMPTY_XDP, REFLECT, REFLECT_LIMIT, Subject, TWO_CLOCKS, UNSPEC};

/// One subject's figures, in nanoseconds per packet.
pub(crate) struct Row {
    name: &'static str,
    median: f64,
    min: f64,
    baseline: &'static str,
    above: f64,
    /// Of `above` and the empty program of the same hook, over the empty program.
    ratio: f64,
    limit: Option<f64>,
}

/// Nanoseconds per packet, and those above a packet whose softirq no program watches.
struct SoftirqRow {
    name: &'static str,
    median: f64,
    min: f64,
    above: f64,
}

pub(crate) struct Report {
    rows: Vec<Row>,
    /// By subject that reflects: empty program and reflection over empty program and two readings of the clock.
    ratios: Vec<(&'static str, f64)>,
    singles: [(&'static str, f64); 3],
    softirqs: [SoftirqRow; 3],
}

impl Report {
    pub(crate) fn new(subjects: &[Subject], rounds: &[Vec<f64>], singles: &Singles, softirqs: &[[f64; 3]]) -> Self {
        let of = |name: &str| {
            let index = subjects
                .iter()
                .position(|subject| subject.name == name)
                .unwrap_or_default();
            &rounds[index]
        };
        let row = |(subject, figures): (&Subject, &Vec<f64>)| {
            let differences: Vec<f64> = figures.iter().zip(of(subject.baseline)).map(|(a, b)| a - b).collect();
            let is_tc = matches!(subject.expected.0, UNSPEC);
            let empty = median(of(if is_tc { EMPTY_TC } else { EMPTY_XDP }));
            let above = median(&differences);
            Row {
                name: subject.name,
                median: median(figures),
                min: figures.iter().copied().fold(f64::INFINITY, f64::min),
                baseline: subject.baseline,
                above,
                ratio: (empty + above) / empty,
                limit: subject.limit_ns,
            }
        };
        let rows: Vec<Row> = subjects.iter().zip(rounds).map(row).collect();
        let empty = median(of(EMPTY_XDP));
        let above = |name: &str| {
            rows.iter()
                .find(|row| row.name == name)
                .map_or(f64::NAN, |row| row.above)
        };
        let ratio = |name| (name, (empty + above(name)) / (empty + above(TWO_CLOCKS)));
        let softirq_row = |attached: Attached| {
            let of = |attached: Attached| softirqs.iter().map(move |round| round[attached as usize]);
            let figures: Vec<f64> = of(attached).collect();
            let differences: Vec<f64> = of(attached).zip(of(Attached::Nothing)).map(|(a, b)| a - b).collect();
            SoftirqRow {
                name: attached.name(),
                median: median(&figures),
                min: figures.iter().copied().fold(f64::INFINITY, f64::min),
                above: median(&differences),
            }
        };
        Self {
            softirqs: Attached::ALL.map(softirq_row),
            ratios: REFLECT.into_iter().map(ratio).collect(),
            rows,
            singles: [
                ("empty XDP", singles.empty),
                ("reflect v4, above empty", singles.v4),
                ("reflect v6, above empty", singles.v6),
            ],
        }
    }

    pub(crate) fn print(&self) {
        println!("ns per packet, {ROUNDS} rounds of {REPEAT} packets, CPU time of BPF_PROG_TEST_RUN");
        println!(
            "{:30} {:>8} {:>8} {:>8}  {:14} {:>9}  target",
            "", "median", "min", "above", "baseline", "x empty"
        );
        for row in &self.rows {
            let target = row.limit.map_or(String::new(), |limit| {
                format!("<= {limit:.0}: {}", if row.above <= limit { "met" } else { "MISSED" })
            });
            println!(
                "{:30} {:8.1} {:8.1} {:8.1}  {:14} {:9.1}  {target}",
                row.name, row.median, row.min, row.above, row.baseline, row.ratio
            );
        }
        println!("\nEmpty program and reflection, divided by empty program and two readings of the clock");
        for (name, ratio) in &self.ratios {
            let met = if *ratio <= REFLECT_LIMIT { "met" } else { "MISSED" };
            println!("{name:30} {ratio:8.2}  <= {REFLECT_LIMIT}: {met}");
        }
        println!("\nCross-check: the kernel's timing of {SINGLES} single runs of kstamp_xdp on fresh packets, median");
        for (name, ns) in self.singles {
            println!("{name:30} {ns:8.1}");
        }
        println!(
            "\nNET_RX softirqs: ns per packet over the loopback device, one softirq each, {ROUNDS} rounds of {SOFTIRQ_BATCHES} times {SOFTIRQ_BATCH} packets"
        );
        println!("{:30} {:>8} {:>8} {:>8}", "", "median", "min", "above");
        for row in &self.softirqs {
            println!("{:30} {:8.1} {:8.1} {:8.1}", row.name, row.median, row.min, row.above);
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "median_ns": row.median,
                "min_ns": row.min,
                "baseline": row.baseline,
                "above_baseline_ns": row.above,
                "ratio_to_empty": row.ratio,
                "limit_ns": row.limit,
                "met": row.limit.map(|limit| row.above <= limit),
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let singles: Vec<_> = self
            .singles
            .iter()
            .map(|(name, ns)| json!({ "name": name, "median_ns": ns }))
            .collect();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let ratios: Vec<_> = self
            .ratios
            .iter()
            .map(|(name, ratio)| json!({ "name": name, "ratio": ratio, "limit": REFLECT_LIMIT, "met": *ratio <= REFLECT_LIMIT }))
            .collect();
        let softirq = |row: &SoftirqRow| json!({ "name": row.name, "median_ns": row.median, "min_ns": row.min, "above_ns": row.above });
        json!({
            "softirqs": self.softirqs.iter().map(softirq).collect::<Vec<_>>(),
            "kernel": kernel.trim(),
            "ratios_to_two_clocks": ratios,
            "rounds": ROUNDS,
            "packets_per_round": REPEAT,
            "programs": rows,
            "single_runs": singles,
        })
    }
}
