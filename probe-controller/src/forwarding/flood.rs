//! Broadcast along a tree. When the tree changes, what is no longer in it is taken out everywhere before anything new
//! goes in: at no moment can the rules of all switches together form a loop.

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

/// The ports by which a switch sends group frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ports {
    tree: BTreeSet<PortNumber>,
    hosts: BTreeSet<PortNumber>,
}

impl Ports {
    fn all(&self) -> BTreeSet<PortNumber> {
        self.tree.union(&self.hosts).copied().collect()
    }

    /// What is in both.
    fn common(&self, other: &Self) -> Self {
        Self {
            tree: self.tree.intersection(&other.tree).copied().collect(),
            hosts: self.hosts.intersection(&other.hosts).copied().collect(),
        }
    }
}

/// The rules for group frames, and what they should be.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// What each switch was last told.
    told: BTreeMap<Dpid, Ports>,
    /// Switches that have not confirmed yet that they took something out, with the token of the barrier.
    awaited: BTreeMap<Dpid, u64>,
    asked_ns: u64,
}

impl Flood {
    /// A switch connected: it has no rules for group frames.
    pub(super) fn switch_up(&mut self, dpid: Dpid) {
        self.told.remove(&dpid);
        self.awaited.remove(&dpid);
    }

    /// A switch is gone. It may keep its rules, but no other switch sends it anything.
    pub(super) fn switch_down(&mut self, dpid: Dpid) {
        self.switch_up(dpid);
    }

    /// Whether group frames go out by a port as one of hosts.
    pub(super) fn is_of_hosts(&self, port: PortId) -> bool {
        self.told
            .get(&port.dpid)
            .is_some_and(|told| told.hosts.contains(&port.port))
    }

    /// A barrier was answered. True if it was the last that was waited for.
    pub(super) fn confirmed(&mut self, dpid: Dpid, token: u64) -> bool {
        if self.awaited.get(&dpid) != Some(&token) {
            return false;
        }
        self.awaited.remove(&dpid);
        self.awaited.is_empty()
    }

    /// Brings the switches nearer to `tree`.
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
                let told = self.told.get(dpid)?;
                let common = told.common(wanted);
                (common != *told || self.awaited.contains_key(dpid)).then_some((*dpid, common))
            })
            .collect();
        if shrunk.is_empty() {
            for (dpid, ports) in wanted {
                self.tell(dpid, ports, switches, outbox);
            }
            return;
        }
        self.asked_ns = now_ns;
        self.awaited.clear();
        for (dpid, ports) in shrunk {
            self.tell(dpid, ports, switches, outbox);
            *token += 1;
            if switches.command(dpid, Command::Barrier(*token), outbox) {
                self.awaited.insert(dpid, *token);
            }
        }
    }

    fn tell(&mut self, dpid: Dpid, ports: Ports, switches: &Switches, outbox: &mut Outbox) {
        let told = self.told.get(&dpid);
        if told == Some(&ports) {
            return;
        }
        let mut send = |rule: FlowMod| {
            switches.command(dpid, Command::Send(Message::FlowMod(rule)), outbox);
        };
        let all = ports.all();
        for port in told.into_iter().flat_map(|told| told.hosts.difference(&ports.hosts)) {
            send(rules::no_group_from_host(*port));
        }
        for port in &ports.hosts {
            send(rules::group_from_host(*port, &all));
        }
        send(rules::group(&all));
        self.told.insert(dpid, ports);
    }
}

/// What each switch should do in the end.
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
            .filter(|port| topology.role(*port, now_ns) == Role::Edge);
        ports.hosts.extend(of_hosts.map(|port| port.port));
    }
    wanted
}
