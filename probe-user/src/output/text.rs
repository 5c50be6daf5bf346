//! The text format: a header, a line per event, a table per report interval, and a summary.

pub mod counters;
pub mod hops;
pub mod layout;
mod notes;
mod table;
pub mod wrap;

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use humantime::format_duration;
use probe_core::agent::event::{DownReason, Found};
use probe_core::attach::AttachMode;
use probe_io::port::Engine;

use crate::output::model::{
    AttachChange, ClockStep, End, Event, Exporter, InterfaceChange, InterfaceEvent, Method, PeerChange, PeerEvent,
    Results, Start, Windows,
};
use crate::output::quantity::{duration_u64, list};
use crate::output::terminal::Columns;
use crate::output::time;

#[derive(Debug, Clone)]
pub struct Text {
    columns: Columns,
    start: Option<Start>,
}

impl Text {
    pub fn new(columns: Columns) -> Self {
        Self { columns, start: None }
    }

    /// The start record of an agent; `None` of a reflector.
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
                write_header(start, columns, out)
            }
            Event::Attach(change) => write_attach(change, out),
            Event::Interface(change) => write_interface(change, out),
            Event::Peer(change) => write_peer(change, out),
            Event::Clock(step) => write_clock(step, out),
            Event::Ovs(change) => writeln!(out, "{} {change}", change.time.to_second()),
            Event::Windows(windows) => write_windows(windows, columns, out),
            Event::Hops(hops) => {
                let port = self.start.as_ref().map_or("port", |start| &start.interface);
                hops::write(hops, port, columns, out)
            }
            Event::Outlier(outlier) => hops::write_outlier(outlier, columns, out),
            Event::Counters(counters) => counters::write_reflected(counters, out),
            Event::End(end) => match self.probing() {
                Some(start) => write_summary(end, start, columns, out),
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
        InterfaceEvent::Back => "is back and in use again",
        InterfaceEvent::Joined => "has an address of another IP version",
    };
    let group = change
        .group
        .map(|group| format!(": {group} is in use too"))
        .unwrap_or_default();
    writeln!(
        out,
        "{} interface {} {what}{group}",
        change.time.to_second(),
        change.interface
    )
}

fn write_peer(change: &PeerChange, out: &mut dyn Write) -> io::Result<()> {
    let what = match (change.event, change.found) {
        (PeerEvent::Up, Found::Multicast) => "is up, found by multicast",
        (PeerEvent::Up, Found::Introduced) => {
            "is up, found because it probes this host; it gets no group probes, see \"Switches that snoop\" in the guide to agents"
        }
        (PeerEvent::Up, Found::Static) => "is up, named by --peer",
        (PeerEvent::Up, Found::Assigned) => "is up, assigned by the hub",
        (PeerEvent::Down, _) => match change.reason {
            Some(DownReason::Ended) => "has ended, or given up this address",
            Some(DownReason::NoAddress) => "is left out: this host has no address in its subnet any more",
            Some(DownReason::SpeaksStamp) => "now speaks STAMP",
            Some(DownReason::Removed) if change.found == Found::Assigned => "is left out: the hub assigns it no longer",
            Some(DownReason::Removed) => "is left out: --peer names it no longer",
            Some(DownReason::Silent) | None => "is down: no replies",
        },
        (PeerEvent::Moved, _) => "has moved here",
    };
    let from = change
        .moved_from
        .map(|from| format!(" from {from}"))
        .unwrap_or_default();
    let how = match (change.event, change.method) {
        (PeerEvent::Up, Method::Echo) => "; a legacy agent, probed with ASCII numbers, timestamps by a socket",
        (PeerEvent::Down, Method::Echo) if change.reason == Some(DownReason::Silent) => " to ASCII numbers",
        _ => "",
    };
    let who = match (&change.name, &change.version) {
        (Some(name), Some(version)) => format!(" ({name}, kstamp {version})"),
        (Some(name), None) => format!(" ({name})"),
        (None, _) => String::new(),
    };
    writeln!(
        out,
        "{} peer {}{who} {what}{from}{how}",
        change.time.to_second(),
        change.peer
    )
}

fn write_clock(step: &ClockStep, out: &mut dyn Write) -> io::Result<()> {
    let whose = match step.peer {
        Some(peer) => format!("clock of {peer}"),
        None => "wall clock of this host".to_owned(),
    };
    let direction = if step.by_ns < 0 { "back" } else { "forward" };
    let by = duration_u64(step.by_ns.unsigned_abs());
    let before = match step.left_out {
        0 => String::new(),
        left_out => format!(", after {left_out} steps that are not listed"),
    };
    writeln!(
        out,
        "{} the {whose} was stepped {direction} by {by}{before}: one-way delays across the step are invalid, RTT is not \
         affected",
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

/// The interval of these results; `None` without any.
fn interval(results: &[Results]) -> Option<impl fmt::Display> {
    let start = results.iter().map(|result| result.start).min()?;
    let end = results.iter().map(|result| result.end).max()?;
    Some(time::interval(start, end))
}

/// Maximum width of the header.
const HEADER_COLUMNS: usize = 100;
/// Where the text begins, right of the labels.
const HEADER_INDENT: usize = 12;

fn write_header(start: &Start, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let columns = Some(columns.unwrap_or(HEADER_COLUMNS).min(HEADER_COLUMNS));
    let Start {
        version,
        interface,
        name,
        kernel,
        ..
    } = start;
    let addresses = match &*start.addresses {
        [] => "no address".to_owned(),
        addresses => list(addresses),
    };
    let title = format!("{name} on {interface} ({addresses}), kernel {kernel}");
    wrap::write(&format!("kstamp {version}: "), &title, HEADER_INDENT, columns, out)?;
    if let (Some(interval_ns), Some(timeout_ns)) = (start.interval_ns, start.timeout_ns) {
        let [interval, timeout] = [interval_ns, timeout_ns].map(|ns| format_duration(Duration::from_nanos(ns)));
        let probes = format!(
            "every {interval} to port {}: {}; lost after {timeout}",
            start.port,
            probed(start)
        );
        wrap::write("  probes    ", &probes, HEADER_INDENT, columns, out)?;
    }
    wrap::write("  reflects  ", &reflected(start), HEADER_INDENT, columns, out)?;
    wrap::write("  answers   ", &answered(start), HEADER_INDENT, columns, out)?;
    wrap::write("  attached  ", &attached(start), HEADER_INDENT, columns, out)?;
    if let Some(ovs) = &start.ovs {
        wrap::write("  switch    ", &format!("port {ovs}"), HEADER_INDENT, columns, out)?;
    }
    wrap::write("  runs as   ", &runs_as(start), HEADER_INDENT, columns, out)?;
    let clock = if start.clock.synchronised {
        let error = duration_u64(start.clock.error_ns);
        format!("synchronised to UTC within {error}")
    } else if start.authenticated {
        // Without an identity exchange it is not known which peers share this clock.
        "not synchronised: one-way delays are estimates".to_owned()
    } else {
        "not synchronised: one-way delays are estimates, but for peers on the same clock".to_owned()
    };
    wrap::write("  clock     ", &clock, HEADER_INDENT, columns, out)
}

fn probed(start: &Start) -> String {
    let groups = start
        .group_probes
        .then(|| format!("{} and peers found there", list(&start.groups)));
    let peers = (!start.peers.is_empty()).then(|| format!("{} by --peer", list(&start.peers)));
    let assigned = start
        .fleet
        .as_ref()
        .map(|port| format!("peers that the hub assigns to {port}"));
    let no_group = (!start.group_probes).then(|| "no group".to_owned());
    let parts = [groups, peers, assigned, no_group];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn reflected(start: &Start) -> String {
    let groups = match &*start.groups {
        [] => "no group".to_owned(),
        groups => list(groups),
    };
    let only = if start.authenticated {
        ", authenticated only"
    } else {
        ""
    };
    let ports: Vec<_> = start.ports.iter().map(u16::to_string).collect();
    format!("probes to port {}, {groups}{only}", ports.join(" and "))
}

fn answered(start: &Start) -> String {
    let sources = match &*start.allowed {
        [] => "no source".to_owned(),
        allowed => list(allowed),
    };
    let rate = |rate: u32, what: &str| (rate > 0).then(|| format!("{rate} {what}"));
    let rates: Vec<String> = [
        rate(start.rate_source, "each"),
        rate(start.rate_group, "by group"),
        rate(start.rate, "in all"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match &*rates {
        [] => format!("{sources}, without limit"),
        rates => format!("{sources}; limits per second: {}", rates.join(", ")),
    }
}

fn runs_as(start: &Start) -> String {
    match &*start.capabilities {
        [] => format!("{}, without capabilities", start.user),
        capabilities => format!("{}, with {} alone", start.user, capabilities.join(" and ")),
    }
}

fn attached(start: &Start) -> String {
    if start.engine == Engine::Socket {
        let reason = &start.attach_reason;
        return format!("nothing: {reason}; the kernel stamps at the sockets (SO_TIMESTAMPING)");
    }
    let receive = mode_in_words(start.attach.receive);
    let reason = match &*start.attach_reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let egress = match start.attach.egress {
        Some(egress) => format!(", egress by {}", mode_in_words(egress)),
        None => String::new(),
    };
    format!("receive by {receive}{reason}{egress}")
}

fn write_summary(end: &End, start: &Start, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let results = &end.results;
    writeln!(out)?;
    if results.iter().all(|result| result.counts.received == 0) {
        notes::write_advice(&end.counters, start, columns, out)?;
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
    notes::write_peers(results, &start.peers, columns, &mut notes)?;
    counters::write_trouble(&end.counters, columns, &mut notes)?;
    if !notes.is_empty() && !results.is_empty() {
        writeln!(out)?;
    }
    out.write_all(&notes)
}

#[cfg(test)]
mod tests;
