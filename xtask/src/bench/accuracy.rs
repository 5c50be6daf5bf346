//! `cargo xtask bench accuracy`: every tool in turn on the same path at the same rate, idle and loaded.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::bench::place::{Place, cores, start_busy_processes};
use crate::bench::session::{Session, cores_in_use};
use crate::bench::tool::{Detail, Pace, Tool};
use crate::bench::tools::ToolArguments;
use crate::{UsageError, signals};

/// `bench accuracy`.
#[derive(Clone, Debug, Args)]
pub struct AccuracyArguments {
    /// Time between probes. Below 10 ms ping spins instead of sleeping, which keeps CPU and caches warm.
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    interval: humantime::Duration,
    /// Probes of each tool in each round.
    #[arg(long, value_name = "NUMBER", default_value_t = 250, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    count: u32,
    /// Number of rounds; each tool runs once per round.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Number of busy processes in the loaded phase [default: 2 per CPU].
    #[arg(long, value_name = "NUMBER")]
    stress: Option<usize>,
    #[command(flatten)]
    common: ToolArguments,
}

/// One tool in one phase.
#[derive(Debug, Default)]
struct Cell {
    sent: u64,
    received: u64,
    rtts_ns: Vec<u64>,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    tool: &'a str,
    phase: &'a str,
    sent: u64,
    received: u64,
    #[serde(flatten)]
    figures: Option<Figures>,
}

pub(super) fn run(arguments: &AccuracyArguments) -> Result<ExitCode> {
    if arguments.interval.is_zero() {
        bail!(UsageError("--interval 0s: write a time such as 20ms".to_owned()));
    }
    let (tools, mut json, place) = arguments.common.prepare()?;
    let stress = arguments.stress.unwrap_or_else(|| 2 * cores());
    let pace = Pace {
        interval: arguments.interval.into(),
        count: arguments.count,
    };
    eprintln!(
        "bench: {} rounds of {} probes, {} apart, each tool in turn; veth pair, {}; loaded: {stress} busy processes",
        arguments.rounds,
        pace.count,
        humantime::format_duration(pace.interval),
        cores_in_use()?
    );
    let (present, missing): (Vec<_>, Vec<_>) = tools.into_iter().partition(|tool| tool.missing().is_none());
    for (phase, busy) in [("idle", 0), ("loaded", stress)] {
        let cells = measure(&place, &present, pace, arguments.rounds, busy)?;
        print(phase, &present, &missing, &cells);
        for tool in &present {
            if let Some(Ok(cell)) = cells.get(tool.name()) {
                json.write(&Line {
                    tool: tool.name(),
                    phase,
                    sent: cell.sent,
                    received: cell.received,
                    figures: Figures::of(cell.rtts_ns.clone()),
                })?;
            }
        }
    }
    println!("\nQuantiles of each tool's own report of each probe, by nearest rank.");
    Ok(ExitCode::SUCCESS)
}

type Cells = BTreeMap<&'static str, Result<Cell>>;

/// Runs all rounds of a phase. A tool that fails is skipped in later rounds.
fn measure(place: &Place, tools: &[Box<dyn Tool>], pace: Pace, rounds: u32, busy: usize) -> Result<Cells> {
    let mut cells: Cells = tools.iter().map(|tool| (tool.name(), Ok(Cell::default()))).collect();
    let _busy = start_busy_processes(busy)?;
    for _ in 0..rounds {
        for tool in tools {
            let Some(Ok(cell)) = cells.get_mut(tool.name()) else {
                continue;
            };
            let outcome = Session::start(place, tool.as_ref()).and_then(|session| session.run(pace, Detail::Each));
            signals::check()?;
            match outcome {
                Ok(run) => {
                    cell.sent += run.answers.sent;
                    cell.received += run.answers.received;
                    cell.rtts_ns.extend(run.answers.rtts_ns);
                }
                Err(error) => {
                    cells.insert(tool.name(), Err(error));
                }
            }
        }
    }
    Ok(cells)
}

fn print(phase: &str, present: &[Box<dyn Tool>], missing: &[Box<dyn Tool>], cells: &Cells) {
    let own = cells
        .get("kstamp")
        .and_then(|cell| Figures::of(cell.as_ref().ok()?.rtts_ns.clone()));
    println!("\n{phase}: round trip in µs, and as a multiple of kstamp's");
    println!(
        "{:<12} {:>6} {:>6} {:>9} {:>9} {:>9} {:>6} {:>6}  how",
        "tool", "sent", "lost", "p50", "p99", "max", "p50 ×", "p99 ×"
    );
    for tool in present {
        let name = tool.name();
        match cells.get(name) {
            Some(Ok(cell)) => {
                let lost = cell.sent.saturating_sub(cell.received);
                print!("{name:<12} {:>6} {lost:>6} ", cell.sent);
                match Figures::of(cell.rtts_ns.clone()) {
                    Some(figures) => println!("{}  {}", row(&figures, own.as_ref()), tool.how()),
                    None => println!("no round trip reported"),
                }
            }
            Some(Err(error)) => println!("{name:<12} failed: {error:#}"),
            None => {}
        }
    }
    for tool in missing {
        println!("{:<12} skipped: {}", tool.name(), tool.missing().unwrap_or_default());
    }
}

fn row(figures: &Figures, own: Option<&Figures>) -> String {
    let times = |mine: u64, own: Option<u64>| own.map_or("-".to_owned(), |own| ratio(mine as f64, own as f64));
    format!(
        "{:>9} {:>9} {:>9} {:>6} {:>6}",
        microseconds(figures.p50_ns),
        microseconds(figures.p99_ns),
        microseconds(figures.max_ns),
        times(figures.p50_ns, own.map(|own| own.p50_ns)),
        times(figures.p99_ns, own.map(|own| own.p99_ns)),
    )
}

/// Round trips of one tool in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Figures {
    count: usize,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

impl Figures {
    /// By nearest rank; `None` without round trips.
    fn of(mut rtts_ns: Vec<u64>) -> Option<Self> {
        rtts_ns.sort_unstable();
        let rank = |percent: usize| {
            let rank = (rtts_ns.len() * percent).div_ceil(100);
            rtts_ns.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            count: rtts_ns.len(),
            p50_ns: rank(50)?,
            p99_ns: rank(99)?,
            max_ns: rank(100)?,
        })
    }
}

/// In microseconds, with three significant digits.
fn microseconds(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    match us {
        ..10.0 => format!("{us:.2}"),
        ..100.0 => format!("{us:.1}"),
        _ => format!("{us:.0}"),
    }
}

/// `a / b`, or a dash if `b` is zero.
fn ratio(a: f64, b: f64) -> String {
    let ratio = a / b;
    match ratio {
        _ if !ratio.is_finite() => "-".to_owned(),
        ..10.0 => format!("{ratio:.2}"),
        _ => format!("{ratio:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_compares_with_kstamp() {
        let figures = Figures::of(vec![20_000]);
        let own = Figures::of(vec![2_000]);
        let text = row(&figures.unwrap(), own.as_ref());
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["20.0", "20.0", "20.0", "10", "10"]
        );
        assert!(row(&figures.unwrap(), None).ends_with('-'));
    }

    #[test]
    fn quantiles_are_round_trips_that_occurred() {
        let figures = Figures::of((1..=200).rev().collect()).unwrap();
        assert_eq!((figures.p50_ns, figures.p99_ns, figures.max_ns), (100, 198, 200));
        assert_eq!(Figures::of(vec![7]).unwrap().p99_ns, 7);
        assert_eq!(Figures::of(Vec::new()), None);
    }

    #[test]
    fn figures_have_three_digits_and_are_never_infinite() {
        for (ns, text) in [(1_234, "1.23"), (12_345, "12.3"), (1_234_567, "1235")] {
            assert_eq!(microseconds(ns), text);
        }
        for (a, b, text) in [(3.0, 2.0, "1.50"), (50.0, 2.0, "25"), (1.0, 0.0, "-")] {
            assert_eq!(ratio(a, b), text);
        }
    }
}
