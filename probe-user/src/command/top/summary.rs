//! The table that stays on the terminal after the end: the summaries of an agent that `top` has started.

use std::io;

use crate::command::top::model::Model;
use crate::output::quantity::{duration, percent};
use crate::output::report::record::{Quantiles, Results};
use crate::output::text::layout::{Column, Grid, Who};
use crate::output::time::interval;

pub fn write(model: &Model, columns: Option<usize>, out: &mut dyn io::Write) -> io::Result<()> {
    let results = &model.summaries;
    let start = results.iter().map(|result| result.start).min();
    let (Some(start), Some(end)) = (start, results.iter().map(|result| result.end).max()) else {
        return writeln!(out, "no peer has answered");
    };
    writeln!(
        out,
        "Summary of {}: RTT less the time in the reflector",
        interval(start, end)
    )?;
    grid(results).write(columns, out)
}

fn grid(results: &[Results]) -> Grid {
    let column = |of, heading, gives_way, cell: &dyn Fn(&Results) -> String| Column {
        of,
        heading,
        numbers: heading != "path",
        gives_way,
        cells: results.iter().map(cell).collect(),
    };
    let lost = |part: fn(&Results) -> u64| {
        move |result: &Results| percent(part(result), result.received.saturating_add(result.lost))
    };
    let rtt = |value: fn(Quantiles) -> i64| {
        move |result: &Results| result.rtt_ns.map_or("-".to_owned(), |rtt| duration(value(rtt)))
    };
    let columns = vec![
        column("", "path", 0, &|result| result.path.name().to_owned()),
        column("", "sent", 4, &|result| result.sent.to_string()),
        column("", "received", 3, &|result| result.received.to_string()),
        column("lost", "fwd", 0, &lost(|result| result.lost_forward)),
        column("lost", "back", 0, &lost(|result| result.lost_backward)),
        column("lost", "unkn", 0, &lost(|result| result.lost_unknown)),
        column("RTT", "min", 2, &rtt(|rtt| rtt.min)),
        column("RTT", "p50", 0, &rtt(|rtt| rtt.p50)),
        column("RTT", "p99", 0, &rtt(|rtt| rtt.p99)),
        column("RTT", "max", 1, &rtt(|rtt| rtt.max)),
    ];
    let who = results.iter().map(|result| Who {
        address: result.peer.to_string(),
        name: result.peer_name.clone(),
    });
    Grid {
        heading: "peer",
        who: who.collect(),
        columns,
    }
}
