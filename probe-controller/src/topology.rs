//! Topology discovered by LLDP: switches, ports and links. A link is keyed by (dpid, port) at both ends, so that parallel
//! links differ.

mod graph;
mod route;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::openflow::id::{Dpid, PortNumber};
pub use crate::topology::graph::{Edge, Graph, Hop, Path, UNMEASURED_NS};
pub use crate::topology::route::{Route, choose_route, choose_tree};

/// After this many periods without LLDP, a link is stale, and a port belongs to a host.
const MAX_MISSED_PERIODS: u64 = 3;
/// Periods for which a port with several neighbours must have only one before it has a link again.
const SEGMENT_PERIODS: u64 = 10;
/// Neighbours of a port that are remembered.
const MAX_NEIGHBOURS: usize = 64;
/// Time for which a link that is gone stays in the table.
const KEEP_NS: u64 = 60_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId {
    pub dpid: Dpid,
    pub port: PortNumber,
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dpid, self.port)
    }
}

/// A link between two ports; `from` is the smaller one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    pub from: PortId,
    pub to: PortId,
}

impl Link {
    /// The link between two ports, whichever is named first.
    pub fn between(one: PortId, other: PortId) -> Self {
        Self {
            from: one.min(other),
            to: one.max(other),
        }
    }

    pub fn ends_at(&self, port: PortId) -> bool {
        self.from == port || self.to == port
    }
}

/// Whether LLDP shows a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In both directions, within the last [`Topology::age_ns`].
    Up,
    /// In both directions once; no longer.
    Stale,
    /// In one direction only, so far.
    OneWay,
    /// One of its ports is down or gone.
    Down,
    /// One of its ports has several neighbours: it is no link, but a part of a segment.
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub link: Link,
    /// `None` for a new link.
    pub before: Option<Presence>,
    pub now: Presence,
}

/// What a port leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not known yet: nothing may be flooded to it, as it could close a loop.
    Unknown,
    /// Another switch, now or since it came up.
    Link,
    /// No switch answered LLDP: hosts.
    Edge,
    /// Hosts and switches on one segment, which this port serves alone: its smallest port.
    Segment,
}

#[derive(Debug)]
struct Port {
    up_since_ns: u64,
    /// Origin and time of the last LLDP received here.
    heard: Option<(PortId, u64)>,
    /// Origins of the LLDP received here lately, with the time of the last.
    neighbours: BTreeMap<PortId, u64>,
    /// It has several neighbours, and is on a segment until this time at least.
    shared_until_ns: Option<u64>,
    /// LLDP passed this port since it came up.
    is_link: bool,
}

#[derive(Debug)]
struct Known {
    presence: Presence,
    since_ns: u64,
}

#[derive(Debug)]
pub struct Topology {
    age_ns: u64,
    switches: BTreeSet<Dpid>,
    ports: BTreeMap<PortId, Port>,
    links: BTreeMap<Link, Known>,
    changes: Vec<Change>,
    /// Ports that share a segment, each with the smallest port of it.
    segments: BTreeMap<PortId, PortId>,
    /// Segments found since the last call of [`Topology::take_segments`].
    found: Vec<Vec<PortId>>,
    /// No link ages before.
    due_ns: Option<u64>,
}

impl Topology {
    /// An empty network in which LLDP leaves each port once a period.
    pub fn new(period_ns: u64) -> Self {
        Self {
            age_ns: period_ns.saturating_mul(MAX_MISSED_PERIODS),
            switches: BTreeSet::new(),
            ports: BTreeMap::new(),
            links: BTreeMap::new(),
            changes: Vec::new(),
            segments: BTreeMap::new(),
            found: Vec::new(),
            due_ns: None,
        }
    }

    /// How long a link lives without LLDP, in nanoseconds.
    pub fn age_ns(&self) -> u64 {
        self.age_ns
    }

    pub fn switch_up(&mut self, dpid: Dpid) {
        self.switches.insert(dpid);
    }

    /// Removes a switch with its ports and links.
    pub fn switch_down(&mut self, dpid: Dpid, now_ns: u64) {
        self.switches.remove(&dpid);
        for port in self.ports_of(dpid).collect::<Vec<_>>() {
            self.port_down(port, now_ns);
        }
    }

    /// The switches, by datapath id.
    pub fn switches(&self) -> impl Iterator<Item = Dpid> + '_ {
        self.switches.iter().copied()
    }

    /// The ports of a switch that are up, by number.
    pub fn ports_of(&self, dpid: Dpid) -> impl Iterator<Item = PortId> + '_ {
        let first = PortId {
            dpid,
            port: PortNumber(0),
        };
        let last = PortId {
            dpid,
            port: PortNumber(u32::MAX),
        };
        self.ports.range(first..=last).map(|(port, _)| *port)
    }

    /// A port carries frames; false if it did already.
    pub fn port_up(&mut self, port: PortId, now_ns: u64) -> bool {
        if self.ports.contains_key(&port) {
            return false;
        }
        let up = Port {
            up_since_ns: now_ns,
            heard: None,
            neighbours: BTreeMap::new(),
            shared_until_ns: None,
            is_link: false,
        };
        self.ports.insert(port, up);
        true
    }

    /// A port carries none: its links are down at once. False if it was not up.
    pub fn port_down(&mut self, port: PortId, now_ns: u64) -> bool {
        if self.ports.remove(&port).is_none() {
            return false;
        }
        for other in self.ports.values_mut() {
            other.heard = other.heard.filter(|(from, _)| *from != port);
            other.neighbours.remove(&port);
        }
        let links: Vec<Link> = self.links.keys().filter(|link| link.ends_at(port)).copied().collect();
        for link in links {
            self.note(link, Presence::Down, now_ns);
        }
        if self.segments.contains_key(&port) {
            self.find_segments();
        }
        true
    }

    /// LLDP of `from` was received on `at`. Ports that are not up are ignored: a frame may outlive its port.
    pub fn heard(&mut self, from: PortId, at: PortId, now_ns: u64) {
        if from == at || !self.ports.contains_key(&from) {
            return;
        }
        let Some(port) = self.ports.get_mut(&at) else { return };
        let before = port.heard.replace((from, now_ns));
        let is_shared = port.hear(from, before.map(|(before, _)| before), now_ns, self.age_ns);
        port.is_link = true;
        if let Some(port) = self.ports.get_mut(&from) {
            port.is_link = true;
        }
        let [segment, of_neighbour] = [at, from].map(|port| self.segments.get(&port));
        if is_shared && (segment.is_none() || segment != of_neighbour) {
            self.find_segments();
        }
        if [at, from].iter().any(|port| self.segments.contains_key(port)) {
            return;
        }
        // The former neighbour is connected elsewhere now.
        if let Some((before, _)) = before.filter(|(before, _)| *before != from) {
            let former = Link::between(before, at);
            self.note(former, Presence::Down, now_ns);
        }
        let link = Link::between(from, at);
        let presence = self.presence(link, now_ns);
        self.note(link, presence, now_ns);
        if presence == Presence::Up {
            // A scan of all links would be too costly here; more LLDP only postpones the deadline.
            let due_ns = self
                .last_heard(link)
                .map(|last_ns| last_ns.saturating_add(self.age_ns + 1));
            self.due_ns = self.due_ns.into_iter().chain(due_ns).min();
        }
    }

    /// Ages links and segments, and removes links that are long gone.
    pub fn expire(&mut self, now_ns: u64) {
        self.expire_segments(now_ns);
        let links: Vec<Link> = self
            .links
            .iter()
            .filter(|(_, known)| known.presence != Presence::Down)
            .map(|(link, _)| *link)
            .collect();
        for link in links {
            let presence = self.presence(link, now_ns);
            self.note(link, presence, now_ns);
        }
        self.links.retain(|_, known| {
            let gone = matches!(known.presence, Presence::Down | Presence::OneWay);
            !(gone && now_ns.saturating_sub(known.since_ns) > KEEP_NS)
        });
        let up = self.links.iter().filter(|(_, known)| known.presence == Presence::Up);
        let last_ns = up.filter_map(|(link, _)| self.last_heard(*link)).min();
        self.due_ns = last_ns.map(|last_ns| last_ns.saturating_add(self.age_ns + 1));
    }

    /// When to call [`Topology::expire`] next: no link ages before.
    pub fn next_deadline(&self) -> Option<u64> {
        self.due_ns
    }

    /// Changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub fn links(&self) -> impl Iterator<Item = (Link, Presence)> + '_ {
        self.links.iter().map(|(link, known)| (*link, known.presence))
    }

    /// The link that a port is up on.
    pub fn link_at(&self, port: PortId) -> Option<Link> {
        let (from, _) = self.ports.get(&port)?.heard?;
        let link = Link::between(from, port);
        let known = self.links.get(&link)?;
        (known.presence == Presence::Up).then_some(link)
    }

    /// The kind of neighbour of a port. A port of a link does not become a port of hosts while it stays up: a link that drops
    /// frames may recover at any moment, and flooding to it could close a loop.
    pub fn role(&self, port: PortId, now_ns: u64) -> Role {
        match self.ports.get(&port) {
            None => Role::Unknown,
            Some(_) if self.segments.get(&port) == Some(&port) => Role::Segment,
            Some(port) if port.is_link => Role::Link,
            Some(port) if now_ns.saturating_sub(port.up_since_ns) > self.age_ns => Role::Edge,
            Some(_) => Role::Unknown,
        }
    }

    fn presence(&self, link: Link, now_ns: u64) -> Presence {
        if !self.ports.contains_key(&link.from) || !self.ports.contains_key(&link.to) {
            return Presence::Down;
        }
        let was_both_ways = matches!(
            self.links.get(&link).map(|known| known.presence),
            Some(Presence::Up | Presence::Stale)
        );
        match self.last_heard(link) {
            Some(last_ns) if now_ns.saturating_sub(last_ns) <= self.age_ns => Presence::Up,
            _ if was_both_ways => Presence::Stale,
            _ => Presence::OneWay,
        }
    }

    /// Whether no LLDP has arrived for [`Topology::age_ns`], from `from` to `to` and back.
    pub fn silent(&self, link: Link, now_ns: u64) -> [bool; 2] {
        [(link.from, link.to), (link.to, link.from)].map(|(from, to)| {
            let heard = self.ports.get(&to).and_then(|port| port.heard);
            let last_ns = heard.filter(|(heard, _)| *heard == from).map(|(_, last_ns)| last_ns);
            last_ns.is_none_or(|last_ns| now_ns.saturating_sub(last_ns) > self.age_ns)
        })
    }

    /// When LLDP was last heard in the direction in which it is longer ago; `None` if not in both.
    fn last_heard(&self, link: Link) -> Option<u64> {
        let at = |at: &PortId, from| {
            let (heard, last_ns) = self.ports.get(at)?.heard?;
            (heard == from).then_some(last_ns)
        };
        Some(at(&link.to, link.from)?.min(at(&link.from, link.to)?))
    }

    fn note(&mut self, link: Link, now: Presence, now_ns: u64) {
        let before = self.links.get(&link).map(|known| known.presence);
        if before == Some(now) || (before.is_none() && now == Presence::Down) {
            return;
        }
        let known = Known {
            presence: now,
            since_ns: now_ns,
        };
        self.links.insert(link, known);
        self.changes.push(Change { link, before, now });
    }
}

#[cfg(test)]
mod tests;
