use probe_core::agent::event::Found;

use super::*;
use crate::command::top::view::tests::{model, take};
use crate::output::fixtures::{self, ip};
use crate::output::model::{self as written, PeerEvent};

const S: u64 = 1_000_000_000;

fn at(s: u64) -> Utc {
    Utc {
        unix_ns: 1_795_255_838_000_000_000 + s * S,
    }
}

fn window(peer: &str, end_s: u64, lost: u64) -> written::Results {
    let mut result = match lost {
        0 => fixtures::good(),
        _ => fixtures::troubled(),
    };
    result.peer = ip(peer);
    result.path = Path::Unicast;
    (result.start, result.end) = (at(end_s - 2), at(end_s));
    result
}

fn windows(model: &mut Model, results: Vec<written::Results>) {
    take(model, &written::Event::Windows(fixtures::windows(results)));
}

fn state(model: &Model, peer: &str) -> State {
    let row = model.rows().find(|row| row.peer == ip(peer));
    model.state(row.unwrap_or_else(|| panic!("no {peer}")))
}

#[test]
fn each_peer_has_its_state() {
    for (peer, want) in [
        ("10.1.1.6", State::Up),
        ("fe80::5054:ff:fe12:3456", State::Loss),
        ("2001:db8:1111:2222:3333:4444:5555:6666", State::Lost),
        ("10.1.1.9", State::Down),
    ] {
        assert_eq!(state(&model(), peer), want, "{peer}");
    }
}

#[test]
fn a_loss_is_over_after_a_minute_and_silence_is_stale() {
    let mut model = Model::default();
    windows(&mut model, vec![window("10.0.0.1", 2, 1), window("10.0.0.2", 2, 0)]);
    assert_eq!(state(&model, "10.0.0.1"), State::Loss);
    for end_s in (4..=62).step_by(2) {
        windows(&mut model, vec![window("10.0.0.1", end_s, 0)]);
        let want = if end_s <= 60 { State::Loss } else { State::Up };
        assert_eq!(state(&model, "10.0.0.1"), want, "{end_s}");
        let want = if end_s <= 8 { State::Up } else { State::Stale };
        assert_eq!(state(&model, "10.0.0.2"), want, "{end_s}");
    }
}

#[test]
fn losses_of_the_last_minute_add_up_by_direction() {
    let mut model = Model::default();
    for end_s in (2..=120).step_by(2) {
        windows(&mut model, vec![window("10.0.0.1", end_s, 1)]);
    }
    let (resolved, lost) = model.rows().next().unwrap().losses();
    let one = fixtures::troubled().counts;
    assert_eq!(resolved, 30 * (one.received + one.lost));
    assert_eq!(
        [lost.forward, lost.backward, lost.unknown],
        [one.lost_forward, one.lost_backward, one.lost_unknown].map(|lost| 30 * lost)
    );
    assert_eq!(model.rows().next().unwrap().counts.lost, 60 * one.lost);
}

#[test]
fn everything_is_bounded() {
    let mut model = Model::default();
    for end_s in 2..500 {
        windows(&mut model, vec![window("10.0.0.1", end_s, 0)]);
    }
    assert_eq!(model.rows().next().unwrap().points.len(), row::MAX_POINTS);
    for number in 0..MAX_ROWS as u32 + 9 {
        let peer = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
        windows(&mut model, vec![window(&peer, 500, 0)]);
    }
    for _ in 0..MAX_EVENTS + 9 {
        model.update(Update::Said("x".repeat(500)), at(0));
    }
    assert_eq!(model.rows().count(), MAX_ROWS);
    assert_eq!(model.rows_left_out, 10);
    assert_eq!(model.events().len(), MAX_EVENTS);
    assert!(model.events().all(|event| event.text.len() <= MAX_TEXT));
    // Rows that are silent give way.
    windows(&mut model, vec![window("11.0.0.0", 600, 0)]);
    windows(&mut model, vec![window("12.0.0.1", 600, 0)]);
    assert_eq!(model.rows().count(), MAX_ROWS);
    assert_eq!(state(&model, "12.0.0.1"), State::Up);
}

#[test]
fn a_peer_that_moves_keeps_its_history() {
    let mut model = Model::default();
    windows(&mut model, vec![window("10.1.1.5", 2, 0)]);
    let mut moved = fixtures::peer_change(PeerEvent::Moved, Found::Multicast, Some("h2:p2"));
    moved.moved_from = Some(ip("10.1.1.5"));
    take(&mut model, &written::Event::Peer(moved));
    windows(&mut model, vec![window("10.1.1.6", 4, 0)]);
    let rows: Vec<_> = model.rows().map(|row| (row.peer, row.points.len())).collect();
    assert_eq!(rows, [(ip("10.1.1.6"), 2)]);
}

#[test]
fn a_new_run_begins_anew_and_a_repeated_greeting_does_not() {
    let mut model = model();
    let before = model.rows().count();
    take(&mut model, &written::Event::Start(fixtures::start()));
    assert_eq!(model.rows().count(), before);
    let mut start = fixtures::start();
    start.time = at(1_000);
    take(&mut model, &written::Event::Start(start));
    assert_eq!(model.rows().count(), 0);
}

#[test]
fn a_lost_source_is_stale_from_its_first_error_until_a_record_comes() {
    let mut model = model();
    let events = model.events().len();
    for s in [5, 6, 7] {
        model.update(Update::Lost("refused".to_owned()), at(s));
    }
    assert_eq!(model.lost, Some((at(5), "refused".to_owned())));
    assert_eq!(model.events().len(), events + 1, "one event for three attempts");
    model.update(Update::Found, at(8));
    assert_eq!(model.lost, None);
}

#[test]
fn what_the_history_and_the_stream_have_counts_once() {
    let mut model = Model::default();
    let up = || written::Event::Peer(fixtures::peer_change(PeerEvent::Up, Found::Multicast, Some("h2:p2")));
    take(&mut model, &up());
    let known = Update::Known {
        peer: ip("10.1.1.6"),
        name: Some("h2".to_owned()),
        is_down: true,
    };
    model.update(known, at(0));
    // Up to 10 s by the history; then by the stream from 8 s, and by the history of the next connection.
    for end_s in [2, 4, 6, 8, 10, 8, 10, 12, 14, 2, 4, 6, 8, 10, 12, 14, 16] {
        windows(&mut model, vec![window("10.1.1.6", end_s, 1)]);
        take(&mut model, &up());
    }
    let row = model.rows().next().unwrap();
    let ends: Vec<_> = row.points.iter().map(|point| point.end).collect();
    assert_eq!(ends, [2, 4, 6, 8, 10, 12, 14, 16].map(at));
    assert_eq!(row.counts.lost, 8 * fixtures::troubled().counts.lost);
    assert_eq!(model.events().len(), 1);
    // An event that is there already changes no state.
    assert_eq!(model.state(row), State::Down);
}

#[test]
fn a_diagnostic_is_its_message() {
    for (line, want) in [
        (
            "[2026-11-27T16:39:59.613Z WARN  probe_user::serve] --listen shows all",
            "--listen shows all",
        ),
        ("kstamp: no interface", "kstamp: no interface"),
        ("[fe80::1] and more", "[fe80::1] and more"),
    ] {
        let mut model = Model::default();
        model.update(Update::Said(line.to_owned()), at(1));
        assert_eq!(model.events().next().unwrap().text, want);
    }
}

#[test]
fn events_are_in_the_order_of_time() {
    let mut model = Model::default();
    for s in [1, 5, 3, 4, 2] {
        model.update(Update::Said(s.to_string()), at(s));
    }
    let texts: Vec<_> = model.events().map(|event| &*event.text).collect();
    assert_eq!(texts, ["5", "4", "3", "2", "1"]);
    for _ in 0..MAX_EVENTS {
        model.update(Update::Said("6".to_owned()), at(6));
    }
    model.update(Update::Said("too old".to_owned()), at(1));
    assert!(model.events().all(|event| event.text == "6"));
}
