//! The page of a report: one file that needs no other, without scripts.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::output::html::{self, figure, key, table, text};
use crate::output::plot::{colour_name, heat_name};
use crate::output::quantity::{count, duration, duration_u64, percent};
use crate::output::report::model::{Key, Model, Pair};
use crate::output::report::plots::{self, MAX_LINES, MAX_ROWS, MEDIAN, TAIL};
use crate::output::report::record::Start;
use crate::output::report::session::{Band, Session, Source, Span};
use crate::output::report::split;
use crate::output::text::layout::{Column, Grid, Who};
use crate::output::time::{Utc, interval};

/// Pairs with plots; further ones are in the tables only.
pub const MAX_PLOTTED: usize = 200;
/// Agents and peers in the matrix.
pub const MAX_NODES: usize = 64;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub records: u64,
}

pub fn write(model: &Model, files: &[File], out: &mut dyn Write) -> io::Result<()> {
    let pairs = model.pairs();
    html::begin("kstamp report", "Delay and loss between agents", out)?;
    let when = model
        .time()
        .map_or("no results".to_owned(), |(start, end)| interval(start, end).to_string());
    let agents = count(model.agents().count() as u64, "agent");
    let about = format!(
        "{when}. Measured by {agents}, {} of agent and peer.",
        count(pairs.len() as u64, "pair")
    );
    writeln!(out, "<p class=\"about\">{}</p>", text(&about))?;
    if pairs.is_empty() {
        writeln!(out, "<p>These files have no results: no window, summary or sample.</p>")?;
    } else {
        matrix(&pairs, out)?;
        loss(&pairs, out)?;
        writeln!(out, "<h2>Pairs</h2>")?;
        for (number, pair) in pairs.iter().enumerate().take(MAX_PLOTTED) {
            of_pair(number, pair, out)?;
        }
        if pairs.len() > MAX_PLOTTED {
            let more = count((pairs.len() - MAX_PLOTTED) as u64, "further pair");
            writeln!(
                out,
                "<p class=\"notes\">{more} without plots, to keep the page small; report on fewer files at once.</p>"
            )?;
        }
    }
    events(model, out)?;
    how(model, files, out)?;
    html::end(out)
}

/// A row for each agent that measured, a column for each of their peers and of themselves.
fn matrix(pairs: &[Pair<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut rows: Vec<&str> = pairs.iter().map(|pair| pair.from).collect();
    rows.dedup();
    let mut columns: Vec<&str> = pairs
        .iter()
        .map(|pair| pair.to.as_str())
        .chain(rows.iter().copied())
        .collect();
    columns.sort_unstable();
    columns.dedup();
    let cells: BTreeMap<(&str, &str), usize> = pairs
        .iter()
        .enumerate()
        .map(|(number, pair)| ((pair.from, pair.to.as_str()), number))
        .collect();
    let (shown_rows, shown_columns) = (rows.len().min(MAX_NODES), columns.len().min(MAX_NODES));
    let median = |pair: &Pair<'_>| pair.main().total().0.rtt.map(|band| band.quantiles.p50);
    let medians = || pairs.iter().filter_map(median);
    let (shortest, longest) = (medians().min().unwrap_or(0), medians().max().unwrap_or(0));
    let caption = "From each agent (row) to each peer (column): median and 99th percentile of the round-trip time, and lost probes. \
                   Colours go from the shortest median to the longest. A cell leads to its plots";
    writeln!(
        out,
        "<section>\n<h2>Matrix</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Matrix\">\
         <table class=\"matrix\"><caption>{caption}.</caption><thead><tr><th scope=\"col\">from \\ to</th>"
    )?;
    for column in &columns[..shown_columns] {
        write!(out, "<th scope=\"col\">{}</th>", text(column))?;
    }
    writeln!(out, "</tr></thead><tbody>")?;
    for row in &rows[..shown_rows] {
        write!(out, "<tr><th scope=\"row\">{}</th>", text(row))?;
        for column in &columns[..shown_columns] {
            match cells.get(&(*row, *column)) {
                Some(&number) => cell(number, &pairs[number], shortest, longest, out)?,
                None => write!(out, "<td>{}</td>", if row == column { "" } else { "–" })?,
            }
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")?;
    let (hidden_rows, hidden_columns) = (rows.len() - shown_rows, columns.len() - shown_columns);
    if hidden_rows + hidden_columns > 0 {
        let hidden =
            [(hidden_rows, "row"), (hidden_columns, "column")].map(|(number, what)| count(number as u64, what));
        writeln!(
            out,
            "<p class=\"notes\">{} and {} left out of the matrix; the pairs below have all.</p>",
            hidden[0], hidden[1]
        )?;
    }
    writeln!(out, "</section>")
}

fn cell(number: usize, pair: &Pair<'_>, shortest: i64, longest: i64, out: &mut dyn Write) -> io::Result<()> {
    let (part, _) = pair.main().total();
    let counts = part.counts;
    let lost = percent(counts.lost, counts.sent);
    let (delays, level) = match part.rtt {
        Some(band) => {
            let level = plots::delay_level(band.quantiles.p50, shortest, longest);
            let delays = [band.quantiles.p50, band.quantiles.p99].map(duration).join(" / ");
            (delays, Some(level))
        }
        None => ("no reply".to_owned(), None),
    };
    let chip = level.map(|level| format!("<i style=\"background:var({})\"></i>", heat_name(level)));
    let link = match number < MAX_PLOTTED {
        true => format!("<a href=\"#pair-{}\">{delays}</a>", number + 1),
        false => delays,
    };
    let class = if counts.lost > 0 { " class=\"lossy\"" } else { "" };
    write!(
        out,
        "<td>{}{link}<br><small{class}>{lost} lost</small></td>",
        chip.unwrap_or_default()
    )
}

/// The sessions of all pairs.
fn sessions<'a>(pairs: &'a [Pair<'a>]) -> impl Iterator<Item = (&'a Pair<'a>, &'a Key, &'a Session)> {
    pairs
        .iter()
        .flat_map(|pair| pair.sessions.iter().map(move |(key, session)| (pair, *key, *session)))
}

/// The most lossy sessions over time, and a table of them.
fn loss(pairs: &[Pair<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut rows: Vec<_> = sessions(pairs).collect();
    let share = |session: &Session| {
        let counts = session.total().0.counts;
        counts.lost as f64 / counts.sent.max(1) as f64
    };
    let number = rows.len();
    if number > MAX_ROWS {
        rows.sort_by(|(.., one), (.., other)| share(other).total_cmp(&share(one)));
        rows.truncate(MAX_ROWS);
    }
    let spans: Vec<Vec<Span>> = rows.iter().map(|(.., session)| session.losses()).collect();
    writeln!(out, "<section>\n<h2>Loss</h2>")?;
    key(&plots::loss_levels(), heat_name, out)?;
    let which = if number > MAX_ROWS {
        format!("the {MAX_ROWS} sessions that lost most")
    } else {
        "each session".to_owned()
    };
    let caption = format!("Share of probes lost over time, a row for {which}; the table below has the rows by number");
    figure(plots::loss_map(&spans), "Loss map", &caption, out)?;
    let column = |heading, cell: &dyn Fn(usize) -> String| column_of(heading, (0..rows.len()).map(cell).collect());
    let counts = |row: usize| rows[row].2.total().0.counts;
    let grid = Grid {
        heading: "row",
        who: (1..=rows.len()).map(|row| who(row.to_string())).collect(),
        columns: vec![
            column("from", &|row| rows[row].0.from.to_owned()),
            column("to", &|row| rows[row].0.to.clone()),
            column("address", &|row| rows[row].1.peer.to_string()),
            column("path", &|row| rows[row].1.path.name().to_owned()),
            column("sent", &|row| counts(row).sent.to_string()),
            column("lost", &|row| counts(row).lost.to_string()),
            column("share", &|row| percent(counts(row).lost, counts(row).sent)),
            column("forward", &|row| counts(row).forward.to_string()),
            column("backward", &|row| counts(row).backward.to_string()),
            column("unknown", &|row| counts(row).unknown.to_string()),
            column("did not leave", &|row| counts(row).send_failed.to_string()),
            column("late", &|row| counts(row).late.to_string()),
        ],
    };
    table(grid, "Losses by direction", out)?;
    writeln!(out, "</section>")
}

fn of_pair(number: usize, pair: &Pair<'_>, out: &mut dyn Write) -> io::Result<()> {
    let name = format!("{} to {}", pair.from, pair.to);
    writeln!(
        out,
        "<section id=\"pair-{}\">\n<h3>{}</h3>\n<div class=\"plots\">",
        number + 1,
        text(&name)
    )?;
    for (key, session) in &pair.sessions {
        let title = format!("{name}, {}", what(key));
        let spans = session.delays();
        let width_ns = spans.first().map_or(0, |(from, to, _)| to - from);
        let each = humantime::format_duration(std::time::Duration::from_nanos(width_ns));
        let from = if session.has_samples() { "samples" } else { "windows" };
        let caption = format!("Round-trip time by {from}, in columns of {each}; logarithmic axis");
        figure(plots::over_time(&spans), &title, &caption, out)?;
    }
    let all: Vec<&Session> = pair.sessions.iter().map(|(_, session)| *session).collect();
    let sampled = all.iter().any(|session| session.has_samples());
    let caption = match sampled {
        true => "Share of round trips that took at most this long; logarithmic axis",
        false => {
            "Share of round trips that took at most this long, from quantiles, because there are no samples; logarithmic axis"
        }
    };
    figure(
        plots::distributions(&all),
        &format!("{name}: distribution"),
        caption,
        out,
    )?;
    writeln!(out, "</div>")?;
    writeln!(
        out,
        "<ul class=\"key\"><li><i style=\"background:var({median})\"></i>median; shaded from the minimum to p99</li>\
         <li><i style=\"background:var({tail})\"></i>p99; dots: maximum</li></ul>",
        median = colour_name(MEDIAN),
        tail = colour_name(TAIL)
    )?;
    if pair.sessions.len() > 1 {
        let names: Vec<_> = pair
            .sessions
            .iter()
            .take(MAX_LINES)
            .map(|(key, _)| format!("distribution: {}", what(key)))
            .collect();
        html::key(&names, colour_name, out)?;
    }
    table(delays(pair), "Round-trip time and one-way delays", out)?;
    for (key, session) in &pair.sessions {
        split::write(&what(key), &session.hops, out)?;
    }
    for (key, session) in &pair.sessions {
        let spans = session.delays();
        if !spans.is_empty() {
            writeln!(
                out,
                "<details><summary>{}: values over time</summary>",
                text(&what(key))
            )?;
            table(
                over_time(&spans),
                "Round-trip time and losses in each column of the plot",
                out,
            )?;
            writeln!(out, "</details>")?;
        }
    }
    writeln!(out, "</section>")
}

fn what(key: &Key) -> String {
    format!("{} {}", key.peer, key.path.name())
}

fn who(address: String) -> Who {
    Who { address, name: None }
}

fn column_of(heading: &'static str, cells: Vec<String>) -> Column {
    const WORDS: [&str; 11] = [
        "from",
        "to",
        "address",
        "path",
        "clock",
        "agent",
        "event",
        "start",
        "version",
        "interface",
        "kernel",
    ];
    Column {
        of: "",
        heading,
        numbers: !WORDS.contains(&heading) && !heading.ends_with(" by"),
        gives_way: 0,
        cells,
    }
}

type Value = fn(&Band) -> i64;

const QUANTILES: [(&str, Value); 6] = [
    ("min", |band| band.quantiles.min),
    ("p50", |band| band.quantiles.p50),
    ("p90", |band| band.quantiles.p90),
    ("p99", |band| band.quantiles.p99),
    ("p99.9", |band| band.quantiles.p999),
    ("max", |band| band.quantiles.max),
];

/// `-` without replies; `~` before a quantile of several distributions.
fn delay(band: Option<Band>, of: Value, heading: &str) -> String {
    let exact = ["min", "max"].contains(&heading);
    band.map_or("-".to_owned(), |band| match band.is_merged && !exact {
        true => format!("~{}", duration(of(&band))),
        false => duration(of(&band)),
    })
}

fn delays(pair: &Pair<'_>) -> Grid {
    let totals: Vec<_> = pair.sessions.iter().map(|(_, session)| session.total()).collect();
    let column = |heading, cell: &dyn Fn(usize) -> String| column_of(heading, (0..totals.len()).map(cell).collect());
    let mut columns = vec![
        column("results by", &|row| source(totals[row].1).to_owned()),
        column("sent", &|row| totals[row].0.counts.sent.to_string()),
        column("lost", &|row| {
            percent(totals[row].0.counts.lost, totals[row].0.counts.sent)
        }),
    ];
    for (heading, of) in QUANTILES {
        columns.push(column(heading, &|row| delay(totals[row].0.rtt, of, heading)));
    }
    let median = QUANTILES[1].1;
    columns.push(column("forward p50", &|row| {
        delay(totals[row].0.forward, median, "p50")
    }));
    columns.push(column("backward p50", &|row| {
        delay(totals[row].0.backward, median, "p50")
    }));
    columns.push(column("clock", &|row| match &pair.sessions[row].1.clock {
        Some((clock, Some(bound_ns))) => format!("{clock}, ± {}", duration_u64(*bound_ns)),
        Some((clock, None)) => clock.clone(),
        None => "-".to_owned(),
    }));
    Grid {
        heading: "peer",
        who: pair.sessions.iter().map(|(key, _)| who(what(key))).collect(),
        columns,
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Summary => "summary",
        Source::Windows => "windows",
        Source::Samples => "samples",
    }
}

fn over_time(spans: &[Span]) -> Grid {
    let column = |heading, cell: &dyn Fn(&Span) -> String| column_of(heading, spans.iter().map(cell).collect());
    let mut columns = vec![
        column("sent", &|(.., part)| part.counts.sent.to_string()),
        column("lost", &|(.., part)| part.counts.lost.to_string()),
    ];
    for (heading, of) in QUANTILES {
        columns.push(column(heading, &|(.., part)| delay(part.rtt, of, heading)));
    }
    let at = |(from, to, _): &Span| who(interval(Utc { unix_ns: *from }, Utc { unix_ns: *to }).to_string());
    Grid {
        heading: "time",
        who: spans.iter().map(at).collect(),
        columns,
    }
}

fn events(model: &Model, out: &mut dyn Write) -> io::Result<()> {
    let (events, left_out) = model.events();
    let (times, rest): (Vec<_>, Vec<_>) = events
        .map(|(event, agent)| {
            (
                who(event.time.to_second().to_string()),
                (agent.to_owned(), event.text.clone()),
            )
        })
        .unzip();
    let (agents, texts) = rest.into_iter().unzip();
    writeln!(out, "<section>\n<h2>Events</h2>")?;
    let grid = Grid {
        heading: "time",
        who: times,
        columns: vec![column_of("agent", agents), column_of("event", texts)],
    };
    table(grid, "What the agents reported beside results", out)?;
    if left_out > 0 {
        writeln!(
            out,
            "<p class=\"notes\">{} left out.</p>",
            count(left_out, "later event")
        )?;
    }
    writeln!(out, "</section>")
}

fn how(model: &Model, files: &[File], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<section>\n<h2>How it was measured</h2>\n<ul>")?;
    let lines = [
        "Round-trip times are without the time that the reflector held the probe (RFC 2681). A probe is lost if no reply came \
         within the timeout. Only delays of probes with a reply are known.",
        "Results of the whole run are those of its summary; without one, of its windows; without those, of its samples. \
         Where several distributions meet in one figure, ~ marks it: the mean of the medians, or the largest of other quantiles.",
        "One-way delays rest on the clock beside them. Each direction of a pair is measured by its own agent.",
    ];
    for line in lines {
        writeln!(out, "<li>{}</li>", text(line))?;
    }
    writeln!(out, "</ul>")?;
    let (runs, left_out) = model.runs();
    if !runs.is_empty() {
        table(of_runs(runs), "Runs", out)?;
    }
    if left_out > 0 {
        writeln!(
            out,
            "<p class=\"notes\">{} left out.</p>",
            count(left_out, "further run")
        )?;
    }
    let grid = Grid {
        heading: "file",
        who: files.iter().map(|file| who(file.name.clone())).collect(),
        columns: vec![column_of(
            "records",
            files.iter().map(|file| file.records.to_string()).collect(),
        )],
    };
    table(grid, "Files", out)?;
    writeln!(
        out,
        "<p class=\"notes\">Written by kstamp {}.</p>\n</section>",
        env!("CARGO_PKG_VERSION")
    )
}

fn of_runs(runs: &[(String, Start)]) -> Grid {
    let column =
        |heading, cell: &dyn Fn(&Start) -> String| column_of(heading, runs.iter().map(|(_, run)| cell(run)).collect());
    let unknown = || "-".to_owned();
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
    let time = |ns: Option<u64>| ns.map_or_else(unknown, duration_u64);
    Grid {
        heading: "agent",
        who: runs.iter().map(|(agent, _)| who(agent.clone())).collect(),
        columns: vec![
            column("start", &|run| run.time.to_second().to_string()),
            column("version", &|run| run.version.clone()),
            column("interface", &|run| or_unknown(&run.interface)),
            column("stamps by", &|run| run.engine.clone()),
            column("sends by", &|run| {
                run.attach
                    .as_ref()
                    .map_or_else(unknown, |hooks| or_unknown(&hooks.egress))
            }),
            column("receives by", &|run| {
                run.attach.as_ref().map_or_else(unknown, |hooks| hooks.receive.clone())
            }),
            column("interval", &|run| time(run.interval_ns)),
            column("timeout", &|run| time(run.timeout_ns)),
            column("clock", &|run| match run.clock.synchronised {
                true => format!("synchronised, ± {}", duration_u64(run.clock.error_ns)),
                false => "not synchronised".to_owned(),
            }),
            column("kernel", &|run| run.kernel.clone()),
        ],
    }
}
