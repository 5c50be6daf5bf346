//! Which presences a fleet takes, and which addresses its ports have.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::port::{Port, PortId, fingerprint};
use super::{Allowed, Fleet, MAX_PORTS_PER_HOST, MAX_PRESENCE, MAX_SURPLUS, Now};
use crate::hub::problems::ProblemKind;
use crate::message::presence::{NETWORK, Presence};
use crate::name::{HostName, PortName};

const MAX_LABELS: usize = 32;
const MAX_ADDRESSES: usize = 16;
const MAX_TEXT: usize = 128;

impl Fleet {
    /// Takes an entry of the presence bucket, `None` for one that was deleted. [`Self::settle`] looks at it.
    pub fn offer(&mut self, key: &str, content: Option<&[u8]>, revision: u64, now: Now) {
        let Some(name) = PortName::from_tokens(key) else {
            log::debug!("the presence bucket has the key {key:?}, which names no port");
            if content.is_some() {
                self.refuse(key, revision);
            }
            return;
        };
        let known = self.id_of_tokens(key).and_then(|id| self.port(id));
        if known.is_some_and(|port| port.revision == revision) {
            return;
        }
        if known.is_none() && !self.offered.contains_key(key) {
            if content.is_none() {
                self.unread.remove(key);
                return;
            }
            if !self.unread.contains(key) && self.number_of_ports(&name.host) >= MAX_PORTS_PER_HOST {
                self.refuse(key, revision);
                let text = format!("its host has {MAX_PORTS_PER_HOST} ports already, and no more are taken");
                self.problems.raise(name, ProblemKind::TooManyPorts, text, now.utc_ns);
                return;
            }
        }
        let content = content.map(|content| content[..content.len().min(MAX_PRESENCE + 1)].to_vec());
        self.offered.insert(key.to_owned(), (content, revision));
    }

    fn refuse(&mut self, key: &str, revision: u64) {
        if self.surplus.len() < MAX_SURPLUS {
            self.surplus.insert(key.to_owned(), revision);
        }
    }

    fn number_of_ports(&self, host: &HostName) -> usize {
        let prefix = format!("{host}.");
        let is_of_host = |key: &&String| key.starts_with(&prefix);
        let offered = self.offered.range(prefix.clone()..).map(|(key, _)| key);
        let new = offered
            .take_while(is_of_host)
            .filter(|key| !self.ids.contains_key(*key) && !self.unread.contains(*key));
        let unread = self.unread.range(prefix.clone()..).take_while(is_of_host);
        new.count() + unread.count() + self.hosts.get(host).map_or(0, BTreeSet::len)
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

    pub(super) fn apply_offered(&mut self, allowed: Allowed, now: Now) {
        let known = self.ports.len();
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
        if self.ports.len() > known {
            self.take_early(now);
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
            Err(why) => {
                if !self.ids.contains_key(key) {
                    self.unread.insert(key.to_owned());
                }
                return self.problems.raise(name, ProblemKind::BadPresence, why, now.utc_ns);
            }
        };
        self.unread.remove(key);
        for kind in [ProblemKind::BadPresence, ProblemKind::TooManyPorts] {
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
        for (kind, text) in [
            (ProblemKind::ForeignAddress, foreign),
            (ProblemKind::NotEnrolled, stranger),
        ] {
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

    /// Takes the addresses that a port asks for, except those that another has. Only a silent port loses its addresses, to one
    /// that lives.
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
                self.problems
                    .raise(name, ProblemKind::AddressConflict, text, now.utc_ns);
                self.contested.insert(id);
            }
            None => {
                self.problems.clear(&name, ProblemKind::AddressConflict);
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
        self.unread.remove(key);
        let Some(id) = self.id_of_tokens(key) else { return };
        self.withdraw(id);
        if let Some(port) = self.port(id) {
            self.problems.forget(&port.name.clone());
        }
    }

    pub(super) fn withdraw(&mut self, id: PortId) {
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
