//! What is seldom there: shown only where it is.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use humantime::format_duration;

use super::table::path_name;
use super::wrap;
use crate::core::report::Path;
use crate::output::quantity::{count, duration_u64};
use crate::output::results::Results;

/// Writes what went wrong with each peer and path.
pub(super) fn write(results: &[Results], columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    for result in results {
        let counts = &result.counts;
        let who = format!("{} {}", result.peer, path_name(result.path));
        let losses = [
            (counts.lost_forward, "on the way there"),
            (counts.lost_backward, "on the way back"),
            (counts.lost_unknown, "not known which way"),
        ];
        let replies = [
            (counts.pending, "still pending"),
            (counts.late, "late"),
            (counts.duplicates, "duplicate"),
            (counts.reordered, "reordered"),
        ];
        if counts.send_failed > 0 {
            let why = match result.path {
                Path::Unicast => "no answer to ARP or ND, no route, or no carrier",
                Path::Group => "no usable address, no route, or no carrier",
            };
            let failed = count(counts.send_failed, "probe");
            let note = format!("{who}: {failed} never left this host: {why}");
            wrap::write("", &note, 2, columns, out)?;
        }
        write_note(&format!("{who} lost {}", counts.lost), &losses, columns, out)?;
        write_note(&format!("{who} replies"), &replies, columns, out)?;
        let own = [(counts.collector_lost, "answered, stamps lost to a full ring buffer")];
        write_note(&format!("{who} probes"), &own, columns, out)?;
    }
    Ok(())
}

/// `who: 1 this, 2 that`, or nothing if all are zero.
fn write_note(who: &str, numbers: &[(u64, &str)], columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let present = numbers.iter().filter(|(number, _)| *number > 0);
    let notes: Vec<String> = present.map(|(number, what)| format!("{number} {what}")).collect();
    if notes.is_empty() {
        return Ok(());
    }
    wrap::write("", &format!("{who}: {}", notes.join(", ")), 2, columns, out)
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
