//! The HTML page: a heat map of round trips, the rate, and the summary.

use std::io::{self, Write};

use crate::command::volley::output::heat::HeatMap;
use crate::command::volley::output::text::{counts, distributions};
use crate::command::volley::output::{VolleyStart, VolleySummary};
use crate::output::html::{begin, end, figure, key, table, text};
use crate::output::plot::{colour_name, heat_name};
use crate::output::quantity::duration;
use crate::output::text::layout::{Column, Grid, Who};

pub fn write(start: &VolleyStart, summary: &VolleySummary, map: &HeatMap, out: &mut dyn Write) -> io::Result<()> {
    begin("kstamp: volley", "Round trips over time", out)?;
    let results = &summary.results;
    let name = start.peer_name.as_ref().map(|name| format!(" ({name})"));
    let about = format!(
        "{} to {}{}, {}, mode {}: {}. {} probes a second.",
        start.interface,
        start.peer,
        name.unwrap_or_default(),
        start.time.to_second(),
        start.mode,
        counts(&results.counts),
        results.rate
    );
    writeln!(out, "<p class=\"about\">{}</p>\n<section>", text(&about))?;
    if let Some(picture) = map.picture() {
        writeln!(out, "<p class=\"notes\">Round trips in a cell:</p>")?;
        key(&map.levels(), heat_name, out)?;
        let caption = format!(
            "{}; delays and numbers are logarithmic, and the residence in the reflector is subtracted",
            map.in_words()
        );
        figure(Some(picture), "Round-trip time over time", &caption, out)?;
    }
    if let Some(rates) = map.rates() {
        key(&["lost".to_owned(), "sent".to_owned()], colour_name, out)?;
        figure(Some(rates), "Probes a second", "Sent and lost in each interval", out)?;
    }
    table(delays(summary), "Delays of the whole run", out)?;
    writeln!(out, "</section>\n<section>\n<h2>How it was measured</h2>\n<ul>")?;
    let how = [
        format!("mode {}: {}", start.mode, start.mode_reason),
        format!("kstamp {}, Linux {}", start.version, start.kernel),
    ];
    for line in how.iter().chain(&summary.notes) {
        writeln!(out, "<li>{}.</li>", text(line))?;
    }
    writeln!(out, "</ul>\n</section>")?;
    end(out)
}

fn delays(summary: &VolleySummary) -> Grid {
    let delays = distributions(&summary.results);
    let column = |heading, of: fn(&probe_core::stats::report::Summary) -> i64| Column {
        of: "",
        heading,
        numbers: true,
        gives_way: 0,
        cells: delays.iter().map(|(_, summary)| duration(of(summary))).collect(),
    };
    let columns = vec![
        column("min", |summary| summary.min),
        column("mean", |summary| summary.mean),
        column("p50", |summary| summary.p50),
        column("p90", |summary| summary.p90),
        column("p99", |summary| summary.p99),
        column("p99.9", |summary| summary.p999),
        column("max", |summary| summary.max),
        column("stddev", |summary| summary.stddev),
    ];
    let who = |(name, _): &(String, _)| Who {
        address: name.clone(),
        name: None,
    };
    Grid {
        heading: "delay",
        who: delays.iter().map(who).collect(),
        columns,
    }
}
