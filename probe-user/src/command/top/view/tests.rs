//! Screens, drawn into a buffer and compared with `golden/`. `KSTAMP_GOLDEN=write` writes them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path as FilePath;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use probe_core::agent::event::Found;
use probe_core::stats::report::Path;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::command::top::config::Colours;
use crate::command::top::model::Update;
use crate::output::fixtures;
use crate::output::jsonl::Jsonl;
use crate::output::model::hops::Hops;
use crate::output::model::{Event, Exporter as _, PeerEvent};
use crate::output::report::record::Record;

const PLAIN: Look = Look {
    colours: Colours::None,
    is_unicode: true,
};
const MANY: Look = Look {
    colours: Colours::Many,
    is_unicode: true,
};
const ASCII: Look = Look {
    colours: Colours::Sixteen,
    is_unicode: false,
};
const START_NS: u64 = 1_795_255_838_000_000_000;

fn at(s: u64) -> Utc {
    Utc {
        unix_ns: START_NS + s * 1_000_000_000,
    }
}

/// Takes the records of an event, as they are written.
pub fn take(model: &mut Model, event: &Event) {
    let mut lines = Vec::new();
    let mut jsonl = Jsonl {
        agent: "h1:p1".to_owned(),
    };
    jsonl.export(event, &mut lines).unwrap();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (agent, record) = Record::read(line, None).unwrap();
        model.update(Update::Record(agent.into_owned(), Box::new(record)), at(0));
    }
}

/// A run of 40 windows, with a peer of each state.
pub fn model() -> Model {
    let mut model = Model::default();
    take(&mut model, &Event::Start(fixtures::start()));
    take(
        &mut model,
        &Event::Peer(fixtures::peer_change(PeerEvent::Up, Found::Multicast, Some("h2:p2"))),
    );
    for window in 0..40_u64 {
        let mut results = vec![fixtures::good(), fixtures::troubled(), fixtures::silent()];
        results.push(crate::output::model::Results {
            path: Path::Group,
            ..fixtures::good()
        });
        for (place, result) in results.iter_mut().enumerate() {
            (result.start, result.end) = (at(2 * window), at(2 * window + 2));
            if let Some(rtt) = &mut result.rtt_ns {
                let wave = (window as i64 * 7 + place as i64 * 3) % 10;
                for value in [&mut rtt.p50, &mut rtt.p90, &mut rtt.p99, &mut rtt.p999, &mut rtt.max] {
                    *value += *value / 20 * wave;
                }
            }
        }
        take(&mut model, &Event::Windows(fixtures::windows(results)));
    }
    let mut down = fixtures::peer_change(PeerEvent::Down, Found::Multicast, None);
    down.peer = fixtures::ip("10.1.1.9");
    take(
        &mut model,
        &Event::Peer(crate::output::model::PeerChange {
            event: PeerEvent::Up,
            ..down.clone()
        }),
    );
    take(&mut model, &Event::Peer(down));
    model
}

fn drawn(model: &Model, ui: &mut Ui, look: Look, (columns, rows): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let scene = Scene {
        url: None,
        is_ending: false,
        now: at(83),
    };
    terminal.draw(|frame| draw(frame, model, ui, &scene, look)).unwrap();
    terminal.backend().buffer().clone()
}

/// The text of a buffer, without blanks at the ends of lines.
fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let mut text = String::new();
    for line in buffer.content.chunks(width) {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

fn check(name: &str, buffer: &Buffer) {
    let path = FilePath::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/command/top/view/golden")
        .join(name);
    let text = text(buffer);
    if std::env::var_os("KSTAMP_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name}; KSTAMP_GOLDEN=write writes it");
}

fn press(ui: &mut Ui, model: &Model, code: KeyCode) {
    ui.press(KeyEvent::new(code, KeyModifiers::NONE), model);
}

#[test]
fn screens_are_as_kept() {
    let model = model();
    let mut ui = Ui::default();
    check("peers-80x24.txt", &drawn(&model, &mut ui, PLAIN, (80, 24)));
    check("peers-120x40.txt", &drawn(&model, &mut ui, MANY, (120, 40)));
    check("peers-ascii.txt", &drawn(&model, &mut ui, ASCII, (80, 24)));
    check("narrow.txt", &drawn(&model, &mut ui, PLAIN, (79, 24)));
    press(&mut ui, &model, KeyCode::Char('?'));
    check("help-80x24.txt", &drawn(&model, &mut ui, PLAIN, (80, 24)));
    press(&mut ui, &model, KeyCode::Esc);
    press(&mut ui, &model, KeyCode::Enter);
    check("detail-80x24.txt", &drawn(&model, &mut ui, PLAIN, (80, 24)));
    check("detail-ascii-120x40.txt", &drawn(&model, &mut ui, ASCII, (120, 40)));
    let mut frozen = Ui::default();
    press(&mut frozen, &model, KeyCode::Char(' '));
    let mut lost = model.clone();
    lost.update(Update::Lost("connection refused".to_owned()), at(85));
    check("stale-80x24.txt", &drawn(&lost, &mut frozen, PLAIN, (80, 24)));
    check(
        "empty-80x24.txt",
        &drawn(&Model::default(), &mut Ui::default(), PLAIN, (80, 24)),
    );
}

#[test]
fn a_peer_with_hops_shows_its_split_and_where_probes_were_lost() {
    let mut model = model();
    for (hops, end_s) in [(fixtures::troubled_hops(), 80), (fixtures::hops(), 82)] {
        take(&mut model, &Event::Hops(Hops { end: at(end_s), ..hops }));
    }
    take(&mut model, &Event::Outlier(fixtures::outlier()));
    take(&mut model, &Event::Outlier(fixtures::outlier()));
    let mut ui = Ui::default();
    press(&mut ui, &model, KeyCode::Enter);
    check("hops-80x24.txt", &drawn(&model, &mut ui, PLAIN, (80, 24)));
    let outliers = model
        .events()
        .filter(|event| event.text.starts_with("outlier: 10.1.1.6 h2:p2, probe 7"));
    assert_eq!(outliers.count(), 1, "from history and stream");
    let mut near = self::model();
    take(&mut near, &Event::Hops(fixtures::near_hops()));
    let ascii = text(&drawn(&near, &mut ui, ASCII, (80, 24)));
    assert!(ascii.is_ascii() && ascii.contains("? not split 277us"), "{ascii}");
}

#[test]
fn the_guide_shows_a_screen_as_it_is() {
    let guide = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/guide/top.md");
    let guide = fs::read_to_string(guide).unwrap();
    let screen = text(&drawn(&model(), &mut Ui::default(), PLAIN, (80, 24)));
    let indented: String = screen
        .lines()
        .map(|line| format!("    {line}").trim_end().to_owned() + "\n")
        .collect();
    assert!(guide.contains(&indented), "put this into guide/top.md:\n{indented}");
}

#[test]
fn no_colour_is_used_without_colours_and_no_state_is_a_colour_alone() {
    let model = model();
    for (look, has_colours) in [(PLAIN, false), (MANY, true), (ASCII, true)] {
        let mut ui = Ui::default();
        for _ in 0..2 {
            let buffer = drawn(&model, &mut ui, look, (100, 30));
            let is_coloured = |cell: &ratatui::buffer::Cell| cell.fg != Color::Reset || cell.bg != Color::Reset;
            assert_eq!(buffer.content.iter().any(is_coloured), has_colours, "{look:?}");
            press(&mut ui, &model, KeyCode::Enter);
        }
    }
    let shown = text(&drawn(&model, &mut Ui::default(), PLAIN, (80, 24)));
    for state in [" up ", " loss ", " lost ", " down "] {
        assert!(shown.contains(state), "{state}: {shown}");
    }
    let selected = drawn(&model, &mut Ui::default(), PLAIN, (80, 24));
    assert!(selected[(1, 4)].modifier.contains(Modifier::REVERSED));
    assert_eq!(selected[(0, 4)].symbol(), "▶");
}

#[test]
fn ascii_is_enough_for_every_screen() {
    let model = model();
    for keys in [
        &[][..],
        &[KeyCode::Enter],
        &[KeyCode::Char('?')],
        &[KeyCode::Tab],
        &[KeyCode::Char('/')],
    ] {
        let mut ui = Ui::default();
        keys.iter().for_each(|&key| press(&mut ui, &model, key));
        for size in [(80, 24), (120, 40), (10, 3)] {
            let shown = text(&drawn(&model, &mut ui, ASCII, size));
            assert!(shown.is_ascii(), "{shown}");
        }
    }
}

#[test]
fn hostile_texts_reach_no_cell() {
    const HOSTILE: &str = "a\u{1b}[2J\u{7}\r\n\u{202e}b\u{9b}31m\u{200b}c";
    let mut model = model();
    let escaped = serde_json::to_string(HOSTILE).unwrap();
    let mut lines: Vec<String> = Vec::new();
    let mut jsonl = Jsonl {
        agent: "h1:p1".to_owned(),
    };
    let mut window = fixtures::good();
    window.peer_name = Some("NAME".to_owned());
    (window.start, window.end) = (at(100), at(102));
    for event in [
        Event::Start(fixtures::start()),
        Event::Attach(fixtures::attach_change()),
        Event::Peer(fixtures::peer_change(PeerEvent::Up, Found::Multicast, Some("NAME"))),
        Event::Windows(fixtures::windows(vec![window])),
    ] {
        let mut out = Vec::new();
        jsonl.export(&event, &mut out).unwrap();
        lines.extend(String::from_utf8(out).unwrap().lines().map(str::to_owned));
    }
    for line in lines {
        let mut line = line;
        for text in [
            "NAME",
            "xdp-native",
            "xdp-generic",
            "same-clock",
            "h1:p1",
            "0.1.0",
            "p1 dropped",
        ] {
            line = line.replace(&format!("\"{text}\""), &escaped);
        }
        let (agent, record) = Record::read(line.as_bytes(), None).unwrap();
        model.update(Update::Record(agent.into_owned(), Box::new(record)), at(0));
    }
    for update in [
        Update::Said(HOSTILE.to_owned()),
        Update::Unreadable(HOSTILE.to_owned()),
        Update::Lost(HOSTILE.to_owned()),
    ] {
        model.update(update, at(1));
    }
    for keys in [&[][..], &[KeyCode::Enter], &[KeyCode::Tab]] {
        let mut ui = Ui::default();
        keys.iter().for_each(|&key| press(&mut ui, &model, key));
        let buffer = drawn(&model, &mut ui, MANY, (200, 50));
        for cell in &buffer.content {
            let bad = |character: char| character.is_control() || "\u{202e}\u{200b}".contains(character);
            assert!(!cell.symbol().contains(bad), "{:?}", cell.symbol());
        }
        assert!(text(&buffer).contains("a\u{fffd}[2J"), "{}", text(&buffer));
    }
}

#[test]
fn any_size_can_be_drawn() {
    let model = model();
    for keys in [&[][..], &[KeyCode::Enter], &[KeyCode::Char('?')], &[KeyCode::Tab]] {
        let mut ui = Ui::default();
        keys.iter().for_each(|&key| press(&mut ui, &model, key));
        for size in [
            (1, 1),
            (79, 24),
            (80, 23),
            (80, 24),
            (81, 25),
            (109, 30),
            (110, 30),
            (500, 200),
        ] {
            drawn(&model, &mut ui, MANY, size);
        }
    }
}
