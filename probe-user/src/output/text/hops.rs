//! Where the round trips to a peer spent their time: a table by segment, and a bar.

use std::io::{self, Write};

use probe_core::direction::Direction::{Backward, Forward};
use probe_core::hops::Segment;
use probe_core::stats::report::{Path, Summary};

use crate::output::bar;
use crate::output::model::hops::{Hops, Outlier};
use crate::output::quantity::{count, duration, duration_u64};
use crate::output::text::layout::{Column, Grid, Who};
use crate::output::text::wrap;
use crate::output::time::interval;

/// Columns of the bar, and of what stands before it.
const BAR: usize = 60;
const LABEL: usize = 22;

/// `port` is where this host sends probes.
pub fn write(hops: &Hops, port: &str, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let title = format!("Hops to {}, {}", who(hops), interval(hops.start, hops.end));
    writeln!(out)?;
    wrap::write("", &title, 2, columns, out)?;
    if !hops.parts.is_empty() {
        table(hops, port).write(columns, out)?;
    }
    let shares = hops.shares();
    if !shares.is_empty() {
        let room = columns.map_or(BAR, |columns| columns.saturating_sub(LABEL).clamp(1, BAR));
        let rtt = duration(shares.iter().map(|(_, ns)| ns).sum());
        writeln!(out, " mean RTT {rtt:>9}  {}", drawn(&shares, room))?;
    }
    for note in notes(hops) {
        wrap::write("", &format!("{}: {note}", hops.peer), 2, columns, out)?;
    }
    Ok(())
}

fn who(hops: &Hops) -> String {
    let name = hops.peer_name.as_ref().map(|name| format!(" {name}"));
    let probes = (hops.path == Path::Cold).then_some(", cold probes");
    format!(
        "{}{}{}",
        hops.peer,
        name.unwrap_or_default(),
        probes.unwrap_or_default()
    )
}

/// `1122222333`: the digits of the segments, each as often as its share says, and `?` for what is not split.
pub fn drawn(shares: &[(Option<Segment>, i64)], room: usize) -> String {
    let parts: Vec<i64> = shares.iter().map(|(_, ns)| *ns).collect();
    let signs = shares.iter().map(|(segment, _)| sign(*segment));
    let widths = bar::columns(&parts, room);
    signs.zip(widths).map(|(sign, columns)| sign.repeat(columns)).collect()
}

/// The digit of a segment, in the order of the path.
pub fn sign(segment: Option<Segment>) -> String {
    let place = segment.and_then(|segment| Segment::ALL.iter().position(|of| *of == segment));
    place.map_or("?".to_owned(), |place| (place + 1).to_string())
}

/// `own switch`.
pub fn segment_words(segment: &str) -> String {
    segment.replace('_', " ")
}

fn cause_words(cause: &str) -> String {
    match cause {
        "cpu" => "CPU wait".to_owned(),
        _ => segment_words(cause),
    }
}

pub fn table(hops: &Hops, port: &str) -> Grid {
    let segments: Vec<Segment> = hops.segments().collect();
    let text = |heading, gives_way, cell: &dyn Fn(Segment) -> String| Column {
        of: "",
        heading,
        numbers: false,
        gives_way,
        cells: segments.iter().map(|segment| cell(*segment)).collect(),
    };
    let quantile = |of, direction, heading, gives_way, value: fn(&Summary) -> i64| Column {
        of,
        numbers: true,
        ..text(heading, gives_way, &|segment| {
            let delay = hops.part(segment, direction).and_then(|part| part.delay_ns);
            delay.map_or("-".to_owned(), |delay| duration(value(&delay)))
        })
    };
    let mut columns = vec![text("devices", 5, &|segment| hops.ends(segment, port))];
    for (of, direction, gives_way) in [
        ("forward", Some(Forward), 0),
        ("backward", Some(Backward), 0),
        ("both", None, 1),
    ] {
        columns.push(quantile(of, direction, "p50", gives_way, |delay| delay.p50));
        columns.push(quantile(of, direction, "p99", gives_way + 3, |delay| delay.p99));
    }
    columns.push(text("lost", 0, &|segment| lost_there(hops, segment)));
    let who = |segment: &Segment| Who {
        address: format!("{} {}", sign(Some(*segment)), segment_words(segment.name())),
        name: None,
    };
    Grid {
        heading: "segment",
        who: segments.iter().map(who).collect(),
        columns,
    }
}

/// `3 forward, 1 backward`; `-` for none.
pub fn lost_there(hops: &Hops, segment: Segment) -> String {
    let lost = [(Some(Forward), " forward"), (Some(Backward), " backward"), (None, "")];
    let lost = lost.into_iter().filter_map(|(direction, words)| {
        let part = hops.part(segment, direction)?;
        (part.lost > 0).then(|| format!("{}{words}", part.lost))
    });
    let lost: Vec<String> = lost.collect();
    if lost.is_empty() {
        "-".to_owned()
    } else {
        lost.join(", ")
    }
}

/// What a table cannot show.
pub fn notes(hops: &Hops) -> impl Iterator<Item = String> {
    let answered = hops.both_halves + hops.own_half + hops.no_half;
    let of = |number: u64| match number == answered {
        true => String::new(),
        false => format!(" of {number} of {}", count(answered, "probe")),
    };
    let own = (hops.no_half > 0).then(|| {
        let why = match &*hops.own_devices {
            [] => {
                "no device of this host was seen to carry the probes; see kstamp doctor, or name another --host-netns"
            }
            _ if hops.no_half == answered => {
                "none of the observed devices carried these probes; does --host-netns name the namespace of the NICs?"
            }
            _ => "stamps were lost, or these probes passed no observed device",
        };
        format!("the near half{} is missing: {why}", of(hops.no_half))
    });
    let far = (hops.own_half > 0).then(|| {
        let why = match hops.far_devices {
            None => "the peer sends no hop stamps; it needs --hops, see kstamp doctor there",
            Some(_) => "the peer's stamps did not come in time",
        };
        format!("the far half{} is missing: {why}", of(hops.own_half))
    });
    let contradictory = (hops.contradictory > 0).then(|| {
        let probes = count(hops.contradictory, "probe");
        format!("stamps of {probes} contradict each other, as when a clock is set; they are not used")
    });
    let clock = hops.clock.as_ref().map(|clock| {
        let bound = hops.clock_bound_ns.map(|ns| format!(", ± {}", duration_u64(ns)));
        format!(
            "the underlay by direction rests on the clock: {clock}{}",
            bound.unwrap_or_default()
        )
    });
    let lost = [
        (hops.lost_unknown, "lost in an unknown place"),
        (hops.lost_late, "lost nowhere: answered too late"),
    ];
    let lost = lost.into_iter().filter(|(number, _)| *number > 0);
    let lost = lost.map(|(number, words)| format!("{} {words}", count(number, "probe")));
    let outliers = (hops.outliers > 0).then(|| {
        let threshold = hops.threshold_ns.map(|ns| format!(" above {}", duration_u64(ns)));
        let left_out = (hops.outliers_left_out > 0).then(|| format!(", {} of them not listed", hops.outliers_left_out));
        let [threshold, left_out] = [threshold, left_out].map(Option::unwrap_or_default);
        format!("{}{threshold}{left_out}", count(hops.outliers, "outlier"))
    });
    own.into_iter()
        .chain(far)
        .chain(contradictory)
        .chain(clock)
        .chain(lost)
        .chain(outliers)
}

/// One line.
pub fn write_outlier(outlier: &Outlier, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let line = format!("{} outlier: {}", outlier.time.to_second(), outlier_words(outlier));
    wrap::write("", &line, 2, columns, out)
}

/// `10.1.1.6 h2:p2, probe 7 took 4.20 ms: `, where and why, and the threshold.
pub fn outlier_words(outlier: &Outlier) -> String {
    let name = outlier.peer_name.as_ref().map(|name| format!(" {name}"));
    let [elapsed, threshold] = [outlier.elapsed_ns, outlier.threshold_ns].map(duration_u64);
    let (peer, name, seq) = (outlier.peer, name.unwrap_or_default(), outlier.seq);
    let cold = if outlier.path == Path::Cold { "cold " } else { "" };
    format!(
        "{peer}{name}, {cold}probe {seq} took {elapsed}: {} (threshold: {threshold})",
        outlier_place(outlier)
    )
}

/// `4.10 ms in own switch, forward, ordinarily 12.00 µs; cause: upcall of 4.05 ms`.
pub fn outlier_place(outlier: &Outlier) -> String {
    let place = match (&outlier.largest_segment, outlier.largest_ns) {
        (Some(segment), Some(ns)) => {
            let direction = outlier.largest_direction.as_deref();
            let direction = direction.filter(|direction| *direction != "both");
            let direction = direction.map(|direction| format!(", {direction}"));
            let ordinary = outlier
                .ordinary_ns
                .map(|ns| format!(", ordinarily {}", duration_u64(ns)));
            let [direction, ordinary] = [direction, ordinary].map(Option::unwrap_or_default);
            format!(
                "{} in {}{direction}{ordinary}",
                duration_u64(ns),
                segment_words(segment)
            )
        }
        _ => "it is not known where".to_owned(),
    };
    let cause = outlier.cause.as_ref().map(|cause| {
        let waited_ns = outlier.upcall_wait_ns.or(outlier.cpu_wait_ns);
        let lasted = waited_ns.map(|ns| format!(" of {}", duration_u64(ns)));
        format!("; cause: {}{}", cause_words(cause), lasted.unwrap_or_default())
    });
    format!("{place}{}", cause.unwrap_or_default())
}
