//! Keys and columns, explained.

use ratatui::layout::Rect;

use crate::command::top::view::canvas::{Canvas, Tone};

const LINES: [(&str, &str); 19] = [
    ("", "Keys"),
    ("arrows", "select a peer, or scroll events; PgUp, PgDn, Home, End too"),
    ("Enter, Esc", "a peer's delays over time, distribution and counts; back"),
    ("Tab", "peers or events"),
    ("s or >, <, r", "sort by the next or last column, worst first; reverse"),
    ("/", "show only what contains a text, or has a state; Esc clears it"),
    ("space", "freeze the screen, or go on; data is collected meanwhile"),
    (
        "q or Ctrl-C",
        "quit; an agent that top has started ends, another goes on",
    ),
    ("", "Columns"),
    ("state", "up; loss: in the last minute; lost: the whole last window;"),
    ("", "stale: no window for a while; down: no replies; new: none yet"),
    ("RTT p50", "median of each window, from the smallest to the largest"),
    ("% lost", "of probes: forward, backward, or direction unknown (unkn)"),
    ("RTT", "round trip less the time in the reflector (RFC 2681)"),
    ("jitter", "p99 of the variation against the minimum (RFC 5481)"),
    ("hook", "where the peer's packets are stamped: xdp (xdp-native),"),
    ("", "gen (xdp-generic), tc, skt (socket)"),
    ("clk", "clock of one-way delays: same (same-clock), sync (synced),"),
    ("", "est (estimated), - (none)"),
];

pub fn draw(canvas: &mut Canvas<'_>, area: Rect) {
    for (y, (what, meaning)) in (area.y + 1..area.y + area.height).zip(LINES) {
        if what.is_empty() && !meaning.contains(' ') {
            canvas.put(1, y, area.width - 1, meaning, Tone::Bold);
            continue;
        }
        canvas.put(1, y, 16, what, Tone::Plain);
        canvas.put(18, y, area.width - 18, meaning, Tone::Plain);
    }
}
