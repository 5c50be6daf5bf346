//! Tables and sentences.

use std::io::{self, Write};

use probe_core::attach::AttachMode;
use probe_core::compare::ledger::Tally;
use probe_core::compare::versus::Versus;
use probe_core::compare::{Method, Phase};
use probe_core::stats::report::Summary;

use crate::command::compare::output::{Comparison, PhaseResult, Setting, parts, verdict};
use crate::output::quantity::{count, duration, percent};
use crate::output::text::layout::{Column, Grid, Who};
use crate::output::text::wrap;

const NONE: &str = "-";
const INDENT: usize = 12;

pub fn header(setting: &Setting, phases: &str, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let name = setting
        .peer_name
        .as_ref()
        .map(|name| format!(" {name}"))
        .unwrap_or_default();
    writeln!(
        out,
        "kstamp {}: comparing on {} with {}{name}, kernel {}",
        setting.version, setting.interface, setting.peer, setting.kernel
    )?;
    let interval = humantime::format_duration(setting.interval);
    let probes = format!("one of each method every {interval}, in turn and evenly spaced; {phases}");
    wrap::write("  probes    ", &probes, INDENT, columns, out)?;
    let peer = setting
        .peer_attach
        .map_or("unknown".to_owned(), |mode| mode.to_string());
    let attached = format!("kstamp receives by {} here and by {peer} there", setting.attach);
    wrap::write("  attached  ", &attached, INDENT, columns, out)?;
    let cpus = count(setting.cpus as u64, "CPU");
    let machine = format!(
        "{cpus}{}",
        if setting.realtime {
            ", local threads at SCHED_FIFO"
        } else {
            ""
        }
    );
    wrap::write("  machine   ", &machine, INDENT, columns, out)?;
    let floor = setting.floor.as_ref().map_or("not measured".to_owned(), in_words);
    wrap::write("  floor     ", &floor, INDENT, columns, out)?;
    let mut notes = setting.notes.iter();
    notes.try_for_each(|note| wrap::write("  note      ", note, INDENT, columns, out))
}

pub fn in_words(floor: &Summary) -> String {
    format!(
        "differences below {} are noise on this host (kstamp over a bare veth pair: p50 {}, p99 {})",
        duration(floor.p99),
        duration(floor.p50),
        duration(floor.p99)
    )
}

/// The line of `kstamp calibrate`.
pub fn floor(attach: AttachMode, floor: &Summary, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let text = format!("{}; {attach}, {}", in_words(floor), count(floor.count, "probe"));
    wrap::write("", &text, 2, columns, out)
}

pub fn phase(result: &PhaseResult, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", heading(result))?;
    round_trips(result).write(columns, out)?;
    for note in &result.notes {
        wrap::write(" note: ", note, 2, columns, out)?;
    }
    if Method::ALL.iter().any(|&method| result.versus(method).is_some()) {
        writeln!(
            out,
            "\nCompared with kernel: bias is the difference of the medians, spread that of p99 − p50"
        )?;
        versus_kernel(result).write(columns, out)?;
    }
    let Some(anatomy) = &result.anatomy else {
        return Ok(());
    };
    let Some(whole) = anatomy.watched.summary() else {
        return Ok(());
    };
    let title = format!(
        "Anatomy of a userspace round trip, {} stamped at every hook",
        count(whole.count, "probe")
    );
    writeln!(out)?;
    wrap::write("", &title, 2, columns, out)?;
    let mut rows = parts(anatomy);
    rows.push(("sum: its round trip", whole));
    grid("part", &rows).write(columns, out)?;
    if let Some(unwatched) = anatomy.unwatched.summary() {
        let text = format!(
            "probes that were not stamped on their path: p50 {}, p99 {}",
            duration(unwatched.p50),
            duration(unwatched.p99)
        );
        wrap::write(" ", &text, 2, columns, out)?;
    }
    if anatomy.refused > 0 {
        let text = format!(
            "the timestamps of {} contradict each other and were not used",
            count(anatomy.refused, "probe")
        );
        wrap::write(" ", &text, 2, columns, out)?;
    }
    Ok(())
}

pub fn end(comparison: &Comparison, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nVerdict")?;
    for sentence in verdict::sentences(comparison) {
        wrap::write(" ", &sentence, 2, columns, out)?;
    }
    if let Some(floor) = &comparison.setting.floor {
        let mut words = in_words(floor);
        words.replace_range(..1, "D");
        wrap::write(" ", &format!("{words}."), 2, columns, out)?;
    }
    if !comparison.phases.iter().any(|result| result.phase == Phase::Loaded) {
        wrap::write(" ", "Add --stress to see the same under load.", 2, columns, out)?;
    }
    Ok(())
}

/// `Idle: CPU 12 % used, load 0.41`.
pub fn heading(result: &PhaseResult) -> String {
    let busy = match (result.phase, result.busy) {
        (Phase::Idle, _) => "Idle".to_owned(),
        (Phase::Loaded, 1) => "Loaded by 1 busy process".to_owned(),
        (Phase::Loaded, busy) => format!("Loaded by {busy} busy processes"),
    };
    let cpu = result.cpu.map(|cpu| format!("CPU {:.0} % used", cpu * 100.0));
    let load = result.load.map(|load| format!("load average {load:.2}"));
    let facts: Vec<_> = cpu.into_iter().chain(load).collect();
    format!("{busy}: {}", facts.join(", "))
}

pub fn round_trips(result: &PhaseResult) -> Grid {
    let counted = |value: fn(&Tally) -> String| {
        let cell = |&method: &Method| result.tally(method).map_or_else(|| NONE.to_owned(), value);
        Method::ALL.iter().map(cell).collect()
    };
    let number = |heading, gives_way, cells| Column {
        of: "",
        heading,
        numbers: true,
        gives_way,
        cells,
    };
    let mut columns = vec![
        number("sent", 6, counted(|tally| tally.sent.to_string())),
        number("received", 8, counted(|tally| tally.received.to_string())),
        number("lost", 0, counted(|tally| percent(tally.lost, tally.sent))),
    ];
    columns.extend(statistics("RTT", &Method::ALL.map(|method| result.rtt(method))));
    Grid {
        heading: "method",
        who: Method::ALL.iter().map(|method| who(method.name())).collect(),
        columns,
    }
}

fn grid(heading: &'static str, rows: &[(&str, Summary)]) -> Grid {
    let summaries: Vec<_> = rows.iter().map(|(_, summary)| Some(*summary)).collect();
    Grid {
        heading,
        who: rows.iter().map(|(name, _)| who(name)).collect(),
        columns: statistics("", &summaries),
    }
}

fn statistics(of: &'static str, rows: &[Option<Summary>]) -> Vec<Column> {
    let column = |heading, gives_way, value: fn(&Summary) -> i64| Column {
        of,
        heading,
        numbers: true,
        gives_way,
        cells: rows
            .iter()
            .map(|row| row.as_ref().map_or_else(|| NONE.to_owned(), |row| duration(value(row))))
            .collect(),
    };
    vec![
        column("min", 4, |row| row.min),
        column("p50", 0, |row| row.p50),
        column("p90", 5, |row| row.p90),
        column("p99", 0, |row| row.p99),
        column("p99.9", 2, |row| row.p999),
        column("max", 1, |row| row.max),
        column("stddev", 3, |row| row.stddev),
    ]
}

pub fn versus_kernel(result: &PhaseResult) -> Grid {
    let methods = [Method::Userspace, Method::Socket];
    let column = |of, heading, value: fn(&Versus) -> Option<String>| Column {
        of,
        heading,
        numbers: true,
        gives_way: 0,
        cells: methods
            .iter()
            .map(|&method| {
                result
                    .versus(method)
                    .as_ref()
                    .and_then(value)
                    .unwrap_or_else(|| NONE.to_owned())
            })
            .collect(),
    };
    Grid {
        heading: "method",
        who: methods.iter().map(|method| who(method.name())).collect(),
        columns: vec![
            column("", "bias", |versus| Some(duration(versus.bias_ns))),
            column("", "ratio", |versus| versus.bias_ratio.map(factor)),
            column("", "spread", |versus| Some(duration(versus.spread_ns))),
            column("", "ratio", |versus| versus.spread_ratio.map(factor)),
            column("", "p99 ratio", |versus| versus.p99_ratio.map(factor)),
        ],
    }
}

/// `8.70`, `134`.
pub fn factor(ratio: f64) -> String {
    if ratio < 100.0 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.0}")
    }
}

fn who(name: &str) -> Who {
    Who {
        address: name.to_owned(),
        name: None,
    }
}
