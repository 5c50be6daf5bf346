//! Bounds what neighbours can cause: entries per port, and in all. The oldest entry of a full port makes room, so that a
//! port that floods displaces its own entries only.

use std::collections::{BTreeMap, BTreeSet};

use crate::topology::PortId;

#[derive(Debug)]
pub(super) struct Quota<T> {
    per_port: usize,
    in_all: usize,
    count: usize,
    /// Entries of each port, with the time or number that orders them.
    ports: BTreeMap<PortId, BTreeSet<(u64, T)>>,
}

impl<T: Ord + Copy> Quota<T> {
    pub(super) fn new(per_port: usize, in_all: usize) -> Self {
        Self {
            per_port,
            in_all,
            count: 0,
            ports: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, port: PortId, since: u64, entry: T) {
        self.count += usize::from(self.ports.entry(port).or_default().insert((since, entry)));
    }

    /// Removes an entry that was inserted with the same port and time.
    pub(super) fn remove(&mut self, port: PortId, since: u64, entry: T) {
        if let Some(entries) = self.ports.get_mut(&port) {
            self.count -= usize::from(entries.remove(&(since, entry)));
            if entries.is_empty() {
                self.ports.remove(&port);
            }
        }
    }

    /// The entry that must go before `port` gets another one: its oldest, or the oldest of the port with the most.
    pub(super) fn surplus(&self, port: PortId) -> Option<T> {
        let own = self.ports.get(&port).filter(|entries| entries.len() >= self.per_port);
        let fullest = || self.ports.values().max_by_key(|entries| entries.len());
        let entries = own.or_else(|| (self.count >= self.in_all).then(fullest).flatten())?;
        entries.first().map(|(_, entry)| *entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openflow::id::{Dpid, PortNumber};

    fn port(number: u32) -> PortId {
        PortId {
            dpid: Dpid(1),
            port: PortNumber(number),
        }
    }

    #[test]
    fn a_full_port_loses_its_own_oldest_and_a_full_table_that_of_the_fullest_port() {
        let mut quota = Quota::new(3, 5);
        assert_eq!(quota.surplus(port(1)), None);
        for (at, since, entry) in [(2, 7, 'z'), (1, 30, 'a'), (1, 10, 'b'), (1, 20, 'c')] {
            quota.insert(port(at), since, entry);
        }
        assert_eq!(quota.surplus(port(1)), Some('b'), "the port is full");
        assert_eq!(quota.surplus(port(2)), None);
        quota.insert(port(3), 1, 'y');
        assert_eq!(quota.surplus(port(4)), Some('b'), "the table is full");
        quota.remove(port(1), 10, 'b');
        quota.remove(port(1), 10, 'b');
        assert_eq!(quota.surplus(port(4)), None);
        quota.insert(port(2), 8, 'w');
        quota.insert(port(2), 8, 'w');
        quota.remove(port(1), 20, 'c');
        assert_eq!(quota.surplus(port(1)), None);
    }
}
