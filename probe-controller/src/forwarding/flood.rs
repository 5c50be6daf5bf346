//! Broadcast along a tree. When the tree changes, ports are removed on all switches before any is added, so that no loop
//! can form.

use std::collections::{BTreeMap, BTreeSet};

use crate::forwarding::rules;
use crate::forwarding::switches::{Outbox, Switches};
use crate::openflow::flow::FlowMod;
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::message::Message;
use crate::openflow::server::Command;
use crate::topology::{Link, PortId, Role, Topology};

/// A switch that has not confirmed after this time is asked again.
const RETRY_NS: u64 = 2_000_000_000;

/// Output ports for group frames of a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ports {
    tree: BTreeSet<PortNumber>,
    hosts: BTreeSet<PortNumber>,
    /// Ports on a segment that other ports serve.
    blocked: BTreeSet<PortNumber>,
}

impl Ports {
    fn all(&self) -> BTreeSet<PortNumber> {
        self.tree.union(&self.hosts).copied().collect()
    }

    fn common(&self, other: &Self) -> Self {
        Self {
            tree: self.tree.intersection(&other.tree).copied().collect(),
            hosts: self.hosts.intersection(&other.hosts).copied().collect(),
            blocked: self.blocked.union(&other.blocked).copied().collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Flood {
    /// The rules last sent to each switch.
    installed: BTreeMap<Dpid, Ports>,
    /// Switches that have not confirmed a removal yet, with the token of the barrier.
    awaited: BTreeMap<Dpid, u64>,
    asked_ns: u64,
}

impl Flood {
    /// A switch connected: it has no rules for group frames.
    pub(super) fn switch_up(&mut self, dpid: Dpid) {
        self.installed.remove(&dpid);
        self.awaited.remove(&dpid);
    }

    /// A switch is gone. It may keep its rules, but no other switch sends it anything.
    pub(super) fn switch_down(&mut self, dpid: Dpid) {
        self.switch_up(dpid);
    }

    /// Whether group frames are sent out of this port as a port of hosts.
    pub(super) fn is_of_hosts(&self, port: PortId) -> bool {
        self.installed
            .get(&port.dpid)
            .is_some_and(|installed| installed.hosts.contains(&port.port))
    }

    /// Takes the answer to a barrier; true if it was the last one awaited.
    pub(super) fn confirmed(&mut self, dpid: Dpid, token: u64) -> bool {
        if self.awaited.get(&dpid) != Some(&token) {
            return false;
        }
        self.awaited.remove(&dpid);
        self.awaited.is_empty()
    }

    /// Sends the next step towards `tree`.
    pub(super) fn update(
        &mut self,
        tree: &BTreeSet<Link>,
        topology: &Topology,
        switches: &Switches,
        now_ns: u64,
        token: &mut u64,
        outbox: &mut Outbox,
    ) {
        if !self.awaited.is_empty() && now_ns.saturating_sub(self.asked_ns) < RETRY_NS {
            return;
        }
        let wanted = wanted(tree, topology, switches, now_ns);
        let shrunk: Vec<(Dpid, Ports)> = wanted
            .iter()
            .filter_map(|(dpid, wanted)| {
                let installed = self.installed.get(dpid)?;
                let common = installed.common(wanted);
                (common != *installed || self.awaited.contains_key(dpid)).then_some((*dpid, common))
            })
            .collect();
        if shrunk.is_empty() {
            for (dpid, ports) in wanted {
                self.install(dpid, ports, switches, outbox);
            }
            return;
        }
        self.asked_ns = now_ns;
        self.awaited.clear();
        for (dpid, ports) in shrunk {
            self.install(dpid, ports, switches, outbox);
            *token += 1;
            if switches.command(dpid, Command::Barrier(*token), outbox) {
                self.awaited.insert(dpid, *token);
            }
        }
    }

    fn install(&mut self, dpid: Dpid, ports: Ports, switches: &Switches, outbox: &mut Outbox) {
        let installed = self.installed.get(&dpid);
        if installed == Some(&ports) {
            return;
        }
        let mut send = |rule: FlowMod| {
            switches.command(dpid, Command::Send(Message::FlowMod(rule)), outbox);
        };
        let all = ports.all();
        let none = BTreeSet::new();
        let blocked = installed.map_or(&none, |installed| &installed.blocked);
        for port in ports.blocked.difference(blocked) {
            send(rules::blocked(*port));
        }
        for port in installed
            .into_iter()
            .flat_map(|installed| installed.hosts.difference(&ports.hosts))
        {
            send(rules::no_group_from_host(*port));
        }
        for port in &ports.hosts {
            send(rules::group_from_host(*port, &all));
        }
        send(rules::group(&all));
        for port in blocked.difference(&ports.blocked) {
            send(rules::not_blocked(*port));
        }
        self.installed.insert(dpid, ports);
    }
}

/// The ports of each switch once all changes are confirmed.
fn wanted(tree: &BTreeSet<Link>, topology: &Topology, switches: &Switches, now_ns: u64) -> BTreeMap<Dpid, Ports> {
    let mut wanted: BTreeMap<Dpid, Ports> = switches.iter().map(|(dpid, _)| (dpid, Ports::default())).collect();
    for end in tree.iter().flat_map(|link| [link.from, link.to]) {
        if let Some(ports) = wanted.get_mut(&end.dpid) {
            ports.tree.insert(end.port);
        }
    }
    for (dpid, ports) in &mut wanted {
        let of_hosts = topology
            .ports_of(*dpid)
            .filter(|port| matches!(topology.role(*port, now_ns), Role::Edge | Role::Segment));
        ports.hosts.extend(of_hosts.map(|port| port.port));
    }
    for (port, _) in topology.segments().filter(|(port, serving)| port != serving) {
        if let Some(ports) = wanted
            .get_mut(&port.dpid)
            .filter(|ports| !ports.tree.contains(&port.port))
        {
            ports.blocked.insert(port.port);
        }
    }
    wanted
}
