//! A switch that snoops IGMP and MLD, without a querier: memberships are reported again, so that group probes arrive.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::cell::Cell;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use support::ovs::{OpenVSwitch, can_switch, disable_offload};
use support::{Pair, Running, count, in_namespace, ip, run, summary};

/// Open vSwitch accepts no shorter time.
const AGING: Duration = Duration::from_secs(15);

/// Types of records, which IGMPv3 (RFC 3376 §4.2.12) and MLDv2 (RFC 3810 §5.2.12) share.
const CHANGE_TO_EXCLUDE: u8 = 4;
const ALLOW_NEW_SOURCES: u8 = 5;

/// The types of the records about kstamp's groups in a report: IPv4 and IPv6, or neither.
fn records(frame: &[u8]) -> [Vec<u8>; 2] {
    // Offsets of an IPv4 header with the router alert, and of an IPv6 header with a hop-by-hop header.
    let (report, group): (_, &[u8]) = match (frame.get(12..15), frame.get(14 + 24), frame.get(14 + 48)) {
        (Some([0x08, 0x00, 0x46]), Some(0x22), _) => (&frame[14 + 24..], &[239, 255, 255, 250]),
        (Some([0x86, 0xdd, 0x60]), _, Some(143)) => (
            &frame[14 + 48..],
            &Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x10).octets(),
        ),
        _ => return Default::default(),
    };
    let (mut types, mut rest) = (Vec::new(), &report[8..]);
    for _ in 0..u16::from_be_bytes([report[6], report[7]]) {
        let sources = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        types.extend((rest[4..].starts_with(group)).then_some(rest[0]));
        rest = &rest[4 + (1 + sources) * group.len()..];
    }
    if group.len() == 4 {
        [types, Vec::new()]
    } else {
        [Vec::new(), types]
    }
}

#[test]
fn a_repeated_report_neither_leaves_the_group_nor_blocks_a_source() {
    let Some(pair) = Pair::new() else { return };
    in_namespace(&pair.far);
    let all = Protocol::from(i32::from(0x0003_u16.to_be()));
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // It has two test ports, and so two members of each group.
    let near = pair.started(&pair.near, "reflect --iface port1 --engine socket");
    let end = Instant::now() + Duration::from_secs(14);
    let mut seen = [Vec::new(), Vec::new()];
    let mut buffer = [0; 2048];
    while !seen.iter().all(|types| types.contains(&ALLOW_NEW_SOURCES)) {
        assert!(Instant::now() < end, "{seen:?}");
        let Ok(length) = socket.read(&mut buffer) else { continue };
        for (seen, types) in seen.iter_mut().zip(records(&buffer[..length])) {
            seen.extend(types);
        }
    }
    for types in seen {
        // The kernel repeats each report once or twice.
        let expected = |kind: &u8| [CHANGE_TO_EXCLUDE, ALLOW_NEW_SOURCES].contains(kind);
        assert!(types.iter().all(expected) && types.len() < 6, "{types:?}");
    }
    assert!(near.stop().0.success());
}

/// Hosts of a switch that snoops.
struct Network {
    switch: OpenVSwitch,
    pair: Pair,
    hosts: Cell<u8>,
}

impl Network {
    fn new() -> Option<Self> {
        if !can_switch() {
            return None;
        }
        let network = Self {
            switch: OpenVSwitch::start(),
            pair: Pair::new()?,
            hosts: Cell::new(0),
        };
        network.switch.vsctl(&format!(
            "add-br br1 -- set bridge br1 datapath_type=netdev mcast_snooping_enable=true \
             other_config:mcast-snooping-aging-time={}",
            AGING.as_secs()
        ));
        Some(network)
    }

    /// The namespace of host `number`, the next one, with the addresses 10.9.0.`number` and fd09::`number` at its interface
    /// `port`.
    fn host(&self, number: u8) -> String {
        self.hosts.set(number);
        let (switch, host) = (&self.switch.namespace, format!("{}h{number}", self.switch.namespace));
        run(&format!("ip netns add {host}"));
        run(&format!(
            "ip link add port netns {host} type veth peer name p{number} netns {switch}"
        ));
        ip(switch, &format!("link set p{number} up"));
        disable_offload(&host, "port");
        self.switch.vsctl(&format!(
            "add-port br1 p{number} -- set interface p{number} ofport_request={number}"
        ));
        ip(&host, &format!("address add 10.9.0.{number}/24 dev port"));
        ip(&host, &format!("address add fd09::{number}/64 dev port nodad"));
        ip(&host, "link set port up");
        host
    }

    fn agent(&self, host: &str, engine: &str) -> Running {
        let arguments = format!("agent --iface port --engine {engine} --interval 100ms --timeout 500ms --report 1s");
        self.pair.started(host, &arguments)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for number in 1..=self.hosts.get() {
            let host = format!("{}h{number}", self.switch.namespace);
            let _ = support::command(&format!("ip netns delete {host}")).status();
        }
    }
}

/// Of host `number`.
fn addresses(number: u8) -> [String; 2] {
    [format!("10.9.0.{number}"), format!("fd09::{number}")]
}

fn is_found(record: &Value, peer: &str) -> bool {
    is_up(record, peer, "multicast")
}

fn is_up(record: &Value, peer: &str, found: &str) -> bool {
    record["type"] == "peer" && record["event"] == "up" && record["peer"] == peer && record["found"] == found
}

#[test]
fn group_probes_arrive_after_memberships_have_aged_out_and_a_newcomer_is_found() {
    let Some(network) = Network::new() else { return };
    let started = Instant::now();
    let hosts = [1, 2, 3].map(|number| network.host(number));
    let agents = [network.agent(&hosts[0], "ebpf"), network.agent(&hosts[1], "socket")];
    // It has two test ports, and so two members of each group.
    let reflector = network.pair.started(&hosts[2], "reflect --iface port");
    let others = [[2, 3], [1, 3]].map(|others| others.into_iter().flat_map(addresses).collect::<Vec<_>>());
    for (agent, others) in agents.iter().zip(&others) {
        for address in others {
            agent.await_record(1, "peer", |record| is_found(record, address));
        }
    }
    while started.elapsed() < AGING + Duration::from_secs(4) {
        std::thread::sleep(Duration::from_millis(100));
    }
    for group in ["239.255.255.250", "ff0e::10"] {
        let table = network.switch.run("ovs-appctl mdb/show br1");
        let members = table.lines().filter(|line| line.contains(group)).count();
        assert_eq!(members, 3, "{group}: {table}");
    }
    let newcomer = network.agent(&network.host(4), "ebpf");
    for address in [1, 2, 3].into_iter().flat_map(addresses) {
        newcomer.await_record(1, "peer of the newcomer", |record| is_found(record, &address));
    }
    for agent in &agents {
        for address in addresses(4) {
            agent.await_record(1, "newcomer", |record| is_found(record, &address));
        }
    }
    assert!(newcomer.stop().0.success());
    assert!(reflector.stop().0.success());
    for (agent, others) in agents.into_iter().zip(others) {
        let (status, records, stderr) = agent.stop();
        assert!(status.success(), "{stderr}");
        for address in others {
            let group = summary(&records, &address, "group");
            assert!(count(group, "sent") > 150 && count(group, "lost") == 0, "{group:#}");
        }
    }
}

#[test]
fn a_newcomer_that_gets_no_group_probes_is_measured_by_unicast() {
    let Some(network) = Network::new() else { return };
    let old = network.agent(&network.host(1), "ebpf");
    // The switch never learns that the newcomer is a member.
    for reports in ["ip,nw_proto=2", "icmp6,icmp_type=143"] {
        let rule = format!("priority=9,in_port=2,{reports},actions=drop");
        network.switch.run(&format!("ovs-ofctl add-flow br1 {rule}"));
    }
    let newcomer = network.agent(&network.host(2), "socket");
    for address in addresses(1) {
        newcomer.await_record(1, "peer of the newcomer", |record| is_found(record, &address));
    }
    // It asks for the identity again after ten seconds.
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(100));
    }
    for address in addresses(2) {
        old.await_record(1, "newcomer", |record| is_up(record, &address, "introduced"));
        old.await_record(1, "results of the newcomer", |record| {
            record["type"] == "window" && record["peer"] == *address && count(record, "received") > 0
        });
    }
    assert!(newcomer.stop().0.success());
    let (status, records, stderr) = old.stop();
    assert!(status.success(), "{stderr}");
    for address in addresses(2) {
        let unicast = summary(&records, &address, "unicast");
        assert_eq!(count(unicast, "lost"), 0, "{unicast:#}");
    }
}
