//! Text: a header, a line each interval, and a summary as that of ping.

use std::io::{self, Write};

use probe_core::stats::report::Summary;

use crate::command::volley::output::{RefusedFields, VolleyCounts, VolleyResults, VolleyStart, VolleySummary};
use crate::output::quantity::{above_zero, clock_name, count, duration, duration_u64, percent};

pub fn start(start: &VolleyStart, out: &mut dyn Write) -> io::Result<()> {
    let name = start.peer_name.as_ref().map(|name| format!(" ({name})"));
    writeln!(
        out,
        "VOLLEY {}{} port {} by {}: {}",
        start.peer,
        name.unwrap_or_default(),
        start.port,
        start.interface,
        agreement(start)
    )?;
    writeln!(out, "mode {}: {}", start.mode, start.mode_reason)?;
    let rate = match start.rate_limit {
        Some(rate) => format!("at most {rate} probes a second"),
        None => "no rate limit".to_owned(),
    };
    let balls = match (start.balls, start.batch) {
        (Some(balls), _) => format!(", {} in flight", count(balls.into(), "probe")),
        (None, Some(batch)) => format!(", up to {batch} at once"),
        (None, None) => String::new(),
    };
    let pace = match start.burst {
        Some(burst) => format!("bursts of {} each {}", burst.probes, duration_u64(burst.period_ns)),
        None => "continuous".to_owned(),
    };
    let length = humantime::format_duration(std::time::Duration::from_nanos(start.duration_ns));
    writeln!(out, "{rate}{balls}, {pace}, for {length}\n")?;
    writeln!(
        out,
        "{:>10} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "until", "sent", "lost", "probes/s", "RTT min", "p50", "p99", "p99.9", "max"
    )
}

fn agreement(start: &VolleyStart) -> String {
    match start.volley_limit {
        Some(limit) => format!("it agrees to {limit} probes a second"),
        None => "it did not say whether it agrees (--force)".to_owned(),
    }
}

/// An interval that ended `until_ns` after the start.
pub fn row(row: &VolleyResults, until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
    let rtt = |of: fn(&Summary) -> i64| row.rtt_ns.as_ref().map_or("-".to_owned(), |rtt| duration(of(rtt)));
    let until = format!("{:.2} s", until_ns as f64 / 1e9);
    writeln!(
        out,
        "{until:>10} {:>10} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        row.counts.sent,
        row.counts.lost,
        row.rate,
        rtt(|rtt| rtt.min),
        rtt(|rtt| rtt.p50),
        rtt(|rtt| rtt.p99),
        rtt(|rtt| rtt.p999),
        rtt(|rtt| rtt.max),
    )
}

pub fn summary(start: &VolleyStart, summary: &VolleySummary, out: &mut dyn Write) -> io::Result<()> {
    let results = &summary.results;
    writeln!(out, "\n--- {} port {}: {} ---", start.peer, start.port, start.mode)?;
    writeln!(out, "{}", counts(&results.counts))?;
    if let Some(refused) = refused(&results.counts.refused) {
        writeln!(out, "packets that answered no probe: {refused}")?;
    }
    // With few probes, most of it would be the time of other processes.
    let cpu = summary.cpu_ns.filter(|_| results.counts.sent >= 100_000).map(|cpu_ns| {
        let per_million = cpu_ns as f64 / 1e3 / results.counts.sent as f64;
        format!(", {per_million:.2} s of CPU time per million on this machine, all processes included")
    });
    writeln!(out, "{} probes a second{}", results.rate, cpu.unwrap_or_default())?;
    for (name, of) in distributions(results) {
        line(&name, of, out)?;
    }
    for note in &summary.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

/// `5 probes sent, 4 replies, 20.00 % lost (1 forward, 0 backward, 0 unknown)`.
pub fn counts(counts: &VolleyCounts) -> String {
    let mut line = format!(
        "{} sent, {}, {} lost",
        count(counts.sent, "probe"),
        count(counts.received, "reply"),
        percent(counts.lost, counts.sent.saturating_sub(counts.pending))
    );
    if counts.lost > 0 {
        line += &format!(
            " ({} forward, {} backward, {} unknown)",
            counts.lost_forward, counts.lost_backward, counts.lost_unknown
        );
    }
    for further in above_zero([
        (counts.pending, "still waiting"),
        (counts.late, "late"),
        (counts.duplicates, "duplicate"),
        (counts.reordered, "reordered"),
        (counts.implausible, "implausible, without delays"),
    ]) {
        line += &format!(", {further}");
    }
    line
}

fn refused(refused: &RefusedFields) -> Option<String> {
    let named = above_zero([
        (refused.not_from_peer, "from another host"),
        (refused.bad_checksum, "with a wrong checksum"),
        (refused.malformed, "malformed"),
        (refused.unknown, "to a number that was not sent"),
        (refused.wrong_t1, "with a wrong T1"),
    ]);
    (!named.is_empty()).then(|| named.join(", "))
}

/// The delays that have samples, with their names.
pub fn distributions(results: &VolleyResults) -> Vec<(String, Summary)> {
    let clock = results.clock.map(clock_name).unwrap_or_default();
    let all = [
        ("rtt".to_owned(), results.rtt_ns),
        ("residence".to_owned(), results.residence_ns),
        (format!("forward ({clock})"), results.forward_ns),
        (format!("backward ({clock})"), results.backward_ns),
    ];
    let present = |(name, summary): (String, Option<Summary>)| Some((name, summary?));
    all.into_iter().filter_map(present).collect()
}

fn line(name: &str, summary: Summary, out: &mut dyn Write) -> io::Result<()> {
    let Summary {
        min,
        mean,
        p50,
        p99,
        p999,
        max,
        stddev,
        ..
    } = summary;
    let values = [min, mean, p50, p99, p999, max, stddev].map(duration);
    writeln!(out, "{name} min/mean/p50/p99/p99.9/max/stddev = {}", values.join(" / "))
}
