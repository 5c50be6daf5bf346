//! One peer by one path: delays over time, losses, distribution, one-way delays, counts.

use probe_core::hops::Segment;
use ratatui::layout::Rect;

use crate::command::top::model::{Model, Point, Row};
use crate::command::top::view::canvas::{Canvas, Tone};
use crate::command::top::view::figures::{clock, loss_line, loss_tone, scaled, short, short_or_none};
use crate::command::top::view::peers::state_tone;
use crate::output::model::hops::HopHistory;
use crate::output::quantity::{duration, duration_u64};
use crate::output::report::record::{Quantiles, Results};
use crate::output::report::session::{Counts, Part};
use crate::output::text::hops::{drawn, lost_there, notes, segment_words, sign};

/// Lines of the tables.
const TABLE: u16 = 9;
/// Columns left of the plots.
const LABELS: u16 = 9;

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, model: &Model, row: &Row) {
    let mut y = title(canvas, area, model, row);
    if let Some(hops) = row.hops.as_deref() {
        y = split(canvas, y, hops);
    }
    let plot = Rect {
        y,
        height: area.y + area.height - TABLE - y,
        ..area
    };
    over_time(canvas, plot, row);
    let y = area.y + area.height - TABLE;
    let half = area.width / 2;
    distribution(canvas, Rect::new(1, y, half - 2, TABLE), row);
    counts(canvas, Rect::new(half, y, area.width - half, TABLE), row);
}

/// Who it is, and the one-way delays. Returns the next line.
fn title(canvas: &mut Canvas<'_>, area: Rect, model: &Model, row: &Row) -> u16 {
    let (y, width) = (area.y, area.width - 1);
    let name = model.name(row).map(|name| format!(" {name}")).unwrap_or_default();
    let end = canvas.put(
        1,
        y,
        width,
        &format!("{}{name}  {}  ", row.peer, row.path.name()),
        Tone::Bold,
    );
    let state = model.state(row);
    canvas.put(end, y, area.width - end, state.word(), state_tone(state));
    let latest = row.latest.as_deref();
    let attach = latest.and_then(|latest| latest.attach.as_ref());
    let own = attach.map_or("-", |hooks| hooks.receive.as_str());
    let peer = latest.and_then(|latest| latest.peer_attach.as_deref()).unwrap_or("-");
    let moved = latest.and_then(|latest| latest.moved_from);
    let moved = moved.map(|from| format!("   moved from {from}")).unwrap_or_default();
    canvas.put(
        1,
        y + 1,
        width,
        &format!("receives by {own}, the peer by {peer}{moved}"),
        Tone::Plain,
    );
    canvas.put(1, y + 2, width, &one_way(latest), Tone::Plain);
    y + 3
}

fn one_way(latest: Option<&Results>) -> String {
    let Some((latest, clock)) = latest.and_then(|latest| Some((latest, latest.clock.as_deref()?))) else {
        return "one-way delays: no clock backs them".to_owned();
    };
    let delay = |delay: Option<Quantiles>| {
        delay.map_or("-".to_owned(), |delay| {
            format!("{} p99 {}", short(delay.p50), short(delay.p99))
        })
    };
    let bound = latest
        .clock_bound_ns
        .map(|bound| format!(" ±{}", duration_u64(bound)))
        .unwrap_or_default();
    let skew = match (latest.clock_offset_ns, latest.clock_skew_ppb) {
        (Some(offset), Some(skew)) => format!(", offset {}, {skew} ppb", duration(offset)),
        _ => String::new(),
    };
    format!(
        "one-way: fwd p50 {}  back p50 {}  {clock}{bound}{skew}",
        delay(latest.forward_ns),
        delay(latest.backward_ns)
    )
}

/// The last window's round trip in segments, and all losses by place. Returns the next line.
fn split(canvas: &mut Canvas<'_>, y: u16, HopHistory { latest, whole }: &HopHistory) -> u16 {
    let width = canvas.width() - 1;
    let shares = latest.shares();
    let rtt = shares.iter().map(|(_, ns)| ns).sum();
    let bar = match shares.is_empty() {
        true => notes(latest).next().unwrap_or_default(),
        false => format!("mean {:<6} {}", short(rtt), drawn(&shares, usize::from(width) - 13)),
    };
    canvas.put(1, y, width, &bar, Tone::Plain);
    let part = |(segment, ns): &(Option<Segment>, i64)| {
        let words = segment.map_or("not split".to_owned(), |segment| segment_words(segment.name()));
        let words = words.replace("encapsulation", "encap");
        // The digit says whose it is.
        let words = words.trim_start_matches("own ").trim_start_matches("far ").to_owned();
        format!("{} {words} {}", sign(*segment), short(*ns))
    };
    let key: Vec<String> = shares.iter().map(part).collect();
    canvas.put(1, y + 1, width, &key.join(" "), Tone::Plain);
    let lossy = whole.segments().filter_map(|segment| {
        let lost = lost_there(whole, segment);
        (lost != "-").then(|| format!("{} {lost}", segment_words(segment.name())))
    });
    let unknown = (whole.lost_unknown > 0).then(|| format!("{} unknown", whole.lost_unknown));
    let places: Vec<String> = lossy.chain(unknown).collect();
    let tone = loss_tone(whole.lost);
    let lost = if places.is_empty() {
        "none".to_owned()
    } else {
        places.join("; ")
    };
    canvas.put(1, y + 2, width, &format!("lost by place: {lost}"), tone);
    y + 3
}

/// The band from p50 to p99 of each window, from the smallest minimum to the largest p99, and the share of lost probes.
fn over_time(canvas: &mut Canvas<'_>, area: Rect, row: &Row) {
    let columns = usize::from(area.width - LABELS - 1);
    let skipped = row.points.len().saturating_sub(columns);
    let points: Vec<Point> = row.points.iter().skip(skipped).copied().collect();
    let known = || points.iter().filter_map(|point| point.rtt);
    let [light, dark] = canvas.shades();
    let heading = format!(
        "RTT by window: {dark} up to p50, {light} up to p99, {} no reply",
        canvas.nothing()
    );
    canvas.put(1, area.y, area.width - 1, &heading, Tone::Bold);
    let bars = Rect {
        x: LABELS,
        y: area.y + 1,
        width: area.width - LABELS,
        height: area.height.saturating_sub(3),
    };
    let low = known().map(|rtt| rtt.min).min().unwrap_or(0);
    let high = known().map(|rtt| rtt.p99).max().unwrap_or(0);
    let bottom = bars.y + bars.height - 1;
    if known().next().is_some() {
        canvas.put_right(1, bars.y, LABELS - 2, &short(high), Tone::Plain);
        canvas.put_right(1, bottom, LABELS - 2, &short(low), Tone::Plain);
    }
    let steps = usize::from(bars.height - 1);
    for (x, point) in (bars.x..).zip(&points) {
        let Some(rtt) = point.rtt else {
            canvas.put(x, bottom, 1, &canvas.nothing().to_string(), Tone::Bad);
            continue;
        };
        let [p50, p99] = [rtt.p50, rtt.p99].map(|value| scaled(value, low, high, steps));
        for (step, y) in (bars.y..=bottom).rev().enumerate().take(p99 + 1) {
            let shade = if step <= p50 { dark } else { light };
            canvas.put(x, y, 1, &shade.to_string(), Tone::Good);
        }
    }
    let losses = loss_line(&points, canvas.levels());
    canvas.put_right(1, bottom + 1, LABELS - 2, "lost", Tone::Plain);
    canvas.put(bars.x, bottom + 1, bars.width, &losses, Tone::Warning);
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let axis = format!("{} to {} UTC", clock(first.start), clock(last.end));
        canvas.put(bars.x, bottom + 2, bars.width, &axis, Tone::Faint);
    }
}

/// Quantiles of the last window as bars, on a logarithmic scale.
fn distribution(canvas: &mut Canvas<'_>, area: Rect, row: &Row) {
    canvas.put(
        area.x,
        area.y,
        area.width,
        "RTT of the last window, logarithmic",
        Tone::Bold,
    );
    let Some(rtt) = row.rtt() else {
        canvas.put(area.x, area.y + 1, area.width, "no reply", Tone::Plain);
        return;
    };
    let [_, dark] = canvas.shades();
    let log = |ns: i64| ((ns.max(1) as f64).ln() * 1e6) as i64;
    let (low, high) = (log(rtt.min) - 300_000, log(rtt.max));
    let lines = [
        ("min", rtt.min),
        ("p50", rtt.p50),
        ("p90", rtt.p90),
        ("p99", rtt.p99),
        ("p99.9", rtt.p999),
        ("max", rtt.max),
    ];
    let room = area.width.saturating_sub(15);
    for (y, (label, ns)) in (area.y + 1..).zip(lines) {
        canvas.put(area.x, y, 5, label, Tone::Plain);
        canvas.put_right(area.x + 6, y, 7, &short(ns), Tone::Plain);
        let bar = dark.to_string().repeat(scaled(log(ns), low, high, room.into()).max(1));
        canvas.put(area.x + 14, y, room, &bar, Tone::Good);
    }
    let latest = row.latest.as_deref();
    let residence = latest
        .and_then(|latest| latest.residence_ns)
        .map(|residence| residence.p50);
    let text = format!(
        "jitter {}  residence {}",
        short_or_none(row.jitter_ns()),
        short_or_none(residence)
    );
    canvas.put(area.x, area.y + 7, area.width, &text, Tone::Plain);
}

type CountOf = fn(Counts) -> u64;

/// Counts of the last window, and of all since the start.
fn counts(canvas: &mut Canvas<'_>, area: Rect, row: &Row) {
    let last = row.latest.as_deref().map(|latest| Part::from(latest).counts);
    let (last, all) = (last.unwrap_or_default(), row.counts);
    let heading = format!("{:<14}{:>10}{:>12}", "probes", "window", "all seen");
    canvas.put(area.x, area.y, area.width, &heading, Tone::Bold);
    let lines: [(&str, CountOf); 8] = [
        ("sent", |counts| counts.sent),
        ("received", |counts| counts.received),
        ("lost forward", |counts| counts.forward),
        ("lost backward", |counts| counts.backward),
        ("lost, unknown", |counts| counts.unknown),
        ("late", |counts| counts.late),
        ("duplicates", |counts| counts.duplicates),
        ("send failed", |counts| counts.send_failed),
    ];
    for (y, (label, value)) in (area.y + 1..).zip(lines) {
        let is_trouble = !["sent", "received"].contains(&label) && value(all) > 0;
        let tone = if is_trouble { Tone::Warning } else { Tone::Plain };
        let line = format!("{label:<14}{:>10}{:>12}", value(last), value(all));
        canvas.put(area.x, y, area.width, &line, tone);
    }
}
