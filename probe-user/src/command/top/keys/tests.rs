use super::*;
use crate::command::top::view::tests::model;

fn press(ui: &mut Ui, model: &Model, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            'v' => KeyCode::Down,
            '^' => KeyCode::Up,
            'E' => KeyCode::End,
            'H' => KeyCode::Home,
            '\t' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        ui.press(KeyEvent::new(code, KeyModifiers::NONE), model);
    }
}

fn states(ui: &Ui, model: &Model) -> Vec<&'static str> {
    ui.rows(model).iter().map(|row| model.state(row).word()).collect()
}

#[test]
fn rows_are_sorted_by_the_chosen_column_with_the_worst_first() {
    let model = model();
    let table = [
        ("", ["up", "up", "down", "lost", "loss"]),
        ("r", ["loss", "lost", "down", "up", "up"]),
        ("s", ["down", "lost", "loss", "up", "up"]),
        ("ss", ["lost", "loss", "up", "up", "down"]),
        ("sss", ["loss", "up", "up", "down", "lost"]),
        ("<", ["up", "up", "loss", "down", "lost"]),
    ];
    for (keys, want) in table {
        let mut ui = Ui::default();
        press(&mut ui, &model, keys);
        assert_eq!(states(&ui, &model), want, "{keys}");
    }
}

#[test]
fn the_filter_finds_names_addresses_paths_and_states() {
    let model = model();
    for (filter, number) in [
        ("H2", 2),
        ("10.1.1.", 3),
        ("group", 2),
        ("down", 1),
        ("zz", 0),
        ("up", 3),
    ] {
        let mut ui = Ui::default();
        press(&mut ui, &model, "/");
        filter.chars().for_each(|key| {
            ui.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE), &model);
        });
        assert_eq!(ui.rows(&model).len(), number, "{filter}");
        press(&mut ui, &model, "\n");
        assert!(!ui.is_typing);
        press(&mut ui, &model, "\u{1b}");
        assert_eq!(ui.rows(&model).len(), 5, "{filter}");
    }
}

#[test]
fn the_selected_peer_stays_selected_when_the_order_changes() {
    let model = model();
    let mut ui = Ui::default();
    press(&mut ui, &model, "vvv");
    let selected = ui.selected(&model).unwrap().key();
    press(&mut ui, &model, "sr");
    assert_eq!(ui.selected(&model).unwrap().key(), selected);
    for (keys, place) in [("H", 0), ("E", 4), ("v", 4), ("^", 3), ("H^", 0)] {
        press(&mut ui, &model, keys);
        assert_eq!(ui.place(&ui.rows(&model)), place, "{keys}");
    }
}

#[test]
fn a_frozen_screen_does_not_change_and_data_is_collected() {
    let mut model = model();
    let mut ui = Ui::default();
    press(&mut ui, &model, " ");
    let events = model.events().len();
    model.update(
        crate::command::top::model::Update::Said("news".to_owned()),
        crate::output::time::Utc { unix_ns: 1 },
    );
    assert_eq!(ui.frozen.as_ref().unwrap().events().len(), events);
    assert_eq!(model.events().len(), events + 1);
    press(&mut ui, &model, " ");
    assert!(ui.frozen.is_none());
}

#[test]
fn keys_end_open_and_go_back() {
    let model = model();
    let mut ui = Ui::default();
    press(&mut ui, &model, "\n");
    assert!(ui.shows_detail);
    press(&mut ui, &model, "\u{1b}\t");
    assert!(!ui.shows_detail && ui.pane == Pane::Events);
    press(&mut ui, &model, "E");
    assert_eq!(ui.events_above, model.events().len() - 1);
    press(&mut ui, &model, "\u{1b}");
    assert_eq!(ui.pane, Pane::Peers);
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    assert!(ui.press(control('c'), &model));
    assert!(!ui.press(control('x'), &model));
    press(&mut ui, &model, "/q");
    assert_eq!(ui.filter, "q", "a letter of a filter ends nothing");
    assert!(ui.press(control('c'), &model), "Ctrl-C ends always");
}
