//! Where the round trips to a peer spent their time: a table by segment, and a bar.

use std::io::{self, Write};

use probe_core::direction::Direction::{Backward, Forward};
use probe_core::hops::Segment;
use probe_core::stats::report::Summary;

use crate::output::bar;
use crate::output::fields::{SEGMENTS, name_of};
use crate::output::model::hops::{Hops, Outlier};
use crate::output::quantity::{count, duration};
use crate::output::text::layout::{Column, Grid, Who};
use crate::output::text::wrap;
use crate::output::time::interval;

/// Columns of the bar.
const BAR: usize = 60;

pub fn segment_words(segment: Segment) -> String {
    name_of(&SEGMENTS, segment).replace('_', " ")
}

/// The digit of a segment in a bar.
pub fn digit(segment: Segment) -> usize {
    1 + SEGMENTS.iter().position(|(of, _)| *of == segment).unwrap_or(0)
}

/// `port` is where this host sends probes.
pub fn write(hops: &Hops, port: &str, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let title = format!("Hops to {}, {}", who(hops), interval(hops.start, hops.end));
    writeln!(out)?;
    wrap::write("", &title, 2, columns, out)?;
    if !hops.segments.is_empty() {
        table(hops, port).write(columns, out)?;
    }
    if let Some(shares) = hops.shares() {
        let room = columns.map_or(BAR, |columns| columns.saturating_sub(24).clamp(1, BAR));
        writeln!(out, " mean RTT {}  {}", duration(shares.iter().map(|(_, ns)| ns).sum()), drawn(&shares, room))?;
    }
    for note in notes(hops) {
        wrap::write("", &format!("{}: {note}", hops.peer), 2, columns, out)?;
    }
    Ok(())
}

fn who(hops: &Hops) -> String {
    match &hops.peer_name {
        Some(name) => format!("{} {name}", hops.peer),
        None => hops.peer.to_string(),
    }
}

/// `1122222333`: the digits of the segments, each as often as its share says.
pub fn drawn(shares: &[(Segment, i64)], room: usize) -> String {
    let parts: Vec<i64> = shares.iter().map(|(_, ns)| *ns).collect();
    let segments = shares.iter().map(|(segment, _)| digit(*segment).to_string());
    segments.zip(bar::columns(&parts, room)).map(|(digit, columns)| digit.repeat(columns)).collect()
}

fn table(hops: &Hops, port: &str) -> Grid {
    let segments: Vec<Segment> = hops.known().collect();
    let text = |heading, gives_way, numbers, cell: &dyn Fn(Segment) -> String| Column {
        of: "",
        heading,
        numbers,
        gives_way,
        cells: segments.iter().map(|segment| cell(*segment)).collect(),
    };
    let quantile = |of, direction, heading, gives_way, value: fn(&Summary) -> i64| Column {
        of,
        ..text(heading, gives_way, true, &|segment| {
            let delay = hops.part(segment, direction).and_then(|part| part.delay_ns);
            delay.map_or("-".to_owned(), |delay| duration(value(&delay)))
        })
    };
    let ways = [("forward", Some(Forward), 0), ("backward", Some(Backward), 0), ("both", None, 2)];
    let mut columns = vec![text("devices", 3, false, &|segment| hops.ends(segment, port).join(" → "))];
    for (of, direction, gives_way) in ways {
        columns.push(quantile(of, direction, "p50", gives_way, |delay| delay.p50));
        columns.push(quantile(of, direction, "p99", gives_way + 1, |delay| delay.p99));
    }
    columns.push(text("lost", 0, false, &|segment| lost_there(hops, segment)));
    Grid {
        heading: "segment",
        who: segments
            .iter()
            .map(|segment| Who {
                address: format!("{} {}", digit(*segment), segment_words(*segment)),
                name: None,
            })
            .collect(),
        columns,
    }
}

/// `3 forward, 1 backward`; `-` for none.
pub fn lost_there(hops: &Hops, segment: Segment) -> String {
    let ways = [(Some(Forward), " forward"), (Some(Backward), " backward"), (None, "")];
    let lost = ways.iter().filter_map(|(direction, words)| {
        let lost = hops.part(segment, *direction)?.lost;
        (lost > 0).then(|| format!("{lost}{words}"))
    });
    let lost: Vec<String> = lost.collect();
    if lost.is_empty() { "-".to_owned() } else { lost.join(", ") }
}

/// What the table cannot show.
pub fn notes(hops: &Hops) -> impl Iterator<Item = String> {
    let missing = hops.far_half_missing.as_ref().map(|why| {
        let halves = match hops.both_halves {
            0 => "the far half is missing".to_owned(),
            both => format!("the far half of {} is missing, of {both} there are both", count(hops.near_half, "probe")),
        };
        format!("{halves}: {why}")
    });
    let unknown = (hops.lost_unknown > 0)
        .then(|| format!("{} lost in a place that is not known", count(hops.lost_unknown, "probe")));
    missing.into_iter().chain(unknown)
}

/// One line.
pub fn write_outlier(outlier: &Outlier, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    wrap::write("", &format!("{} {}", outlier.time.to_second(), outlier_words(outlier)), 2, columns, out)
}

/// `10.1.1.6 h2:p2: probe 7 took 4.20 ms, above 1.00 ms: 4.10 ms in own switch forward, ordinarily 12.00 µs; an upcall of 4 ms`.
pub fn outlier_words(outlier: &Outlier) -> String {
    let name = outlier.peer_name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let place = match &outlier.largest {
        Some(Largest { part, ordinary_ns }) => {
            let ordinary = ordinary_ns.map(|ns| format!(", ordinarily {}", duration(ns))).unwrap_or_default();
            format!("{} in {}{ordinary}", duration(part.delay_ns), place_words(part.segment, part.direction))
        }
        None => "where is not known".to_owned(),
    };
    let cause = outlier.cause.as_ref().map(|cause| {
        let lasted = outlier.cause_ns.map(|ns| format!(" of {}", duration_u64(ns))).unwrap_or_default();
        format!("; cause: {cause}{lasted}")
    });
    let [rtt, threshold] = [outlier.rtt_ns, outlier.threshold_ns].map(duration_u64);
    format!("{}{name}: probe {} took {rtt}, above {threshold}: {place}{}", outlier.peer, outlier.seq, cause.unwrap_or_default())
}

/// `own switch, forward`.
pub fn place_words(segment: Segment, direction: Option<Direction>) -> String {
    let words = segment_words(segment);
    match direction {
        Some(direction) => format!("{words}, {}", name_of(&DIRECTIONS, Some(direction))),
        None => words,
    }
}
