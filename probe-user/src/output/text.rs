//! For people: a header, lines as things happen, a table per report interval, and the summary of the run.

mod counters;
mod header;
pub(super) mod layout;
mod notes;
mod silence;
mod summary;
mod table;
pub(super) mod wrap;

use std::fmt;
use std::io::{self, Write};

use probe_core::agent::event::Found;

use crate::output::model::{
    AttachChange, AttachMode, ClockStep, Event, InterfaceChange, InterfaceEvent, Method, PeerChange, PeerEvent, Start,
    Windows,
};
use crate::output::quantity::duration_u64;
use crate::output::results::Results;
use crate::output::{Exporter, time};

/// How many columns there are; `None` for as many as it takes. Asked at each event, as a terminal changes its size.
pub type Columns = fn() -> Option<usize>;

/// The exporter.
#[derive(Debug, Clone)]
pub struct Text {
    columns: Columns,
    start: Option<Start>,
}

impl Text {
    /// Lines as wide as `columns` says.
    pub fn new(columns: Columns) -> Self {
        Self { columns, start: None }
    }

    /// What the run was told, of an agent; `None` of a reflector.
    fn probing(&self) -> Option<&Start> {
        self.start.as_ref().filter(|start| start.interval_ns.is_some())
    }
}

impl Exporter for Text {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let columns = (self.columns)();
        match event {
            Event::Start(start) => {
                self.start = Some(start.clone());
                header::write(start, columns, out)
            }
            Event::Attach(change) => write_attach(change, out),
            Event::Interface(change) => write_interface(change, out),
            Event::Peer(change) => write_peer(change, out),
            Event::Clock(step) => write_clock(step, out),
            Event::Windows(windows) => write_windows(windows, columns, out),
            Event::Counters(counters) => counters::write_reflected(counters, out),
            Event::End(end) => match self.probing() {
                Some(start) => summary::write(end, start, columns, out),
                None => {
                    counters::write_reflected(&end.counters, out)?;
                    counters::write_trouble(&end.counters, columns, out)
                }
            },
        }
    }
}

fn mode_in_words(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::XdpNative => "native XDP",
        AttachMode::XdpGeneric => "generic XDP",
        AttachMode::Tc => "TC",
        AttachMode::Socket => "socket",
    }
}

/// Some addresses or prefixes in words; the first few if they are many.
fn list<T: ToString>(items: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn write_attach(change: &AttachChange, out: &mut dyn Write) -> io::Result<()> {
    let AttachChange { receive, reason, time } = change;
    writeln!(
        out,
        "{} now receiving by {}: {reason}",
        time.to_second(),
        mode_in_words(*receive)
    )
}

fn write_interface(change: &InterfaceChange, out: &mut dyn Write) -> io::Result<()> {
    let what = match change.event {
        InterfaceEvent::Down => "is down",
        InterfaceEvent::Up => "is up again",
        InterfaceEvent::Deleted => "was deleted; waiting for it to come back",
        InterfaceEvent::Back => "is back, and the programs are attached again",
    };
    writeln!(out, "{} interface {} {what}", change.time.to_second(), change.interface)
}

fn write_peer(change: &PeerChange, out: &mut dyn Write) -> io::Result<()> {
    let what = match (change.event, change.found) {
        (PeerEvent::Up, Found::Multicast) => "is up, found by multicast",
        (PeerEvent::Up, Found::Static) => "is up, named by --peer",
        (PeerEvent::Down, _) => "is down: it answers no more",
    };
    let how = match (change.event, change.method) {
        (PeerEvent::Up, Method::Echo) => "; an older agent, asked by numbers, stamped by a socket",
        (_, Method::Echo) => " to numbers",
        (_, Method::Stamp) => "",
    };
    let who = match (&change.name, &change.version) {
        (Some(name), Some(version)) => format!(" ({name}, kstamp {version})"),
        (Some(name), None) => format!(" ({name})"),
        (None, _) => String::new(),
    };
    writeln!(out, "{} peer {}{who} {what}{how}", change.time.to_second(), change.peer)
}

fn write_clock(step: &ClockStep, out: &mut dyn Write) -> io::Result<()> {
    let whose = match step.peer {
        Some(peer) => format!("clock of {peer}"),
        None => "wall clock of this host".to_owned(),
    };
    let way = if step.by_ns < 0 { "back" } else { "forward" };
    let by = duration_u64(step.by_ns.unsigned_abs());
    writeln!(
        out,
        "{} the {whose} was stepped {way} by {by}: one-way delays across it mean nothing, RTT does not rest on it",
        step.time.to_second()
    )
}

fn write_windows(windows: &Windows, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let Some(interval) = interval(&windows.results) else {
        return writeln!(out, "{} no peer has answered yet", windows.time.to_second());
    };
    writeln!(out, "\n{interval}")?;
    table::round_trips(&windows.results).write(columns, out)?;
    notes::write(&windows.results, columns, out)
}

/// From when until when something was measured; `None` if nothing was.
fn interval(results: &[Results]) -> Option<impl fmt::Display> {
    let start = results.iter().map(|result| result.start).min()?;
    let end = results.iter().map(|result| result.end).max()?;
    Some(time::interval(start, end))
}

#[cfg(test)]
mod tests;
