//! One JSON object per line.

use std::io::{self, Write};

use serde::Serialize;

use crate::output::model::{Event, Exporter};

/// Writes a record as one line: its type, then its fields.
pub fn record(kind: &'static str, fields: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        r#type: &'static str,
        #[serde(flatten)]
        fields: &'a T,
    }
    serde_json::to_writer(&mut *out, &Line { r#type: kind, fields })?;
    out.write_all(b"\n")
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Jsonl;

impl Exporter for Jsonl {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Start(start) => record("start", start, out),
            Event::Attach(change) => record("attach", change, out),
            Event::Interface(change) => record("interface", change, out),
            Event::Peer(change) => record("peer", change, out),
            Event::Clock(step) => record("clock", step, out),
            Event::Counters(counters) => record("counters", counters, out),
            Event::Windows(windows) => windows
                .results
                .iter()
                .try_for_each(|results| record("window", results, out)),
            Event::End(end) => {
                end.results
                    .iter()
                    .try_for_each(|results| record("summary", results, out))?;
                record("counters", &end.counters, out)
            }
        }
    }
}

#[cfg(test)]
mod tests;
