//! The end of the text form: what a person should know of the run.

use std::io::{self, Write};

use crate::output::model::{End, Start};
use crate::output::text::{counters, interval, notes, silence, table, wrap};

/// Writes the summary of a run.
pub(super) fn write(end: &End, start: &Start, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let results = &end.results;
    writeln!(out)?;
    if results.iter().all(|result| result.counts.received == 0) {
        silence::write(&end.counters, start, columns, out)?;
    }
    if let Some(interval) = interval(results) {
        let title = format!("Summary of {interval}: RTT less the time in the reflector");
        wrap::write("", &title, 2, columns, out)?;
        table::round_trips(results).write(columns, out)?;
        let title = "Parts of a round trip: medians; avg latency is half of the mean RTT";
        writeln!(out)?;
        wrap::write("", title, 2, columns, out)?;
        table::parts(results).write(columns, out)?;
    }
    let mut notes = Vec::new();
    notes::write(results, columns, &mut notes)?;
    notes::write_downs(results, &start.peers, columns, &mut notes)?;
    counters::write_trouble(&end.counters, columns, &mut notes)?;
    if !notes.is_empty() && !results.is_empty() {
        writeln!(out)?;
    }
    out.write_all(&notes)
}
