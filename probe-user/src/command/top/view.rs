//! Draws the model. Nothing else decides what is shown.

mod canvas;
mod detail;
mod figures;
mod help;
mod peers;

use ratatui::Frame;
use ratatui::layout::Rect;

use crate::command::top::config::Look;
use crate::command::top::keys::{Pane, Ui};
use crate::command::top::model::Model;
use crate::command::top::view::canvas::{Canvas, MIN_COLUMNS, Tone};
use crate::command::top::view::figures::clock;
use crate::output::quantity::{count, duration_u64, whole};
use crate::output::report::record::{ClockState, Happening};
use crate::output::text::layout::cut;
use crate::output::time::Utc;

const MIN_ROWS: u16 = 24;

/// The source's URL, whether the agent is ending, and the time.
#[derive(Debug)]
pub struct Scene<'a> {
    /// `None` of an agent of its own.
    pub url: Option<&'a str>,
    pub is_ending: bool,
    pub now: Utc,
}

pub fn draw(frame: &mut Frame<'_>, model: &Model, ui: &mut Ui, scene: &Scene<'_>, look: Look) {
    let area = frame.area();
    let mut canvas = Canvas::new(frame.buffer_mut(), look);
    if area.width < MIN_COLUMNS || area.height < MIN_ROWS {
        let text = format!(
            "kstamp top needs {MIN_COLUMNS} x {MIN_ROWS}; this terminal has {} x {}. q quits.",
            area.width, area.height
        );
        canvas.put(0, 0, area.width, &text, Tone::Bold);
        return;
    }
    let frozen = ui.frozen.take();
    let shown = frozen.as_deref().unwrap_or(model);
    header(&mut canvas, model, shown, ui, frozen.is_some(), scene);
    let body = Rect {
        y: 2,
        height: area.height - 3,
        ..area
    };
    if ui.shows_help {
        help::draw(&mut canvas, body);
    } else if let Some(row) = ui.selected(shown).filter(|_| ui.shows_detail) {
        detail::draw(&mut canvas, body, shown, row);
    } else {
        let of_events = match ui.pane {
            Pane::Peers => (body.height / 4).max(4),
            Pane::Events => body.height / 2,
        };
        let (top, bottom) = (body.height - of_events, body.y + body.height - of_events);
        peers::draw(&mut canvas, Rect { height: top, ..body }, shown, ui);
        let below = Rect {
            y: bottom,
            height: of_events,
            ..body
        };
        events(&mut canvas, below, shown, ui);
    }
    footer(&mut canvas, area, ui, scene);
    ui.frozen = frozen;
}

fn header(canvas: &mut Canvas<'_>, model: &Model, shown: &Model, ui: &Ui, is_frozen: bool, scene: &Scene<'_>) {
    let width = canvas.width();
    canvas.fill(Rect::new(0, 0, width, 1), Tone::Bar);
    let (state, tone) = match &model.lost {
        Some((since, why)) => (format!("STALE since {}: {why}", clock(*since)), Tone::BadBar),
        None => (uptime(model, scene.now), Tone::Bar),
    };
    let state = format!(" {} ", cut(&state, usize::from(width) / 2, canvas.ellipsis()));
    let right = canvas.length(&state).min(width);
    canvas.put(0, 0, width - right, &title(shown), Tone::Bar);
    canvas.put(width - right, 0, right, &state, tone);

    let (peers, down) = shown.peers();
    let mut parts = vec![match down {
        0 => count(peers as u64, "peer"),
        down => format!("{}, {down} down", count(peers as u64, "peer")),
    }];
    if let Some(window_ns) = shown.window_ns() {
        parts.push(format!("window {}", whole(window_ns.cast_signed())));
    }
    let order = if ui.is_reversed { ", reversed" } else { "" };
    parts.push(format!("sorted by {}{order}", ui.sort.word()));
    if ui.is_typing {
        parts.push(format!("filter: {}_", ui.filter));
    } else if !ui.filter.is_empty() {
        parts.push(format!("filter: {}", ui.filter));
    }
    if shown.rows_left_out > 0 {
        parts.push("more peers than fit".to_owned());
    }
    if let Some(url) = scene.url {
        parts.push(url.to_owned());
    }
    let end = canvas.put(1, 1, width - 1, &parts.join("   "), Tone::Plain);
    if is_frozen {
        let room = (width - end).min(12);
        canvas.put(width - room, 1, room, " FROZEN ", Tone::Selected);
    }
}

fn uptime(model: &Model, now: Utc) -> String {
    let Some(start) = &model.start else {
        return "no agent yet".to_owned();
    };
    let s = now.unix_ns.saturating_sub(start.time.unix_ns) / 1_000_000_000;
    let (days, hours, minutes) = (s / 86_400, s / 3_600 % 24, s / 60 % 60);
    match days {
        0 => format!("up {hours:02}:{minutes:02}:{:02}", s % 60),
        days => format!("up {days} d {hours:02}:{minutes:02}"),
    }
}

/// The agent: name, interface, engine, hooks, clock.
fn title(model: &Model) -> String {
    let Some(start) = &model.start else {
        return " kstamp top".to_owned();
    };
    let interface = start.interface.as_deref().unwrap_or("-");
    let attach = model.attach.as_ref().map(|hooks| match &hooks.egress {
        Some(egress) if *egress != hooks.receive => format!("{} / {egress}", hooks.receive),
        _ => hooks.receive.clone(),
    });
    let ClockState { synchronised, error_ns } = start.clock;
    let clock = match synchronised {
        true => format!("UTC ±{}", duration_u64(error_ns)),
        false => "clock not UTC".to_owned(),
    };
    let name = match model.agent.ends_with(&format!(":{interface}")) {
        true => model.agent.clone(),
        false => format!("{} on {interface}", model.agent),
    };
    let stamped = match attach {
        Some(attach) if attach != start.engine => format!("{}: {attach}", start.engine),
        _ => start.engine.clone(),
    };
    format!(" kstamp {}  {name}  {stamped}  {clock}", start.version)
}

fn events(canvas: &mut Canvas<'_>, area: Rect, model: &Model, ui: &Ui) {
    let number = model.events().len();
    let tone = match ui.pane {
        Pane::Events => Tone::Selected,
        Pane::Peers => Tone::Heading,
    };
    canvas.fill(Rect { height: 1, ..area }, tone);
    canvas.put(
        1,
        area.y,
        area.width - 1,
        &format!("{} (UTC)", count(number as u64, "event")),
        tone,
    );
    let shown = model.events().skip(ui.events_above.min(number.saturating_sub(1)));
    for (y, Happening { time, text }) in (area.y + 1..area.y + area.height).zip(shown) {
        canvas.put(1, y, area.width - 1, &format!("{} {text}", clock(*time)), Tone::Plain);
    }
}

fn footer(canvas: &mut Canvas<'_>, area: Rect, ui: &Ui, scene: &Scene<'_>) {
    let y = area.height - 1;
    let text = if scene.is_ending {
        " ending: the agent writes its summary; Ctrl-C does not wait for it"
    } else if ui.is_typing {
        " type a part of an address, a name, a path or a state; Enter keeps it, Esc clears it"
    } else if ui.shows_help {
        " any key goes back, q quits"
    } else if ui.shows_detail {
        " q quit  Esc back  up/down next peer  space freeze  ? help"
    } else {
        " q quit  ? help  Enter detail  / filter  s, r sort  space freeze  Tab events"
    };
    canvas.fill(Rect::new(0, y, area.width, 1), Tone::Bar);
    canvas.put(0, y, area.width, text, Tone::Bar);
}

#[cfg(test)]
pub mod tests;
