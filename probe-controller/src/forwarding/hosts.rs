//! Where hosts are: on which port of which switch a source address was last seen.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use crate::openflow::id::MacAddress;
use crate::topology::PortId;

/// More than this are not learned: whoever invents addresses must not use up memory.
pub(super) const MAX_HOSTS: usize = 4_096;
/// As many moves of one host within [`STORM_NS`] are no moves: its frames come around a loop.
const STORM_MOVES: usize = 6;
const STORM_NS: u64 = 1_000_000_000;

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where.
    pub port: PortId,
    /// Its IPv4 address, if it used ARP.
    pub ip: Option<Ipv4Addr>,
    moves: VecDeque<u64>,
}

/// What a frame's source told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    /// Nothing new.
    Nothing,
    /// A host that was not known.
    New,
    /// It was elsewhere before.
    Moved,
    /// It moves so often that its frames must come around a loop.
    Storm,
    /// There are too many.
    Full,
}

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: BTreeMap<MacAddress, Host>,
}

impl Hosts {
    /// A frame of `source` came in by `port`, where no switch is.
    pub(super) fn learn(&mut self, source: MacAddress, port: PortId, ip: Option<Ipv4Addr>, now_ns: u64) -> Learned {
        let full = self.hosts.len() >= MAX_HOSTS;
        let Some(host) = self.hosts.get_mut(&source) else {
            if full {
                return Learned::Full;
            }
            let moves = VecDeque::new();
            self.hosts.insert(source, Host { port, ip, moves });
            return Learned::New;
        };
        host.ip = ip.or(host.ip);
        if host.port == port {
            return Learned::Nothing;
        }
        host.port = port;
        host.moves.push_back(now_ns);
        while host
            .moves
            .front()
            .is_some_and(|at_ns| now_ns.saturating_sub(*at_ns) > STORM_NS)
        {
            host.moves.pop_front();
        }
        if host.moves.len() >= STORM_MOVES {
            // Each storm is counted once.
            host.moves.clear();
            return Learned::Storm;
        }
        Learned::Moved
    }

    pub(super) fn get(&self, address: MacAddress) -> Option<&Host> {
        self.hosts.get(&address)
    }

    /// Forgets the hosts on a port: their addresses.
    pub(super) fn port_down(&mut self, port: PortId) -> Vec<MacAddress> {
        let gone: Vec<MacAddress> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.port == port)
            .map(|(address, _)| *address)
            .collect();
        for address in &gone {
            self.hosts.remove(address);
        }
        gone
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (MacAddress, &Host)> {
        self.hosts.iter().map(|(address, host)| (*address, host))
    }
}
