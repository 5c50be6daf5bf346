//! The stamps of recent probes at this host: bounded in time, in number, and in number for each peer.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::hops::stamps::Stamps;

/// Stamps are kept this long after the first of a probe.
pub(super) const KEEP_NS: u64 = 10_000_000_000;

/// Probes of all peers together.
const MAX_PROBES: usize = 65_536;

/// Probes of one peer.
const MAX_OF_PEER: u32 = 16_384;

/// What one probe takes, with its place in the order.
#[cfg(test)]
pub(super) const PROBE_BYTES: usize = size_of::<(ProbeKey, Kept)>() + size_of::<(u64, ProbeKey)>();

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProbeKey {
    /// The host at the other end.
    pub peer: IpAddr,
    pub ssid: u16,
    pub seq: u32,
}

#[derive(Debug)]
pub(super) struct Table {
    keep_ns: u64,
    probes: HashMap<ProbeKey, Kept>,
    /// Each probe by its first stamp, oldest first. It also has those that were taken since.
    order: VecDeque<(u64, ProbeKey)>,
    peers: HashMap<IpAddr, PeerProbes>,
    /// All stamps since then are kept, except for those of a peer that had too many.
    since_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    first_ns: u64,
    stamps: Stamps,
}

/// The probes of one peer.
#[derive(Debug, Default)]
struct PeerProbes {
    count: u32,
    /// The last that was not kept.
    refused_ns: Option<u64>,
}

impl Table {
    pub fn new(keep_ns: u64, now_ns: u64) -> Self {
        Self {
            keep_ns,
            probes: HashMap::new(),
            order: VecDeque::new(),
            peers: HashMap::new(),
            since_ns: now_ns,
        }
    }

    /// Keeps stamps for `keep_ns` from now on.
    pub fn set_keep(&mut self, keep_ns: u64, now_ns: u64) {
        self.since_ns = self.since_ns.max(now_ns.saturating_sub(self.keep_ns));
        self.keep_ns = keep_ns;
    }

    /// The stamps of a probe; `None` if its peer has too many.
    pub fn entry(&mut self, key: ProbeKey, now_ns: u64) -> Option<&mut Stamps> {
        if !self.probes.contains_key(&key) {
            let of_peer = self.peers.entry(key.peer).or_default();
            if of_peer.count >= MAX_OF_PEER {
                of_peer.refused_ns = Some(now_ns);
                return None;
            }
            of_peer.count += 1;
            if self.order.len() >= MAX_PROBES
                && let Some((first_ns, oldest)) = self.order.pop_front()
            {
                self.evict(first_ns, oldest);
                self.since_ns = self.since_ns.max(first_ns + 1);
            }
            self.order.push_back((now_ns, key));
        }
        let kept = self.probes.entry(key).or_insert_with(|| Kept {
            first_ns: now_ns,
            stamps: Stamps::default(),
        });
        Some(&mut kept.stamps)
    }

    /// The stamps of a probe, none if there are none.
    pub fn get(&self, key: &ProbeKey) -> Stamps {
        self.probes.get(key).map(|kept| kept.stamps).unwrap_or_default()
    }

    pub fn take(&mut self, key: &ProbeKey) -> Stamps {
        let Some(kept) = self.probes.remove(key) else {
            return Stamps::default();
        };
        self.leave(key.peer);
        kept.stamps
    }

    /// Some stamps before `now_ns` are missing.
    pub fn interrupt(&mut self, now_ns: u64) {
        self.since_ns = self.since_ns.max(now_ns);
    }

    /// Forgets all stamps.
    pub fn clear(&mut self, now_ns: u64) {
        *self = Self::new(self.keep_ns, now_ns.max(self.since_ns));
    }

    /// All stamps of the peer's probes are kept since then.
    pub fn complete_since(&self, peer: IpAddr, now_ns: u64) -> u64 {
        let refused_ns = self.peers.get(&peer).and_then(|of_peer| of_peer.refused_ns);
        let refused_ns = refused_ns.map_or(0, |refused_ns| refused_ns + 1);
        self.since_ns.max(refused_ns).max(now_ns.saturating_sub(self.keep_ns))
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn expire(&mut self, now_ns: u64) {
        let keep_ns = self.keep_ns;
        let is_old = |(first_ns, _): &mut (u64, ProbeKey)| first_ns.saturating_add(keep_ns) <= now_ns;
        while let Some((first_ns, key)) = self.order.pop_front_if(is_old) {
            self.evict(first_ns, key);
        }
        self.peers.retain(|_, of_peer| {
            let is_refused = of_peer
                .refused_ns
                .is_some_and(|at_ns| at_ns.saturating_add(keep_ns) > now_ns);
            of_peer.count > 0 || is_refused
        });
    }

    /// Evicts a probe, unless it was taken, and came again.
    fn evict(&mut self, first_ns: u64, key: ProbeKey) {
        if self.probes.get(&key).is_some_and(|kept| kept.first_ns == first_ns) {
            self.probes.remove(&key);
            self.leave(key.peer);
        }
    }

    fn leave(&mut self, peer: IpAddr) {
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            of_peer.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::direction::Direction;
    use crate::hops::stamp::{HookId, Mark};

    fn key(peer: u32, seq: u32) -> ProbeKey {
        ProbeKey {
            peer: std::net::Ipv4Addr::from_bits(peer).into(),
            ssid: 1,
            seq,
        }
    }

    fn note(table: &mut Table, key: ProbeKey, now_ns: u64) -> bool {
        let mark = Mark {
            hook: HookId(0),
            egress: true,
            direction: Direction::Forward,
            at_ns: now_ns,
        };
        table.entry(key, now_ns).map(|stamps| stamps.note(mark)).is_some()
    }

    #[test]
    fn stamps_are_kept_for_their_time_and_taken_once() {
        let mut table = Table::new(KEEP_NS, 0);
        assert!(note(&mut table, key(1, 7), 5) && note(&mut table, key(1, 8), 6));
        table.expire(KEEP_NS + 4);
        assert_eq!(table.get(&key(1, 7)).marks().count(), 1);
        assert!(!table.take(&key(1, 7)).is_empty());
        assert!(table.take(&key(1, 7)).is_empty());
        assert!(note(&mut table, key(1, 7), 9), "a duplicate, much later");
        table.expire(KEEP_NS + 6);
        assert!(table.get(&key(1, 8)).is_empty());
        assert!(
            !table.get(&key(1, 7)).is_empty(),
            "not by the age of the one that was taken"
        );
        table.expire(KEEP_NS + 9);
        assert!(table.is_empty() && table.probes.is_empty() && table.peers.is_empty());
    }

    #[test]
    fn a_peer_with_too_many_probes_loses_its_own_and_no_other() {
        let mut table = Table::new(KEEP_NS, 0);
        for seq in 0..MAX_OF_PEER {
            assert!(note(&mut table, key(1, seq), 5));
        }
        assert_eq!(table.complete_since(key(1, 0).peer, 6), 0);
        assert!(!note(&mut table, key(1, MAX_OF_PEER), 7));
        assert!(note(&mut table, key(1, 3), 7), "known");
        assert!(note(&mut table, key(2, 3), 7));
        assert_eq!(table.complete_since(key(1, 0).peer, 8), 8);
        assert_eq!(table.complete_since(key(2, 0).peer, 8), 0);
        table.take(&key(1, 0));
        assert!(note(&mut table, key(1, MAX_OF_PEER), 9));
    }

    #[test]
    fn all_peers_together_push_out_the_oldest_which_is_known_to_be_missing() {
        let mut table = Table::new(KEEP_NS, 0);
        let most = MAX_PROBES as u32;
        (0..most).for_each(|peer| assert!(note(&mut table, key(peer, 0), u64::from(peer))));
        let (peer, now_ns) = (key(9, 0).peer, u64::from(most));
        assert_eq!(table.complete_since(peer, now_ns), 0);
        (0..3).for_each(|peer| assert!(note(&mut table, key(most + peer, 0), now_ns)));
        assert_eq!(table.complete_since(peer, now_ns), 3);
        assert!(table.get(&key(2, 0)).is_empty() && !table.get(&key(3, 0)).is_empty());
        assert_eq!((table.probes.len(), table.order.len()), (MAX_PROBES, MAX_PROBES));
        table.expire(now_ns + KEEP_NS);
        assert!(table.is_empty() && table.probes.is_empty() && table.peers.is_empty());
    }

    #[test]
    fn a_longer_time_brings_nothing_back_and_a_shorter_one_holds_at_once() {
        let (mut table, key) = (Table::new(KEEP_NS, 0), key(1, 7));
        assert!(note(&mut table, key, 2 * KEEP_NS));
        table.set_keep(3 * KEEP_NS, 2 * KEEP_NS);
        assert_eq!(table.complete_since(key.peer, 3 * KEEP_NS), KEEP_NS);
        table.expire(3 * KEEP_NS + 1);
        assert!(!table.get(&key).is_empty());
        table.set_keep(KEEP_NS, 3 * KEEP_NS + 2);
        table.expire(3 * KEEP_NS + 2);
        assert!(table.get(&key).is_empty());
    }

    #[test]
    fn an_interruption_makes_what_is_before_incomplete() {
        let mut table = Table::new(KEEP_NS, 3);
        let peer = key(1, 0).peer;
        assert_eq!(table.complete_since(peer, 5), 3);
        table.interrupt(4);
        assert_eq!(table.complete_since(peer, 5), 4);
        assert_eq!(table.complete_since(peer, KEEP_NS + 9), 9);
        note(&mut table, key(1, 1), 10);
        table.clear(11);
        assert_eq!((table.is_empty(), table.complete_since(peer, 12)), (true, 11));
    }
}
