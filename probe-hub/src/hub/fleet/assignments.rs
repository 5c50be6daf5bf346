//! Which assignments the ports of a fleet should have, and which they have.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use super::port::{Assigned, Planned, Port, PortId, fingerprint};
use super::{Fleet, Now};
use crate::hub::neighbours::{Candidate, Neighbours};
use crate::message::assignment::{Assignment, Target};
use crate::message::presence::{NETWORK, RACK, ZONE};

/// An assignment that has to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: PortId,
    /// Revision of the entry that it replaces, 0 for none.
    pub revision: u64,
    pub assignment: Assignment,
}

impl Fleet {
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

    /// Takes an entry of the assignment bucket, if it is newer.
    pub fn take_assignment(&mut self, key: &str, content: &[u8], revision: u64, now: Now) {
        let port = self.id_of_tokens(key).and_then(|id| self.port(id));
        let known = port.map(|port| port.assigned.revision);
        let known = known.or_else(|| self.early.get(key).map(|(_, revision)| *revision));
        if known.is_none_or(|known| known < revision) {
            self.correct_assignment(key, content, revision, now);
        }
    }

    /// Takes an entry of the assignment bucket whatever this hub believes; revision 0 if there is none.
    pub fn correct_assignment(&mut self, key: &str, content: &[u8], revision: u64, now: Now) {
        self.early.remove(key);
        self.set_assignment(key, serde_json::from_slice(content).ok(), revision, now);
    }

    /// `None` for an entry that was deleted or cannot be read. It is written anew.
    fn set_assignment(&mut self, key: &str, assignment: Option<Assignment>, revision: u64, now: Now) {
        let prints = |targets: &[Target]| {
            targets
                .iter()
                .map(|target| fingerprint(&target.port, &target.addresses))
                .collect()
        };
        let (generation, digest) = assignment.as_ref().map_or((0, 0), |assignment| {
            let digest = digest(prints(&assignment.targets), prints(&assignment.probers));
            (assignment.generation, digest)
        });
        if let Some(port) = self.id_of_tokens(key).and_then(|id| self.port_mut(id)) {
            let is_same = digest == port.assigned.digest;
            port.assigned = Assigned {
                generation,
                revision,
                digest,
                written_ns: now.monotonic_ns,
                tries: if is_same {
                    port.assigned.tries.saturating_add(1)
                } else {
                    0
                },
                ..Assigned::default()
            };
            self.version += u64::from(!is_same);
        }
        if let Some(assignment) = assignment {
            self.resolve(key, assignment, revision);
        }
    }

    /// Sets the neighbours of an assignment that are known. If not all are, the assignment is kept, and taken again later.
    fn resolve(&mut self, key: &str, assignment: Assignment, revision: u64) {
        let (targets, probers) = (self.known(&assignment.targets), self.known(&assignment.probers));
        let is_complete = self.knows_all(&assignment);
        if let Some(port) = self.id_of_tokens(key).and_then(|id| self.port_mut(id)) {
            if port.expected.0 == assignment.generation {
                port.expected.1.clone_from(&probers);
            }
            (port.assigned.targets, port.assigned.probers) = (targets, probers);
        }
        if !is_complete {
            self.early.insert(key.to_owned(), (assignment, revision));
        }
    }

    /// Takes the assignments again that came before the presence of a port that they name.
    pub(super) fn take_early(&mut self, now: Now) {
        for (key, (assignment, revision)) in std::mem::take(&mut self.early) {
            let port = self.id_of_tokens(&key).and_then(|id| self.port(id));
            if port.is_some_and(|port| port.assigned.revision < revision) {
                self.set_assignment(&key, Some(assignment), revision, now);
            } else {
                self.resolve(&key, assignment, revision);
            }
            self.version += 1;
        }
    }

    fn known(&self, targets: &[Target]) -> Vec<PortId> {
        targets.iter().filter_map(|target| self.id(&target.port)).collect()
    }

    fn knows_all(&self, assignment: &Assignment) -> bool {
        let targets = assignment.targets.iter().chain(&assignment.probers);
        let mut ports = targets.map(|target| &target.port).chain([&assignment.port]);
        ports.all(|port| self.id(port).is_some())
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
