//! The network as SVG. Places depend on switches and links, not on delays, so that a new delay moves nothing.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use maud::{Markup, html};
use probe_controller::link_delay::LinkState;
use unicode_width::UnicodeWidthStr as _;

use crate::command::controller::output::layout::{Layout, Network, Place, Rect, Routed, Size};
use crate::command::controller::output::model::{ControllerReport, End, LinkLine, state_name};
use crate::output::quantity::{duration, duration_u64, whole};
use crate::output::text::layout::cut;

/// The style of a drawing; the page defines the colours of paper and ink.
pub const STYLE: &str = include_str!("network.css");

const BOX_HEIGHT: f64 = 30.0;
const BOX_PADDING: f64 = 22.0;
/// Of a bold letter.
const LETTER: f64 = 9.8;
/// Columns of a name that are drawn.
const MAX_NAME: usize = 20;
/// Room for `< 10.25 ms`.
const LABEL: Size = (90.0, 20.0);

/// Boxes and labels together: above that, labels would not be readable.
const MAX_LABELLED: usize = 260;
const MAX_SWITCHES: usize = 500;
const MAX_LINKS: usize = 2_000;
/// A wider drawing is scrolled rather than shrunk.
const MAX_WIDTH: f64 = 1_300.0;

/// From this round trip on, a link has the colour of the level.
const LEVELS_NS: [i64; 7] = [0, 100_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000];

/// Draws reports, and lays a network out only if it has changed.
#[derive(Debug, Default)]
pub struct Sketch {
    laid_out: Option<(Network, Layout)>,
}

impl Sketch {
    /// The network with its legend.
    pub fn draw(&mut self, report: &ControllerReport) -> Markup {
        let links = drawn(report);
        if report.switches.is_empty() {
            return html! { p { "No switch is connected." } };
        }
        if report.switches.len() > MAX_SWITCHES || links.len() > MAX_LINKS {
            return html! {
                p { "A network of more than " (MAX_SWITCHES) " switches or " (MAX_LINKS) " links is not drawn." }
            };
        }
        let layout = self.layout(report, &links);
        let (width, height) = layout.size;
        html! {
            div class="scroll" tabindex="0" role="region" aria-label="drawing of the network" {
                svg viewBox=(format!("0 0 {} {}", rounded(width), rounded(height))) width=(rounded(width)) role="img"
                    class=[(width > MAX_WIDTH).then_some("wide")]
                    aria-label="the network with the round trips of its links" {
                    @for (link, routed) in links.iter().zip(&layout.links) { (line(link, routed)) }
                    // Labels are drawn after all lines, so that no line crosses a label.
                    @for (link, routed) in links.iter().zip(&layout.links) { (label(link, routed)) }
                    @for (switch, rect) in report.switches.iter().zip(&layout.boxes) {
                        g class="switch" data-dpid=(switch.dpid) {
                            title { (switch.name) ", " (switch.dpid) ", echo " (switch.echo_ns.map_or("-".to_owned(), duration)) }
                            (frame(rect, 8))
                            (centred(&cut(&switch.name, MAX_NAME, '…'), rect))
                        }
                    }
                }
            }
            (legend())
        }
    }

    fn layout(&mut self, report: &ControllerReport, links: &[Drawn<'_>]) -> &Layout {
        let width = |name: &str| BOX_PADDING + LETTER * cut(name, MAX_NAME, '…').width() as f64;
        let boxes: Vec<Size> = report
            .switches
            .iter()
            .map(|switch| (width(&switch.name), BOX_HEIGHT))
            .collect();
        let has_labels = boxes.len() + links.len() <= MAX_LABELLED;
        let network = Network {
            boxes,
            links: links.iter().map(|link| (link.from, link.to)).collect(),
            label: has_labels.then_some(LABEL),
        };
        let known = self.laid_out.take().filter(|(known, _)| *known == network);
        let laid_out = known.unwrap_or_else(|| {
            let layout = network.lay_out();
            (network, layout)
        });
        &self.laid_out.insert(laid_out).1
    }
}

/// A link with the indices of its switches.
struct Drawn<'a> {
    from: usize,
    to: usize,
    link: &'a LinkLine,
}

/// Links between two of the report's switches.
fn drawn(report: &ControllerReport) -> Vec<Drawn<'_>> {
    let numbered = report.switches.iter().enumerate();
    let numbers: BTreeMap<&str, usize> = numbered
        .map(|(number, switch)| (switch.dpid.as_str(), number))
        .collect();
    let number = |end: &End| numbers.get(end.dpid.as_str()).copied();
    let ends = |link: &LinkLine| Some((number(&link.from)?, number(&link.to)?));
    let with_ends = report.links.iter().filter_map(|link| Some((ends(link)?, link)));
    let between_two = with_ends.filter(|((from, to), _)| from != to);
    between_two.map(|((from, to), link)| Drawn { from, to, link }).collect()
}

/// Names both ports, as the API does.
fn name(link: &LinkLine) -> String {
    format!(
        "{}:{} {}:{}",
        link.from.dpid, link.from.port, link.to.dpid, link.to.port
    )
}

fn class(link: &LinkLine) -> String {
    let resolution = link.error_ns.lldp_echo.and_then(|ns| i64::try_from(ns).ok());
    let measured = match (link.state, link.rtt_ns.kernel) {
        (LinkState::BelowResolution, None) => resolution,
        (LinkState::Valid | LinkState::BelowResolution, _) => delay(link),
        _ => None,
    };
    let level = |ns: i64| LEVELS_NS.iter().rposition(|from_ns| ns >= *from_ns).unwrap_or_default();
    let colour = measured.map_or_else(|| "unmeasured".to_owned(), |ns| format!("slow{}", level(ns)));
    format!("link {} {colour}", state_name(link.state))
}

fn line(drawn: &Drawn<'_>, routed: &Routed) -> Markup {
    let curve = routed.curve;
    let [x1, y1, mx, my, x2, y2] = [
        curve.from.x,
        curve.from.y,
        curve.control.x,
        curve.control.y,
        curve.to.x,
        curve.to.y,
    ]
    .map(rounded);
    html! {
        g class=(class(drawn.link)) data-link=(name(drawn.link)) {
            title { (describe(drawn.link)) }
            path d=(format!("M{x1} {y1} Q{mx} {my} {x2} {y2}")) {}
        }
    }
}

fn label(drawn: &Drawn<'_>, routed: &Routed) -> Markup {
    let Some(rect) = routed.label else {
        return Markup::default();
    };
    html! {
        g class=(class(drawn.link)) data-link=(name(drawn.link)) {
            title { (describe(drawn.link)) }
            (frame(&rect, 4))
            (centred(&label_of(drawn.link, routed.curve.from, routed.curve.to), &rect))
        }
    }
}

fn frame(rect: &Rect, round: u32) -> Markup {
    html! {
        rect x=(rounded(rect.left())) y=(rounded(rect.top())) width=(rounded(rect.width)) height=(rounded(rect.height)) rx=(round) {}
    }
}

fn centred(text: &str, rect: &Rect) -> Markup {
    html! { text x=(rounded(rect.centre.x)) y=(rounded(rect.centre.y + 5.0)) { (text) } }
}

fn legend() -> Markup {
    html! {
        ul class="legend" aria-label="colours by round trip" {
            @for (level, from_ns) in LEVELS_NS.iter().enumerate() {
                li class=(format!("slow{level}")) {
                    i {}
                    @match LEVELS_NS.get(level + 1) {
                        Some(to_ns) if level == 0 => { "< " (whole(*to_ns)) }
                        Some(to_ns) => { (whole(*from_ns)) " – " (whole(*to_ns)) }
                        None => { "≥ " (whole(*from_ns)) }
                    }
                }
            }
            li class="unmeasured" { i {} "not measured; an arrow shows the direction that loses LLDP" }
        }
    }
}

/// The best estimate of the round trip.
fn delay(link: &LinkLine) -> Option<i64> {
    let rtt_ns = &link.rtt_ns;
    rtt_ns.kernel.or(rtt_ns.bounce).or(rtt_ns.lldp_echo)
}

/// The best estimate of the round trip, or "<" and the resolution if it is below that. Without LLDP it is the state, or an
/// arrow if only one direction loses LLDP.
fn label_of(link: &LinkLine, from: Place, to: Place) -> String {
    let silent = &link.silent;
    match (link.state, link.error_ns.lldp_echo) {
        (LinkState::Stale | LinkState::Missing, _) if silent.forward && !silent.backward => {
            format!("lost {}", arrow(from, to))
        }
        (LinkState::Stale | LinkState::Missing, _) if silent.backward && !silent.forward => {
            format!("lost {}", arrow(to, from))
        }
        (LinkState::Stale | LinkState::Missing, _) => state_name(link.state).to_owned(),
        (LinkState::BelowResolution, Some(error_ns)) => match link.rtt_ns.kernel {
            Some(kernel_ns) => duration(kernel_ns),
            None => format!("< {}", duration_u64(error_ns)),
        },
        _ => delay(link).map_or_else(String::new, duration),
    }
}

/// The arrow that points that way on the paper.
fn arrow(from: Place, to: Place) -> char {
    const ARROWS: [char; 8] = ['→', '↘', '↓', '↙', '←', '↖', '↑', '↗'];
    let eighths = (to.y - from.y).atan2(to.x - from.x) / (PI / 4.0);
    ARROWS[(eighths.round() as i64).rem_euclid(8) as usize]
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

/// Rounds to a tenth of a pixel.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
