//! What runs, where, and how.

use std::io::{self, Write};
use std::time::Duration;

use humantime::format_duration;

use crate::output::model::{Engine, Start};
use crate::output::quantity::duration_u64;
use crate::output::text::{list, mode_in_words, wrap};

/// As wide as the header gets, even where there is more room.
const COLUMNS: usize = 100;
/// Where the text begins, right of the labels.
const INDENT: usize = 12;

/// Writes the header.
pub(super) fn write(start: &Start, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let columns = Some(columns.unwrap_or(COLUMNS).min(COLUMNS));
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
    wrap::write(&format!("kstamp {version}: "), &title, INDENT, columns, out)?;
    if let (Some(interval_ns), Some(timeout_ns)) = (start.interval_ns, start.timeout_ns) {
        // As on the command line.
        let [interval, timeout] = [interval_ns, timeout_ns].map(|ns| format_duration(Duration::from_nanos(ns)));
        let probes = format!(
            "every {interval} to port {}: {}; lost after {timeout}",
            start.port,
            probed(start)
        );
        wrap::write("  probes    ", &probes, INDENT, columns, out)?;
    }
    wrap::write("  reflects  ", &reflected(start), INDENT, columns, out)?;
    wrap::write("  answers   ", &answered(start), INDENT, columns, out)?;
    wrap::write("  attached  ", &attached(start), INDENT, columns, out)?;
    wrap::write("  runs as   ", &identity(start), INDENT, columns, out)?;
    let clock = if start.clock.synchronised {
        let error = duration_u64(start.clock.error_ns);
        format!("synchronised to UTC within {error}")
    } else if start.authenticated {
        // Peers then tell nobody which clock is theirs.
        "not synchronised: one-way delays are estimates".to_owned()
    } else {
        "not synchronised: one-way delays are estimates, but for peers on the same clock".to_owned()
    };
    wrap::write("  clock     ", &clock, INDENT, columns, out)
}

/// Whom an agent probes.
fn probed(start: &Start) -> String {
    let (groups, peers) = (list(&start.groups), list(&start.peers));
    match (start.group_probes, start.peers.is_empty()) {
        (true, true) => format!("{groups} and who answers there"),
        (true, false) => format!("{groups} and who answers there, {peers} by --peer"),
        (false, _) => format!("{peers} by --peer, no group"),
    }
}

/// What is answered.
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
    format!("probes to port {}, {groups}{only}", start.port)
}

/// Who is answered, and how often.
fn answered(start: &Start) -> String {
    let sources = match &*start.allowed {
        [] => "nobody".to_owned(),
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
        [] => format!("{sources}, as often as they ask"),
        rates => format!("{sources}; a second at most {}", rates.join(", ")),
    }
}

/// Who runs, and what it may still do.
fn identity(start: &Start) -> String {
    match &*start.capabilities {
        [] => format!("{}, without capabilities", start.user),
        capabilities => format!("{}, with {} alone", start.user, capabilities.join(" and ")),
    }
}

/// How the programs are attached, and why so.
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
