//! What is seldom there: shown only where it is.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use humantime::format_duration;
use probe_core::stats::report::{Counts, Path, Patterns};

use crate::output::quantity::{count, duration_u64};
use crate::output::results::Results;
use crate::output::text::table::way_name;
use crate::output::text::wrap;

/// Writes what went wrong with each peer and path.
pub(super) fn write(results: &[Results], columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    for result in results {
        let who = format!("{} {}", result.peer, way_name(result));
        let notes = [
            unsent(result),
            lost_and_found(&result.counts, &result.patterns),
            stepped(result),
        ];
        for note in notes.into_iter().flatten() {
            wrap::write("", &format!("{who}: {note}"), 2, columns, out)?;
        }
    }
    Ok(())
}

/// Of probes that never left.
fn unsent(result: &Results) -> Option<String> {
    let why = match result.path {
        Path::Unicast => "no answer to ARP or ND, no route, or no carrier",
        Path::Group => "no usable address, no route, or no carrier",
    };
    let failed = result.counts.send_failed;
    (failed > 0).then(|| format!("{} never left this host: {why}", count(failed, "probe")))
}

/// Of steps of the clocks.
fn stepped(result: &Results) -> Option<String> {
    let whose = parts([(result.steps.own, "of this host"), (result.steps.peer, "of the peer")]);
    (!whose.is_empty()).then(|| format!("steps of the wall clock: {}", whose.join(", ")))
}

/// Of probes that did.
fn lost_and_found(counts: &Counts, patterns: &Patterns) -> Option<String> {
    let ways = [
        (counts.lost_forward, "on the way there"),
        (counts.lost_backward, "on the way back"),
        (patterns.lost_late, "answered too late"),
        (
            counts.lost_unknown.saturating_sub(patterns.lost_late),
            "not known which way",
        ),
    ];
    let where_lost = match ways.iter().find(|(number, _)| *number == counts.lost) {
        Some((_, way)) => format!(", {way}"),
        None => format!(": {}", parts(ways).join(", ")),
    };
    let refused = patterns.lost_refused.filter(|&refused| refused > 0);
    let refused = refused.map(|refused| format!(", {refused} of them refused by the peer's policy"));
    let longest = patterns.loss_period.filter(|period| period.max > 1);
    let in_a_row = longest.map(|period| format!(", up to {} in a row", period.max));
    let [refused, in_a_row] = [refused, in_a_row].map(Option::unwrap_or_default);
    let lost = (counts.lost > 0).then(|| {
        let probes = count(counts.lost, "probe");
        format!("{probes} lost{where_lost}{refused}{in_a_row}")
    });
    let pending = (counts.pending > 0).then(|| format!("{} pending", counts.pending));
    let odd = parts([
        (counts.late, "late"),
        (counts.duplicates, "duplicate"),
        (counts.reordered, "reordered"),
        (
            counts.collector_lost,
            "counted without stamps, as the ring buffer was full",
        ),
    ]);
    let odd = match patterns.reordering_extent {
        Some(extent) => odd
            .into_iter()
            .chain([format!("overtaken by up to {}", extent.max)])
            .collect(),
        None => odd,
    };
    let odd = (!odd.is_empty()).then(|| format!("replies: {}", odd.join(", ")));
    let clauses: Vec<String> = [lost, pending, odd].into_iter().flatten().collect();
    (!clauses.is_empty()).then(|| clauses.join("; "))
}

/// `1 this`, `2 that`: those that are not zero.
fn parts<const N: usize>(numbers: [(u64, &str); N]) -> Vec<String> {
    let present = numbers.into_iter().filter(|(number, _)| *number > 0);
    present.map(|(number, what)| format!("{number} {what}")).collect()
}

/// Writes how long each peer was down, once for all of its paths. Those in `always_probed` are probed all the while.
pub(super) fn write_downs(
    results: &[Results],
    always_probed: &[IpAddr],
    columns: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for paths in results.chunk_by(|a, b| a.peer == b.peer) {
        // A path that was first used later has seen less of it.
        let Some(result) = paths.iter().max_by_key(|result| result.downtime.down_ns) else {
            continue;
        };
        let (peer, downtime) = (result.peer, result.downtime);
        if downtime.down_ns == 0 {
            continue;
        }
        let consequence = if always_probed.contains(&peer) {
            "unicast probes were sent all the same, and are counted"
        } else {
            "probes then not sent are not counted as lost"
        };
        let note = format!(
            "{peer} was down {}, {} in all; {consequence}",
            count(downtime.downs, "time"),
            roughly(downtime.down_ns)
        );
        wrap::write("", &note, 2, columns, out)?;
    }
    Ok(())
}

/// To the second, if it took one.
fn roughly(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if ns < SECOND {
        duration_u64(ns)
    } else {
        format_duration(Duration::from_secs((ns + SECOND / 2) / SECOND)).to_string()
    }
}
