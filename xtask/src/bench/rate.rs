//! `cargo xtask bench rate`: the highest rate without loss of each tool, and the CPU time per probe.

pub(super) mod figures;
mod paced;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::bench::place::Place;
use crate::bench::rate::figures::{START_AND_END, per_million, verdict};
use crate::bench::session::{Cpu, Run, Session, cores_in_use};
use crate::bench::tool::{Detail, Pace, Tool};
use crate::bench::tools::ToolArguments;
use crate::signals;

/// Probes/s that are tried in turn until one is not sustained.
const RATES: [u32; 22] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 60_000, 75_000, 90_000, 110_000, 130_000, 160_000, 200_000, 240_000,
    300_000, 360_000, 430_000, 500_000, 700_000, 1_000_000, 1_500_000, 2_000_000,
];

/// How often the distance to a rate that is not sustained is halved. Steps of [`RATES`] are up to 150 % wide.
const HALVINGS: usize = 3;

/// How long each rate is tried.
const STEP: Duration = Duration::from_secs(1);

/// The share of a rate that a tool must send at least.
const MIN_SENT: f64 = 0.95;

/// The loss below which a rate is sustained.
const MAX_LOSS: f64 = 0.001;

/// Tries of a rate before it counts as not sustained: the machine may have been busy.
const MAX_TRIES: usize = 2;

/// Goals: a tool, the others, and how many times as much as the best of them it must sustain.
const GOALS: [(&str, &[&str], f64); 2] = [
    ("kstamp", &["ping"], 2.0),
    ("volley", &["ping", "sockperf", "stamp-suite", "irtt"], 10.0),
];

/// The highest rate that a tool sustains.
#[derive(Debug)]
struct Best {
    rate: f64,
    sent: u64,
    /// Without the time of starting and ending the tool.
    cpu: Cpu,
    /// The reason why the tool does not sustain the next rate.
    limit: String,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    tool: &'a str,
    rate: f64,
    sender_cpu_s_per_million: f64,
    /// The part of it that is not in the kernel.
    sender_user_cpu_s_per_million: f64,
    reflector_cpu_s_per_million: f64,
    machine_cpu_s_per_million: f64,
}

/// `bench rate`.
#[derive(Clone, Debug, Args)]
pub struct RateArguments {
    #[command(flatten)]
    common: ToolArguments,
}

pub(super) fn run(arguments: &RateArguments) -> Result<ExitCode> {
    let (tools, mut json, place) = arguments.common.prepare()?;
    eprintln!("bench: veth pair, {}", cores_in_use()?);
    println!(
        "highest rate with less than 0.1 % loss over {} s, and CPU seconds per million probes at it",
        STEP.as_secs()
    );
    println!(
        "{:<12} {:>9} {:>7} {:>8} {:>8} {:>9} {:>8}  why not faster",
        "tool", "probes/s", "×", "sender", "its user", "reflector", "machine"
    );
    let (mut own, mut rates) = (None, BTreeMap::new());
    for tool in &tools {
        let name = tool.name();
        if let Some(why) = tool.missing() {
            println!("{name:<12} skipped: {why}");
            continue;
        }
        let best = find_best(&place, tool.as_ref());
        signals::check()?;
        match best {
            Ok(Ok(best)) => {
                let own = *own.get_or_insert(best.rate);
                println!("{}", row(name, &best, own));
                rates.insert(name, best.rate);
                let million = |cpu| per_million(cpu, best.sent);
                json.write(&Line {
                    tool: name,
                    rate: best.rate,
                    sender_cpu_s_per_million: million(best.cpu.sender),
                    sender_user_cpu_s_per_million: million(best.cpu.sender_user),
                    reflector_cpu_s_per_million: million(best.cpu.reflector),
                    machine_cpu_s_per_million: million(best.cpu.machine),
                })?;
            }
            Ok(Err(why)) => println!("{name:<12} sustains no rate: {why}"),
            Err(error) => println!("{name:<12} failed: {error:#}"),
        }
    }
    println!(
        "\nmachine: all CPU time of the run, with softirqs. The CPU time of starting and ending the tool is subtracted."
    );
    GOALS
        .iter()
        .filter_map(|goal| ratio(goal, &rates))
        .for_each(|line| println!("{line}"));
    paced::run(&place, &mut json)?;
    Ok(ExitCode::SUCCESS)
}

/// A ratio of sustained rates and its verdict; `None` if no rates are known.
fn ratio((tool, others, goal): &(&str, &[&str], f64), rates: &BTreeMap<&str, f64>) -> Option<String> {
    let best = others
        .iter()
        .filter_map(|other| rates.get(other))
        .copied()
        .reduce(f64::max)?;
    let ratio = rates.get(tool)? / best;
    let others = others.join(", ");
    Some(format!(
        "{tool} ÷ best of {others}: {ratio:.2} (>= {goal}: {})",
        verdict(ratio >= *goal)
    ))
}

/// The highest rate that the tool sustains, or the reason why it does not sustain the lowest.
fn find_best(place: &Place, tool: &dyn Tool) -> Result<Result<Best, String>> {
    let session = Session::start(place, tool)?;
    let start = session.run(START_AND_END, Detail::Counts)?.cpu;
    let found = search(|target| try_rate(&session, target, start))?;
    Ok(found.map(|(best, limit)| match limit {
        Some(limit) => Best { limit, ..best },
        None => best,
    }))
}

/// The result at the highest rate that is sustained, and why a higher one is not; or the reason why the lowest is not.
fn search<T>(mut attempt: impl FnMut(u32) -> Result<Result<T, String>>) -> Result<Result<(T, Option<String>), String>> {
    let (mut best, mut failed) = (None, None);
    for rate in RATES {
        match attempt(rate)? {
            Ok(better) => best = Some((rate, better)),
            Err(why) => {
                failed = Some((rate, why));
                break;
            }
        }
    }
    let ((mut low, mut best), (mut high, mut why)) = match (best, failed) {
        (Some(best), Some(failed)) => (best, failed),
        (Some((_, best)), None) => return Ok(Ok((best, None))),
        (None, failed) => return Ok(Err(failed.map(|(_, why)| why).unwrap_or_default())),
    };
    for _ in 0..HALVINGS {
        let middle = u32::midpoint(low, high);
        match attempt(middle)? {
            Ok(better) => (low, best) = (middle, better),
            Err(reason) => (high, why) = (middle, reason),
        }
    }
    Ok(Ok((best, Some(why))))
}

/// Tries one rate, at most [`MAX_TRIES`] times.
fn try_rate(session: &Session<'_>, target: u32, start: Cpu) -> Result<Result<Best, String>> {
    let pace = Pace {
        interval: Duration::from_secs(1) / target,
        count: target * STEP.as_secs() as u32,
    };
    let mut outcome = Err(String::new());
    for _ in 0..MAX_TRIES {
        let run = match session.run(pace, Detail::Counts) {
            Ok(run) => run,
            // A tool that refuses a rate does not sustain it.
            Err(error) => return Ok(Err(format!("at {target}: {error:#}"))),
        };
        outcome = sustained_rate(target, &run).map(|rate| Best {
            rate,
            sent: run.answers.sent,
            cpu: run.cpu.without(start),
            limit: "no higher rate is tried".to_owned(),
        });
        if outcome.is_ok() {
            break;
        }
    }
    Ok(outcome)
}

/// The sustained rate, or the reason why it was not sustained.
fn sustained_rate(target: u32, run: &Run) -> Result<f64, String> {
    let (sent, received) = (run.answers.sent, run.answers.received);
    let lost = sent.saturating_sub(received) as f64 / sent.max(1) as f64;
    if sent == 0 || lost >= MAX_LOSS {
        return Err(format!("at {target}: {:.2} % lost", lost * 100.0));
    }
    if run.rate < f64::from(target) * MIN_SENT {
        return Err(format!("at {target}: sent {:.0} a second", run.rate));
    }
    Ok(run.rate.min(f64::from(target)))
}

fn row(name: &str, best: &Best, own: f64) -> String {
    format!(
        "{name:<12} {:>9.0} {:>7.2} {:>8.2} {:>8.2} {:>9.2} {:>8.2}  {}",
        best.rate,
        best.rate / own,
        per_million(best.cpu.sender, best.sent),
        per_million(best.cpu.sender_user, best.sent),
        per_million(best.cpu.reflector, best.sent),
        per_million(best.cpu.machine, best.sent),
        best.limit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tool::Answers;

    fn run(sent: u64, received: u64, rate: f64) -> Run {
        Run {
            answers: Answers {
                sent,
                received,
                rtts_ns: Vec::new(),
            },
            rate,
            cpu: Cpu::default(),
        }
    }

    #[test]
    fn a_tool_is_compared_with_the_best_of_those_that_ran() {
        let goal = ("volley", ["ping", "irtt"].as_slice(), 10.0);
        let rates = BTreeMap::from([("volley", 900.0), ("ping", 50.0), ("fping", 900.0)]);
        let line = "volley ÷ best of ping, irtt: 18.00 (>= 10: met)";
        assert_eq!(ratio(&goal, &rates).as_deref(), Some(line));
        assert_eq!(ratio(&goal, &BTreeMap::from([("volley", 900.0)])), None);
    }

    #[test]
    fn the_highest_rate_is_searched_between_steps_too() {
        for (limit, want) in [
            (265_000, Ok((262_500, Some("at 270000")))),
            (240_000, Ok((240_000, Some("at 247500")))),
            (2_000_000, Ok((2_000_000, None))),
            (999, Err("at 1000")),
        ] {
            let attempt = |rate| Ok((rate <= limit).then_some(rate).ok_or(format!("at {rate}")));
            let want = want.map(|(rate, why)| (rate, why.map(str::to_owned)));
            assert_eq!(search(attempt).unwrap(), want.map_err(str::to_owned), "{limit}");
        }
    }

    #[test]
    fn rate_is_sustained_if_it_is_sent_and_answered() {
        for (sent, received, rate, outcome) in [
            (1000, 1000, 1000.0, Ok(1000.0)),
            // No more than the target.
            (1000, 1000, 1100.0, Ok(1000.0)),
            (1000, 1000, 909.0, Err("at 1000: sent 909 a second")),
            (1000, 999, 1000.0, Err("at 1000: 0.10 % lost")),
            (0, 0, 0.0, Err("at 1000: 0.00 % lost")),
        ] {
            assert_eq!(
                sustained_rate(1000, &run(sent, received, rate)),
                outcome.map_err(str::to_owned)
            );
        }
    }
}
