//! One JSON object per line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::output::model::{Event, Exporter};

/// A record: its type, who measured, then its fields.
#[derive(Serialize)]
struct Line<'a, T> {
    r#type: &'static str,
    agent: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

/// Writes a record as one line.
pub fn record(kind: &'static str, agent: &str, fields: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let line = Line {
        r#type: kind,
        agent,
        fields,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// A record as [`record`] writes it.
pub fn record_value(kind: &'static str, agent: &str, fields: &impl Serialize) -> io::Result<Value> {
    let line = Line {
        r#type: kind,
        agent,
        fields,
    };
    Ok(serde_json::to_value(line)?)
}

/// Writes the records of an event, each as one line.
pub fn event(agent: &str, event: &Event, out: &mut dyn Write) -> io::Result<()> {
    match event {
        Event::Start(start) => record("start", agent, start, out),
        Event::Attach(change) => record("attach", agent, change, out),
        Event::Interface(change) => record("interface", agent, change, out),
        Event::Peer(change) => record("peer", agent, change, out),
        Event::Clock(step) => record("clock", agent, step, out),
        Event::Ovs(change) => record("ovs", agent, change, out),
        Event::Hops(hops) => record("hops", agent, hops, out),
        Event::Outlier(outlier) => record("outlier", agent, outlier, out),
        Event::Counters(counters) => record("counters", agent, counters, out),
        Event::Windows(windows) => windows
            .results
            .iter()
            .try_for_each(|results| record("window", agent, results, out)),
        Event::End(end) => {
            end.results
                .iter()
                .try_for_each(|results| record("summary", agent, results, out))?;
            record("counters", agent, &end.counters, out)
        }
    }
}

#[derive(Debug)]
pub struct Jsonl {
    /// Who measures.
    pub agent: String,
}

impl Exporter for Jsonl {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        self::event(&self.agent, event, out)
    }
}

#[cfg(test)]
mod tests;
