//! Segments: several switches on one unmanaged switch. LLDP of more than one neighbour arrives at their ports.

use std::collections::BTreeSet;

use crate::topology::{
    Change, Link, MAX_MISSED_PERIODS, MAX_NEIGHBOURS, Port, PortId, Presence, SEGMENT_PERIODS, Topology,
};

impl Topology {
    /// Ports that share a segment, each with the smallest port of it.
    pub fn segments(&self) -> impl Iterator<Item = (PortId, PortId)> + '_ {
        self.segments.iter().map(|(port, smallest)| (*port, *smallest))
    }

    /// The port that serves the hosts on the segment of a port: the smallest one; the port itself if it shares none.
    pub fn serving(&self, port: PortId) -> PortId {
        self.segments.get(&port).copied().unwrap_or(port)
    }

    pub fn is_shared(&self, port: PortId) -> bool {
        self.segments.contains_key(&port)
    }

    /// Segments found since the last call.
    pub fn take_segments(&mut self) -> Vec<Vec<PortId>> {
        std::mem::take(&mut self.found)
    }

    pub(super) fn find_segments(&mut self) {
        let mut sets: Vec<BTreeSet<PortId>> = Vec::new();
        for (id, port) in self.ports.iter().filter(|(_, port)| port.shared_until_ns.is_some()) {
            let mut set: BTreeSet<PortId> = port.neighbours.keys().copied().chain([*id]).collect();
            // A port alone serves no hosts: its silent neighbours may still pass frames.
            if set.len() < 2 {
                continue;
            }
            for joined in sets
                .extract_if(.., |other| !other.is_disjoint(&set))
                .collect::<Vec<_>>()
            {
                set.extend(joined);
            }
            sets.push(set);
        }
        let former = std::mem::take(&mut self.segments);
        for set in sets {
            if let Some(smallest) = set.first().copied() {
                self.segments.extend(set.iter().map(|port| (*port, smallest)));
            }
            if set.iter().all(|port| !former.contains_key(port)) {
                self.found.push(set.into_iter().collect());
            }
        }
        let segments = &self.segments;
        let is_shared = |link: &Link| [link.from, link.to].iter().any(|port| segments.contains_key(port));
        for (link, known) in self.links.extract_if(.., |link, _| is_shared(link)) {
            self.changes.push(Change {
                link,
                before: Some(known.presence),
                now: Presence::Shared,
            });
        }
    }

    /// Forgets neighbours, and segments whose ports have had one neighbour for long.
    pub(super) fn expire_segments(&mut self, now_ns: u64) {
        let mut has_changed = false;
        for port in self.ports.values_mut() {
            let Some(until_ns) = port.shared_until_ns else { continue };
            has_changed |= port.forget(now_ns, self.age_ns);
            if now_ns >= until_ns {
                port.shared_until_ns = None;
                has_changed = true;
            }
        }
        if has_changed {
            self.find_segments();
        }
    }
}

impl Port {
    /// Takes LLDP of `from`; `before` is the origin of the LLDP before. Returns whether there are several neighbours. One that
    /// replaces another is only a new neighbour; one that is heard again after another means that there are several.
    pub(super) fn hear(&mut self, from: PortId, before: Option<PortId>, now_ns: u64, age_ns: u64) -> bool {
        self.forget(now_ns, age_ns);
        let is_known = self.neighbours.insert(from, now_ns).is_some();
        if self.neighbours.len() > MAX_NEIGHBOURS
            && let Some(oldest) = self.neighbours.iter().min_by_key(|(_, at_ns)| **at_ns)
        {
            let oldest = *oldest.0;
            self.neighbours.remove(&oldest);
        }
        let is_back = is_known && before != Some(from);
        if is_back || (self.shared_until_ns.is_some() && self.neighbours.len() > 1) {
            let hold_ns = age_ns / MAX_MISSED_PERIODS * SEGMENT_PERIODS;
            self.shared_until_ns = Some(now_ns.saturating_add(hold_ns));
        }
        self.shared_until_ns.is_some()
    }

    /// Forgets neighbours that are silent; true if there were any.
    fn forget(&mut self, now_ns: u64, age_ns: u64) -> bool {
        let count = self.neighbours.len();
        self.neighbours
            .retain(|_, at_ns| now_ns.saturating_sub(*at_ns) <= age_ns);
        self.neighbours.len() < count
    }
}
