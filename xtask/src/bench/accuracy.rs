//! `cargo xtask bench accuracy`: the same path, the same rate, every tool in its turn, idle and loaded.

use std::{collections::BTreeMap, fs::File, io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    AccuracyArguments,
    busy::{Busy, default_number},
    figures::{Figures, microseconds, ratio},
    place::Place,
    session::{Session, cores_in_use},
    tools::{self, Detail, Pace, Tool},
};
use crate::{run, setup, signals};

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
    let tools = tools::chosen(&arguments.common.tool)?;
    let mut json = arguments.common.open_json()?;
    let kstamp = run::built(arguments.common.built.as_deref())?;
    setup::bench_tools();
    signals::catch()?;
    let place = Place::up(&kstamp)?;
    let stress = arguments.stress.unwrap_or_else(default_number);
    let pace = Pace {
        interval: arguments.interval.into(),
        count: arguments.count,
    };
    eprintln!(
        "bench: {} rounds of {} probes, {} apart, each tool in its turn; veth pair, {}; loaded: {stress} busy processes",
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
            if let (Some(json), Some(Ok(cell))) = (&mut json, cells.get(tool.name())) {
                write(json, phase, tool.name(), cell)?;
            }
        }
    }
    println!("\nAll from each tool's own report of each probe, by the same rule (nearest rank).");
    Ok(ExitCode::SUCCESS)
}

type Cells = BTreeMap<&'static str, Result<Cell>>;

/// All rounds of a phase. A tool that fails is left out of the rounds that follow.
fn measure(place: &Place, tools: &[Box<dyn Tool>], pace: Pace, rounds: u32, busy: usize) -> Result<Cells> {
    let mut cells: Cells = tools.iter().map(|tool| (tool.name(), Ok(Cell::default()))).collect();
    let _busy = Busy::start(busy)?;
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

fn write(json: &mut File, phase: &str, tool: &str, cell: &Cell) -> Result<()> {
    let line = Line {
        tool,
        phase,
        sent: cell.sent,
        received: cell.received,
        figures: Figures::of(cell.rtts_ns.clone()),
    };
    let line = serde_json::to_string(&line).context("cannot write JSON")?;
    writeln!(json, "{line}").context("cannot write the file of --json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_compares_with_kstamp() {
        let figures = Figures::of(vec![20_000]);
        let own = Figures::of(vec![2_000]);
        let text = row(&figures.unwrap(), own.as_ref());
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["20.0", "20.0", "20.0", "10", "10"]
        );
        assert!(row(&figures.unwrap(), None).ends_with('-'));
    }
}
