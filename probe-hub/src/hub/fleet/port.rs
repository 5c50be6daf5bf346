//! One port, as the hub knows it.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use crate::message::heartbeat::{Heartbeat, INTERVAL_NS};
use crate::message::presence::Presence;
use crate::name::PortName;

/// A port is alive for this long after a heartbeat, so two may be lost.
pub const ALIVE_NS: u64 = 3 * INTERVAL_NS;
/// A presence may change this often at once, and then once in [`CHANGE_NS`].
const MAX_CHANGES: u64 = 5;
const CHANGE_NS: u64 = 10_000_000_000;
/// Two processes alternate if one that was replaced comes back twice within this time.
const ALTERNATING_NS: u64 = 60_000_000_000;
/// Time after which an assignment that is not confirmed is written again: doubled each time, up to [`MAX_CONFIRM_NS`].
const CONFIRM_NS: u64 = 3 * INTERVAL_NS;
const MAX_CONFIRM_NS: u64 = 640_000_000_000;

/// A port, for as long as this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// A measured port.
#[derive(Debug, Clone)]
pub struct Port {
    pub name: PortName,
    /// The newest that was accepted, with the addresses that it may have.
    pub presence: Presence,
    /// The bucket has it. Else it has no neighbours.
    pub is_present: bool,
    /// Of its entry in the presence bucket.
    pub(super) revision: u64,
    pub heard: Option<Heard>,
    pub assigned: Assigned,
    /// Who probes it, of the newest assignment that it has confirmed, and the generation of that.
    pub(super) expected: (u64, Vec<PortId>),
    pub(super) planned: Planned,
    /// `CLOCK_MONOTONIC` when this hub learned of it.
    pub(super) since_ns: u64,
    /// Addresses that it asks for, and those of them that its enrolment covers, of which others may have some.
    pub(super) asked: Vec<IpAddr>,
    pub(super) wanted: Vec<IpAddr>,
    /// Of name and addresses.
    pub(super) fingerprint: u64,
    pub(super) boots: Boots,
    pub(super) changes: Changes,
}

/// The newest heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// `CLOCK_MONOTONIC` of its arrival.
    pub at_ns: u64,
    pub heartbeat: Heartbeat,
    /// How far its clock was ahead of this hub's, less the time that the heartbeat took.
    pub clock_ahead_ns: i64,
    pub(super) clock_off: u32,
    /// `clock_ahead_ns` of the heartbeat by which the clock was last reported as wrong.
    pub(super) clock_reported_ns: Option<i64>,
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
    pub(super) digest: u64,
    /// When this hub has last written it, or has first seen it, and how often it was not confirmed.
    pub(super) written_ns: u64,
    pub(super) tries: u32,
}

/// The assignment as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) targets: Vec<PortId>,
    pub(super) probers: Vec<PortId>,
    pub(super) digest: u64,
}

/// Which processes have the name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Boots {
    current: u64,
    previous: u64,
    returns: u32,
    returned_ns: u64,
}

/// A bucket of changes, by the time at which it is full.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changes {
    full_ns: u64,
}

impl Port {
    pub(super) fn new(name: PortName, now_ns: u64) -> Self {
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

    pub(super) fn is_due(&self, monotonic_ns: u64) -> bool {
        if self.planned.digest != self.assigned.digest {
            return true;
        }
        let waited_ns = monotonic_ns.saturating_sub(self.assigned.written_ns);
        let patience_ns = (CONFIRM_NS << self.assigned.tries.min(6)).min(MAX_CONFIRM_NS);
        self.assigned.generation != 0
            && self.heard.is_some()
            && self.is_alive(monotonic_ns)
            && !self.is_confirmed()
            && waited_ns >= patience_ns
    }

    /// Milliseconds since 1970, but always more than the port has seen. The generation in a heartbeat counts only if it could
    /// be one of a hub whose clock was ahead by a day at most.
    pub(super) fn next_generation(&self, utc_ns: u64) -> u64 {
        let now = utc_ns / 1_000_000;
        let confirmed = self.heard.map_or(0, |heard| heard.heartbeat.generation);
        let credible = if confirmed <= now + 86_400_000 { confirmed } else { 0 };
        now.max(self.assigned.generation.saturating_add(1)).max(credible + 1)
    }
}

impl Boots {
    /// Whether a process that was replaced has come back twice.
    pub(super) fn note(&mut self, boot: u64, now_ns: u64) -> bool {
        if boot == self.current {
            return false;
        }
        let has_returned = boot == self.previous && boot != 0;
        if has_returned {
            self.returns = if self.is_recent(now_ns) {
                self.returns.saturating_add(1)
            } else {
                1
            };
            self.returned_ns = now_ns;
        }
        (self.previous, self.current) = (self.current, boot);
        has_returned && self.returns >= 2
    }

    /// Whether one has come back not long ago.
    pub(super) fn is_recent(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.returned_ns) <= ALTERNATING_NS
    }
}

impl Changes {
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let full_ns = self.full_ns.max(now_ns) + CHANGE_NS;
        let is_free = full_ns <= now_ns + MAX_CHANGES * CHANGE_NS;
        if is_free {
            self.full_ns = full_ns;
        }
        is_free
    }
}

/// Of what an assignment says about a port; never 0.
pub(super) fn fingerprint(name: &PortName, addresses: &[IpAddr]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, addresses).hash(&mut hasher);
    hasher.finish() | 1
}
