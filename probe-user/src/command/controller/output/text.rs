//! Text tables.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use probe_controller::link_delay::Statistic;

use crate::command::controller::output::model::{
    ControllerEvent, ControllerReport, End, LinkLine, PathLine, Start, SummaryLine, SwitchLine, state_name,
};
use crate::output::quantity::{count, duration, duration_u64};

const NONE: &str = "-";
/// More paths are only in JSON.
const MAX_PATHS: usize = 30;

pub(super) fn event(event: &ControllerEvent, out: &mut dyn Write) -> io::Result<()> {
    match event {
        ControllerEvent::Start(start) => header(start, out),
        ControllerEvent::Event(happened) => writeln!(out, "{} {}", happened.time.to_second(), happened.text),
    }
}

fn header(start: &Start, out: &mut dyn Write) -> io::Result<()> {
    let protocol = if start.tls { "TLS" } else { "TCP" };
    writeln!(
        out,
        "kstamp {}: OpenFlow 1.3 controller at {} ({protocol})",
        start.version, start.listen
    )?;
    writeln!(
        out,
        "  measures  each port and each switch once in {}, evenly spread; a link is stale after three times that",
        duration_u64(start.period_ns)
    )?;
    let forwards = if start.measure_only {
        "nothing: rules for LLDP and bounces only"
    } else {
        "by least delay; broadcast along a tree"
    };
    writeln!(out, "  forwards  {forwards}")?;
    if !start.taps.is_empty() {
        writeln!(out, "  kernel    stamps LLDP at {}", start.taps.join(", "))?;
    }
    Ok(())
}

pub(super) fn report(
    report: &ControllerReport,
    is_last: bool,
    columns: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let heading = if is_last { "Summary at" } else { "At" };
    writeln!(out, "\n{heading} {}", report.time.to_second())?;
    if report.switches.is_empty() {
        writeln!(out, " no switch is connected")?;
    }
    if !report.links.is_empty() {
        links(&report.links, columns, out)?;
    }
    // Paths between hosts; all paths in the last report.
    let shown: Vec<&PathLine> = report.paths.iter().filter(|path| is_last || path.has_hosts()).collect();
    if !shown.is_empty() {
        writeln!(out)?;
        paths(&shown, out)?;
    }
    if is_last && !report.switches.is_empty() {
        writeln!(out)?;
        switches(&report.switches, out)?;
    }
    summary(&report.summary, is_last, out)
}

fn links(links: &[LinkLine], columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let has_kernel = links.iter().any(|link| link.rtt_ns.kernel.is_some());
    let has_medians = links.iter().any(|link| link.by == Some(Statistic::Median));
    let wide = link_table(links, has_kernel, true);
    let fits = columns.is_none_or(|columns| wide.lines().all(|line| line.chars().count() <= columns));
    let table = if fits {
        wide
    } else {
        link_table(links, has_kernel, false)
    };
    writeln!(out, "{table}")?;
    if has_medians {
        writeln!(
            out,
            " LLDP/echo: difference of minima; ~ marks medians, while there are few samples"
        )?;
    }
    Ok(())
}

fn link_table(links: &[LinkLine], has_kernel: bool, wide: bool) -> String {
    let mut headings = vec!["link", "RTT LLDP/echo", "±", "bounce", "±"];
    if has_kernel {
        headings.extend(["kernel", "LLDP off by", "bounce off by", "forward", "backward"]);
    }
    if wide {
        headings.extend(["LLDP forward", "backward"]);
    }
    headings.push("state");
    let mut table = bare(&headings);
    for link in links {
        let mut cells = vec![
            format!("{} – {}", end(&link.from), end(&link.to)),
            match link.by {
                Some(Statistic::Median) => format!("~{}", signed(link.rtt_ns.lldp_echo)),
                _ => signed(link.rtt_ns.lldp_echo),
            },
            unsigned(link.error_ns.lldp_echo),
            signed(link.rtt_ns.bounce),
            unsigned(link.error_ns.bounce),
        ];
        if has_kernel {
            cells.extend([
                signed(link.rtt_ns.kernel),
                signed(link.off_ns.lldp_echo),
                signed(link.off_ns.bounce),
                signed(link.kernel_ns.forward),
                signed(link.kernel_ns.backward),
            ]);
        }
        if wide {
            cells.extend([signed(link.lldp_ns.forward), signed(link.lldp_ns.backward)]);
        }
        let negatives = match link.negatives {
            0 => String::new(),
            times => format!(", {times} × below zero"),
        };
        cells.push(format!("{}{negatives}", state_name(link.state)));
        table.add_row(cells);
    }
    align(&mut table, 1, headings.len() - 1);
    table.trim_fmt()
}

fn paths(paths: &[&PathLine], out: &mut dyn Write) -> io::Result<()> {
    let mut table = bare(&["path", "one way", "hosts"]);
    for path in paths.iter().take(MAX_PATHS) {
        let hosts = if path.has_hosts() {
            format!("{} – {}", some(&path.from_hosts), some(&path.to_hosts))
        } else {
            String::new()
        };
        table.add_row([path.switches.join(" – "), duration_u64(path.delay_ns), hosts]);
    }
    align(&mut table, 1, 2);
    writeln!(out, "{}", table.trim_fmt())?;
    match paths.len().checked_sub(MAX_PATHS) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, " and {}", count(more as u64, "more path")),
    }
}

fn some(hosts: &[String]) -> String {
    match hosts {
        [] => NONE.to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} + {}", rest.len()),
    }
}

fn switches(switches: &[SwitchLine], out: &mut dyn Write) -> io::Result<()> {
    let mut table = bare(&[
        "switch",
        "dpid",
        "from",
        "ports",
        "echo min",
        "p50",
        "packet-out baseline",
    ]);
    for switch in switches {
        table.add_row([
            switch.name.clone(),
            switch.dpid.clone(),
            switch.address.to_string(),
            switch.ports.to_string(),
            signed(switch.echo_ns),
            signed(switch.echo_p50_ns),
            signed(switch.baseline_ns),
        ]);
    }
    align(&mut table, 3, 7);
    writeln!(out, "{}", table.trim_fmt())
}

fn summary(summary: &SummaryLine, is_last: bool, out: &mut dyn Write) -> io::Result<()> {
    let links = &summary.links;
    let states = [
        (links.valid, "valid"),
        (links.below_resolution, "below resolution"),
        (links.negative, "negative"),
        (links.stale, "stale"),
        (links.missing, "missing"),
    ];
    let states: Vec<String> = states
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, name)| format!("{number} {name}"))
        .collect();
    let all = links.valid + links.below_resolution + links.negative + links.stale + links.missing;
    let states = if states.is_empty() {
        String::new()
    } else {
        format!(" ({})", states.join(", "))
    };
    let segments = match summary.segments {
        0 => String::new(),
        segments => format!(", {}", count(segments as u64, "segment")),
    };
    writeln!(
        out,
        " {}, {}{states}{segments}, {}; {}, {}, {}",
        count_switches(summary.switches),
        count(all as u64, "link"),
        count(summary.hosts as u64, "host"),
        count(summary.reroutes, "reroute"),
        count(summary.storms, "storm"),
        count(summary.negatives, "negative estimate"),
    )?;
    if !is_last {
        return Ok(());
    }
    writeln!(
        out,
        " {} sent: {} answered, {} lost, {} without a switch to answer, {} late or duplicate, {} mismatched; {} seen",
        count(summary.sent, "probe"),
        summary.answered,
        summary.lost,
        summary.unheard,
        summary.late,
        summary.mismatched,
        count(summary.broadcasts, "broadcast"),
    )?;
    for (number, what) in [
        (summary.forged, "frames of this run with a wrong signature"),
        (
            summary.hosts_displaced,
            "hosts forgotten because there was no room for all",
        ),
        (
            summary.pairs_displaced,
            "pairs of hosts that lost their rules because there was no room for all",
        ),
        (summary.rules_restored, "rules that were gone and are put back"),
        (summary.packet_ins_over_limit, "packet-ins dropped above the limit"),
        (
            summary.events_dropped,
            "events dropped because the controller could not keep up",
        ),
    ] {
        if number > 0 {
            writeln!(out, " {number} {what}")?;
        }
    }
    Ok(())
}

fn count_switches(switches: usize) -> String {
    match switches {
        1 => "1 switch".to_owned(),
        more => format!("{more} switches"),
    }
}

fn end(end: &End) -> String {
    format!("{}:{}", end.switch, end.port)
}

fn signed(ns: Option<i64>) -> String {
    ns.map_or_else(|| NONE.to_owned(), duration)
}

fn unsigned(ns: Option<u64>) -> String {
    ns.map_or_else(|| NONE.to_owned(), duration_u64)
}

fn bare(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings.iter().copied());
    table
}

/// Aligns the columns `from..until` on the right.
fn align(table: &mut Table, from: usize, until: usize) {
    for column in table.column_iter_mut().take(until).skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
