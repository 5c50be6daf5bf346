//! The part of the page about hops.

use std::io::{self, Write};

use probe_core::hops::Segment;

use crate::output::html::{figure_of_parts, table, text};
use crate::output::model::hops::Outlier;
use crate::output::quantity::{count, duration, duration_u64, percent};
use crate::output::report::hops::SessionHops;
use crate::output::text::hops::{self as words, outlier_place, segment_words};
use crate::output::text::layout::{Column, Grid, Who};

const WHERE: &str = "where and why";

/// Nothing without `--hops`.
pub fn write(what: &str, hops: &SessionHops, out: &mut dyn Write) -> io::Result<()> {
    if let Some(history) = &hops.history {
        let hops = &history.whole;
        bar(what, &hops.shares(), out)?;
        let caption = format!(
            "{what}: time by segment, the mean of the windows' medians and the largest p99, and probes lost there"
        );
        table(words::table(hops, "own port"), &caption, out)?;
        for note in words::notes(hops) {
            writeln!(out, "<p class=\"notes\">{}.</p>", text(&note))?;
        }
    }
    if !hops.outliers.is_empty() {
        let caption = format!("{what}: the probes that took longest");
        table(slowest(&hops.outliers), &caption, out)?;
    }
    if hops.outliers_left_out > 0 {
        let left_out = count(hops.outliers_left_out, "faster outlier");
        writeln!(out, "<p class=\"notes\">{left_out} not listed.</p>")?;
    }
    Ok(())
}

fn bar(what: &str, shares: &[(Option<Segment>, i64)], out: &mut dyn Write) -> io::Result<()> {
    let whole: u64 = shares.iter().map(|(_, ns)| ns.unsigned_abs()).sum();
    let part = |(segment, ns): &(Option<Segment>, i64)| {
        let name = segment.map_or("not split".to_owned(), |segment| segment_words(segment.name()));
        let place = Segment::ALL.iter().position(|of| Some(*of) == *segment);
        let share = percent(ns.unsigned_abs(), whole);
        (
            format!("{name} {} ({share})", duration(*ns)),
            place.unwrap_or(Segment::ALL.len()),
            ns.unsigned_abs(),
        )
    };
    let parts: Vec<_> = shares.iter().map(part).collect();
    let title = format!("{what}: a mean round trip of {} by segment", duration_u64(whole));
    figure_of_parts(&title, &parts, out)
}

fn slowest(outliers: &[Outlier]) -> Grid {
    let column = |heading, cell: &dyn Fn(&Outlier) -> String| Column {
        of: "",
        heading,
        numbers: heading != WHERE,
        gives_way: 0,
        cells: outliers.iter().map(cell).collect(),
    };
    Grid {
        heading: "time",
        who: outliers
            .iter()
            .map(|outlier| Who {
                address: outlier.time.to_string(),
                name: None,
            })
            .collect(),
        columns: vec![
            column("probe", &|outlier| outlier.seq.to_string()),
            column("took", &|outlier| duration_u64(outlier.elapsed_ns)),
            column("above", &|outlier| duration_u64(outlier.threshold_ns)),
            column(WHERE, &outlier_place),
        ],
    }
}
