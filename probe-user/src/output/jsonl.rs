//! One JSON object per line, for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::output::Exporter;
use crate::output::model::{AttachChange, ClockStep, Counters, Event, InterfaceChange, PeerChange, Start};
use crate::output::ping::{PingSample, PingStart};
use crate::output::results::{Results, Sample};

/// What a line can be; `type` says which.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Line<'a> {
    Start(&'a Start),
    #[serde(rename = "start")]
    PingStart(&'a PingStart),
    Attach(&'a AttachChange),
    Interface(&'a InterfaceChange),
    Peer(&'a PeerChange),
    Clock(&'a ClockStep),
    Window(&'a Results),
    Summary(&'a Results),
    Counters(&'a Counters),
    Sample(&'a Sample),
    #[serde(rename = "sample")]
    PingSample(&'a PingSample),
}

impl Line<'_> {
    pub(super) fn write(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")
    }
}

/// The exporter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jsonl;

impl Exporter for Jsonl {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Start(start) => Line::Start(start).write(out),
            Event::Attach(change) => Line::Attach(change).write(out),
            Event::Interface(change) => Line::Interface(change).write(out),
            Event::Peer(change) => Line::Peer(change).write(out),
            Event::Clock(step) => Line::Clock(step).write(out),
            Event::Counters(counters) => Line::Counters(counters).write(out),
            Event::Windows(windows) => windows
                .results
                .iter()
                .try_for_each(|results| Line::Window(results).write(&mut *out)),
            Event::End(end) => {
                end.results
                    .iter()
                    .try_for_each(|results| Line::Summary(results).write(&mut *out))?;
                Line::Counters(&end.counters).write(out)
            }
        }
    }
}

#[cfg(test)]
mod tests;
