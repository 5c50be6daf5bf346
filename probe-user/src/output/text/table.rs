//! Tables with a row per peer and path.

use probe_core::stats::report::{OneWayClock, Summary};

use crate::output::model::{Method, Results};
use crate::output::quantity::{duration, duration_u64, percent};
use crate::output::text::layout::{Column, Grid, Who};

/// Shown where there is no value.
const NONE: &str = "-";

pub fn path_name(result: &Results) -> String {
    let path = result.path.name();
    match result.method {
        Method::Stamp => path.to_owned(),
        Method::Echo => format!("{path} legacy"),
    }
}

/// Counts and round-trip delays.
pub fn round_trips(results: &[Results]) -> Grid {
    let number = |heading, gives_way, value: fn(&Results) -> String| Column {
        numbers: true,
        gives_way,
        ..text(results, heading, value)
    };
    let rtt = |heading, gives_way, value: fn(&Summary) -> i64| Column {
        of: "RTT",
        heading,
        numbers: true,
        gives_way,
        cells: column(results, |result| cell(result.rtt_ns.as_ref().map(value))),
    };
    let mut columns = vec![
        text(results, "path", path_name),
        number("sent", 0, |result| result.counts.sent.to_string()),
    ];
    if results.iter().any(|result| result.counts.send_failed > 0) {
        columns.push(number("failed", 1, |result| result.counts.send_failed.to_string()));
    }
    columns.extend([
        number("received", 6, |result| result.counts.received.to_string()),
        // Pending probes may still be answered.
        number("lost", 0, |result| {
            percent(result.counts.lost, result.counts.received + result.counts.lost)
        }),
    ]);
    if results
        .iter()
        .any(|result| result.counts.unanswered() != result.counts.lost)
    {
        columns.push(number("unanswered", 8, |result| {
            let unanswered = result.counts.unanswered();
            percent(unanswered, result.counts.received + unanswered)
        }));
    }
    columns.extend([
        rtt("min", 5, |summary| summary.min),
        rtt("mean", 7, |summary| summary.mean),
        rtt("p50", 3, |summary| summary.p50),
        rtt("p99", 2, |summary| summary.p99),
        rtt("max", 4, |summary| summary.max),
    ]);
    Grid {
        heading: "peer",
        who: who(results),
        columns,
    }
}

/// The parts of a round trip, and the clock that one-way delays rest on.
pub fn parts(results: &[Results]) -> Grid {
    let number = |heading, gives_way, value: fn(&Results) -> Option<i64>| Column {
        numbers: true,
        gives_way,
        ..text(results, heading, |result| cell(value(result)))
    };
    let columns = vec![
        text(results, "path", path_name),
        // Half of the round trip, as if both directions took the same time.
        number("avg latency", 2, |result| result.rtt_ns.map(|summary| summary.mean / 2)),
        number("residence", 4, |result| median(result.residence_ns)),
        number("forward", 0, |result| median(result.forward_ns)),
        number("backward", 0, |result| median(result.backward_ns)),
        Column {
            gives_way: 1,
            ..text(results, "clock", |result| {
                let clock = |clock: OneWayClock| match clock.bound_ns() {
                    Some(bound_ns) => format!("{} ±{}", clock.name(), duration_u64(bound_ns)),
                    None => clock.name().to_owned(),
                };
                result.clock.map_or(NONE.to_owned(), clock)
            })
        },
        Column {
            gives_way: 3,
            ..text(results, "attach", |result| match result.peer_attach {
                Some(peer) => format!("{} / {peer}", result.attach.receive),
                None => result.attach.receive.to_string(),
            })
        },
    ];
    Grid {
        heading: "peer",
        who: who(results),
        columns,
    }
}

/// A column that is never removed.
fn text(results: &[Results], heading: &'static str, value: impl Fn(&Results) -> String) -> Column {
    Column {
        of: "",
        heading,
        numbers: false,
        gives_way: 0,
        cells: column(results, value),
    }
}

fn column(results: &[Results], value: impl Fn(&Results) -> String) -> Vec<String> {
    results.iter().map(value).collect()
}

/// Each peer in the first of its rows.
fn who(results: &[Results]) -> Vec<Who> {
    let mut before = None;
    let who = |result: &Results| {
        if before.replace(result.peer) == Some(result.peer) {
            Who {
                address: String::new(),
                name: None,
            }
        } else {
            Who {
                address: result.peer.to_string(),
                name: result.peer_name.clone(),
            }
        }
    };
    results.iter().map(who).collect()
}

fn median(summary: Option<Summary>) -> Option<i64> {
    summary.map(|summary| summary.p50)
}

fn cell(ns: Option<i64>) -> String {
    ns.map_or_else(|| NONE.to_owned(), duration)
}
