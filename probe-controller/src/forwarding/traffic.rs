//! Handles frames of hosts: learns their positions, and installs their paths.

use std::net::Ipv4Addr;

use crate::forwarding::hosts::{Host, Learned};
use crate::forwarding::paths::Held;
use crate::forwarding::{Forwarding, dispatch, hosts, paths};
use crate::openflow::flow::Action;
use crate::openflow::id::{Dpid, MacAddress, PortNumber};
use crate::openflow::message::{Message, PacketOut};
use crate::openflow::server::Command;
use crate::topology::{PortId, Role};

/// Time between two lines about storms.
const STORM_LINES_NS: u64 = 10_000_000_000;

impl Forwarding {
    pub(super) fn host_frame(&mut self, at: PortId, frame: &[u8], now_ns: u64) {
        let Some((destination, source)) = addresses(frame) else {
            return;
        };
        let role = self.topology.role(at, now_ns);
        let is_edge = matches!(role, Role::Edge | Role::Segment);
        if !is_edge {
            self.hosts.heard(source, now_ns);
        } else if !source.is_group() && !self.passes_segment(source, at, role, now_ns) {
            self.learn(source, at, frame, now_ns);
        }
        if destination.is_group() {
            // The switches flood it without the controller.
            self.totals.broadcasts += 1;
        } else if self.hosts.get(destination).is_some() {
            self.towards(source, destination, at, frame, now_ns);
        } else if is_edge {
            self.reach_all_hosts(at, frame, now_ns);
        }
    }

    /// Whether a frame of a host at a port of its own came in through a segment that connects switches.
    fn passes_segment(&self, source: MacAddress, at: PortId, role: Role, now_ns: u64) -> bool {
        let is_at_edge = |host: &Host| self.topology.role(host.port, now_ns) == Role::Edge;
        role == Role::Segment
            && self.tree.iter().any(|link| link.ends_at(at))
            && self.hosts.get(source).is_some_and(is_at_edge)
    }

    fn learn(&mut self, source: MacAddress, at: PortId, frame: &[u8], now_ns: u64) {
        match self.hosts.learn(source, at, arp_sender(frame), now_ns) {
            Learned::Nothing | Learned::New(None) => {}
            Learned::New(Some(forgotten)) => {
                self.totals.hosts_displaced += 1;
                self.forget(forgotten, now_ns);
                if self.notices.is_first(Some(at), "hosts") {
                    let (port, max) = (self.describe_port(at), hosts::HOSTS_PER_PORT);
                    self.trouble(format!(
                        "{port}: more hosts than there is room for ({max} on a port, {} in all); for each new one the oldest is \
                         forgotten",
                        hosts::MAX_HOSTS
                    ));
                }
            }
            Learned::Moved => self.reinstall_soon(now_ns),
            Learned::Storm => {
                self.totals.storms += 1;
                if self
                    .storm_said_ns
                    .is_none_or(|said_ns| now_ns.saturating_sub(said_ns) >= STORM_LINES_NS)
                {
                    self.storm_said_ns = Some(now_ns);
                    let port = self.describe_port(at);
                    self.trouble(format!(
                        "{port}: frames of {source} come in at changing ports; is there a loop that LLDP does not cross?"
                    ));
                }
            }
        }
    }

    /// Deletes the rules of a host that is no longer known.
    pub(super) fn forget(&mut self, host: MacAddress, now_ns: u64) {
        let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
        self.paths.remove_host(host, &mut dispatch);
    }

    /// Forgets silent hosts, and finds out whether others are active.
    pub(super) fn age_hosts(&mut self, now_ns: u64) {
        let silent = self.hosts.expire(now_ns);
        for host in silent.forgotten {
            self.forget(host, now_ns);
        }
        for host in silent.to_check {
            let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
            self.paths.remove_source(host, &mut dispatch);
        }
    }

    /// Handles a frame between two known hosts without a rule.
    fn towards(&mut self, source: MacAddress, destination: MacAddress, at: PortId, frame: &[u8], now_ns: u64) {
        let Some(from) = self.hosts.get(source).map(|host| host.port) else {
            return;
        };
        let pair = (source, destination);
        if let Some(surplus) = self.paths.surplus(pair, from) {
            self.totals.pairs_displaced += 1;
            let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
            self.paths.remove(surplus, &mut dispatch);
            if self.notices.is_first(Some(from), "pairs") {
                let (port, max) = (self.describe_port(from), paths::PAIRS_PER_PORT);
                self.trouble(format!(
                    "{port}: more pairs of hosts communicate than get rules ({max} for the senders on a port); for each new one \
                     the oldest loses its rules"
                ));
            }
        }
        if !self.install(pair, now_ns) {
            return;
        }
        // A frame that would go back to where hosts share a segment has reached all of them.
        let is_back = self.paths.output(pair, at.dpid) == Some(at.port);
        if is_back && (self.topology.role(at, now_ns) == Role::Edge || self.topology.is_shared(at)) {
            return;
        }
        let frame = frame.to_vec();
        let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
        self.paths.hold(pair, Held { at, frame }, &mut dispatch);
    }

    /// Installs the path of a pair unless it is in place. False if there is no path.
    pub(super) fn install(&mut self, pair: paths::Pair, now_ns: u64) -> bool {
        let Some(path) = self.path(pair) else { return false };
        let Some(from) = self.hosts.get(pair.0).map(|host| host.port) else {
            return false;
        };
        if !self.paths.is_along(pair, &path) {
            let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
            self.paths.install(pair, from, path, &mut dispatch);
        }
        true
    }

    /// The switches from source to destination, each with its output.
    fn path(&mut self, (source, destination): paths::Pair) -> Option<Vec<(Dpid, PortNumber)>> {
        let from = self.topology.serving(self.hosts.get(source)?.port).dpid;
        let to = self.topology.serving(self.hosts.get(destination)?.port);
        let hops = self.routes.between(&self.graph, from, to.dpid)?;
        let outputs = hops.iter().map(|hop| (hop.out.dpid, hop.out.port));
        Some(outputs.chain([(to.dpid, to.port)]).collect())
    }

    /// Sends a frame to an unknown host to all ports of hosts, not along links: it cannot loop.
    fn reach_all_hosts(&mut self, from: PortId, frame: &[u8], now_ns: u64) {
        if self.unknown_left == 0 {
            return;
        }
        self.unknown_left -= 1;
        let switches: Vec<Dpid> = self.topology.switches().collect();
        for dpid in switches {
            let ports = self.topology.ports_of(dpid);
            let is_of_hosts = |port| matches!(self.topology.role(port, now_ns), Role::Edge | Role::Segment);
            let ports = ports.filter(|port| *port != from && is_of_hosts(*port));
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
