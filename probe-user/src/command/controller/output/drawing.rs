//! Draws the network with the delays of its links, as one HTML file without dependencies that reloads itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use probe_controller::link_delay::LinkState;

use crate::command::controller::output::layout::{Place, places};
use crate::command::controller::output::model::{ControllerReport, LinkLine, state_name};
use crate::output::draft::Draft;
use crate::output::quantity::{count, duration, duration_u64};
use crate::output::sink::OutputError;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 56.0;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --dim: #67717f; --paper: #fff; --line: #2f6fb0; --card: #eef3f8;
  --warn: #b3261e; --soft: #9aa5b1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --dim: #9aa5b1; --paper: #12161c; --line: #6fb1f0;
  --card: #1f2731; --warn: #ff8a80; --soft: #5c6773; } }
body { font: 16px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.2rem; margin: 0; } p { color: var(--dim); margin: .25rem 0 1rem; }
svg { width: 100%; height: auto; } svg text { font-size: 15px; text-anchor: middle; fill: var(--ink); }
.switch rect { fill: var(--card); stroke: var(--line); stroke-width: 1.5; } .switch text { font-weight: 600; }
.link line, .link path { stroke: var(--line); stroke-width: 3; fill: none; } .link.below_resolution path { stroke: var(--soft); }
.link.stale path, .link.negative path, .link.missing path { stroke: var(--warn); stroke-dasharray: 6 5; }
.link text { paint-order: stroke; stroke: var(--paper); stroke-width: 5px; stroke-linejoin: round; }
.link.stale text, .link.negative text, .link.missing text { fill: var(--warn); }
.wrap { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--card); }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; } th { color: var(--dim); font-weight: 500; }
";

pub struct Drawing {
    path: PathBuf,
    reload_s: u64,
}

impl Drawing {
    /// Creates the file, so that a bad path fails at once. A browser reloads it every `reload_s` seconds.
    pub fn create(path: &Path, reload_s: u64) -> Result<Self, OutputError> {
        let drawing = Self {
            path: path.to_owned(),
            reload_s: reload_s.max(1),
        };
        let waiting = html! { h1 { "kstamp controller" } p { "No switch is connected yet." } };
        drawing.write(&page(Some(drawing.reload_s), &waiting))?;
        Ok(drawing)
    }

    /// Draws the network; the last drawing does not reload itself.
    pub fn draw(&self, report: &ControllerReport, is_last: bool) -> Result<(), OutputError> {
        let reload_s = (!is_last).then_some(self.reload_s);
        self.write(&page(reload_s, &body(report)))
    }

    fn write(&self, page: &Markup) -> Result<(), OutputError> {
        // A device cannot be replaced by a file.
        if fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(OutputError::write(
                Some(&self.path),
                io::Error::other("it is not a file"),
            ));
        }
        let mut draft = Draft::create(Some(&self.path))?;
        draft.write(|out| out.write_all(page.0.as_bytes()))?;
        draft.end()
    }
}

fn page(reload_s: Option<u64>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(reload_s) = reload_s { meta http-equiv="refresh" content=(reload_s); }
                title { "kstamp controller" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

fn body(report: &ControllerReport) -> Markup {
    let summary = &report.summary;
    html! {
        h1 { "kstamp controller" }
        p {
            (report.time.to_second()) ": " (report.switches.len()) " switches, "
            (count(report.links.len() as u64, "link")) ", " (count(summary.hosts as u64, "host")) ", "
            (count(summary.reroutes, "reroute")) ", " (count(summary.storms, "storm"))
        }
        (network(report))
        div class="wrap" { (table(report)) }
        @if !report.paths.is_empty() { div class="wrap" { (paths(report)) } }
    }
}

/// A link with the indices of its switches.
struct Drawn<'a> {
    from: usize,
    to: usize,
    link: &'a LinkLine,
    /// How far it bends aside, in steps, so that parallel links do not overlap.
    aside: f64,
}

fn network(report: &ControllerReport) -> Markup {
    let positions: BTreeMap<&str, usize> = report
        .switches
        .iter()
        .enumerate()
        .map(|(position, switch)| (switch.dpid.as_str(), position))
        .collect();
    let drawn = drawn(report, &positions);
    let ends: Vec<(usize, usize)> = drawn.iter().map(|link| (link.from, link.to)).collect();
    let places: Vec<Place> = places(report.switches.len(), &ends).into_iter().map(on_paper).collect();
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="the network with the round trips of its links" {
            @for link in &drawn { (line(link, places[link.from], places[link.to])) }
            // Labels are drawn after all lines, so that no line crosses a label.
            @for link in &drawn { (label(link, places[link.from], places[link.to])) }
            @for (switch, place) in report.switches.iter().zip(&places) {
                @let half = 14.0 + 4.8 * switch.name.chars().count() as f64;
                g class="switch" {
                    title { (switch.dpid) ", echo " (switch.echo_ns.map_or("-".to_owned(), duration)) }
                    rect x=(rounded(place.x - half)) y=(rounded(place.y - 16.0)) width=(rounded(2.0 * half)) height="32" rx="8" {}
                    text x=(rounded(place.x)) y=(rounded(place.y + 5.0)) { (switch.name) }
                }
            }
        }
    }
}

fn drawn<'a>(report: &'a ControllerReport, positions: &BTreeMap<&str, usize>) -> Vec<Drawn<'a>> {
    let mut parallel: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut drawn = Vec::new();
    for link in &report.links {
        let ends = [&link.from, &link.to].map(|end| positions.get(end.dpid.as_str()).copied());
        let [Some(from), Some(to)] = ends else { continue };
        let beside = parallel.entry((from, to)).or_default();
        // 0, 1, -1, 2, -2, …
        let step = beside.div_ceil(2) as f64;
        let aside = if *beside % 2 == 1 { step } else { -step };
        *beside += 1;
        drawn.push(Drawn { from, to, link, aside });
    }
    drawn
}

fn line(drawn: &Drawn<'_>, from: Place, to: Place) -> Markup {
    let bend = bend(drawn, from, to);
    let [x1, y1, mx, my, x2, y2] = [from.x, from.y, bend.x, bend.y, to.x, to.y].map(rounded);
    html! {
        g class=(format!("link {}", state_name(drawn.link.state))) {
            title { (describe(drawn.link)) }
            path d=(format!("M{x1} {y1} Q{mx} {my} {x2} {y2}")) {}
        }
    }
}

fn label(drawn: &Drawn<'_>, from: Place, to: Place) -> Markup {
    let bend = bend(drawn, from, to);
    // A quadratic curve passes half as far aside as its control point.
    let [x, y] = [
        (bend.x + (from.x + to.x) / 2.0) / 2.0,
        (bend.y + (from.y + to.y) / 2.0) / 2.0,
    ];
    html! {
        g class=(format!("link {}", state_name(drawn.link.state))) {
            title { (describe(drawn.link)) }
            text x=(rounded(x)) y=(rounded(y + 5.0)) { (label_of(drawn.link)) }
        }
    }
}

/// Control point of the curve of a link.
fn bend(drawn: &Drawn<'_>, from: Place, to: Place) -> Place {
    let (dx, dy) = (to.x - from.x, to.y - from.y);
    let length = dx.hypot(dy).max(1.0);
    let aside = drawn.aside * 60.0;
    Place {
        x: (from.x + to.x) / 2.0 - dy / length * aside,
        y: (from.y + to.y) / 2.0 + dx / length * aside,
    }
}

/// The best estimate of the round trip; below the resolution, the resolution.
fn label_of(link: &LinkLine) -> String {
    let rtt_ns = &link.rtt_ns;
    match (link.state, link.error_ns.lldp_echo) {
        (LinkState::Stale | LinkState::Missing, _) => state_name(link.state).to_owned(),
        (LinkState::BelowResolution, Some(error_ns)) => match rtt_ns.kernel {
            Some(kernel_ns) => duration(kernel_ns),
            None => format!("< {}", duration_u64(error_ns)),
        },
        _ => rtt_ns
            .kernel
            .or(rtt_ns.bounce)
            .or(rtt_ns.lldp_echo)
            .map_or_else(String::new, duration),
    }
}

fn describe(link: &LinkLine) -> String {
    let of = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), duration);
    format!(
        "{}:{} – {}:{}, {}: LLDP/echo {} ± {}, bounce {}, kernel {}",
        link.from.switch,
        link.from.port,
        link.to.switch,
        link.to.port,
        state_name(link.state),
        of(link.rtt_ns.lldp_echo),
        link.error_ns.lldp_echo.map_or_else(|| "-".to_owned(), duration_u64),
        of(link.rtt_ns.bounce),
        of(link.rtt_ns.kernel),
    )
}

fn table(report: &ControllerReport) -> Markup {
    let of = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), duration);
    html! {
        table {
            thead { tr { th { "link" } th { "LLDP/echo" } th { "±" } th { "bounce" } th { "kernel" } th { "state" } } }
            tbody {
                @for link in &report.links {
                    tr {
                        td { (link.from.switch) ":" (link.from.port) " – " (link.to.switch) ":" (link.to.port) }
                        td { (of(link.rtt_ns.lldp_echo)) }
                        td { (link.error_ns.lldp_echo.map_or_else(|| "-".to_owned(), duration_u64)) }
                        td { (of(link.rtt_ns.bounce)) }
                        td { (of(link.rtt_ns.kernel)) }
                        td { (state_name(link.state)) }
                    }
                }
            }
        }
    }
}

fn paths(report: &ControllerReport) -> Markup {
    html! {
        table {
            thead { tr { th { "path" } th { "one way" } th {} } }
            tbody {
                @for path in &report.paths {
                    tr { td { (path.switches.join(" – ")) } td { (duration_u64(path.delay_ns)) } td {} }
                }
            }
        }
    }
}

fn on_paper(place: Place) -> Place {
    Place {
        x: MARGIN + place.x * (WIDTH - 2.0 * MARGIN),
        y: MARGIN / 2.0 + place.y * (HEIGHT - MARGIN),
    }
}

/// Rounds to a tenth of a pixel.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
