//! What switches say of themselves and of their ports.

use std::net::SocketAddr;

use crate::forwarding::notice::Notice;
use crate::forwarding::switches::Switch;
use crate::forwarding::{Forwarding, dispatch, measure, rules};
use crate::link_delay::Probe;
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::message::ErrorMessage;
use crate::openflow::port::{Port, PortReason};
use crate::openflow::server::{ConnectionId, EventKind};
use crate::topology::PortId;

impl Forwarding {
    pub(super) fn connected(
        &mut self,
        connection: ConnectionId,
        address: SocketAddr,
        dpid: Dpid,
        ports: Vec<Port>,
        now_ns: u64,
    ) {
        if self.switches.is_connected(dpid) {
            self.gone(dpid, now_ns);
        }
        let up: Vec<PortId> = ports
            .iter()
            .filter(|port| port.is_up())
            .map(|port| PortId {
                dpid,
                port: port.number,
            })
            .collect();
        let ports = ports.into_iter().map(|port| (port.number, port)).collect();
        let switch = Switch {
            connection,
            address,
            ports,
        };
        self.switches.insert(dpid, switch);
        self.topology.switch_up(dpid);
        self.flood.switch_up(dpid);
        self.paths.switch_reset(dpid);
        self.rule(dpid, rules::returned(dpid));
        if !self.config.measure_only {
            self.rule(dpid, rules::reserved());
        }
        self.start(Probe::Echo(dpid), now_ns);
        self.start(Probe::Baseline(dpid), now_ns);
        for port in up {
            self.port_up(port, now_ns);
        }
        self.is_stale = true;
        self.notices.push_back(Notice::SwitchUp { dpid, address });
    }

    pub(super) fn gone(&mut self, dpid: Dpid, now_ns: u64) {
        let ports: Vec<PortId> = self.topology.ports_of(dpid).collect();
        for port in ports {
            self.port_down(port, now_ns);
        }
        self.topology.switch_down(dpid, now_ns);
        self.delay.stop(Probe::Echo(dpid));
        self.delay.stop(Probe::Baseline(dpid));
        self.flood.switch_down(dpid);
        self.paths.switch_reset(dpid);
        self.is_stale = true;
    }

    pub(super) fn of_switch(&mut self, dpid: Dpid, what: EventKind, at_ns: u64) {
        match what {
            EventKind::PortStatus(reason, port) => self.port_status(dpid, reason, port, at_ns),
            EventKind::PacketIn(packet) => self.packet_in(dpid, &packet, at_ns),
            EventKind::EchoReply(payload) => {
                if let Some(answer) = measure::echo_answer(dpid, &payload, at_ns) {
                    // What does not match is counted where it is found out.
                    self.delay.answer(&answer).ok();
                }
            }
            EventKind::Barrier(token) => {
                if self.flood.confirmed(dpid, token) {
                    self.is_stale = true;
                }
                let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, at_ns);
                self.paths.confirmed(token, &mut dispatch);
            }
            EventKind::Error(error) => self.refused(dpid, &error),
            EventKind::Connected { .. } | EventKind::Gone { .. } | EventKind::Refused { .. } => {}
        }
    }

    fn refused(&mut self, dpid: Dpid, error: &ErrorMessage) {
        let ErrorMessage { kind, code, .. } = error;
        if self.complained.insert((Some(whole(dpid)), "error")) {
            let name = self.switches.name(dpid);
            self.trouble(format!(
                "switch {name} refused what it was told: OpenFlow error type {kind}, code {code}; said once"
            ));
        }
    }

    fn port_status(&mut self, dpid: Dpid, reason: PortReason, port: Port, now_ns: u64) {
        let id = PortId {
            dpid,
            port: port.number,
        };
        let is_up = reason != PortReason::Delete && port.is_up();
        let Some(switch) = self.switches.get_mut(dpid) else {
            return;
        };
        if reason == PortReason::Delete {
            switch.ports.remove(&port.number);
        } else {
            switch.ports.insert(port.number, port);
        }
        if is_up {
            self.port_up(id, now_ns);
        } else {
            self.port_down(id, now_ns);
        }
    }

    fn port_up(&mut self, port: PortId, now_ns: u64) {
        if self.topology.port_up(port, now_ns) {
            self.start(Probe::Lldp(port), now_ns);
        }
    }

    fn port_down(&mut self, port: PortId, now_ns: u64) {
        if !self.topology.port_down(port, now_ns) {
            return;
        }
        self.delay.stop(Probe::Lldp(port));
        self.kernel.restart(port);
        self.is_stale = true;
        for host in self.hosts.port_down(port) {
            let mut dispatch = dispatch(&self.switches, &mut self.token, &mut self.outbox, now_ns);
            self.paths.forget(host, &mut dispatch);
        }
    }
}

/// A switch as a whole, where ports are named.
fn whole(dpid: Dpid) -> PortId {
    PortId {
        dpid,
        port: PortNumber::ANY,
    }
}
