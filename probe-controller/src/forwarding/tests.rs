mod network;

use super::*;
use crate::forwarding::tests::network::{MS, Network, PERIOD, frame, mac, port};
use crate::link_delay::LinkState;
use crate::openflow::cookie;
use crate::openflow::flow::Match;
use crate::openflow::id::{MacAddress, PortNumber};
use crate::openflow::message::{PacketIn, PacketInReason};
use crate::openflow::server::EventKind;
use crate::topology::PortId;

const SECOND: u64 = 1_000 * MS;

/// Three switches, each with a host on port 9: 1–2 and 2–3 take 5 ms, 1–3 takes 20 ms.
fn triangle(measure_only: bool) -> Network {
    let links = [
        (port(1, 1), port(2, 1), 5),
        (port(2, 2), port(3, 1), 5),
        (port(1, 2), port(3, 2), 20),
    ];
    Network::new(measure_only, 3, 3, &links)
}

fn host(dpid: u64) -> PortId {
    port(dpid, 3)
}

fn link_to(network: &Network, one: PortId) -> &LinkView {
    let mut links = network.forwarding.links().iter();
    links.find(|view| view.link.ends_at(one)).unwrap()
}

/// The triangle, once its links are measured and its hosts are known.
fn triangle_with_hosts() -> Network {
    let mut network = triangle(false);
    network.run(4 * SECOND);
    introduce(&mut network);
    network
}

/// Both hosts become known.
fn introduce(network: &mut Network) {
    for dpid in 1..=3 {
        network.send(host(dpid), MacAddress::BROADCAST);
    }
    network.run(200 * MS);
    network.received.clear();
}

#[test]
fn links_are_measured_to_the_nanosecond_without_noise() {
    let mut network = triangle(false);
    // One control channel takes 10 ms up and 30 ms down.
    network.control_ns.insert(Dpid(2), (30 * MS, 10 * MS));
    network.run(5 * SECOND);
    let views = network.forwarding.links();
    assert_eq!(views.len(), 3);
    for (one, rtt_ms) in [(port(1, 1), 10), (port(2, 2), 10), (port(1, 2), 40)] {
        let view = link_to(&network, one);
        let rtt_ns = Some(rtt_ms * 1_000_000);
        assert_eq!(view.state, LinkState::Valid);
        assert_eq!(view.estimates.lldp_echo.map(|estimate| estimate.rtt_ns), rtt_ns);
        assert_eq!(view.estimates.bounce.map(|estimate| estimate.rtt_ns), rtt_ns);
    }
    let totals = network.forwarding.totals();
    assert_eq!(
        (totals.negatives, totals.probes.mismatched, totals.probes.late),
        (0, 0, 0)
    );
}

#[test]
fn a_link_that_takes_no_time_is_below_the_resolution_and_used() {
    let mut network = Network::new(false, 2, 2, &[(port(1, 1), port(2, 1), 0)]);
    network.run(5 * SECOND);
    let view = link_to(&network, port(1, 1));
    assert_eq!((view.state, view.weight_ns), (LinkState::BelowResolution, Some(0)));
}

#[test]
fn broadcast_reaches_every_host_once_after_host_ports_are_known() {
    let mut network = triangle(false);
    network.send(host(1), MacAddress::BROADCAST);
    network.run(100 * MS);
    assert_eq!(network.take_received(mac(host(1))), []);
    network.run(3 * SECOND);
    for _ in 0..3 {
        network.send(host(1), MacAddress::BROADCAST);
        network.run(100 * MS);
        assert_eq!(network.take_received(mac(host(1))), [host(2), host(3)]);
    }
    assert_eq!(network.forwarding.totals().storms, 0);
    assert_eq!(network.forwarding.hosts().count(), 1);
}

#[test]
fn hosts_communicate_along_the_path_of_least_delay() {
    let mut network = triangle_with_hosts();
    network.carried = 0;
    // The first frame waits for its path, the second finds rules.
    for _ in 0..2 {
        network.send(host(1), mac(host(3)));
        network.run(100 * MS);
        assert_eq!(network.take_received(mac(host(1))), [host(3)]);
    }
    assert_eq!(network.carried, 4);
    // 10 ms by switch 2, not 20 ms directly.
    let started_ns = network.now_ns;
    network.send(host(1), mac(host(3)));
    network.run(10 * MS);
    assert_eq!(network.take_received(mac(host(1))), [host(3)], "{started_ns}");
}

#[test]
fn a_frame_to_an_unknown_host_reaches_all_hosts_and_no_link() {
    let mut network = triangle(false);
    network.run(4 * SECOND);
    network.send(host(1), MacAddress([2, 9, 9, 9, 9, 9]));
    network.run(100 * MS);
    assert_eq!(network.take_received(mac(host(1))), [host(2), host(3)]);
    assert_eq!(network.carried, 0);
}

#[test]
fn a_silent_cut_is_noticed_within_two_seconds_and_the_path_comes_back_after_repair() {
    let mut network = triangle_with_hosts();
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    network.received.clear();

    network.cut(port(1, 1), true);
    network.run(2 * SECOND);
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    assert_eq!(network.take_received(mac(host(1))), [host(3)], "by the direct link");
    assert_eq!(link_to(&network, port(1, 1)).state, LinkState::Stale);
    assert!(network.forwarding.totals().reroutes > 0);
    network.send(host(1), MacAddress::BROADCAST);
    network.run(100 * MS);
    assert_eq!(network.take_received(mac(host(1))), [host(2), host(3)]);

    network.cut(port(1, 1), false);
    network.run(4 * SECOND);
    network.carried = 0;
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    assert_eq!(
        (network.take_received(mac(host(1))), network.carried),
        (vec![host(3)], 2)
    );
    // The rules of the former path are gone: a path has one rule on each of its switches.
    let paths = |dpid| {
        network
            .rules(dpid)
            .iter()
            .filter(|rule| rule.priority == 30_000)
            .count()
    };
    assert_eq!([paths(1), paths(2), paths(3)], [1, 1, 1]);
}

#[test]
fn a_port_that_goes_down_reroutes_at_once() {
    let mut network = triangle_with_hosts();
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    network.received.clear();
    network.cut(port(1, 1), true);
    network.port_status(port(1, 1), false);
    network.run(20 * MS);
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    assert_eq!(network.take_received(mac(host(1))), [host(3)]);
}

#[test]
fn broadcast_never_loops_while_links_change() {
    // A full mesh of five switches, with parallel links.
    let mut links = Vec::new();
    for one in 1..=5u64 {
        for other in one + 1..=5 {
            let [there, back] = [other as u32, one as u32];
            links.push((port(one, there), port(other, back), 1 + (one * other) % 7));
            links.push((port(one, there + 10), port(other, back + 10), 2));
        }
    }
    let mut network = Network::new(false, 5, 16, &links);
    // Control channels of different lengths: rules change at different times.
    for dpid in 1..=5 {
        network.control_ns.insert(Dpid(dpid), (dpid * 7 * MS, MS));
    }
    network.run(4 * SECOND);
    for round in 0..40usize {
        let (end, ..) = links[round * 7 % links.len()];
        network.cut(end, round % 3 != 2);
        network.port_status(end, round % 3 == 2);
        for from in 1..=5 {
            network.send(port(from, from as u32), MacAddress::BROADCAST);
        }
        network.carried = 0;
        network.run(37 * MS);
        assert!(network.carried <= 5 * 4 * 2, "{}", network.carried);
    }
    assert_eq!(network.forwarding.totals().storms, 0);
}

#[test]
fn measure_only_installs_no_forwarding_rule() {
    let mut network = triangle(true);
    network.run(4 * SECOND);
    network.send(host(1), MacAddress::BROADCAST);
    network.run(SECOND);
    for dpid in 1..=3 {
        assert!(network.rules(dpid).iter().all(|rule| cookie::is_measuring(rule.cookie)));
    }
    assert_eq!(network.forwarding.routes().len(), 3);
    assert_eq!(network.forwarding.hosts().count(), 0);
}

#[test]
fn foreign_lldp_makes_no_link_and_is_reported_once() {
    let mut network = triangle(false);
    network.run(SECOND);
    network.notices.clear();
    let mut foreign = frame(crate::openflow::lldp::DESTINATION, mac(host(1)));
    foreign.truncate(12);
    foreign.extend([0x88, 0xcc, 0x02, 0x02, 7, b'x', 0x04, 0x02, 2, 1, 0x06, 2, 0, 120, 0, 0]);
    let links = network.forwarding.links().len();
    for _ in 0..2 {
        let packet = PacketIn {
            reason: PacketInReason::Action,
            table: 0,
            cookie: cookie::LLDP,
            in_port: PortNumber(3),
            matching: Match::any(),
            total_len: 0,
            frame: foreign.clone(),
        };
        network.report(Dpid(1), EventKind::PacketIn(packet));
        network.run(PERIOD / 10);
    }
    assert_eq!(network.forwarding.links().len(), links);
    let reported = network
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Trouble(_)));
    assert_eq!(reported.count(), 1, "{:?}", network.notices);
}

#[test]
fn a_switch_that_reconnects_gets_its_rules_again() {
    let mut network = triangle_with_hosts();
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    network.reconnect(Dpid(2), 3);
    network.run(5 * SECOND);
    network.received.clear();
    network.carried = 0;
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    assert_eq!(
        (network.take_received(mac(host(1))), network.carried),
        (vec![host(3)], 2)
    );
    network.send(host(2), MacAddress::BROADCAST);
    network.run(100 * MS);
    assert_eq!(network.take_received(mac(host(2))), [host(1), host(3)]);
}

/// An address that a flooding host invents.
fn invented(number: u32) -> MacAddress {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddress([6, 0, a, b, c, d])
}

#[test]
fn a_host_that_floods_costs_neither_memory_nor_rules_nor_lines_without_end_nor_other_hosts() {
    let mut network = triangle_with_hosts();
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    network.notices.clear();
    for number in 0..1_400 {
        for to in [mac(host(1)), mac(host(3))] {
            network.send_as(host(2), to, invented(number));
        }
        network.carried = 0;
        network.run(MS);
    }
    network.run(SECOND);
    assert_eq!(network.forwarding.hosts().count(), 2 + hosts::HOSTS_PER_PORT);
    for dpid in 1..=3 {
        let rules = network.rules(dpid).len();
        assert!(rules < 2 * hosts::HOSTS_PER_PORT + 20, "{rules}");
    }
    assert!(network.forwarding.totals().hosts_displaced > 300);
    let lines = network
        .notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Trouble(_)));
    assert_eq!(lines.count(), 1, "{:?}", network.notices);
    network.received.clear();
    network.carried = 0;
    network.send(host(1), mac(host(3)));
    network.run(100 * MS);
    assert_eq!(
        (network.take_received(mac(host(1))), network.carried),
        (vec![host(3)], 2)
    );
}

#[test]
fn hosts_that_jump_between_ports_are_reported_seldom_and_evaluated_seldom() {
    let mut network = triangle_with_hosts();
    network.notices.clear();
    for number in 0..2_000 {
        network.send_as(host(1 + u64::from(number % 2u32)), MacAddress::BROADCAST, invented(0));
        network.carried = 0;
        network.run(MS);
    }
    assert!(network.forwarding.totals().storms > 100);
    assert_eq!(network.notices.len(), 1, "{:?}", network.notices);
}

#[test]
fn a_host_is_forgotten_after_five_minutes_of_silence_and_an_active_one_loses_no_frame() {
    let mut network = triangle_with_hosts();
    // One host sends to another without ever asking the controller again, and the third is silent.
    network.send(host(1), mac(host(3)));
    network.send(host(3), mac(host(1)));
    network.run(SECOND);
    for second in 0..400 {
        network.received.clear();
        network.send(host(1), mac(host(3)));
        network.send(host(3), mac(host(1)));
        network.run(SECOND);
        assert_eq!(network.take_received(mac(host(1))), [host(3)], "second {second}");
    }
    let known: Vec<MacAddress> = network.forwarding.hosts().map(|(address, _)| address).collect();
    assert_eq!(known, [mac(host(1)), mac(host(3))]);
}

#[test]
fn rules_that_somebody_deletes_are_put_back_within_seconds_and_the_network_goes_on() {
    for measure_only in [false, true] {
        let mut network = triangle(measure_only);
        network.run(4 * SECOND);
        introduce(&mut network);
        network.send(host(1), mac(host(3)));
        network.run(3 * SECOND);
        let sorted = |network: &Network| -> Vec<Vec<String>> {
            let rules = |dpid| network.rules(dpid).iter().map(|rule| format!("{rule:?}"));
            let sorted = |dpid| rules(dpid).collect::<BTreeSet<_>>().into_iter().collect();
            (1..=3).map(sorted).collect()
        };
        let before = sorted(&network);
        assert_eq!(network.forwarding.totals().rules_restored, 0);
        (1..=3).for_each(|dpid| network.delete_rules(dpid));
        network.run(4 * SECOND);
        assert_eq!(sorted(&network), before);
        let restored = before.iter().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(network.forwarding.totals().rules_restored, restored);
        network.run(4 * SECOND);
        let states = network.forwarding.links().iter().map(|view| view.state);
        assert_eq!(states.collect::<Vec<_>>(), [LinkState::Valid; 3]);
        let lines = network
            .notices
            .iter()
            .filter(|notice| matches!(notice, Notice::Trouble(_)));
        assert_eq!(lines.count(), 3, "{:?}", network.notices);
    }
}

/// The host on the hub.
const ON_HUB: PortId = PortId {
    dpid: Dpid(99),
    port: PortNumber(1),
};

/// Each host reaches all others once, by broadcast and by a frame to each, whether or not its path is installed.
fn all_hosts_reach_each_other_once(network: &mut Network, hosts: &[PortId]) {
    for round in 0..3 {
        for from in hosts {
            network.carried = 0;
            network.send(*from, MacAddress::BROADCAST);
            network.run(200 * MS);
            let mut received = network.take_received(mac(*from));
            received.retain(|port| hosts.contains(port));
            let others: Vec<PortId> = hosts.iter().copied().filter(|to| to != from).collect();
            assert_eq!(received, others, "round {round}, {from}");
        }
        for (from, to) in hosts.iter().flat_map(|from| hosts.iter().map(move |to| (from, to))) {
            if from == to {
                continue;
            }
            network.carried = 0;
            network.send(*from, mac(*to));
            network.run(200 * MS);
            let mut received = network.take_received(mac(*from));
            // A hub sends everything to everybody.
            received.retain(|port| *port != ON_HUB || *to == ON_HUB);
            assert_eq!(received, [*to], "round {round}, {from} to {to}");
        }
    }
}

#[test]
fn switches_on_one_segment_are_reported_once_and_their_hosts_communicate() {
    // Three switches that only a hub connects, and three that links connect as well.
    let links = [
        (port(1, 1), port(2, 1), 5),
        (port(2, 2), port(3, 1), 5),
        (port(1, 2), port(3, 2), 20),
    ];
    for links in [&[][..], &links[..]] {
        let mut network = Network::new(false, 3, 4, links);
        network.join_hub(&[port(1, 4), port(2, 4), port(3, 4), ON_HUB]);
        network.run(6 * SECOND);
        let segments = |network: &Network| -> Vec<Notice> {
            let is_segment = |notice: &&Notice| matches!(notice, Notice::Segment(_));
            network.notices.iter().filter(is_segment).cloned().collect()
        };
        assert_eq!(
            segments(&network),
            [Notice::Segment(vec![port(1, 4), port(2, 4), port(3, 4)])]
        );
        assert_eq!(network.forwarding.segments(), 1);
        network.notices.clear();
        let hosts = [host(1), host(2), host(3), ON_HUB];
        all_hosts_reach_each_other_once(&mut network, &hosts);
        network.run(20 * SECOND);
        assert_eq!(network.notices, []);
        assert_eq!(network.forwarding.totals().storms, 0);
        assert_eq!(network.forwarding.links().len(), links.len());
        assert_eq!(network.forwarding.hosts().count(), 4);

        // A switch that loses its links is reached through the segment as long as it has none.
        if !links.is_empty() {
            for is_cut in [true, false] {
                network.cut(port(1, 1), is_cut);
                network.cut(port(1, 2), is_cut);
                network.run(8 * SECOND);
                all_hosts_reach_each_other_once(&mut network, &hosts);
            }
            network.notices.clear();
        }

        // With one neighbour for some periods, there is a link again.
        network.leave_hub(port(3, 4));
        network.leave_hub(ON_HUB);
        network.run(12 * SECOND);
        let ups = network
            .notices
            .iter()
            .filter(|notice| matches!(notice, Notice::LinkUp(_)));
        assert_eq!(ups.count(), 1, "{:?}", network.notices);
        assert_eq!(network.forwarding.segments(), 0);
        assert_eq!(link_to(&network, port(1, 4)).state, LinkState::Valid);
    }
}

#[test]
fn a_switch_that_invents_ports_is_bounded() {
    let mut network = Network::new(false, 1, 3, &[]);
    network.run(SECOND);
    network.notices.clear();
    for number in 4..20_000 {
        network.port_status(port(1, number), true);
    }
    for number in 20_000..30_000 {
        let packet = PacketIn {
            reason: PacketInReason::Action,
            table: 0,
            cookie: cookie::LLDP,
            in_port: PortNumber(number),
            matching: Match::any(),
            total_len: 0,
            frame: [&[1, 0x80, 0xc2, 0, 0, 0x0e][..], &[2; 6], &[0x88, 0xcc]].concat(),
        };
        network.report(Dpid(1), EventKind::PacketIn(packet));
    }
    network.run(PERIOD);
    assert_eq!(
        network.forwarding.switches()[0].ports,
        crate::openflow::server::MAX_PORTS
    );
    assert_eq!(network.notices, []);
}

#[test]
fn a_host_that_moves_to_a_segment_is_found_there() {
    let links = [(port(1, 1), port(2, 1), 5), (port(2, 2), port(3, 1), 5)];
    // Through a segment that connects switches come frames of hosts elsewhere, so the former place must be silent for long.
    for (links, until_s) in [(&links[..], 1), (&[][..], 310)] {
        let mut network = Network::new(false, 3, 4, links);
        network.join_hub(&[port(1, 4), port(2, 4), port(3, 4), ON_HUB]);
        network.run(6 * SECOND);
        network.send(host(2), MacAddress::BROADCAST);
        network.run(SECOND);
        let place = |network: &Network| {
            let mut hosts = network.forwarding.hosts();
            hosts.next().map(|(_, host)| host.port)
        };
        assert_eq!(place(&network), Some(host(2)));
        let mut found_s = None;
        for second in 1..=until_s {
            network.carried = 0;
            network.send_as(ON_HUB, MacAddress::BROADCAST, mac(host(2)));
            network.run(SECOND);
            if found_s.is_none() && place(&network) == Some(port(1, 4)) {
                found_s = Some(second);
            }
        }
        assert!(found_s.is_some_and(|found_s| found_s > until_s - 20), "{found_s:?}");
    }
}
