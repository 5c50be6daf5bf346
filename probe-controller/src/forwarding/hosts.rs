//! Learns on which port of which switch each source address was last seen, and forgets those that are silent.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use crate::forwarding::quota::Quota;
use crate::openflow::id::MacAddress;
use crate::topology::PortId;

/// Limits on hosts, of one port and in all, against invented addresses.
pub(super) const HOSTS_PER_PORT: usize = 1_024;
pub(super) const MAX_HOSTS: usize = 4_096;
/// A host that is silent for this long is forgotten.
pub(super) const IDLE_NS: u64 = 300_000_000_000;
/// Switches forward the frames of a host without the controller. This long before it would be forgotten, the rules for its
/// frames are deleted, so that its next frame reaches the controller.
const CHECK_NS: u64 = 30_000_000_000;
/// This many moves of one host within [`STORM_NS`] mean that its frames travel a loop.
const STORM_MOVES: usize = 6;
const STORM_NS: u64 = 1_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub port: PortId,
    /// Its IPv4 address, if it used ARP.
    pub ip: Option<Ipv4Addr>,
    heard_ns: u64,
    /// The rules for its frames were deleted, to see whether it is active.
    is_checked: bool,
    moves: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    Nothing,
    /// A new host, and the one that had to be forgotten for it.
    New(Option<MacAddress>),
    Moved,
    /// It moves so often that its frames must travel a loop.
    Storm,
}

/// Hosts that were silent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Silent {
    /// The rules for their frames must be deleted, to see whether they are active.
    pub(super) to_check: Vec<MacAddress>,
    pub(super) forgotten: Vec<MacAddress>,
}

#[derive(Debug)]
pub(super) struct Hosts {
    hosts: BTreeMap<MacAddress, Host>,
    quota: Quota<MacAddress>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            quota: Quota::new(HOSTS_PER_PORT, MAX_HOSTS),
        }
    }
}

impl Hosts {
    /// Takes a frame of `source` received on `port`, which leads to no switch.
    pub(super) fn learn(&mut self, source: MacAddress, port: PortId, ip: Option<Ipv4Addr>, now_ns: u64) -> Learned {
        let is_new = !self.hosts.contains_key(&source);
        let surplus = if is_new { self.quota.surplus(port) } else { None };
        if let Some(surplus) = surplus {
            self.remove(surplus);
        }
        let mut host = self.remove(source).unwrap_or(Host {
            port,
            ip,
            heard_ns: now_ns,
            is_checked: false,
            moves: VecDeque::new(),
        });
        host.ip = ip.or(host.ip);
        host.heard_ns = now_ns;
        host.is_checked = false;
        let learned = if is_new {
            Learned::New(surplus)
        } else if host.port == port {
            Learned::Nothing
        } else {
            host.port = port;
            host.moved(now_ns)
        };
        self.quota.insert(port, now_ns, source);
        self.hosts.insert(source, host);
        learned
    }

    /// Takes a frame of a host received elsewhere than at its port.
    pub(super) fn heard(&mut self, source: MacAddress, now_ns: u64) {
        if let Some(Host { port, .. }) = self.hosts.get(&source) {
            self.learn(source, *port, None, now_ns);
        }
    }

    /// Finds hosts that are silent.
    pub(super) fn expire(&mut self, now_ns: u64) -> Silent {
        let mut silent = Silent::default();
        for (address, host) in &mut self.hosts {
            let for_ns = now_ns.saturating_sub(host.heard_ns);
            if for_ns >= IDLE_NS {
                silent.forgotten.push(*address);
            } else if for_ns >= IDLE_NS - CHECK_NS && !host.is_checked {
                host.is_checked = true;
                silent.to_check.push(*address);
            }
        }
        for address in &silent.forgotten {
            self.remove(*address);
        }
        silent
    }

    fn remove(&mut self, address: MacAddress) -> Option<Host> {
        let host = self.hosts.remove(&address)?;
        self.quota.remove(host.port, host.heard_ns, address);
        Some(host)
    }

    pub(super) fn get(&self, address: MacAddress) -> Option<&Host> {
        self.hosts.get(&address)
    }

    /// Removes the hosts on a port, and returns their addresses.
    pub(super) fn port_down(&mut self, port: PortId) -> Vec<MacAddress> {
        let gone: Vec<MacAddress> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.port == port)
            .map(|(address, _)| *address)
            .collect();
        for address in &gone {
            self.remove(*address);
        }
        gone
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (MacAddress, &Host)> {
        self.hosts.iter().map(|(address, host)| (*address, host))
    }
}

impl Host {
    /// Counts a move.
    fn moved(&mut self, now_ns: u64) -> Learned {
        self.moves.push_back(now_ns);
        let is_old = |at_ns: &u64| now_ns.saturating_sub(*at_ns) > STORM_NS;
        while self.moves.front().is_some_and(is_old) {
            self.moves.pop_front();
        }
        if self.moves.len() < STORM_MOVES {
            return Learned::Moved;
        }
        // Each storm is counted once.
        self.moves.clear();
        Learned::Storm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openflow::id::{Dpid, PortNumber};

    const SECOND: u64 = 1_000_000_000;

    fn port(number: u32) -> PortId {
        PortId {
            dpid: Dpid(1),
            port: PortNumber(number),
        }
    }

    fn address(number: u32) -> MacAddress {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddress([2, 0, a, b, c, d])
    }

    #[test]
    fn a_flood_of_addresses_displaces_hosts_of_its_own_port_only() {
        let mut hosts = Hosts::default();
        assert_eq!(hosts.learn(address(1), port(1), None, 0), Learned::New(None));
        for number in 0..100_000 {
            let displaced = match hosts.learn(address(1_000 + number), port(2), None, u64::from(number)) {
                Learned::New(displaced) => displaced,
                other => panic!("{other:?}"),
            };
            let expected = number
                .checked_sub(HOSTS_PER_PORT as u32)
                .map(|first| address(1_000 + first));
            assert_eq!(displaced, expected);
        }
        assert_eq!(hosts.iter().count(), 1 + HOSTS_PER_PORT);
        assert!(hosts.get(address(1)).is_some());
        // The port with the most gives way once the table is full.
        for number in 0..100_000 {
            hosts.learn(address(200_000 + number), port(3 + number % 90), None, SECOND);
        }
        assert_eq!(hosts.iter().count(), MAX_HOSTS);
        assert!(hosts.get(address(1)).is_some());
    }

    #[test]
    fn a_silent_host_is_checked_and_then_forgotten() {
        let mut hosts = Hosts::default();
        let [quiet, lively] = [address(1), address(2)];
        for host in [quiet, lively] {
            hosts.learn(host, port(1), None, 0);
        }
        assert_eq!(hosts.expire(IDLE_NS - CHECK_NS - 1), Silent::default());
        assert_eq!(hosts.expire(IDLE_NS - CHECK_NS).to_check, [quiet, lively]);
        assert_eq!(hosts.expire(IDLE_NS - CHECK_NS), Silent::default());
        hosts.heard(lively, IDLE_NS - 1);
        assert_eq!(hosts.expire(IDLE_NS).forgotten, [quiet]);
        assert!(hosts.get(quiet).is_none());
        hosts.heard(quiet, IDLE_NS);
        assert_eq!(hosts.iter().count(), 1);
        assert_eq!(hosts.expire(2 * IDLE_NS - CHECK_NS).to_check, [lively]);
    }
}
