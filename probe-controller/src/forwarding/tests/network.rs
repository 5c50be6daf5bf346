//! A simulated network: switches that execute the controller's commands, in simulated time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::openflow::flow::{Action, FlowCommand, FlowMod, Match};
use crate::openflow::id::{MacAddress, PortNumber};
use crate::openflow::message::{Features, Message, PacketIn, PacketInReason};
use crate::openflow::port::{Port, PortReason};
use crate::openflow::server::{Event, EventKind, Reason, first_rules};
use crate::topology::PortId;

pub(super) const MS: u64 = 1_000_000;
pub(super) const PERIOD: u64 = 500 * MS;

/// A planned event.
enum Due {
    Message(Dpid, Message),
    Barrier(Dpid, u64),
    Count(Dpid, u64, u64),
    Frame(PortId, Vec<u8>),
    ToController(Event),
}

pub(super) struct Network {
    pub(super) forwarding: Forwarding,
    pub(super) now_ns: u64,
    due: BTreeMap<(u64, u64), Due>,
    order: u64,
    rules: BTreeMap<Dpid, Vec<FlowMod>>,
    /// Delay of the control channels, down and up.
    pub(super) control_ns: BTreeMap<Dpid, (u64, u64)>,
    links: BTreeMap<PortId, (PortId, u64)>,
    cut: BTreeSet<PortId>,
    /// Ports on a hub. Those of switch 99 are hosts.
    hub: Vec<PortId>,
    /// Frames that came out of ports without a link.
    pub(super) received: Vec<(PortId, Vec<u8>)>,
    /// Frames of hosts that crossed a link.
    pub(super) carried: u64,
    pub(super) notices: Vec<Notice>,
}

pub(super) fn port(dpid: u64, number: u32) -> PortId {
    PortId {
        dpid: Dpid(dpid),
        port: PortNumber(number),
    }
}

/// The address of the host on a port.
pub(super) fn mac(port: PortId) -> MacAddress {
    MacAddress([2, 0, 0, 0, port.dpid.0 as u8, port.port.0 as u8])
}

pub(super) fn frame(to: MacAddress, from: MacAddress) -> Vec<u8> {
    [&to.0[..], &from.0, &[0x08, 0x00], &[0; 46]].concat()
}

impl Network {
    /// Switches of `ports` ports each; links by port and delay one way in milliseconds.
    pub(super) fn new(measure_only: bool, switches: u64, ports: u32, links: &[(PortId, PortId, u64)]) -> Self {
        let config = Config {
            period_ns: PERIOD,
            measure_only,
            reroute_gain: 0.1,
        };
        let mut both_ways = BTreeMap::new();
        for (one, other, delay_ms) in links {
            both_ways.insert(*one, (*other, delay_ms * MS));
            both_ways.insert(*other, (*one, delay_ms * MS));
        }
        let mut network = Self {
            forwarding: Forwarding::new(config, 0).unwrap(),
            now_ns: 0,
            due: BTreeMap::new(),
            order: 0,
            rules: BTreeMap::new(),
            control_ns: (1..=switches).map(|dpid| (Dpid(dpid), (MS, MS))).collect(),
            links: both_ways,
            cut: BTreeSet::new(),
            hub: Vec::new(),
            received: Vec::new(),
            carried: 0,
            notices: Vec::new(),
        };
        (1..=switches).for_each(|dpid| network.connect(Dpid(dpid), ports, measure_only));
        network
    }

    fn connect(&mut self, dpid: Dpid, ports: u32, measure_only: bool) {
        self.rules.insert(dpid, first_rules(measure_only));
        let ports = (1..=ports)
            .map(|number| description(port(dpid.0, number), true))
            .collect();
        let features = Features {
            dpid,
            buffers: 0,
            tables: 1,
            auxiliary: 0,
            capabilities: 0,
        };
        let address = "127.0.0.1:1".parse().unwrap();
        self.report(
            dpid,
            EventKind::Connected {
                address,
                features,
                ports,
            },
        );
    }

    /// The connection of a switch ends, and it connects again.
    pub(super) fn reconnect(&mut self, dpid: Dpid, ports: u32) {
        let address = "127.0.0.1:1".parse().unwrap();
        let reason = Reason::ClosedBySwitch;
        self.report(dpid, EventKind::Gone { dpid, address, reason });
        self.connect(dpid, ports, false);
    }

    /// Somebody deletes all rules of a switch.
    pub(super) fn delete_rules(&mut self, dpid: u64) {
        self.rules.insert(Dpid(dpid), Vec::new());
    }

    pub(super) fn rules(&self, dpid: u64) -> &[FlowMod] {
        &self.rules[&Dpid(dpid)]
    }

    /// Connects ports to one hub; those of switch 99 are hosts. Before time passes.
    pub(super) fn join_hub(&mut self, ports: &[PortId]) {
        self.hub.extend(ports);
    }

    /// Takes a port off the hub, without a port status.
    pub(super) fn leave_hub(&mut self, port: PortId) {
        self.hub.retain(|member| *member != port);
    }

    /// Lets a link drop all frames, without a port status.
    pub(super) fn cut(&mut self, one: PortId, is_cut: bool) {
        for end in [one, self.links[&one].0] {
            if is_cut {
                self.cut.insert(end);
            } else {
                self.cut.remove(&end);
            }
        }
    }

    /// The switch reports that a port is down or up.
    pub(super) fn port_status(&mut self, port: PortId, is_up: bool) {
        self.report(
            port.dpid,
            EventKind::PortStatus(PortReason::Modify, description(port, is_up)),
        );
    }

    /// The host on a port sends a frame.
    pub(super) fn send(&mut self, from: PortId, to: MacAddress) {
        self.send_as(from, to, mac(from));
    }

    /// The host on a port sends a frame in the name of another.
    pub(super) fn send_as(&mut self, from: PortId, to: MacAddress, source: MacAddress) {
        if self.hub.contains(&from) && from.dpid == Dpid(99) {
            self.leave(from, &frame(to, source));
        } else {
            self.plan(0, Due::Frame(from, frame(to, source)));
        }
    }

    pub(super) fn report(&mut self, dpid: Dpid, kind: EventKind) {
        let connection = ConnectionId(dpid.0);
        let at_ns = self.now_ns + self.control_ns[&dpid].1;
        let event = Event {
            connection,
            at_ns,
            kind,
        };
        self.plan(self.control_ns[&dpid].1, Due::ToController(event));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, for_ns: u64) {
        let until_ns = self.now_ns + for_ns;
        loop {
            self.forwarding.work(self.now_ns);
            self.carry_out();
            let due_ns = self.due.keys().next().map_or(u64::MAX, |(due_ns, _)| *due_ns);
            let next_ns = due_ns.min(self.forwarding.next_deadline()).max(self.now_ns);
            if next_ns > until_ns {
                self.now_ns = until_ns;
                return;
            }
            self.now_ns = next_ns;
            while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.now_ns) {
                match entry.remove() {
                    Due::Message(dpid, message) => self.message(dpid, message),
                    Due::Barrier(dpid, token) => self.report(dpid, EventKind::Barrier(token)),
                    Due::Count(dpid, cookie, mask) => {
                        let ours = self.rules[&dpid].iter().filter(|rule| rule.cookie & mask == cookie);
                        let count = ours.count() as u32;
                        self.report(dpid, EventKind::RuleCount(count));
                    }
                    Due::Frame(at, frame) => self.frame(at, &frame),
                    Due::ToController(event) => self.forwarding.event(event),
                }
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some((ConnectionId(dpid), command)) = self.forwarding.poll_command() {
            let dpid = Dpid(dpid);
            let (in_ns, due) = match command {
                Command::Send(message) => (0, Due::Message(dpid, message)),
                Command::SendStamped(build) => (0, Due::Message(dpid, build(self.now_ns))),
                Command::SendStampedAt(due_ns, build) => {
                    let sent_ns = due_ns.max(self.now_ns);
                    (sent_ns - self.now_ns, Due::Message(dpid, build(sent_ns)))
                }
                Command::Barrier(token) => (0, Due::Barrier(dpid, token)),
                Command::CountRules { cookie, mask } => (0, Due::Count(dpid, cookie, mask)),
                Command::Close => continue,
            };
            self.plan(in_ns + self.control_ns[&dpid].0, due);
        }
        while let Some(notice) = self.forwarding.poll_notice() {
            self.notices.push(notice);
        }
    }

    fn plan(&mut self, in_ns: u64, due: Due) {
        self.order += 1;
        self.due.insert((self.now_ns + in_ns, self.order), due);
    }

    fn message(&mut self, dpid: Dpid, message: Message) {
        match message {
            Message::EchoRequest(payload) => self.report(dpid, EventKind::EchoReply(payload)),
            Message::PacketOut(packet) => {
                let at = PortId {
                    dpid,
                    port: packet.in_port,
                };
                self.act(at, &packet.actions, &packet.frame, u64::MAX);
            }
            Message::FlowMod(rule) => self.flow_mod(dpid, rule),
            other => panic!("the controller sent {other:?}"),
        }
    }

    fn flow_mod(&mut self, dpid: Dpid, change: FlowMod) {
        let rules = self.rules.get_mut(&dpid).unwrap();
        let is_same = |rule: &FlowMod| rule.priority == change.priority && rule.matching == change.matching;
        match change.command {
            FlowCommand::Add => {
                rules.retain(|rule| !is_same(rule));
                rules.push(change);
            }
            FlowCommand::DeleteStrict => rules.retain(|rule| !(is_same(rule) && rule.cookie == change.cookie)),
            other => panic!("the controller sent {other:?}"),
        }
    }

    fn frame(&mut self, at: PortId, frame: &[u8]) {
        let rules = &self.rules[&at.dpid];
        let matching = rules.iter().filter(|rule| matches(&rule.matching, at.port, frame));
        if let Some(rule) = matching.max_by_key(|rule| rule.priority).cloned() {
            self.act(at, &rule.actions, frame, rule.cookie);
        }
    }

    fn act(&mut self, at: PortId, actions: &[Action], frame: &[u8], cookie: u64) {
        for Action::Output(out) in actions {
            match *out {
                PortNumber::CONTROLLER => {
                    let packet = PacketIn {
                        reason: PacketInReason::Action,
                        table: 0,
                        cookie,
                        in_port: at.port,
                        matching: Match::any(),
                        total_len: frame.len() as u16,
                        frame: frame.to_vec(),
                    };
                    self.report(at.dpid, EventKind::PacketIn(packet));
                }
                PortNumber::IN_PORT => self.leave(at, frame),
                out if out == at.port => {}
                port => self.leave(PortId { dpid: at.dpid, port }, frame),
            }
        }
    }

    fn leave(&mut self, out: PortId, frame: &[u8]) {
        if self.hub.contains(&out) {
            for to in self.hub.clone().into_iter().filter(|to| *to != out) {
                if to.dpid == Dpid(99) {
                    self.received.push((to, frame.to_vec()));
                } else {
                    self.carried += u64::from(frame[12..14] == [0x08, 0x00]);
                    self.plan(MS, Due::Frame(to, frame.to_vec()));
                }
            }
            assert!(self.carried < 10_000, "a storm");
            return;
        }
        let Some((to, delay_ns)) = self.links.get(&out).copied() else {
            self.received.push((out, frame.to_vec()));
            return;
        };
        if self.cut.contains(&out) {
            return;
        }
        self.carried += u64::from(frame[12..14] == [0x08, 0x00]);
        assert!(self.carried < 10_000, "a storm");
        self.plan(delay_ns, Due::Frame(to, frame.to_vec()));
    }

    /// Ports without a link that received a frame of this host since the last call, in order.
    pub(super) fn take_received(&mut self, from: MacAddress) -> Vec<PortId> {
        let received = std::mem::take(&mut self.received);
        let of_host = received.into_iter().filter(|(_, frame)| frame[6..12] == from.0);
        let mut ports: Vec<PortId> = of_host.map(|(port, _)| port).collect();
        ports.sort();
        ports
    }
}

fn description(port: PortId, is_up: bool) -> Port {
    Port {
        number: port.port,
        mac: MacAddress([0x0a, 0, 0, 0, port.dpid.0 as u8, port.port.0 as u8]),
        name: format!("s{}-{}", port.dpid.0, port.port),
        config: 0,
        state: u32::from(!is_up),
        speed_kbps: 0,
    }
}

fn matches(matching: &Match, in_port: PortNumber, frame: &[u8]) -> bool {
    let masked = |(mac, mask): (MacAddress, MacAddress)| (0..6).all(|at| frame[at] & mask.0[at] == mac.0[at]);
    matching.in_port.is_none_or(|port| port == in_port)
        && matching.eth_dst.is_none_or(masked)
        && matching.eth_src.is_none_or(|mac| frame[6..12] == mac.0)
        && matching
            .eth_type
            .is_none_or(|eth_type| frame[12..14] == eth_type.to_be_bytes())
}
