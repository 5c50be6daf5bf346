//! What the hub knows of each port: what it is, whether it lives, what it was assigned. Without I/O.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;

use super::neighbours::{Candidate, Neighbours};
use super::problems::{Kind, Problems};
use crate::message::assignment::{Assignment, Target};
use crate::message::heartbeat::{Heartbeat, INTERVAL_NS};
use crate::message::presence::{NETWORK, Presence, RACK, ZONE};
use crate::name::{HostName, PortName};

/// A port is alive for this long after a heartbeat, so two may be lost.
pub const ALIVE_NS: u64 = 3 * INTERVAL_NS;
pub const MAX_PORTS_PER_HOST: usize = 64;
/// Longest content of a presence.
pub const MAX_PRESENCE: usize = 16 << 10;
const MAX_LABELS: usize = 32;
const MAX_ADDRESSES: usize = 16;
const MAX_TEXT: usize = 128;
/// A presence may change this often at once, and then once in [`CHANGE_NS`].
const MAX_CHANGES: u64 = 5;
const CHANGE_NS: u64 = 10_000_000_000;
/// A clock that is off by more is a problem.
const MAX_CLOCK_OFF_NS: u64 = 1_000_000_000;
/// Heartbeats in a row that show it: one alone may have waited on its way.
const CLOCK_HEARTBEATS: u32 = 3;
/// Two processes alternate if one that was replaced comes back twice within this time.
const ALTERNATING_NS: u64 = 60_000_000_000;
/// Time after which an assignment that is not confirmed is written again: doubled each time, up to [`MAX_CONFIRM_NS`].
const CONFIRM_NS: u64 = 3 * INTERVAL_NS;
const MAX_CONFIRM_NS: u64 = 640_000_000_000;

/// A port whose agent has ended, as it was told to, is gone after this time.
const ENDED_NS: u64 = 600_000_000_000;

/// The prefixes of a host's enrolment; `None` if it is not enrolled.
pub type Allowed<'a> = &'a dyn Fn(&HostName) -> Option<Vec<IpNet>>;

/// A port, for as long as this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// Both clocks of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub monotonic_ns: u64,
    /// Since 1970.
    pub utc_ns: u64,
}

/// A measured port.
#[derive(Debug, Clone)]
pub struct Port {
    pub name: PortName,
    /// The newest that was accepted, with the addresses that it may have.
    pub presence: Presence,
    /// The bucket has it. Else it has no neighbours.
    pub is_present: bool,
    /// Of its entry in the presence bucket.
    revision: u64,
    pub heard: Option<Heard>,
    pub assigned: Assigned,
    /// Who probes it, of the newest assignment that it has confirmed, and the generation of that.
    expected: (u64, Vec<PortId>),
    planned: Planned,
    /// `CLOCK_MONOTONIC` when this hub learned of it.
    since_ns: u64,
    /// Addresses that it asks for, and those of them that its enrolment covers, of which others may have some.
    asked: Vec<IpAddr>,
    wanted: Vec<IpAddr>,
    /// Of name and addresses.
    fingerprint: u64,
    boots: Boots,
    changes: Changes,
}

/// The newest heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// `CLOCK_MONOTONIC` of its arrival.
    pub at_ns: u64,
    pub heartbeat: Heartbeat,
    /// How far its clock was ahead of this hub's, less the time that the heartbeat took.
    pub clock_ahead_ns: i64,
    clock_off: u32,
}

/// The assignment in the bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    /// 0 for none.
    pub generation: u64,
    pub targets: Vec<PortId>,
    pub probers: Vec<PortId>,
    /// Of its entry, also of one that was deleted.
    pub(super) revision: u64,
    digest: u64,
    /// When this hub has last written it, or has first seen it, and how often it was not confirmed.
    written_ns: u64,
    tries: u32,
}

/// The assignment as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Planned {
    targets: Vec<PortId>,
    probers: Vec<PortId>,
    digest: u64,
}

/// Which processes have the name.
#[derive(Debug, Clone, Copy, Default)]
struct Boots {
    current: u64,
    previous: u64,
    returns: u32,
    returned_ns: u64,
}

/// A bucket of changes, by the time at which it is full.
#[derive(Debug, Clone, Copy, Default)]
struct Changes {
    full_ns: u64,
}

/// An assignment that has to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: PortId,
    /// Revision of the entry that it replaces, 0 for none.
    pub revision: u64,
    pub assignment: Assignment,
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

    /// Takes an entry of the presence bucket, `None` for one that was deleted. [`Self::settle`] looks at it.
    pub fn offer(&mut self, key: &str, content: Option<&[u8]>, revision: u64, now: Now) {
        let Some(name) = PortName::from_tokens(key) else {
            log::debug!("the presence bucket has the key {key:?}, which names no port");
            return;
        };
        let known = self.id_of_tokens(key).and_then(|id| self.port(id));
        if known.is_some_and(|port| port.revision == revision) {
            return;
        }
        if known.is_none() && !self.offered.contains_key(key) {
            if content.is_none() {
                return;
            }
            if self.number_of_ports(&name.host) >= MAX_PORTS_PER_HOST {
                let text = format!("its host has {MAX_PORTS_PER_HOST} ports already, and no more are taken");
                self.problems.raise(name, Kind::TooManyPorts, text, now.utc_ns);
                return;
            }
        }
        let content = content.map(|content| content[..content.len().min(MAX_PRESENCE + 1)].to_vec());
        self.offered.insert(key.to_owned(), (content, revision));
    }

    fn number_of_ports(&self, host: &HostName) -> usize {
        let prefix = format!("{host}.");
        let offered = self.offered.range(prefix.clone()..);
        let of_host = offered.take_while(|(key, _)| key.starts_with(&prefix));
        let new = of_host.filter(|(key, _)| !self.ids.contains_key(*key)).count();
        new + self.hosts.get(host).map_or(0, BTreeSet::len)
    }

    /// Applies the entries that were offered, in the order of the bucket, except those of ports that change too often. Says
    /// whether neighbours have to be chosen anew.
    pub fn settle(&mut self, allowed: Allowed, now: Now) -> bool {
        self.apply_offered(allowed, now);
        for id in self.contested.clone() {
            self.claim(id, now);
        }
        self.expire(now);
        std::mem::take(&mut self.has_changed)
    }

    fn apply_offered(&mut self, allowed: Allowed, now: Now) {
        let mut offered: Vec<_> = std::mem::take(&mut self.offered).into_iter().collect();
        offered.sort_by_key(|(_, (_, revision))| *revision);
        for (key, (content, revision)) in offered {
            let known = self.id_of_tokens(&key).and_then(|id| self.port_mut(id));
            if known.is_some_and(|port| !port.changes.take(now.monotonic_ns)) {
                self.offered.insert(key, (content, revision));
                continue;
            }
            match content {
                Some(content) => self.apply(&key, &content, allowed, now),
                None => self.delete(&key),
            }
            if let Some(port) = self.id_of_tokens(&key).and_then(|id| self.port_mut(id)) {
                port.revision = revision;
            }
        }
    }

    /// Looks at all enrolments again: hosts may have been enrolled, revoked, or given other prefixes.
    pub fn review(&mut self, allowed: Allowed, now: Now) {
        for index in 0..self.ports.len() {
            self.admit(PortId(index as u32), allowed, now);
        }
    }

    fn apply(&mut self, key: &str, content: &[u8], allowed: Allowed, now: Now) {
        let Some(name) = PortName::from_tokens(key) else { return };
        let mut presence = match read(content, &name) {
            Ok(presence) => presence,
            Err(why) => return self.problems.raise(name, Kind::BadPresence, why, now.utc_ns),
        };
        for kind in [Kind::BadPresence, Kind::TooManyPorts] {
            self.problems.clear(&name, kind);
        }
        let id = self.enter(key, &name, now);
        let Some(port) = self.port_mut(id) else { return };
        port.asked = presence
            .addresses
            .iter()
            .copied()
            .filter(|address| is_routable(*address))
            .collect();
        port.asked.sort_unstable();
        port.asked.dedup();
        let is_same = port.is_present && {
            let old = &port.presence;
            (&old.labels, old.udp_port, old.max_peers) == (&presence.labels, presence.udp_port, presence.max_peers)
        };
        if !is_same {
            // Its network may be another.
            self.withdraw(id);
        }
        if let Some(port) = self.port_mut(id) {
            presence.addresses = std::mem::take(&mut port.presence.addresses);
            port.presence = presence;
            port.is_present = true;
        }
        self.admit(id, allowed, now);
    }

    /// Lets a port have the addresses that its enrolment covers.
    fn admit(&mut self, id: PortId, allowed: Allowed, now: Now) {
        let Some(port) = self.port(id).filter(|port| port.is_present) else {
            return;
        };
        let prefixes = allowed(&port.name.host);
        let is_covered = |address: &&IpAddr| prefixes.iter().flatten().any(|prefix| prefix.contains(*address));
        let (wanted, foreign): (Vec<_>, Vec<_>) = port.asked.iter().partition(is_covered);
        let foreign = foreign.first().filter(|_| prefixes.is_some()).map(|address: &IpAddr| {
            format!("its address {address} is outside the prefixes of its enrolment, and is not used")
        });
        let stranger = prefixes
            .is_none()
            .then(|| "its host is not enrolled; run `kstamp hub enroll`".to_owned());
        let (name, has_changed) = (port.name.clone(), port.wanted != wanted);
        for (kind, text) in [(Kind::ForeignAddress, foreign), (Kind::NotEnrolled, stranger)] {
            match text {
                Some(text) => self.problems.raise(name.clone(), kind, text, now.utc_ns),
                None => self.problems.clear(&name, kind),
            }
        }
        if has_changed && let Some(port) = self.port_mut(id) {
            port.wanted = wanted;
            self.claim(id, now);
        }
    }

    fn enter(&mut self, key: &str, name: &PortName, now: Now) -> PortId {
        if let Some(id) = self.id_of_tokens(key) {
            return id;
        }
        let id = PortId(self.ports.len() as u32);
        self.ports.push(Some(Port::new(name.clone(), now.monotonic_ns)));
        self.ids.insert(key.to_owned(), id);
        self.hosts.entry(name.host.clone()).or_default().insert(id);
        id
    }

    /// Takes the addresses that a port asks for, except those that another has. Only a silent one loses them, to one that lives.
    fn claim(&mut self, id: PortId, now: Now) {
        let Some(port) = self.port(id) else { return };
        let (name, network) = (port.name.clone(), port.presence.label(NETWORK).to_owned());
        let mut addresses = Vec::new();
        let mut conflict = None;
        for address in port.wanted.clone() {
            let owner = self.id_of_address(&network, address).filter(|owner| *owner != id);
            match owner {
                Some(owner) if self.is_alive(owner, now.monotonic_ns) || !self.is_alive(id, now.monotonic_ns) => {
                    conflict = self.port(owner).map(|port| (address, port.name.clone()));
                    continue;
                }
                Some(owner) => self.take_from(owner, address),
                None => {}
            }
            self.addresses.insert((network.clone(), address), id);
            addresses.push(address);
        }
        match conflict {
            Some((address, other)) => {
                let text = format!("its address {address} is that of {other}, and is not used");
                self.problems.raise(name, Kind::AddressConflict, text, now.utc_ns);
                self.contested.insert(id);
            }
            None => {
                self.problems.clear(&name, Kind::AddressConflict);
                self.contested.remove(&id);
            }
        }
        let Some(port) = self.port_mut(id) else { return };
        if port.presence.addresses != addresses {
            port.fingerprint = fingerprint(&port.name, &addresses);
            let mut left = std::mem::replace(&mut port.presence.addresses, addresses.clone());
            left.retain(|address| !addresses.contains(address));
            self.release(id, &network, &left);
            self.touch();
        }
    }

    fn touch(&mut self) {
        self.version += 1;
        self.has_changed = true;
    }

    /// A port that is silent loses an address to another that came with it, until it lives again.
    fn take_from(&mut self, owner: PortId, address: IpAddr) {
        if let Some(port) = self.port_mut(owner) {
            port.presence.addresses.retain(|other| *other != address);
            port.fingerprint = fingerprint(&port.name, &port.presence.addresses);
        }
        self.contested.insert(owner);
        self.touch();
    }

    fn release(&mut self, id: PortId, network: &str, addresses: &[IpAddr]) {
        for address in addresses {
            let key = (network.to_owned(), *address);
            if self.addresses.get(&key) == Some(&id) {
                self.addresses.remove(&key);
            }
        }
    }

    fn delete(&mut self, key: &str) {
        let Some(id) = self.id_of_tokens(key) else { return };
        self.withdraw(id);
        if let Some(port) = self.port(id) {
            self.problems.forget(&port.name.clone());
        }
    }

    fn withdraw(&mut self, id: PortId) {
        let Some(port) = self.port_mut(id) else { return };
        if !std::mem::take(&mut port.is_present) {
            return;
        }
        let network = port.presence.label(NETWORK).to_owned();
        let addresses = std::mem::take(&mut port.presence.addresses);
        port.wanted.clear();
        port.fingerprint = 0;
        self.release(id, &network, &addresses);
        self.contested.remove(&id);
        self.touch();
    }

    /// Ports that were silent for so long: their keys, and the revisions of those that are in the bucket.
    pub fn gone(&self, after_ns: u64, monotonic_ns: u64) -> Vec<(PortId, String, Option<u64>)> {
        let is_gone = |port: &Port| {
            let after_ns = if port.presence.ended {
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

    /// Keys of all entries of the presence bucket that this hub knows.
    pub fn keys(&self) -> Vec<String> {
        let present = self.ports().filter(|(_, port)| port.is_present);
        let offered = self.offered.keys().cloned();
        present.map(|(_, port)| port.name.tokens()).chain(offered).collect()
    }

    /// Takes a heartbeat by the tokens of its subject. Unknown ports are ignored.
    pub fn hear(&mut self, tokens: &str, heartbeat: Heartbeat, now: Now) {
        let Some(id) = self.id_of_tokens(tokens) else { return };
        let Some(port) = self.port_mut(id) else { return };
        let clock_ahead_ns = heartbeat.sent_ns.wrapping_sub(now.utc_ns) as i64;
        let is_off = clock_ahead_ns.unsigned_abs() > MAX_CLOCK_OFF_NS;
        let clock_off = match port.heard {
            _ if !is_off => 0,
            // Heartbeats that have waited come together.
            Some(last) if now.monotonic_ns.saturating_sub(last.at_ns) < INTERVAL_NS / 2 => last.clock_off,
            Some(last) => last.clock_off.saturating_add(1),
            None => 1,
        };
        port.heard = Some(Heard {
            at_ns: now.monotonic_ns,
            heartbeat,
            clock_ahead_ns,
            clock_off,
        });
        let is_alternating = port.boots.note(heartbeat.boot, now.monotonic_ns);
        if heartbeat.generation == port.assigned.generation {
            port.assigned.tries = 0;
            if port.expected.0 != heartbeat.generation {
                port.expected = (heartbeat.generation, port.assigned.probers.clone());
            }
        }
        if !is_alternating && clock_off != 0 && clock_off != CLOCK_HEARTBEATS {
            return;
        }
        let name = port.name.clone();
        if is_alternating {
            let text =
                "two processes have its name; give one of the hosts credentials of its own, or stop one of the agents";
            self.problems
                .raise(name.clone(), Kind::NameConflict, text.to_owned(), now.utc_ns);
        }
        if clock_off == 0 {
            self.problems.clear(&name, Kind::Clock);
        } else if clock_off == CLOCK_HEARTBEATS {
            let seconds = clock_ahead_ns as f64 / 1e9;
            let text = format!("its clock is {seconds:+.1} s off that of the hub; synchronise both");
            self.problems.raise(name, Kind::Clock, text, now.utc_ns);
        }
    }

    fn expire(&mut self, now: Now) {
        for name in self.problems.ports(Kind::NameConflict) {
            let boots = self.id(&name).and_then(|id| self.port(id)).map(|port| port.boots);
            if boots.is_none_or(|boots| now.monotonic_ns.saturating_sub(boots.returned_ns) > ALTERNATING_NS) {
                self.problems.clear(&name, Kind::NameConflict);
            }
        }
        self.problems.trim(now.utc_ns);
    }

    /// The ports that have neighbours, in an order that every hub finds.
    pub fn candidates<'a>(&'a self) -> Vec<(PortId, Candidate)> {
        let mut labels = Numbers::default();
        let mut present: Vec<_> = self
            .ports()
            .filter(|(_, port)| port.is_present && !port.presence.addresses.is_empty())
            .collect();
        present.sort_unstable_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        let candidate = |(id, port): (PortId, &'a Port)| {
            let presence = &port.presence;
            let (zone, rack) = (presence.label(ZONE), presence.label(RACK));
            let candidate = Candidate {
                hash: Candidate::hash(&port.name),
                host: labels.number("host", "", port.name.host.as_str()),
                network: labels.number(NETWORK, "", presence.label(NETWORK)),
                udp_port: presence.udp_port,
                has_v4: presence.addresses.iter().any(IpAddr::is_ipv4),
                has_v6: presence.addresses.iter().any(IpAddr::is_ipv6),
                // Racks of different zones may have one name.
                rack: (!rack.is_empty()).then(|| labels.number(RACK, zone, rack)),
                zone: (!zone.is_empty()).then(|| labels.number(ZONE, "", zone)),
                max_targets: presence.max_peers,
            };
            (id, candidate)
        };
        present.into_iter().map(candidate).collect()
    }

    /// Remembers the neighbours of all ports that have some; [`Self::due`] says what has to be written.
    pub fn plan(&mut self, chosen: &[(PortId, Neighbours)]) {
        for port in self.ports.iter_mut().flatten() {
            port.planned = Planned::default();
        }
        let ids = |places: &[u32]| {
            places
                .iter()
                .filter_map(|place| Some(chosen.get(*place as usize)?.0))
                .collect()
        };
        for (id, neighbours) in chosen {
            let (targets, probers): (Vec<_>, Vec<_>) = (ids(&neighbours.targets), ids(&neighbours.probers));
            let fingerprints = |ids: &[PortId]| ids.iter().filter_map(|id| Some(self.port(*id)?.fingerprint)).collect();
            let digest = digest(fingerprints(&targets), fingerprints(&probers));
            if let Some(port) = self.port_mut(*id) {
                port.planned = Planned {
                    targets,
                    probers,
                    digest,
                };
            }
        }
    }

    /// The next assignments, of ports from `first` on, that differ from those in the bucket, or that agents do not confirm.
    pub fn due(&self, first: PortId, most: usize, now: Now) -> Vec<Due> {
        let from_first = self.ports().skip_while(|(id, _)| *id < first);
        let due = from_first.filter(|(_, port)| port.is_due(now.monotonic_ns)).take(most);
        due.map(|(id, port)| Due {
            id,
            revision: port.assigned.revision,
            assignment: Assignment {
                port: port.name.clone(),
                generation: port.next_generation(now.utc_ns),
                targets: self.assignable(&port.planned.targets),
                probers: self.assignable(&port.planned.probers),
            },
        })
        .collect()
    }

    fn assignable(&self, ids: &[PortId]) -> Vec<Target> {
        let ports = ids.iter().filter_map(|id| self.port(*id));
        let mut targets: Vec<_> = ports
            .map(|port| Target {
                port: port.name.clone(),
                addresses: port.presence.addresses.clone(),
            })
            .collect();
        targets.sort_unstable();
        targets
    }

    /// Begins to read the assignment bucket, with all presences known.
    pub fn begin(&mut self, allowed: Allowed, now: Now) {
        self.is_loaded = false;
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

    /// Takes an entry of the assignment bucket, if it is newer. Those of unknown ports are ignored.
    pub fn take_assignment(&mut self, key: &str, content: &[u8], revision: u64, now: Now) {
        let known = self.id_of_tokens(key).and_then(|id| self.port(id));
        if known.is_some_and(|port| port.assigned.revision < revision) {
            self.correct_assignment(key, content, revision, now);
        }
    }

    /// Takes an entry of the assignment bucket whatever this hub believes; revision 0 if there is none.
    pub fn correct_assignment(&mut self, key: &str, content: &[u8], revision: u64, now: Now) {
        let Some(id) = self.id_of_tokens(key) else { return };
        let assigned = match serde_json::from_slice::<Assignment>(content) {
            Ok(assignment) => {
                let ids = |targets: &[Target]| targets.iter().filter_map(|target| self.id(&target.port)).collect();
                let prints = |targets: &[Target]| {
                    targets
                        .iter()
                        .map(|target| fingerprint(&target.port, &target.addresses))
                        .collect()
                };
                Assigned {
                    generation: assignment.generation,
                    targets: ids(&assignment.targets),
                    probers: ids(&assignment.probers),
                    digest: digest(prints(&assignment.targets), prints(&assignment.probers)),
                    ..Assigned::default()
                }
            }
            // Deleted, or not to be read: it is written anew.
            Err(_) => Assigned::default(),
        };
        let Some(port) = self.port_mut(id) else { return };
        let is_same = assigned.digest == port.assigned.digest;
        port.assigned = Assigned {
            revision,
            written_ns: now.monotonic_ns,
            tries: if is_same {
                port.assigned.tries.saturating_add(1)
            } else {
                0
            },
            ..assigned
        };
        self.version += u64::from(!is_same);
    }
}

impl Port {
    fn new(name: PortName, now_ns: u64) -> Self {
        Self {
            presence: Presence {
                port: name.clone(),
                boot: 0,
                version: String::new(),
                addresses: Vec::new(),
                udp_port: 0,
                interval_ns: 0,
                max_peers: 0,
                labels: BTreeMap::new(),
                clock: String::new(),
                attach: String::new(),
                kernel: String::new(),
                ended: false,
            },
            name,
            is_present: false,
            revision: 0,
            heard: None,
            assigned: Assigned::default(),
            expected: (0, Vec::new()),
            planned: Planned::default(),
            since_ns: now_ns,
            asked: Vec::new(),
            wanted: Vec::new(),
            fingerprint: 0,
            boots: Boots::default(),
            changes: Changes::default(),
        }
    }

    /// Time since the newest heartbeat, or since this hub learned of the port.
    pub fn silent_ns(&self, monotonic_ns: u64) -> u64 {
        let heard_ns = self.heard.map_or(self.since_ns, |heard| heard.at_ns);
        monotonic_ns.saturating_sub(heard_ns)
    }

    pub fn is_alive(&self, monotonic_ns: u64) -> bool {
        self.silent_ns(monotonic_ns) < ALIVE_NS
    }

    pub fn is_confirmed(&self) -> bool {
        self.heard
            .is_some_and(|heard| heard.heartbeat.generation == self.assigned.generation)
    }

    fn is_due(&self, monotonic_ns: u64) -> bool {
        if self.planned.digest != self.assigned.digest {
            return true;
        }
        let waited_ns = monotonic_ns.saturating_sub(self.assigned.written_ns);
        let patience_ns = (CONFIRM_NS << self.assigned.tries.min(32)).min(MAX_CONFIRM_NS);
        self.assigned.generation != 0
            && self.heard.is_some()
            && self.is_alive(monotonic_ns)
            && !self.is_confirmed()
            && waited_ns >= patience_ns
    }

    /// Milliseconds since 1970, but always more than the port has seen. The generation in a heartbeat counts only if it could be
    /// one of a hub whose clock was ahead by a day at most.
    fn next_generation(&self, utc_ns: u64) -> u64 {
        let now = utc_ns / 1_000_000;
        let confirmed = self.heard.map_or(0, |heard| heard.heartbeat.generation);
        let credible = if confirmed <= now + 86_400_000 { confirmed } else { 0 };
        now.max(self.assigned.generation.saturating_add(1)).max(credible + 1)
    }
}

impl Boots {
    /// Whether a process that was replaced has come back twice.
    fn note(&mut self, boot: u64, now_ns: u64) -> bool {
        if boot == self.current {
            return false;
        }
        let has_returned = boot == self.previous && boot != 0;
        let is_recent = now_ns.saturating_sub(self.returned_ns) <= ALTERNATING_NS;
        if has_returned {
            self.returns = if is_recent { self.returns.saturating_add(1) } else { 1 };
            self.returned_ns = now_ns;
        }
        (self.previous, self.current) = (self.current, boot);
        has_returned && self.returns >= 2
    }
}

impl Changes {
    fn take(&mut self, now_ns: u64) -> bool {
        let full_ns = self.full_ns.max(now_ns) + CHANGE_NS;
        let is_free = full_ns <= now_ns + MAX_CHANGES * CHANGE_NS;
        if is_free {
            self.full_ns = full_ns;
        }
        is_free
    }
}

/// Numbers of texts: of each kind, and within an outer one.
#[derive(Default)]
struct Numbers<'a>(HashMap<[&'a str; 3], u32>);

impl<'a> Numbers<'a> {
    fn number(&mut self, kind: &'static str, outer: &'a str, text: &'a str) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry([kind, outer, text]).or_insert(next)
    }
}

/// Reads the presence of `name`; says why it is not taken.
fn read(content: &[u8], name: &PortName) -> Result<Presence, String> {
    if content.len() > MAX_PRESENCE {
        return Err(format!("its presence has more than {MAX_PRESENCE} bytes"));
    }
    let presence: Presence =
        serde_json::from_slice(content).map_err(|error| format!("its presence cannot be read: {error}"))?;
    let texts = [&presence.version, &presence.clock, &presence.attach, &presence.kernel];
    let labels = presence.labels.iter().flat_map(|(name, label)| [name, label]);
    if presence.port != *name {
        Err(format!("its presence is that of {}", presence.port))
    } else if presence.labels.len() > MAX_LABELS {
        Err(format!(
            "it has {} labels, and {MAX_LABELS} are the most",
            presence.labels.len()
        ))
    } else if presence.addresses.len() > MAX_ADDRESSES {
        Err(format!(
            "it has {} addresses, and {MAX_ADDRESSES} are the most",
            presence.addresses.len()
        ))
    } else if let Some(text) = texts.into_iter().chain(labels).find(|text| text.len() > MAX_TEXT) {
        Err(format!(
            "its presence has a text of {} bytes, and {MAX_TEXT} are the most",
            text.len()
        ))
    } else {
        Ok(presence)
    }
}

/// Whether others can probe it. Link-local addresses mean nothing beyond their link.
fn is_routable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(is_link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// Of what an assignment says about a port; never 0.
fn fingerprint(name: &PortName, addresses: &[IpAddr]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, addresses).hash(&mut hasher);
    hasher.finish() | 1
}

/// Of an assignment; 0 of an empty one.
fn digest(mut targets: Vec<u64>, mut probers: Vec<u64>) -> u64 {
    if targets.is_empty() && probers.is_empty() {
        return 0;
    }
    targets.sort_unstable();
    probers.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (targets, probers).hash(&mut hasher);
    hasher.finish() | 1
}

#[cfg(test)]
mod tests {
    use super::super::neighbours;
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;
    /// Enough for all that rests on liveness.
    const UTC: u64 = 1_800_000_000 * SECOND;

    fn at(seconds: u64) -> Now {
        Now {
            monotonic_ns: 1000 * SECOND + seconds * SECOND,
            utc_ns: UTC + seconds * SECOND,
        }
    }

    /// All hosts but `stranger` are enrolled, with 10.0.0.0/8 and 2001:db8::/32.
    fn allowed(host: &HostName) -> Option<Vec<IpNet>> {
        let prefixes = ["10.0.0.0/8", "2001:db8::/32"];
        (host.as_str() != "stranger").then(|| prefixes.map(|prefix| prefix.parse().unwrap()).to_vec())
    }

    fn presence(port: &str, addresses: &[&str]) -> Presence {
        let mut presence = Port::new(port.parse().unwrap(), 0).presence;
        presence.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        presence.udp_port = 1910;
        presence.max_peers = 64;
        presence
    }

    fn key(port: &str) -> String {
        port.replace('/', ".")
    }

    /// Each presence has a revision of its own.
    fn set(fleet: &mut Fleet, presence: &Presence, now: Now) -> bool {
        let content = serde_json::to_vec(presence).unwrap();
        let revision = fleet
            .ports
            .iter()
            .flatten()
            .map(|port| port.revision)
            .max()
            .unwrap_or(0)
            + 1;
        fleet.offer(&presence.port.tokens(), Some(&content), revision, now);
        fleet.settle(&allowed, now)
    }

    fn hear(fleet: &mut Fleet, port: &str, boot: u64, generation: u64, ahead_ns: i64, now: Now) {
        let heartbeat = Heartbeat {
            boot,
            sent_ns: now.utc_ns.wrapping_add_signed(ahead_ns),
            generation,
            ..Heartbeat::default()
        };
        fleet.hear(&key(port), heartbeat, now);
    }

    fn fleet(ports: u32) -> Fleet {
        let mut fleet = Fleet::default();
        for index in 0..ports {
            let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
            set(&mut fleet, &presence(&format!("h{index}/p"), &[&address]), at(0));
        }
        fleet.set_loaded();
        fleet
    }

    fn choose(fleet: &mut Fleet) {
        let (ids, candidates): (Vec<_>, Vec<_>) = fleet.candidates().into_iter().unzip();
        let chosen: Vec<_> = ids.into_iter().zip(neighbours::choose(&candidates, 4, 0)).collect();
        fleet.plan(&chosen);
    }

    /// Writes what is due, as the bucket would have it from `revision` on.
    fn write(fleet: &mut Fleet, mut revision: u64, now: Now) -> Vec<(String, Vec<u8>, u64)> {
        let mut written = Vec::new();
        for Due { assignment, .. } in fleet.due(PortId(0), usize::MAX, now) {
            let content = serde_json::to_vec(&assignment).unwrap();
            fleet.take_assignment(&assignment.port.tokens(), &content, revision, now);
            written.push((assignment.port.tokens(), content, revision));
            revision += 1;
        }
        written
    }

    fn kinds(fleet: &Fleet) -> Vec<(String, Kind)> {
        fleet
            .problems()
            .iter()
            .map(|(port, kind, _)| (port.to_string(), kind))
            .collect()
    }

    fn addresses(fleet: &Fleet, port: &str) -> Vec<String> {
        let port = fleet.id(&port.parse().unwrap()).and_then(|id| fleet.port(id));
        port.map_or_else(Vec::new, |port| {
            port.presence.addresses.iter().map(IpAddr::to_string).collect()
        })
    }

    #[test]
    fn presences_that_a_host_may_not_write_are_refused() {
        let right = presence("h/p", &["10.0.0.1"]);
        let labels = |number: usize, length| {
            (0..number)
                .map(|index| (format!("l{index}"), "x".repeat(length)))
                .collect()
        };
        let table = [
            ("h/p", right.clone(), None),
            (
                "stranger/p",
                presence("stranger/p", &["10.0.0.1"]),
                Some(Kind::NotEnrolled),
            ),
            ("h/p", presence("other/p", &["10.0.0.1"]), Some(Kind::BadPresence)),
            (
                "h/p",
                Presence {
                    labels: labels(33, 1),
                    ..right.clone()
                },
                Some(Kind::BadPresence),
            ),
            (
                "h/p",
                Presence {
                    labels: labels(1, 129),
                    ..right.clone()
                },
                Some(Kind::BadPresence),
            ),
            (
                "h/p",
                Presence {
                    kernel: "x".repeat(20_000),
                    ..right.clone()
                },
                Some(Kind::BadPresence),
            ),
            ("h/p", presence("h/p", &["10.0.0.1"; 17]), Some(Kind::BadPresence)),
            (
                "h/p",
                presence("h/p", &["10.0.0.1", "192.0.2.1"]),
                Some(Kind::ForeignAddress),
            ),
            // They are of no use to others, and no fault.
            (
                "h/p",
                presence("h/p", &["10.0.0.1", "fe80::1", "127.0.0.1", "::"]),
                None,
            ),
        ];
        for (port, presence, kind) in table {
            let mut fleet = Fleet::default();
            fleet.offer(&key(port), Some(&serde_json::to_vec(&presence).unwrap()), 1, at(0));
            fleet.settle(&allowed, at(0));
            let found: Vec<_> = kinds(&fleet).into_iter().map(|(_, kind)| kind).collect();
            assert_eq!(found, Vec::from_iter(kind), "{port} {presence:?}");
            let is_taken = kind.is_none_or(|kind| kind == Kind::ForeignAddress);
            assert_eq!(
                addresses(&fleet, port),
                if is_taken { vec!["10.0.0.1"] } else { vec![] }
            );
            assert_eq!(fleet.problems_mut().take_notices().len(), usize::from(kind.is_some()));
        }
        let mut fleet = Fleet::default();
        fleet.offer("h.p", Some(b"{"), 1, at(0));
        fleet.offer("no port", Some(b"{"), 2, at(0));
        fleet.settle(&allowed, at(0));
        assert_eq!(kinds(&fleet), [("h/p".to_owned(), Kind::BadPresence)]);
    }

    #[test]
    fn a_refusal_is_over_when_it_was_mended() {
        let mut fleet = Fleet::default();
        set(&mut fleet, &presence("h/p", &["192.0.2.1"]), at(0));
        assert_eq!(kinds(&fleet).len(), 1);
        assert!(fleet.candidates().is_empty());
        set(&mut fleet, &presence("h/p", &["10.0.0.1"]), at(1));
        assert_eq!(kinds(&fleet), []);
        assert_eq!(fleet.candidates().len(), 1);
    }

    #[test]
    fn enrolments_that_change_are_followed() {
        let mut fleet = Fleet::default();
        set(&mut fleet, &presence("h/p", &["10.0.0.1", "10.0.0.2"]), at(0));
        let mut follow = |prefix: Option<&str>, left: &[&str], problem: Option<Kind>| {
            let prefixes = prefix.map(|prefix| vec![prefix.parse::<IpNet>().unwrap()]);
            let allowed = |_: &HostName| prefixes.clone();
            fleet.review(&allowed, at(1));
            assert!(fleet.settle(&allowed, at(1)));
            assert_eq!(addresses(&fleet, "h/p"), left);
            assert_eq!(fleet.candidates().len(), left.len().min(1));
            assert_eq!(
                kinds(&fleet),
                Vec::from_iter(problem.map(|kind| ("h/p".to_owned(), kind)))
            );
            let owned = ["10.0.0.1", "10.0.0.2"].map(|address| fleet.id_of_address("", address.parse().unwrap()));
            assert_eq!(owned.into_iter().flatten().count(), left.len());
        };
        follow(Some("10.0.0.2/32"), &["10.0.0.2"], Some(Kind::ForeignAddress));
        follow(None, &[], Some(Kind::NotEnrolled));
        follow(Some("10.0.0.0/24"), &["10.0.0.1", "10.0.0.2"], None);
    }

    #[test]
    fn a_host_cannot_fill_the_list_of_problems() {
        let mut fleet = Fleet::default();
        for index in 0..1000 {
            fleet.offer(&format!("h.p{index}"), Some(b"{"), index + 1, at(index));
            fleet.settle(&allowed, at(index));
        }
        assert_eq!((fleet.problems().iter().count(), fleet.ports().count()), (128, 0));
        fleet.offer("other.p", Some(b"{"), 2000, at(1000));
        fleet.settle(&allowed, at(1000));
        assert!(kinds(&fleet).contains(&("other/p".to_owned(), Kind::BadPresence)));
    }

    #[test]
    fn the_first_port_keeps_an_address_while_it_lives() {
        let mut fleet = Fleet::default();
        set(&mut fleet, &presence("a/p", &["10.0.0.1"]), at(0));
        set(&mut fleet, &presence("b/p", &["10.0.0.1", "10.0.0.2"]), at(1));
        let mut elsewhere = presence("c/p", &["10.0.0.1"]);
        elsewhere.labels.insert(NETWORK.to_owned(), "other".to_owned());
        set(&mut fleet, &elsewhere, at(1));
        assert_eq!(kinds(&fleet), [("b/p".to_owned(), Kind::AddressConflict)]);
        assert_eq!(addresses(&fleet, "b/p"), ["10.0.0.2"]);
        assert_eq!(addresses(&fleet, "c/p"), ["10.0.0.1"]);

        // a is silent: b gets it, and keeps it when a comes back.
        hear(&mut fleet, "b/p", 1, 0, 0, at(14));
        assert!(!fleet.settle(&allowed, at(14)));
        assert!(fleet.settle(&allowed, at(16)));
        assert_eq!(addresses(&fleet, "a/p"), Vec::<String>::new());
        assert_eq!(addresses(&fleet, "b/p"), ["10.0.0.1", "10.0.0.2"]);
        hear(&mut fleet, "a/p", 1, 0, 0, at(17));
        fleet.settle(&allowed, at(17));
        assert_eq!(kinds(&fleet), [("a/p".to_owned(), Kind::AddressConflict)]);
        let owner = |fleet: &Fleet| fleet.id_of_address("", "10.0.0.1".parse().unwrap());
        assert_eq!(owner(&fleet), fleet.id(&"b/p".parse().unwrap()));

        // Both are silent: it stays where it is.
        assert!(!fleet.settle(&allowed, at(100)) && !fleet.settle(&allowed, at(101)));
        assert_eq!(owner(&fleet), fleet.id(&"b/p".parse().unwrap()));
    }

    #[test]
    fn a_host_has_a_bounded_number_of_ports() {
        let mut fleet = Fleet::default();
        for index in 0..100 {
            let presence = presence(&format!("h/p{index}"), &["10.0.0.1"]);
            fleet.offer(
                &presence.port.tokens(),
                Some(&serde_json::to_vec(&presence).unwrap()),
                index + 1,
                at(0),
            );
        }
        fleet.settle(&allowed, at(0));
        assert_eq!(fleet.ports().count(), MAX_PORTS_PER_HOST);
        // A port that is deleted still counts, for a day.
        fleet.offer("h.p0", None, 200, at(1));
        fleet.settle(&allowed, at(1));
        set(&mut fleet, &presence("h/new", &["10.0.0.2"]), at(2));
        assert_eq!(fleet.id(&"h/new".parse().unwrap()), None);
        assert_eq!(fleet.gone(DAY, at(86_401).monotonic_ns).len(), MAX_PORTS_PER_HOST);
        assert_eq!(fleet.gone(DAY, at(86_399).monotonic_ns), []);
        for (id, ..) in fleet.gone(DAY, at(86_401).monotonic_ns) {
            fleet.forget(id);
        }
        assert_eq!((fleet.hosts().count(), fleet.problems().iter().count()), (0, 37));
        set(&mut fleet, &presence("h/new", &["10.0.0.2"]), at(86_402));
        assert_eq!(addresses(&fleet, "h/new"), ["10.0.0.2"]);
    }

    #[test]
    fn nobody_is_silent_to_a_hub_that_has_no_connection() {
        let mut fleet = fleet(1);
        let id = fleet.id(&"h0/p".parse().unwrap()).unwrap();
        fleet.set_deaf(at(2 * 86_400));
        let monotonic_ns = at(2 * 86_400 + 10).monotonic_ns;
        assert!(fleet.is_alive(id, monotonic_ns) && fleet.gone(DAY, monotonic_ns).is_empty());
        assert!(!fleet.is_alive(id, monotonic_ns + 5 * SECOND));
    }

    #[test]
    fn a_port_whose_agent_was_ended_is_gone_sooner() {
        let mut fleet = fleet(2);
        let ended = Presence {
            ended: true,
            ..presence("h0/p", &["10.0.0.1"])
        };
        set(&mut fleet, &ended, at(1));
        let gone = |seconds| {
            fleet
                .gone(DAY, at(seconds).monotonic_ns)
                .into_iter()
                .map(|(_, key, _)| key)
        };
        assert_eq!(gone(599).count(), 0);
        assert_eq!(gone(601).collect::<Vec<_>>(), ["h0.p"]);
    }

    #[test]
    fn a_port_that_changes_often_is_looked_at_rarely() {
        let mut fleet = fleet(1);
        let changes = (1..100).filter(|second| {
            let address = format!("10.1.0.{second}");
            set(&mut fleet, &presence("h0/p", &[&address]), at(*second))
        });
        assert_eq!(changes.count(), 5 + 9);
    }

    #[test]
    fn two_processes_of_one_name_and_a_wrong_clock_are_noticed_once() {
        let mut fleet = fleet(1);
        // A restart is no conflict.
        for (second, boot) in [(0, 1), (5, 1), (10, 2), (15, 2)] {
            hear(&mut fleet, "h0/p", boot, 0, 0, at(second));
        }
        assert_eq!(kinds(&fleet), []);
        for second in 4..40 {
            hear(&mut fleet, "h0/p", 2 + second % 2, 0, 0, at(second * 5));
        }
        assert_eq!(kinds(&fleet), [("h0/p".to_owned(), Kind::NameConflict)]);
        assert_eq!(fleet.problems_mut().take_notices().len(), 1);
        fleet.settle(&allowed, at(40 * 5 + 61));
        assert_eq!(kinds(&fleet), []);

        for (second, ahead_ns, is_problem) in [
            (300, 2_000_000_000, false),
            (305, 2_000_000_000, false),
            // They have waited, and come together.
            (305, 7_000_000_000, false),
            (305, 7_000_000_000, false),
            (310, 2_000_000_000, true),
            (315, 2_000_000_000, true),
            (320, 900_000_000, false),
            (325, -2_000_000_000, false),
        ] {
            hear(&mut fleet, "h0/p", 3, 0, ahead_ns, at(second));
            assert_eq!(kinds(&fleet).len(), usize::from(is_problem), "after {second} s");
        }
        assert_eq!(fleet.problems_mut().take_notices().len(), 1);
    }

    #[test]
    fn assignments_are_written_once_and_another_hub_finds_the_same() {
        let mut first = fleet(40);
        choose(&mut first);
        let written = write(&mut first, 1, at(1));
        assert_eq!(written.len(), 40);
        choose(&mut first);
        assert_eq!(first.due(PortId(0), usize::MAX, at(2)), []);

        // It has learned of the ports in another order.
        let mut second = Fleet::default();
        for (_, port) in first.ports().collect::<Vec<_>>().into_iter().rev() {
            set(&mut second, &port.presence, at(2));
        }
        choose(&mut second);
        assert_eq!(second.due(PortId(0), usize::MAX, at(2)).len(), 40);
        for (key, content, revision) in &written {
            second.take_assignment(key, content, *revision, at(2));
        }
        assert_eq!(second.due(PortId(0), usize::MAX, at(2)), []);

        // One comes: it and few others change.
        set(&mut second, &presence("new/p", &["10.9.0.1"]), at(3));
        choose(&mut second);
        let due = second.due(PortId(0), usize::MAX, at(3));
        assert!((2..25).contains(&due.len()), "{}", due.len());
    }

    #[test]
    fn silent_ports_stay_neighbours_and_deleted_ones_do_not() {
        let mut fleet = fleet(3);
        choose(&mut fleet);
        write(&mut fleet, 1, at(0));
        let silent = fleet.id(&"h0/p".parse().unwrap()).unwrap();
        assert!(fleet.is_alive(silent, at(14).monotonic_ns) && !fleet.is_alive(silent, at(15).monotonic_ns));
        assert!(!fleet.settle(&allowed, at(3600)));
        assert_eq!(fleet.candidates().len(), 3);
        fleet.offer("h0.p", None, 9, at(3601));
        assert!(fleet.settle(&allowed, at(3601)));
        choose(&mut fleet);
        let due = fleet.due(PortId(0), usize::MAX, at(3601));
        let left: Vec<_> = due
            .iter()
            .map(|due| (due.assignment.port.to_string(), due.assignment.targets.len()))
            .collect();
        assert_eq!(
            left,
            [("h0/p".to_owned(), 0), ("h1/p".to_owned(), 1), ("h2/p".to_owned(), 1)]
        );
    }

    #[test]
    fn an_assignment_that_is_not_confirmed_is_written_again_ever_more_rarely() {
        let mut fleet = fleet(2);
        choose(&mut fleet);
        let mut revision = write(&mut fleet, 1, at(0)).len() as u64;
        let id = fleet.id(&"h0/p".parse().unwrap()).unwrap();
        let first = fleet.port(id).unwrap().assigned.generation;
        let mut times = Vec::new();
        for second in 1..500 {
            // The other one is never heard: nothing is written again for it.
            hear(&mut fleet, "h0/p", 1, 0, 0, at(second));
            if !write(&mut fleet, revision + 1, at(second)).is_empty() {
                revision += 1;
                times.push(second);
            }
        }
        assert_eq!(times, [15, 45, 105, 225, 465]);
        let generation = fleet.port(id).unwrap().assigned.generation;
        assert!(generation > first);
        assert!(!fleet.is_confirmed(id));
        hear(&mut fleet, "h0/p", 1, generation, 0, at(500));
        assert!(fleet.is_confirmed(id));
        assert_eq!(fleet.due(PortId(0), usize::MAX, at(5000)), []);

        // It lets the other one probe it, and does not yet know of a third.
        let others = ["h1/p", "new/p"].map(|name| {
            set(&mut fleet, &presence("new/p", &["10.9.0.1"]), at(5000));
            fleet.id(&name.parse().unwrap()).unwrap()
        });
        choose(&mut fleet);
        write(&mut fleet, revision + 1, at(5001));
        let expected = |fleet: &Fleet| others.map(|other| fleet.expects(id, other));
        assert_eq!(expected(&fleet), [true, false]);
        let generation = fleet.port(id).unwrap().assigned.generation;
        hear(&mut fleet, "h0/p", 1, generation, 0, at(5002));
        assert_eq!(expected(&fleet), [true, true]);
    }

    #[test]
    fn generations_grow_whatever_the_clock_does() {
        let mut fleet = fleet(2);
        let id = fleet.id(&"h0/p".parse().unwrap()).unwrap();
        let now = UTC / 1_000_000;
        for (assigned, confirmed, generation) in [
            (0, 0, now),
            (now + 5000, 0, now + 5001),
            (7, now + 9, now + 10),
            // No hub has given that.
            (7, u64::MAX, now),
        ] {
            hear(&mut fleet, "h0/p", 1, confirmed, 0, at(0));
            let port = fleet.port_mut(id).unwrap();
            port.assigned.generation = assigned;
            assert_eq!(port.next_generation(UTC), generation);
        }
    }
    #[test]
    #[ignore = "measures; run it alone, with --release"]
    fn ten_thousand_ports_cost_little() {
        const PORTS: u32 = 10_000;
        let mut fleet = Fleet::default();
        let mut measure = |what: &str, work: &mut dyn FnMut(&mut Fleet) -> u64| {
            let started = std::time::Instant::now();
            let number = work(&mut fleet);
            println!("{what}: {:?}, {number}", started.elapsed());
        };
        measure("presences taken", &mut |fleet| {
            for index in 0..PORTS {
                let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
                let mut presence = presence(&format!("host-{index:05}/port0"), &[&address]);
                presence.labels.insert(RACK.to_owned(), format!("rack{}", index % 250));
                presence.labels.insert(ZONE.to_owned(), format!("zone{}", index % 4));
                let content = serde_json::to_vec(&presence).unwrap();
                fleet.offer(&presence.port.tokens(), Some(&content), u64::from(index) + 1, at(0));
            }
            fleet.settle(&allowed, at(0));
            fleet.ports().count() as u64
        });
        measure("neighbours chosen", &mut |fleet| {
            let (ids, candidates): (Vec<_>, Vec<_>) = fleet.candidates().into_iter().unzip();
            let chosen: Vec<_> = ids.into_iter().zip(neighbours::choose(&candidates, 32, 0)).collect();
            fleet.plan(&chosen);
            chosen.len() as u64
        });
        measure("assignments made and taken, bytes", &mut |fleet| {
            let mut bytes = 0;
            loop {
                let due = fleet.due(PortId(0), 512, at(1));
                if due.is_empty() {
                    return bytes;
                }
                for Due {
                    assignment, revision, ..
                } in due
                {
                    let content = serde_json::to_vec(&assignment).unwrap();
                    fleet.take_assignment(&assignment.port.tokens(), &content, revision + 1, at(1));
                    bytes += content.len() as u64;
                }
            }
        });
        measure("a tick without changes", &mut |fleet| {
            u64::from(fleet.settle(&allowed, at(2))) + fleet.due(PortId(0), 512, at(2)).len() as u64
        });
        measure("enrolments reviewed", &mut |fleet| {
            fleet.review(&allowed, at(3));
            0
        });
        measure("heartbeats of a minute", &mut |fleet| {
            for index in 0..12 * PORTS {
                hear(fleet, &format!("host-{:05}/port0", index % PORTS), 1, 7, 0, at(4));
            }
            u64::from(12 * PORTS)
        });
    }
}
