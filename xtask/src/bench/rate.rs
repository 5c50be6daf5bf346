//! `cargo xtask bench rate`: how fast each tool can probe without losing, and what a probe costs.

use std::{fs::File, io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    RateArguments,
    place::Place,
    session::{Cpu, Run, Session, cores_in_use},
    tools::{self, Detail, Pace, Tool},
};
use crate::{run, setup, signals};

/// Probes a second that are tried, one after the other until one is not sustained.
const LADDER: [u32; 11] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 150_000, 200_000, 300_000, 500_000,
];

/// How long each is kept up.
const STEP: Duration = Duration::from_secs(1);

/// A rate is sustained if at least this much of it was sent, …
const SENT: f64 = 0.95;

/// … and less than this lost.
const LOST: f64 = 0.001;

/// Too few probes to cost anything: what such a run takes is starting and ending the tool.
const NEARLY_NOTHING: Pace = Pace {
    interval: Duration::from_millis(10),
    count: 10,
};

/// How often a rate is tried before it counts as not sustained: the machine may have had other work.
const TRIES: usize = 2;

/// What a tool sustains.
#[derive(Debug)]
struct Best {
    rate: f64,
    sent: u64,
    /// Without what starting and ending the tool takes.
    cpu: Cpu,
    /// Why not the next one.
    limit: String,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    tool: &'a str,
    rate: f64,
    sender_cpu_s_per_million: f64,
    reflector_cpu_s_per_million: f64,
    machine_cpu_s_per_million: f64,
}

pub(super) fn run(arguments: &RateArguments) -> Result<ExitCode> {
    let tools = tools::chosen(&arguments.common.tool)?;
    let mut json = arguments.common.open_json()?;
    let kstamp = run::built(arguments.common.built.as_deref())?;
    setup::bench_tools();
    signals::catch()?;
    let place = Place::up(&kstamp)?;
    eprintln!("bench: veth pair, {}", cores_in_use()?);
    println!(
        "highest rate with less than 0.1 % loss over {} s, and CPU seconds per million probes at it",
        STEP.as_secs()
    );
    println!(
        "{:<12} {:>9} {:>7} {:>8} {:>9} {:>8}  why not faster",
        "tool", "probes/s", "×", "sender", "reflector", "machine"
    );
    let mut own = None;
    for tool in &tools {
        let name = tool.name();
        if let Some(why) = tool.missing() {
            println!("{name:<12} skipped: {why}");
            continue;
        }
        let best = climb(&place, tool.as_ref());
        signals::check()?;
        match best {
            Ok(Ok(best)) => {
                let own = *own.get_or_insert(best.rate);
                println!("{}", row(name, &best, own));
                if let Some(json) = &mut json {
                    write(json, name, &best)?;
                }
            }
            Ok(Err(why)) => println!("{name:<12} sustains no rate: {why}"),
            Err(error) => println!("{name:<12} failed: {error:#}"),
        }
    }
    println!(
        "\nmachine: all CPU time of the run, the kernel's softirqs included. Of each figure that of a run of ten probes"
    );
    println!("is taken off: loading a tool, or its programs, is no cost of a probe.");
    Ok(ExitCode::SUCCESS)
}

/// The last rate of the ladder that the tool sustains, or why it does not sustain even the first.
fn climb(place: &Place, tool: &dyn Tool) -> Result<Result<Best, String>> {
    let session = Session::start(place, tool)?;
    let start = session.run(NEARLY_NOTHING, Detail::Counts)?.cpu;
    let mut best = Err(String::new());
    for target in LADDER {
        match step(&session, target, start)? {
            Ok(better) => best = Ok(better),
            Err(why) => {
                return Ok(match best {
                    Ok(best) => Ok(Best { limit: why, ..best }),
                    Err(_) => Err(why),
                });
            }
        }
    }
    Ok(best)
}

/// One rate, tried until it is sustained or [`TRIES`] are over.
fn step(session: &Session<'_>, target: u32, start: Cpu) -> Result<Result<Best, String>> {
    let pace = Pace {
        interval: Duration::from_secs(1) / target,
        count: target * STEP.as_secs() as u32,
    };
    let mut outcome = Err(String::new());
    for _ in 0..TRIES {
        let run = match session.run(pace, Detail::Counts) {
            Ok(run) => run,
            // A tool that refuses a rate does not sustain it.
            Err(error) => return Ok(Err(format!("at {target}: {error:#}"))),
        };
        outcome = judge(target, &run).map(|rate| Best {
            rate,
            sent: run.answers.sent,
            cpu: run.cpu.without(start),
            limit: "end of the ladder".to_owned(),
        });
        if outcome.is_ok() {
            break;
        }
    }
    Ok(outcome)
}

/// The rate that was kept up, or what fell short.
fn judge(target: u32, run: &Run) -> Result<f64, String> {
    let (sent, received) = (run.answers.sent, run.answers.received);
    let rate = run.rate;
    let lost = sent.saturating_sub(received) as f64 / sent.max(1) as f64;
    if sent == 0 || lost >= LOST {
        return Err(format!("at {target}: {:.2} % lost", lost * 100.0));
    }
    if rate < f64::from(target) * SENT {
        return Err(format!("at {target}: sent {rate:.0} a second"));
    }
    Ok(rate.min(f64::from(target)))
}

/// CPU seconds of a million probes.
fn per_million(cpu: Duration, sent: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / sent.max(1) as f64
}

fn row(name: &str, best: &Best, own: f64) -> String {
    format!(
        "{name:<12} {:>9.0} {:>7.2} {:>8.2} {:>9.2} {:>8.2}  {}",
        best.rate,
        best.rate / own,
        per_million(best.cpu.sender, best.sent),
        per_million(best.cpu.reflector, best.sent),
        per_million(best.cpu.machine, best.sent),
        best.limit,
    )
}

fn write(json: &mut File, tool: &str, best: &Best) -> Result<()> {
    let line = Line {
        tool,
        rate: best.rate,
        sender_cpu_s_per_million: per_million(best.cpu.sender, best.sent),
        reflector_cpu_s_per_million: per_million(best.cpu.reflector, best.sent),
        machine_cpu_s_per_million: per_million(best.cpu.machine, best.sent),
    };
    let line = serde_json::to_string(&line).context("cannot write JSON")?;
    writeln!(json, "{line}").context("cannot write the file of --json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tools::Answers;

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
    fn a_rate_is_sustained_if_it_is_sent_and_answered() {
        assert_eq!(judge(1000, &run(1000, 1000, 1000.0)), Ok(1000.0));
        assert_eq!(
            judge(1000, &run(1000, 1000, 1100.0)),
            Ok(1000.0),
            "no more than was asked for"
        );
        assert!(judge(1000, &run(1000, 1000, 909.0)).unwrap_err().contains("sent 909"));
        assert!(
            judge(1000, &run(1000, 999, 1000.0))
                .unwrap_err()
                .contains("0.10 % lost")
        );
        assert!(judge(1000, &run(0, 0, 0.0)).is_err());
    }
}
