//! Notes on losses, steps and downtime, and advice if no peer answered; written only if there is something to note.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use humantime::format_duration;
use probe_common::abi::Counter;
use probe_core::stats::report::{Counts, Path, Patterns};

use crate::output::model::{Counters, Method, Results, Start};
use crate::output::quantity::{above_zero, count, duration_u64, list};
use crate::output::text::table::path_name;
use crate::output::text::{counters, wrap};

pub fn write(results: &[Results], columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let down_ns = results.iter().map(|result| result.interface_down_ns).max();
    if let Some(down_ns) = down_ns.filter(|&down_ns| down_ns > 0) {
        let note = format!(
            "this host's interface was down or without carrier for {}",
            roughly(down_ns)
        );
        wrap::write("", &note, 2, columns, out)?;
    }
    for result in results {
        let who = format!("{} {}", result.peer, path_name(result));
        let notes = [
            unsent(result),
            not_sent(result),
            losses(&result.counts, &result.patterns),
            stepped(result),
            no_multicast(result, results),
        ];
        for note in notes.into_iter().flatten() {
            wrap::write("", &format!("{who}: {note}"), 2, columns, out)?;
        }
    }
    Ok(())
}

fn unsent(result: &Results) -> Option<String> {
    let failed = result.counts.send_failed;
    let reasons: Vec<String> = match result.send_failed_by.iter().next() {
        Some((why, &number)) if number == failed => vec![why.to_string()],
        _ => result
            .send_failed_by
            .iter()
            .map(|(why, number)| format!("{number} {why}"))
            .collect(),
    };
    (failed > 0).then(|| {
        format!(
            "{} never left this host: {}",
            count(failed, "probe"),
            reasons.join(", ")
        )
    })
}

fn not_sent(result: &Results) -> Option<String> {
    let not_sent = result.counts.not_sent;
    (not_sent > 0).then(|| format!("{} not sent, as this process did not run", count(not_sent, "probe")))
}

fn stepped(result: &Results) -> Option<String> {
    let whose = above_zero([(result.steps.own, "of this host"), (result.steps.peer, "of the peer")]);
    (!whose.is_empty()).then(|| format!("steps of the wall clock: {}", whose.join(", ")))
}

/// So many lost group probes are no accident.
const MIN_LOST: u64 = 3;

/// The likely cause, if a peer answers unicast probes and no group probe.
fn no_multicast(result: &Results, results: &[Results]) -> Option<String> {
    let counts = &result.counts;
    let answers_unicast = results.iter().any(|other| {
        let is_its_unicast = other.peer == result.peer && other.path == Path::Unicast;
        is_its_unicast && other.counts.received > 0
    });
    let is_silent = counts.received + counts.late == 0 && counts.lost >= MIN_LOST;
    // Those reached the peer.
    let has_reached = counts.lost_backward > 0 || result.patterns.lost_refused > Some(0);
    (result.path == Path::Group && result.method == Method::Stamp && is_silent && !has_reached && answers_unicast)
        .then(|| {
            "multicast does not arrive there; does a switch snoop without a querier? See \"Switches that snoop\" in the \
             guide to agents"
                .to_owned()
        })
}

fn losses(counts: &Counts, patterns: &Patterns) -> Option<String> {
    let directions = [
        (counts.lost_forward, "forward"),
        (counts.lost_backward, "backward"),
        (patterns.lost_late, "answered too late"),
        (
            counts.lost_unknown.saturating_sub(patterns.lost_late),
            "direction unknown",
        ),
    ];
    let where_lost = match directions.iter().find(|(number, _)| *number == counts.lost) {
        Some((_, direction)) => format!(", {direction}"),
        None => format!(": {}", above_zero(directions).join(", ")),
    };
    let refused = patterns.lost_refused.filter(|&refused| refused > 0);
    let refused = refused.map(|refused| format!(", {refused} of them above the peer's rate limits"));
    let longest = patterns.loss_period.filter(|period| period.max > 1);
    let in_a_row = longest.map(|period| format!(", up to {} in a row", period.max));
    let [refused, in_a_row] = [refused, in_a_row].map(Option::unwrap_or_default);
    let lost = (counts.lost > 0).then(|| {
        let probes = count(counts.lost, "probe");
        format!("{probes} lost{where_lost}{refused}{in_a_row}")
    });
    let pending = (counts.pending > 0).then(|| format!("{} pending", counts.pending));
    let odd = above_zero([
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

/// Writes where each peer was before and how long it was down, once for all of its paths. Peers in `always_probed` are probed while down.
pub fn write_peers(
    results: &[Results],
    always_probed: &[IpAddr],
    columns: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for paths in results.chunk_by(|a, b| a.peer == b.peer) {
        // A path that was first used later has less of it.
        let Some(result) = paths.iter().max_by_key(|result| result.downtime.down_ns) else {
            continue;
        };
        let (peer, downtime) = (result.peer, result.downtime);
        if let Some(from) = result.moved_from {
            wrap::write("", &format!("{peer} moved from {from}"), 2, columns, out)?;
        }
        if downtime.down_ns == 0 {
            continue;
        }
        let consequence = if always_probed.contains(&peer) {
            "unicast probes were still sent and are counted"
        } else {
            "no probes were sent, and none are counted as lost"
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

/// Rounded to seconds above one.
fn roughly(ns: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if ns < SECOND {
        duration_u64(ns)
    } else {
        format_duration(Duration::from_secs((ns + SECOND / 2) / SECOND)).to_string()
    }
}

/// Without any reply: what to check, on this host first if no probe left it.
pub fn write_advice(counters: &Counters, start: &Start, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let named = |name: &str| counters.values.get(name).copied().unwrap_or(0);
    let by_programs =
        counters::value(counters, Counter::EgressStamped) + counters::value(counters, Counter::EgressFailed);
    let left = by_programs + named("socket_stamped");
    let advice = if left > 0 {
        let left = count(left, "probe");
        writeln!(out, "no peer answered ({left} left this host): check that")?;
        advice_for_the_path(start)
    } else {
        // A device may not stamp what it sends.
        let known = if named("socket_sent") > 0 {
            "is known to have left"
        } else {
            "left"
        };
        writeln!(out, "no probe {known} this host: check that")?;
        advice_for_this_host(start)
    };
    for advice in advice {
        wrap::write("  - ", &advice, 4, columns, out)?;
    }
    writeln!(out)
}

fn advice_for_this_host(start: &Start) -> Vec<String> {
    let Start { interface, peers, .. } = start;
    let mut advice = vec![
        format!("{interface} is up and has a carrier: ip link show dev {interface}"),
        format!("its addresses are not tentative, nor duplicates (dadfailed): ip address show dev {interface}"),
    ];
    if !peers.is_empty() {
        let peers = list(peers);
        advice.push(format!(
            "there is a route over {interface} to {peers}: ip route get ADDR oif {interface}"
        ));
        advice.push(format!(
            "{peers} can be resolved by ARP or ND (no FAILED or INCOMPLETE): ip neigh show dev {interface}"
        ));
    }
    advice.push(doctor(start));
    advice
}

fn advice_for_the_path(start: &Start) -> Vec<String> {
    let Start { port, peers, .. } = start;
    let groups = list(&start.groups);
    let mut advice = Vec::new();
    if start.group_probes {
        advice.push(format!(
            "kstamp runs on the other port too, with --port {port} and the same groups"
        ));
    } else {
        advice.push(format!("kstamp runs at {} with --port {port}", list(peers)));
    }
    let key = if start.authenticated {
        "has the same --key-file"
    } else {
        "has no --key-file"
    };
    advice.push(format!(
        "it {key}, and this host's address is in its interface's prefixes or --allow"
    ));
    advice.push(format!("UDP port {port} is not filtered on the path"));
    if start.group_probes {
        let other_way = if peers.is_empty() {
            ", or name a peer: --peer ADDR"
        } else {
            ""
        };
        advice.push(format!(
            "the switch forwards {groups} (IGMP and MLD snooping){other_way}"
        ));
    }
    advice.push(doctor(start));
    advice
}

fn doctor(start: &Start) -> String {
    format!("kstamp doctor --iface {} reports no problem", start.interface)
}
