//! For people: a header, lines as things happen, a table per report interval, and the summary of the run.

mod summary;
mod table;

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use humantime::format_duration;
use probe_common::abi::Counter;

use super::Exporter;
use super::model::{
    AttachChange, AttachMode, Counters, Event, InterfaceChange, InterfaceEvent, PeerChange, PeerEvent, Start, Windows,
};
use super::quantity::{count, duration_u64};
use crate::core::event::Found;

/// The exporter.
#[derive(Debug, Clone, Default)]
pub struct Text {
    /// Sends probes, and does not only reflect.
    probing: bool,
    port: u16,
    groups: Vec<IpAddr>,
}

impl Exporter for Text {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match event {
            Event::Start(start) => {
                self.probing = start.interval_ns.is_some();
                self.port = start.port;
                self.groups.clone_from(&start.groups);
                write_start(start, out)
            }
            Event::Attach(change) => write_attach(change, out),
            Event::Interface(change) => write_interface(change, out),
            Event::Peer(change) => write_peer(change, out),
            Event::Windows(windows) => write_windows(windows, out),
            Event::Counters(counters) => write_reflected(counters, out),
            Event::End(end) if self.probing => summary::write(end, self.port, &self.groups, out),
            Event::End(end) => {
                write_reflected(&end.counters, out)?;
                summary::write_counters(&end.counters, out)
            }
        }
    }
}

fn write_start(start: &Start, out: &mut dyn Write) -> io::Result<()> {
    let Start {
        version,
        interface,
        name,
        kernel,
        port,
        ..
    } = start;
    writeln!(
        out,
        "kstamp {version}: {name} on {interface} ({}), kernel {kernel}",
        list(&start.addresses)
    )?;
    let groups = if start.groups.is_empty() {
        "no group".to_owned()
    } else {
        list(&start.groups)
    };
    match (start.interval_ns, start.timeout_ns) {
        (Some(interval_ns), Some(timeout_ns)) => {
            // As on the command line.
            let [interval, timeout] = [interval_ns, timeout_ns].map(|ns| format_duration(Duration::from_nanos(ns)));
            writeln!(
                out,
                "  probes    every {interval} to port {port}, {groups}; lost after {timeout}"
            )?;
        }
        _ => writeln!(out, "  reflects  probes to port {port}, {groups}")?,
    }
    let receive = mode_in_words(start.attach.receive);
    write!(out, "  attached  receive by {receive} ({})", start.attach_reason)?;
    match start.attach.egress {
        Some(egress) => writeln!(out, ", egress by {}", mode_in_words(egress))?,
        None => writeln!(out)?,
    }
    if start.clock.synchronised {
        writeln!(
            out,
            "  clock     synchronised to UTC within {}",
            duration_u64(start.clock.error_ns)
        )
    } else {
        writeln!(
            out,
            "  clock     not synchronised: one-way delays only between agents that read one clock"
        )
    }
}

fn mode_in_words(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::XdpNative => "native XDP",
        AttachMode::XdpGeneric => "generic XDP",
        AttachMode::Tc => "TC",
    }
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
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
    let who = match (&change.name, &change.version) {
        (Some(name), Some(version)) => format!(" ({name}, kstamp {version})"),
        (Some(name), None) => format!(" ({name})"),
        (None, _) => String::new(),
    };
    writeln!(out, "{} peer {}{who} {what}", change.time.to_second(), change.peer)
}

fn write_windows(windows: &Windows, out: &mut dyn Write) -> io::Result<()> {
    let time = windows.time.to_second();
    if windows.results.is_empty() {
        return writeln!(out, "{time} no peer has answered yet");
    }
    writeln!(out, "\n{time}")?;
    table::write(&table::round_trips(&windows.results), out)?;
    summary::write_notes(&windows.results, out)
}

fn write_reflected(counters: &Counters, out: &mut dyn Write) -> io::Result<()> {
    let by_group = summary::value(counters, Counter::ReflectedGroup);
    let all = summary::value(counters, Counter::Reflected) + by_group;
    writeln!(
        out,
        "{} answered since the start, {by_group} of them by a group",
        count(all, "probe")
    )
}

#[cfg(test)]
mod tests;
