//! Frames of hosts: who is where, and the ways that are laid for them.

use std::net::Ipv4Addr;

use crate::forwarding::hosts::Learned;
use crate::forwarding::paths::Held;
use crate::forwarding::{Forwarding, dispatch, hosts, paths};
use crate::openflow::flow::Action;
use crate::openflow::id::{Dpid, MacAddress, PortNumber};
use crate::openflow::message::{Message, PacketOut};
use crate::openflow::server::Command;
use crate::topology::{PortId, Role};

impl Forwarding {
    /// A frame that is none of ours.
    pub(super) fn host_frame(&mut self, at: PortId, frame: &[u8], now_ns: u64) {
        let Some((destination, source)) = addresses(frame) else {
            return;
        };
        let is_edge = self.topology.role(at, now_ns) == Role::Edge;
        if is_edge && !source.is_group() {
            self.learn(source, at, frame, now_ns);
        }
        if destination.is_group() {
            // The switches flood it by themselves.
            self.totals.broadcasts += 1;
        } else if self.hosts.get(destination).is_some() {
            self.towards(source, destination, at, frame, now_ns);
        } else if is_edge {
            self.reach_all_hosts(at, frame, now_ns);
        }
    }

    fn learn(&mut self, source: MacAddress, at: PortId, frame: &[u8], now_ns: u64) {
        match self.hosts.learn(source, at, arp_sender(frame), now_ns) {
            Learned::Nothing | Learned::New => {}
            Learned::Moved => self.is_stale = true,
            Learned::Storm => {
                self.totals.storms += 1;
                let port = self.port_in_words(at);
                self.trouble(format!(
                    "{port}: frames of {source} come in at changing ports; is there a loop that LLDP does not cross?"
                ));
            }
            Learned::Full => {
                if self.complained.insert((None, "hosts")) {
                    self.trouble(format!(
                        "there are more than {} hosts; no more are learned",
                        hosts::MAX_HOSTS
                    ));
                }
            }
        }
    }

    /// A frame between two hosts, for which its switch has no rule yet.
    fn towards(&mut self, source: MacAddress, destination: MacAddress, at: PortId, frame: &[u8], now_ns: u64) {
        if self.hosts.get(source).is_none() {
            return;
        }
        let pair = (source, destination);
        if self.paths.len() >= paths::MAX_PAIRS && self.paths.pairs().all(|known| known != pair) {
            if self.complained.insert((None, "pairs")) {
                self.trouble(format!(
                    "more than {} pairs of hosts talk; no more get a way",
                    paths::MAX_PAIRS
                ));
            }
            return;
        }
        if !self.lay(pair, now_ns) {
            return;
        }
        let frame = frame.to_vec();
        let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
        self.paths.hold(pair, Held { at, frame }, &mut dispatch);
    }

    /// Lays the way of a pair if it is not the one that it has. False if there is none.
    pub(super) fn lay(&mut self, pair: paths::Pair, now_ns: u64) -> bool {
        let Some(way) = self.way(pair) else { return false };
        if !self.paths.is_along(pair, &way) {
            let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
            self.paths.lay(pair, way, &mut dispatch);
        }
        true
    }

    /// From the source's switch to the destination's port: each switch with its output.
    fn way(&mut self, (source, destination): paths::Pair) -> Option<Vec<(Dpid, PortNumber)>> {
        let from = self.hosts.get(source)?.port.dpid;
        let to = self.hosts.get(destination)?.port;
        let hops = self.routes.between(&self.graph, from, to.dpid)?;
        let outputs = hops.iter().map(|hop| (hop.out.dpid, hop.out.port));
        Some(outputs.chain([(to.dpid, to.port)]).collect())
    }

    /// A frame to a host that nobody has heard of goes to all ports of hosts, past the links: it cannot go around.
    fn reach_all_hosts(&mut self, from: PortId, frame: &[u8], now_ns: u64) {
        if self.unknown_left == 0 {
            return;
        }
        self.unknown_left -= 1;
        let switches: Vec<Dpid> = self.topology.switches().collect();
        for dpid in switches {
            let ports = self.topology.ports_of(dpid);
            let ports = ports.filter(|port| *port != from && self.topology.role(*port, now_ns) == Role::Edge);
            let actions: Vec<Action> = ports.map(|port| Action::Output(port.port)).collect();
            if actions.is_empty() {
                continue;
            }
            let packet = PacketOut {
                in_port: PortNumber::CONTROLLER,
                actions,
                frame: frame.to_vec(),
            };
            let command = Command::Send(Message::PacketOut(packet));
            self.switches.command(dpid, command, &mut self.outbox);
        }
    }
}

const ARP: [u8; 2] = [0x08, 0x06];
/// Ethernet and IPv4, the only addresses that ARP is used with (RFC 826).
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Destination and source of an Ethernet frame.
fn addresses(frame: &[u8]) -> Option<(MacAddress, MacAddress)> {
    let destination = frame.first_chunk::<6>()?;
    let source = frame.get(6..12)?.first_chunk::<6>()?;
    Some((MacAddress(*destination), MacAddress(*source)))
}

/// The sender's IPv4 address, in ARP that names one.
fn arp_sender(frame: &[u8]) -> Option<Ipv4Addr> {
    if frame.get(12..14)? != ARP || frame.get(14..20)? != ARP_ETHERNET_IPV4 {
        return None;
    }
    let address = Ipv4Addr::from(*frame.get(28..32)?.first_chunk::<4>()?);
    (!address.is_unspecified()).then_some(address)
}
