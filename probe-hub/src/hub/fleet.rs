//! What the hub knows of each port: what it is, whether it lives, what it was assigned. Without I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::problems::{ProblemKind, Problems};
use crate::message::assignment::Assignment;
use crate::message::heartbeat::{Heartbeat, INTERVAL_NS};
use crate::name::{HostName, PortName};

pub mod assignments;
mod port;
mod presences;

pub use port::{ALIVE_NS, Assigned, Heard, Port, PortId};

pub const MAX_PORTS_PER_HOST: usize = 64;
/// Entries of no port that are remembered at once.
const MAX_SURPLUS: usize = 100_000;
/// Longest content of a presence.
pub const MAX_PRESENCE: usize = 16 << 10;
/// A clock that is off by more is a problem.
const MAX_CLOCK_OFF_NS: u64 = 1_000_000_000;
/// Heartbeats in a row that show it: one alone may have waited on its way.
const CLOCK_HEARTBEATS: u32 = 3;
/// A clock is reported again if it is off by this much more or less than before: it was set.
const CLOCK_CHANGE_NS: u64 = 60_000_000_000;
/// A port whose agent was stopped is gone after this time.
const ENDED_NS: u64 = 600_000_000_000;

/// The prefixes of a host's enrolment; `None` if it is not enrolled.
pub type Allowed<'a> = &'a dyn Fn(&HostName) -> Option<Vec<IpNet>>;

/// Both clocks of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub monotonic_ns: u64,
    /// Since 1970.
    pub utc_ns: u64,
}

#[derive(Debug, Default)]
pub struct Fleet {
    ports: Vec<Option<Port>>,
    /// By the tokens of their names.
    ids: HashMap<String, PortId>,
    hosts: BTreeMap<HostName, BTreeSet<PortId>>,
    addresses: HashMap<(String, IpAddr), PortId>,
    /// Entries that are to be looked at, by key: the newest content and its revision.
    offered: BTreeMap<String, (Option<Vec<u8>>, u64)>,
    /// Keys of entries that cannot be read. They count as ports.
    unread: BTreeSet<String>,
    /// Entries that are of no port, and their revisions: a host could fill the bucket with them.
    surplus: BTreeMap<String, u64>,
    /// Assignments that name ports whose presence has not come yet, by key, with their revisions. The two buckets come in any
    /// order. Only hubs write assignments.
    early: BTreeMap<String, (Assignment, u64)>,
    /// Ports that lack an address because another has it.
    contested: BTreeSet<PortId>,
    problems: Problems,
    version: u64,
    /// Neighbours have to be chosen anew.
    has_changed: bool,
    /// `CLOCK_MONOTONIC` when this hub last had no connection, and heard nobody.
    deaf_ns: Option<u64>,
    is_loaded: bool,
}

impl Fleet {
    pub fn id(&self, name: &PortName) -> Option<PortId> {
        self.id_of_tokens(&name.tokens())
    }

    /// By the two last tokens of the port's subjects.
    pub fn id_of_tokens(&self, tokens: &str) -> Option<PortId> {
        self.ids.get(tokens).copied()
    }

    /// By an address, of which each network has its own.
    pub fn id_of_address(&self, network: &str, address: IpAddr) -> Option<PortId> {
        self.addresses.get(&(network.to_owned(), address)).copied()
    }

    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.0 as usize)?.as_ref()
    }

    fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(id.0 as usize)?.as_mut()
    }

    /// All ports, also those that were deleted from the bucket within a day.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        let numbered = self.ports.iter().enumerate();
        numbered.filter_map(|(index, port)| Some((PortId(index as u32), port.as_ref()?)))
    }

    /// Hosts in alphabetical order, with their ports.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, &BTreeSet<PortId>)> {
        self.hosts.iter()
    }

    pub fn ports_of(&self, host: &HostName) -> impl Iterator<Item = PortId> {
        self.hosts.get(host).into_iter().flatten().copied()
    }

    /// Grows whenever a presence or an assignment changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    pub fn problems_mut(&mut self) -> &mut Problems {
        &mut self.problems
    }

    /// Whether heartbeats come. Until one is overdue, a port counts as alive of which this hub has just learned, and so do all
    /// when it has just connected.
    pub fn is_alive(&self, id: PortId, monotonic_ns: u64) -> bool {
        self.port(id)
            .is_some_and(|port| self.silent_ns(port, monotonic_ns) < ALIVE_NS)
    }

    /// For how long this hub has listened to a port in vain.
    fn silent_ns(&self, port: &Port, monotonic_ns: u64) -> u64 {
        let listened_ns = self
            .deaf_ns
            .map_or(u64::MAX, |deaf_ns| monotonic_ns.saturating_sub(deaf_ns));
        port.silent_ns(monotonic_ns).min(listened_ns)
    }

    /// Notes that there is no connection, so that nobody can be heard.
    pub fn set_deaf(&mut self, now: Now) {
        self.deaf_ns = Some(now.monotonic_ns);
    }

    /// Whether any port of a host is alive.
    pub fn is_host_alive(&self, host: &HostName, monotonic_ns: u64) -> bool {
        self.ports_of(host).any(|id| self.is_alive(id, monotonic_ns))
    }

    /// Whether the port knows its newest assignment: only then it answers all who probe it.
    pub fn is_confirmed(&self, id: PortId) -> bool {
        self.port(id).is_some_and(Port::is_confirmed)
    }

    /// Whether the port has confirmed that the other may probe it. Until then it may refuse it.
    pub fn expects(&self, id: PortId, prober: PortId) -> bool {
        self.port(id).is_some_and(|port| port.expected.1.contains(&prober))
    }

    /// Whom the port is to probe.
    pub fn targets(&self, id: PortId) -> &[PortId] {
        self.port(id).map_or(&[], |port| &port.assigned.targets)
    }

    /// Ports that were silent for so long, or for a shorter time if their agent has ended or they are no longer enrolled: their keys,
    /// and the revisions of those that are in the bucket.
    pub fn gone(&self, after_ns: u64, monotonic_ns: u64) -> Vec<(PortId, String, Option<u64>)> {
        let is_gone = |port: &Port| {
            let after_ns = if self.problems.has(&port.name, ProblemKind::NotEnrolled) {
                after_ns.min(ALIVE_NS)
            } else if port.presence.ended {
                after_ns.min(ENDED_NS)
            } else {
                after_ns
            };
            self.silent_ns(port, monotonic_ns) >= after_ns
        };
        let gone = self.ports().filter(|(_, port)| is_gone(port));
        gone.map(|(id, port)| (id, port.name.tokens(), port.is_present.then_some(port.revision)))
            .collect()
    }

    /// The number of a port that is forgotten is not used again.
    pub fn forget(&mut self, id: PortId) {
        self.withdraw(id);
        let Some(port) = self.ports.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.ids.remove(&port.name.tokens());
        if let Some(ports) = self.hosts.get_mut(&port.name.host) {
            ports.remove(&id);
            if ports.is_empty() {
                self.hosts.remove(&port.name.host);
            }
        }
        self.problems.forget(&port.name);
    }

    /// Entries of the presence bucket that are to be removed, and their revisions.
    pub fn take_surplus(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.surplus)
    }

    /// Keys of all entries of the presence bucket that this hub knows.
    pub fn keys(&self) -> Vec<String> {
        let present = self.ports().filter(|(_, port)| port.is_present);
        let others = self.offered.keys().chain(&self.unread).cloned();
        present.map(|(_, port)| port.name.tokens()).chain(others).collect()
    }

    /// Takes a heartbeat by the tokens of its subject. Unknown ports are ignored.
    pub fn hear(&mut self, tokens: &str, heartbeat: Heartbeat, now: Now) {
        let Some(id) = self.id_of_tokens(tokens) else { return };
        let Some(port) = self.port_mut(id) else { return };
        let clock_ahead_ns = heartbeat.sent_ns.wrapping_sub(now.utc_ns) as i64;
        let is_off = clock_ahead_ns.unsigned_abs() > MAX_CLOCK_OFF_NS;
        // Heartbeats that have waited come together.
        let has_waited = port
            .heard
            .is_some_and(|last| now.monotonic_ns.saturating_sub(last.at_ns) < INTERVAL_NS / 2);
        let clock_off = match port.heard {
            _ if !is_off => 0,
            Some(last) if has_waited => last.clock_off,
            Some(last) => last.clock_off.saturating_add(1),
            None => 1,
        };
        let reported_ns = port.heard.and_then(|last| last.clock_reported_ns).filter(|_| is_off);
        let is_news = reported_ns.is_none_or(|before| before.abs_diff(clock_ahead_ns) > CLOCK_CHANGE_NS);
        let is_report = clock_off >= CLOCK_HEARTBEATS && !has_waited && is_news;
        port.heard = Some(Heard {
            at_ns: now.monotonic_ns,
            heartbeat,
            clock_ahead_ns,
            clock_off,
            clock_reported_ns: if is_report { Some(clock_ahead_ns) } else { reported_ns },
        });
        let is_alternating = port.boots.note(heartbeat.boot, now.monotonic_ns);
        if heartbeat.generation == port.assigned.generation {
            port.assigned.tries = 0;
            if port.expected.0 != heartbeat.generation {
                port.expected = (heartbeat.generation, port.assigned.probers.clone());
            }
        }
        if !is_alternating && clock_off != 0 && !is_report {
            return;
        }
        let name = port.name.clone();
        if is_alternating {
            let text =
                "two processes have its name; give one of the hosts credentials of its own, or stop one of the agents";
            self.problems
                .raise(name.clone(), ProblemKind::NameConflict, text.to_owned(), now.utc_ns);
        }
        if clock_off == 0 {
            self.problems.clear(&name, ProblemKind::Clock);
        } else if is_report {
            let seconds = clock_ahead_ns.unsigned_abs() as f64 / 1e9;
            let side = if clock_ahead_ns < 0 { "behind" } else { "ahead of" };
            let text = format!(
                "its clock is {seconds:.1} s {side} that of the hub, and so are the times of its results, which may not be \
                 shown; synchronise both clocks"
            );
            self.problems.raise(name, ProblemKind::Clock, text, now.utc_ns);
        }
    }

    fn expire(&mut self, now: Now) {
        for name in self.problems.ports(ProblemKind::NameConflict) {
            let boots = self.id(&name).and_then(|id| self.port(id)).map(|port| port.boots);
            if boots.is_none_or(|boots| !boots.is_recent(now.monotonic_ns)) {
                self.problems.clear(&name, ProblemKind::NameConflict);
            }
        }
        self.problems.trim(now.utc_ns);
    }

    /// Begins to read the assignment bucket, with all presences known.
    pub fn begin(&mut self, allowed: Allowed, now: Now) {
        self.is_loaded = false;
        self.early.clear();
        self.apply_offered(allowed, now);
        for port in self.ports.iter_mut().flatten() {
            port.assigned.revision = 0;
        }
    }

    /// The buckets were read.
    pub fn set_loaded(&mut self) {
        self.is_loaded = true;
        self.version += 1;
    }

    pub fn is_loaded(&self) -> bool {
        self.is_loaded
    }
}

#[cfg(test)]
mod tests;
