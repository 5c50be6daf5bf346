//! The tables of the text form: one row per peer and path, at most 120 columns wide.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::core::report::{OneWayClock, Path, Summary};
use crate::output::quantity::{duration, duration_u64, percent};
use crate::output::results::Results;

const COLUMNS: u16 = 120;
/// A link-local IPv6 address fits; a longer address, or a name beside it, goes on in the next line.
const PEER_COLUMNS: u16 = 28;

/// Shown where there is no value.
const NONE: &str = "-";

/// How a path is called in tables and notes.
pub(super) fn path_name(path: Path) -> &'static str {
    match path {
        Path::Unicast => "unicast",
        Path::Group => "group",
    }
}

/// Counts and round-trip delays.
pub(super) fn round_trips(results: &[Results]) -> Table {
    let mut table = table([
        "peer", "path", "sent", "received", "lost", "RTT min", "mean", "p50", "p99", "max",
    ]);
    for result in results {
        let counts = &result.counts;
        let rtt = |value: fn(&Summary) -> i64| cell(result.rtt_ns.as_ref().map(value));
        table.add_row([
            peer(result),
            path_name(result.path).to_owned(),
            counts.sent.to_string(),
            counts.received.to_string(),
            // What is pending may yet be answered.
            percent(counts.lost, counts.received + counts.lost),
            rtt(|summary| summary.min),
            rtt(|summary| summary.mean),
            rtt(|summary| summary.p50),
            rtt(|summary| summary.p99),
            rtt(|summary| summary.max),
        ]);
    }
    align(&mut table, 2..10);
    table
}

/// What a round trip consists of, and what its parts rest on.
pub(super) fn parts(results: &[Results]) -> Table {
    let header = [
        "peer",
        "path",
        "avg latency",
        "residence p50",
        "forward p50",
        "backward p50",
        "clock",
        "attach",
    ];
    let mut table = table(header);
    for result in results {
        table.add_row([
            peer(result),
            path_name(result.path).to_owned(),
            // Half of the round trip, as if both ways took the same time.
            cell(result.rtt_ns.map(|summary| summary.mean / 2)),
            median(result.residence_ns),
            median(result.forward_ns),
            median(result.backward_ns),
            match result.clock {
                Some(OneWayClock::SameClock) => "same-clock".to_owned(),
                Some(OneWayClock::Synced { bound_ns }) => format!("synced ±{}", duration_u64(bound_ns)),
                None => NONE.to_owned(),
            },
            result.attach.receive.to_string(),
        ]);
    }
    align(&mut table, 2..6);
    table
}

/// Writes a table, without the blanks that it has at the ends of lines.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", table.trim_fmt())
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(COLUMNS)
        .set_header(header);
    if let Some(peer) = table.column_mut(0) {
        peer.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(PEER_COLUMNS)));
    }
    table
}

fn align(table: &mut Table, numbers: std::ops::Range<usize>) {
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn peer(result: &Results) -> String {
    match &result.peer_name {
        Some(name) => format!("{} {name}", result.peer),
        None => result.peer.to_string(),
    }
}

fn median(summary: Option<Summary>) -> String {
    cell(summary.map(|summary| summary.p50))
}

fn cell(ns: Option<i64>) -> String {
    ns.map_or_else(|| NONE.to_owned(), duration)
}
