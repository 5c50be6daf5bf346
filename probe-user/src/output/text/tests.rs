use probe_core::stats::report::{ClockSteps, Counts, OneWayClock, Path, Patterns, Summary};
use probe_host::ovs::Tunnel;

use super::*;
use crate::output::fixtures::{
    absent, attach_change, clock_step, counters, end, exported, good, good_group, hops, interface_change, ip,
    near_hops, outlier, ovs_change, peer_change, port_facts, reflector, revived, silent, start, troubled,
    troubled_hops, unknown_outlier, unseen_hops, windows,
};
use crate::output::model::End;
use crate::output::model::hops::{Hops, Outlier};

fn to_file() -> Text {
    Text::new(|| None)
}

fn text(event: Event) -> String {
    exported(to_file(), [event])
}

/// What is written for an event after the start record.
fn after(start: Start, event: Event, text: &Text) -> String {
    let header = exported(text.clone(), [Event::Start(start.clone())]).len();
    exported(text.clone(), [Event::Start(start), event]).split_off(header)
}

fn at_end(event: Event) -> String {
    after(start(), event, &to_file())
}

#[test]
fn the_header_shows_configuration_and_clock() {
    assert_eq!(text(Event::Start(start())), include_str!("golden/header.txt"));
    let without_key = include_str!("golden/reflector.txt");
    assert_eq!(text(Event::Start(reflector())), without_key);
    let with_key = Start {
        authenticated: true,
        ..reflector()
    };
    let with_key = text(Event::Start(with_key));
    assert!(
        without_key.contains("on the same clock") && !with_key.contains("on the same clock"),
        "{with_key}"
    );
}

#[test]
fn the_header_lists_what_is_probed() {
    let probes = |start| {
        let header = text(Event::Start(start));
        header.lines().nth(1).unwrap().to_owned()
    };
    let mut start = start();
    start.peers = vec![ip("10.1.1.99"), ip("fe80::99")];
    assert_eq!(
        probes(start.clone()),
        "  probes    every 500ms to port 1910: 239.255.255.250, ff0e::10 and peers found there, 10.1.1.99,"
    );
    start.group_probes = false;
    assert_eq!(
        probes(start.clone()),
        "  probes    every 500ms to port 1910: 10.1.1.99, fe80::99 by --peer, no group; lost after 2s"
    );
    let in_fleet = Start {
        fleet: Some("h1/p1".to_owned()),
        peers: Vec::new(),
        ..start.clone()
    };
    assert_eq!(
        probes(in_fleet),
        "  probes    every 500ms to port 1910: peers that the hub assigns to h1/p1, no group; lost after 2s"
    );
    start.peers = (1..=20).map(|last| [10, 1, 1, last].into()).collect();
    assert!(text(Event::Start(start)).contains("10.1.1.8 and 12 more by"));
}

#[test]
fn a_long_reason_is_wrapped() {
    let start = Start {
        attach_reason: "native XDP on a veth whose other end has no XDP program would lose what it sends".to_owned(),
        ..start()
    };
    let header = text(Event::Start(start.clone()));
    assert!(
        header.contains("\n            lose what it sends), egress by TC\n"),
        "{header}"
    );
    assert!(header.lines().all(|line| line.chars().count() <= 100), "{header}");
    let narrow = exported(Text::new(|| Some(60)), [Event::Start(start)]);
    assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
}

#[test]
fn the_header_names_the_port_of_open_vswitch() {
    assert!(!text(Event::Start(start())).contains("  switch "));
    let mut facts = port_facts();
    facts.tunnels.push(Tunnel::default());
    facts.more_tunnels = 30;
    let in_switch = |facts| {
        text(Event::Start(Start {
            ovs: Some(Box::new(facts)),
            ..start()
        }))
    };
    let header = in_switch(facts.clone());
    assert!(
        header.contains(
            "\n  switch    port p1 of bridge br-int, internal, OpenFlow port 3, VLAN 7, iface-id vm-1; system\n"
        ),
        "{header}"
    );
    assert!(header.contains("Open vSwitch 3.1.0; 32 tunnels\n"), "{header}");
    facts.ofport = None;
    assert!(in_switch(facts).contains("internal, without an OpenFlow port"));
}

#[test]
fn each_change_is_a_line() {
    let table = [
        (
            Event::Attach(attach_change()),
            "now receiving by generic XDP: p1 dropped the replies that native XDP transmitted",
        ),
        (
            Event::Ovs(ovs_change(Some(port_facts()))),
            "interface p1 is now port p1 of bridge br-int, internal, OpenFlow port 3, VLAN 7, iface-id vm-1; system datapath, \
             Open vSwitch 3.1.0; vxlan 42 from 172.16.0.1 to 172.16.0.2",
        ),
        (
            Event::Ovs(ovs_change(None)),
            "interface p1 is no port of Open vSwitch any more",
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
            "interface p1 is back and in use again",
        ),
        (
            Event::Interface(interface_change(InterfaceEvent::Joined)),
            "interface p1 has an address of another IP version: ff0e::10 is in use too",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Multicast, Some("h2:p2"))),
            "peer 10.1.1.6 (h2:p2, kstamp 0.1.0) is up, found by multicast",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Introduced, Some("h2:p2"))),
            "peer 10.1.1.6 (h2:p2, kstamp 0.1.0) is up, found because it probes this host; it gets no group probes, see \"Switches that snoop\" in the guide to agents",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Static, None)),
            "peer 10.1.1.6 is up, named by --peer",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Assigned, None)),
            "peer 10.1.1.6 is up, assigned by the hub",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Down, Found::Multicast, None)),
            "peer 10.1.1.6 is down: no replies",
        ),
        (
            Event::Peer(peer_change(PeerEvent::Moved, Found::Multicast, Some("h2:p2"))),
            "peer 10.1.1.6 (h2:p2, kstamp 0.1.0) has moved here from 10.1.1.7",
        ),
        (
            Event::Clock(clock_step(None, 10_000_000)),
            "the wall clock of this host was stepped forward by 10.00 ms: one-way delays across the step are invalid, RTT is not affected",
        ),
        (
            Event::Clock(clock_step(Some("10.1.1.6"), -3_000_000)),
            "the clock of 10.1.1.6 was stepped back by 3.00 ms: one-way delays across the step are invalid, RTT is not affected",
        ),
        (Event::Windows(windows(vec![])), "no peer has answered yet"),
    ];
    for (event, expected) in table {
        assert_eq!(text(event), format!("2026-11-21T10:10:38Z {expected}\n"));
    }
}

#[test]
fn a_report_interval_is_one_table() {
    let windows = windows(vec![good(), good_group(), absent(), silent(), troubled()]);
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
fn a_run_without_replies() {
    assert_eq!(
        at_end(Event::End(end(vec![], [("egress_stamped", 40)]))),
        include_str!("golden/no_reply.txt")
    );
    assert_eq!(
        at_end(Event::End(end(vec![silent()], [("egress_stamped", 20)]))),
        include_str!("golden/silent.txt")
    );
}

#[test]
fn a_run_that_sent_nothing_gives_advice_about_this_host() {
    let start = Start {
        peers: vec![ip("10.1.1.99")],
        group_probes: false,
        ..start()
    };
    let end = || Event::End(end(vec![absent()], []));
    assert_eq!(
        after(start.clone(), end(), &to_file()),
        include_str!("golden/absent.txt")
    );
    let alone = at_end(end());
    assert!(alone.contains("has a carrier"), "{alone}");
    assert!(!alone.contains("ip neigh"), "no peer was named: {alone}");
}

#[test]
fn probes_sent_by_sockets_count_as_sent() {
    let text = |counters: [(&str, u64); 2]| {
        let start = Start {
            authenticated: true,
            ..start()
        };
        after(start, Event::End(end(vec![], counters)), &to_file())
    };
    let stamped = text([("socket_sent", 21), ("socket_stamped", 20)]);
    assert!(
        stamped.contains("no peer answered (20 probes left this host)"),
        "{stamped}"
    );
    assert!(stamped.contains("it has the same --key-file"), "{stamped}");
    let unstamped = text([("socket_sent", 20), ("socket_stamped", 0)]);
    assert!(
        unstamped.contains("no probe is known to have left this host"),
        "{unstamped}"
    );
}

#[test]
fn without_group_probes_there_is_no_advice_about_groups() {
    let start = Start {
        peers: vec![ip("10.1.1.99")],
        group_probes: false,
        ..start()
    };
    let text = after(start, Event::End(end(vec![], [("egress_stamped", 40)])), &to_file());
    assert!(text.contains("kstamp runs at 10.1.1.99 with --port 1910\n"), "{text}");
    assert!(!text.contains("group") && !text.contains("snooping"), "{text}");
}

#[test]
fn a_peer_that_has_moved_is_noted_once() {
    let moved = |results| Results {
        moved_from: Some(ip("10.1.1.7")),
        ..results
    };
    let found = at_end(Event::End(end(vec![moved(good()), moved(good_group())], [])));
    assert!(found.ends_with("\n10.1.1.6 moved from 10.1.1.7\n"), "{found}");
    assert_eq!(found.matches("moved from").count(), 1);
}

#[test]
fn a_peer_that_was_down_is_noted_once() {
    let both = || {
        vec![
            revived(),
            Results {
                path: good_group().path,
                ..revived()
            },
        ]
    };
    let note = "10.1.1.6 was down 1 time, 17s in all; ";
    let end = |results| Event::End(end(results, []));
    let found = at_end(end(both()));
    assert!(
        found.ends_with(&format!("{note}no probes were sent, and none are counted as lost\n")),
        "{found}"
    );
    assert_eq!(found.matches("was down").count(), 1);
    let start = Start {
        peers: vec![ip("10.1.1.6")],
        ..start()
    };
    let named = after(start, end(both()), &to_file());
    assert!(
        named.ends_with(&format!("{note}unicast probes were still sent and are counted\n")),
        "{named}"
    );
}

#[test]
fn multicast_that_does_not_arrive_is_named_where_unicast_does() {
    let counts = |received, lost| Counts {
        sent: received + lost,
        received,
        lost,
        lost_unknown: lost,
        ..Counts::default()
    };
    let backward = |lost| Counts {
        lost_unknown: 0,
        lost_backward: lost,
        ..counts(0, lost)
    };
    let table = [
        ("the group is dead", counts(20, 0), counts(0, 20), true),
        ("some unicast probes are lost too", counts(2, 18), counts(0, 20), true),
        ("both are dead", counts(0, 20), counts(0, 20), false),
        ("one group probe is answered", counts(20, 0), counts(1, 19), false),
        ("few group probes so far", counts(20, 0), counts(0, 2), false),
        ("no group probe is over", counts(20, 0), counts(0, 0), false),
        ("the replies are lost", counts(20, 0), backward(20), false),
        ("unicast is dead", counts(0, 20), counts(20, 0), false),
    ];
    for (what, unicast, group, want) in table {
        let [unicast, group] =
            [(good(), unicast), (good_group(), group)].map(|(result, counts)| Results { counts, ..result });
        let other = Results {
            peer: ip("10.1.1.7"),
            ..good()
        };
        let both = || vec![other.clone(), unicast.clone(), group.clone()];
        for event in [Event::Windows(windows(both())), Event::End(end(both(), []))] {
            let text = at_end(event).replace("\n  ", " ");
            let note = "10.1.1.6 group: multicast does not arrive there";
            assert_eq!(text.matches(note).count(), usize::from(want), "{what}: {text}");
            assert_eq!(
                text.matches("multicast does not").count(),
                usize::from(want),
                "{what}: {text}"
            );
        }
    }
}

#[test]
fn losses_and_their_patterns_are_notes() {
    let mut results = troubled();
    results.steps = ClockSteps { own: 1, peer: 2 };
    results.patterns = Patterns {
        lost_late: 1,
        lost_refused: Some(3),
        loss_period: Some(in_packets(4)),
        reordering_extent: Some(in_packets(12)),
        ..Patterns::default()
    };
    let text = text(Event::Windows(windows(vec![results])));
    for note in [
        "9 probes lost: 4 forward, 3 backward, 1 answered too late, 1 direction unknown, \
         3 of them above the peer's rate limits, up to 4 in a row;",
        "7 reordered",
        "overtaken by up to 12",
        "steps of the wall clock: 1 of this host, 2 of the peer\n",
    ] {
        assert!(text.contains(note), "{note}: {text}");
    }
}

#[test]
fn an_estimate_has_its_bound() {
    let mut results = good();
    results.clock = Some(OneWayClock::Estimated {
        bound_ns: 80_700,
        offset_ns: 10_000_000,
        skew_ppb: 50_000,
    });
    assert!(at_end(Event::End(end(vec![results], []))).contains("  estimated ±80.70 µs  "));
}

fn in_packets(max: i64) -> Summary {
    Summary {
        min: 1,
        max,
        ..good().rtt_ns.unwrap()
    }
}

#[test]
fn a_reflector_counts() {
    let counters = [("reflected", 5), ("reflected_group", 2), ("not_for_us", 1)];
    let answered = "2026-11-21T10:10:38Z 7 probes answered since the start, 2 of them sent to a group\n";
    assert_eq!(text(Event::Counters(self::counters(counters))), answered);
    let refused =
        "1 probe not answered: to an address that is neither this interface's nor a joined group (not_for_us)\n";
    assert_eq!(text(Event::End(end(vec![], counters))), format!("{answered}{refused}"));
}

fn all_at_once() -> End {
    end(
        vec![good(), good_group(), absent(), silent(), troubled()],
        [("bad_checksum", 3), ("not_for_us", 1)],
    )
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let table: [(Columns, usize); 3] = [(|| Some(80), 80), (|| Some(100), 100), (|| Some(120), 120)];
    for (columns, width) in table {
        let text = exported(Text::new(columns), [Event::Start(start()), Event::End(all_at_once())]);
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{line}");
        }
    }
    let text = after(start(), Event::End(all_at_once()), &Text::new(|| Some(80)));
    assert_eq!(text, include_str!("golden/narrow.txt"));
}

/// The headings of the table that has a column `of`.
fn headings(columns: Columns, of: &str) -> Vec<String> {
    let text = after(start(), Event::End(end(vec![good()], [])), &Text::new(columns));
    let line = text.lines().find(|line| line.contains(of)).unwrap();
    line.split("  ")
        .map(|heading| heading.trim().to_owned())
        .filter(|heading| !heading.is_empty())
        .collect()
}

#[test]
fn the_least_important_columns_are_removed_first() {
    assert_eq!(
        headings(|| Some(80), "sent")[3..],
        ["lost", "RTT min", "p50", "p99", "max"]
    );
    assert_eq!(headings(|| Some(70), "sent")[3..], ["lost", "RTT p50", "p99", "max"]);
    assert_eq!(headings(|| Some(60), "sent")[3..], ["lost", "RTT p50", "p99"]);
    let all = [
        "path",
        "avg latency",
        "residence",
        "forward",
        "backward",
        "clock",
        "attach",
    ];
    assert_eq!(headings(|| None, "backward")[1..], all);
    assert_eq!(
        headings(|| Some(95), "backward")[1..],
        ["path", "avg latency", "forward", "backward", "clock", "attach"]
    );
    assert_eq!(
        headings(|| Some(80), "backward")[1..],
        ["path", "avg latency", "forward", "backward", "clock"]
    );
}

#[test]
fn nothing_wraps_in_a_file() {
    let text = at_end(Event::End(all_at_once()));
    for whole in [
        "fe80::5054:ff:fe12:3456 a-long-host-name:interface-2  group",
        "2001:db8:1111:2222:3333:4444:5555:6666                unicast",
        "RTT min      mean       p50      p99      max",
        "3 backward, 2 direction unknown",
    ] {
        assert!(text.contains(whole), "{text}");
    }
}

#[test]
fn a_split_has_a_row_for_each_segment_and_says_what_is_missing() {
    let events = || [hops(), troubled_hops(), near_hops(), unseen_hops()].map(Event::Hops);
    let written = |text: Text| {
        let start = Event::Start(start());
        let header = exported(text.clone(), [start.clone()]).len();
        exported(text, [start].into_iter().chain(events())).split_off(header)
    };
    golden("hops.txt", &written(to_file()));
    let narrow = written(Text::new(|| Some(80)));
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    golden("hops_narrow.txt", &narrow);
}

#[test]
fn devices_that_saw_no_probe_are_in_another_namespace() {
    let elsewhere = Hops {
        own_devices: near_hops().own_devices,
        ..unseen_hops()
    };
    let written = text(Event::Hops(elsewhere));
    let why = "none of the observed devices carried these probes; does --host-netns name the namespace of the NICs?";
    assert!(written.contains(why), "{written}");
    let a_part = text(Event::Hops(troubled_hops()));
    assert!(
        a_part.contains("stamps were lost") && !a_part.contains("--host-netns"),
        "{a_part}"
    );
}

#[test]
fn an_outlier_is_a_line_that_says_where_and_why() {
    let table = [
        (
            outlier(),
            "10.1.1.6 h2:p2, probe 7 took 4.20 ms: 4.10 ms in far switch, forward, ordinarily 37.00 µs; \
             cause: upcall of 4.05 ms (threshold: 600 µs)",
        ),
        (
            Outlier {
                path: Path::Cold,
                ..unknown_outlier()
            },
            "10.1.1.6, cold probe 7 took 4.20 ms: it is not known where (threshold: 600 µs)",
        ),
        (
            Outlier {
                cause: Some("cpu".to_owned()),
                cpu_wait_ns: outlier().upcall_wait_ns,
                upcall_wait_ns: None,
                ..outlier()
            },
            "10.1.1.6 h2:p2, probe 7 took 4.20 ms: 4.10 ms in far switch, forward, ordinarily 37.00 µs; \
             cause: CPU wait of 4.05 ms (threshold: 600 µs)",
        ),
        (
            unknown_outlier(),
            "10.1.1.6, probe 7 took 4.20 ms: it is not known where (threshold: 600 µs)",
        ),
    ];
    for (outlier, want) in table {
        assert_eq!(
            text(Event::Outlier(outlier)),
            format!("2026-11-21T10:10:38Z outlier: {want}\n")
        );
    }
}

/// `KSTAMP_GOLDEN=write` writes it.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/output/text/golden")
        .join(name);
    if std::env::var_os("KSTAMP_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}
