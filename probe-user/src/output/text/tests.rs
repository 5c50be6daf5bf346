//! What a person reads, to the letter.

use super::*;
use crate::output::fixtures::{
    attach_change, end, exported, good, interface_change, peer_change, reflector, silent, start, troubled, windows,
};

fn text(event: Event) -> String {
    exported(Text::default(), [event])
}

/// What is written at the end of an agent's run.
fn at_end(event: Event) -> String {
    let header = text(Event::Start(start())).len();
    exported(Text::default(), [Event::Start(start()), event]).split_off(header)
}

#[test]
fn the_header_says_where_how_and_with_what_clock() {
    assert_eq!(text(Event::Start(start())), include_str!("golden/header.txt"));
    assert_eq!(text(Event::Start(reflector())), include_str!("golden/reflector.txt"));
}

#[test]
fn each_change_is_a_line() {
    let table = [
        (
            Event::Attach(attach_change()),
            "now receiving by generic XDP: p1 dropped the replies that native XDP transmitted",
        ),
        (
            Event::Interface(interface_change(InterfaceEvent::Down)),
            "interface p1 is down",
        ),
        (
            Event::Interface(interface_change(InterfaceEvent::Up)),
            "interface p1 is up again",
        ),
        (
            Event::Interface(interface_change(InterfaceEvent::Deleted)),
            "interface p1 was deleted; waiting for it to come back",
        ),
        (
            Event::Interface(interface_change(InterfaceEvent::Back)),
            "interface p1 is back, and the programs are attached again",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Multicast, Some("h2:p2"))),
            "peer 10.1.1.6 (h2:p2, kstamp 0.1.0) is up, found by multicast",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Static, None)),
            "peer 10.1.1.6 is up, named by --peer",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Down, Found::Multicast, None)),
            "peer 10.1.1.6 is down: it answers no more",
        ),
        (Event::Windows(windows(vec![])), "no peer has answered yet"),
    ];
    for (event, expected) in table {
        assert_eq!(text(event), format!("2026-11-21T10:10:38Z {expected}\n"));
    }
}

#[test]
fn a_report_interval_is_one_table() {
    let windows = windows(vec![good(), troubled(), silent()]);
    assert_eq!(text(Event::Windows(windows)), include_str!("golden/windows.txt"));
}

#[test]
fn a_good_run() {
    assert_eq!(
        at_end(Event::End(end(
            vec![good()],
            [("collected", 20), ("egress_stamped", 20)]
        ))),
        include_str!("golden/good.txt")
    );
}

#[test]
fn a_run_with_every_trouble() {
    let counters = [
        ("bad_checksum", 3),
        ("collected", 90),
        ("from_the_future", 1),
        ("ring_full", 8),
        ("vlan", 0),
    ];
    assert_eq!(
        at_end(Event::End(end(vec![good(), troubled()], counters))),
        include_str!("golden/troubled.txt")
    );
}

#[test]
fn a_run_in_which_nobody_answered() {
    assert_eq!(
        at_end(Event::End(end(vec![], [("egress_stamped", 40)]))),
        include_str!("golden/nobody.txt")
    );
    assert_eq!(
        at_end(Event::End(end(vec![silent()], [("egress_stamped", 20)]))),
        include_str!("golden/silent.txt")
    );
}

#[test]
fn a_reflector_counts() {
    let counters = [("reflected", 5), ("reflected_group", 2), ("not_for_us", 1)];
    let answered = "7 probes answered since the start, 2 of them by a group\n";
    assert_eq!(text(Event::Counters(Counters::from_iter(counters))), answered);
    let refused =
        "1 probes not answered: to an address that is neither this interface's nor a joined group (not_for_us)\n";
    assert_eq!(text(Event::End(end(vec![], counters))), format!("{answered}{refused}"));
}

#[test]
fn nothing_is_wider_than_a_terminal() {
    for results in [good(), troubled(), silent()] {
        let all = at_end(Event::End(end(vec![results.clone(), results], [])));
        for line in all.lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}
