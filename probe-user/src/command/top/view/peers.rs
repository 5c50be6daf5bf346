//! The table of peers.

use ratatui::layout::Rect;

use crate::command::top::keys::{Pane, Ui};
use crate::command::top::model::{Model, Row, State};
use crate::command::top::view::canvas::{Canvas, MIN_COLUMNS, Tone, cut_middle};
use crate::command::top::view::figures::{loss_tone, share, short, short_or_none, sparkline};
use crate::output::text::layout::cut;

/// Columns of peer and sparkline together in the narrowest table.
const FLEXIBLE: u16 = 21;
/// From this width, words are written out.
const WIDE: u16 = 110;
const MAX_SPARK: u16 = 60;

/// Where each column begins, and its width.
struct Layout {
    is_wide: bool,
    peer: (u16, u16),
    path: (u16, u16),
    state: (u16, u16),
    spark: (u16, u16),
    losses: [(u16, u16); 3],
    delays: [(u16, u16); 3],
    attach: (u16, u16),
    clock: (u16, u16),
}

impl Layout {
    fn new(width: u16) -> Self {
        let is_wide = width >= WIDE;
        let (path, attach, clock) = if is_wide { (7, 11, 16) } else { (4, 4, 4) };
        let flexible = FLEXIBLE + width - MIN_COLUMNS - (path + attach + clock - 12);
        let spark = (flexible / 3 + 1).min(MAX_SPARK);
        let mut x = 1;
        let mut column = |width: u16| {
            let place = (x, width);
            x += width + 1;
            place
        };
        Self {
            is_wide,
            peer: column(flexible - spark),
            path: column(path),
            state: column(5),
            spark: column(spark),
            losses: [column(4), column(4), column(4)],
            delays: [column(6), column(6), column(6)],
            attach: column(attach),
            clock: column(clock),
        }
    }
}

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, model: &Model, ui: &mut Ui) {
    let layout = Layout::new(area.width);
    headings(canvas, area, &layout);
    let rows = ui.rows(model);
    let place = ui.place(&rows);
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    if rows.is_empty() {
        let text = match (ui.filter.is_empty(), &model.start) {
            (false, _) => "no peer passes the filter; / and Esc clear it",
            (true, Some(_)) => "no peer has answered yet",
            (true, None) => "waiting for the first record",
        };
        canvas.put(1, area.y + 2, area.width - 1, text, Tone::Plain);
    }
    // The page that the selected row is on.
    let first = place / room * room;
    for (y, (index, row)) in (area.y + 2..).zip(rows.iter().enumerate().skip(first).take(room)) {
        draw_row(canvas, y, model, row, &layout);
        if index == place && ui.pane == Pane::Peers {
            canvas.put(0, y, 1, &canvas.marker().to_string(), Tone::Bold);
            canvas.fill(Rect::new(1, y, layout.peer.1, 1), Tone::Selected);
        }
    }
    ui.page = room;
}

fn headings(canvas: &mut Canvas<'_>, area: Rect, layout: &Layout) {
    let (above, y) = (area.y, area.y + 1);
    let [(losses, _), .., (last_loss, _)] = layout.losses;
    canvas.put(losses, above, last_loss + 4 - losses, "% lost, 1 min", Tone::Bold);
    let [(delays, _), .., (last_delay, _)] = layout.delays;
    canvas.put(delays, above, last_delay + 6 - delays, "RTT, last window", Tone::Bold);
    canvas.fill(Rect::new(0, y, area.width, 1), Tone::Heading);
    let wide = |narrow, wide| if layout.is_wide { wide } else { narrow };
    for ((x, width), heading) in [
        (layout.peer, "peer"),
        (layout.path, "path"),
        (layout.state, "state"),
        (layout.spark, "RTT p50"),
        (layout.attach, wide("hook", "peer's hook")),
        (layout.clock, wide("clk", "clock")),
    ] {
        canvas.put(x, y, width, heading, Tone::Heading);
    }
    let numbers = layout.losses.into_iter().zip(["fwd", "back", "unkn"]);
    for ((x, width), heading) in numbers.chain(layout.delays.into_iter().zip(["p50", "p99", "jitter"])) {
        canvas.put_right(x, y, width, heading, Tone::Heading);
    }
}

pub fn state_tone(state: State) -> Tone {
    match state {
        State::Up => Tone::Good,
        State::New | State::Loss | State::Stale => Tone::Warning,
        State::Lost | State::Down => Tone::Bad,
    }
}

fn draw_row(canvas: &mut Canvas<'_>, y: u16, model: &Model, row: &Row, layout: &Layout) {
    let (x, width) = layout.peer;
    canvas.put(x, y, width, &who(canvas, model, row, width), Tone::Plain);
    let state = model.state(row);
    let path = row.path.name();
    let path = if layout.is_wide { path } else { short_path(path) };
    canvas.put(layout.path.0, y, layout.path.1, path, Tone::Plain);
    canvas.put(layout.state.0, y, layout.state.1, state.word(), state_tone(state));
    let (x, width) = layout.spark;
    let spark = sparkline(row, width.into(), canvas.levels(), canvas.nothing());
    canvas.put_right(x, y, width, &spark, state_tone(state));

    let (resolved, lost) = row.losses();
    for ((x, width), part) in layout
        .losses
        .into_iter()
        .zip([lost.forward, lost.backward, lost.unknown])
    {
        canvas.put_right(x, y, width, &share(part, resolved), loss_tone(part));
    }
    let rtt = row.rtt();
    let delays = [rtt.map(|rtt| rtt.p50), rtt.map(|rtt| rtt.p99), row.jitter_ns()];
    for ((x, width), delay) in layout.delays.into_iter().zip(delays) {
        canvas.put_right(x, y, width, &short_or_none(delay), Tone::Plain);
    }
    let latest = row.latest.as_deref();
    let attach = latest.and_then(|latest| latest.peer_attach.as_deref()).unwrap_or("-");
    let attach = if layout.is_wide { attach } else { short_hook(attach) };
    canvas.put(layout.attach.0, y, layout.attach.1, attach, Tone::Plain);
    let clock = latest.and_then(|latest| latest.clock.as_deref()).unwrap_or("-");
    let bound_ns = latest.and_then(|latest| latest.clock_bound_ns);
    let clock = match (layout.is_wide, bound_ns) {
        (false, _) => short_clock(clock).to_owned(),
        (true, Some(bound_ns)) => format!("{clock} ±{}", short(i64::try_from(bound_ns).unwrap_or(i64::MAX))),
        (true, None) => clock.to_owned(),
    };
    canvas.put(layout.clock.0, y, layout.clock.1, &clock, Tone::Plain);
}

/// Name and address as far as there is room: both, or the name and the IP version, or the address.
fn who(canvas: &Canvas<'_>, model: &Model, row: &Row, width: u16) -> String {
    let address = row.peer.to_string();
    let Some(name) = model.name(row) else {
        return cut_middle(&address, width.into(), canvas.ellipsis());
    };
    let both = format!("{address} {name}");
    if canvas.length(&both) <= width {
        return both;
    }
    let version = if row.peer.is_ipv6() { " v6" } else { "" };
    let room = usize::from(width).saturating_sub(version.len());
    cut(name, room, canvas.ellipsis()) + version
}

fn short_path(path: &str) -> &str {
    match path {
        "unicast" => "uni",
        "group" => "grp",
        other => other,
    }
}

fn short_hook(hook: &str) -> &str {
    match hook {
        "xdp-native" => "xdp",
        "xdp-generic" => "gen",
        "socket" => "skt",
        other => other,
    }
}

fn short_clock(clock: &str) -> &str {
    match clock {
        "same-clock" => "same",
        "synced" => "sync",
        "estimated" => "est",
        other => other,
    }
}
