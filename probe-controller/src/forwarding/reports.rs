//! Handles reports of switches about themselves and their ports.

use std::net::SocketAddr;

use crate::forwarding::notice::Notice;
use crate::forwarding::switches::Switch;
use crate::forwarding::{Forwarding, dispatch, measure, rules};
use crate::link_delay::Probe;
use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::message::ErrorMessage;
use crate::openflow::port::{Port, PortReason};
use crate::openflow::server::{ConnectionId, EventKind, MAX_PORTS, first_rules};
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
        self.ledger
            .connected(connection, first_rules(self.config.measure_only), now_ns);
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
        self.notices.push(Notice::SwitchUp { dpid, address });
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

    pub(super) fn of_switch(&mut self, dpid: Dpid, kind: EventKind, at_ns: u64) {
        match kind {
            EventKind::PortStatus(reason, port) => self.port_status(dpid, reason, port, at_ns),
            EventKind::PacketIn(packet) => self.packet_in(dpid, &packet, at_ns),
            EventKind::EchoReply(payload) => {
                if let Some(answer) = measure::echo_answer(dpid, &payload, at_ns) {
                    // `LinkDelay` counts mismatches.
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
            EventKind::RuleCount(count) => self.counted(dpid, count, at_ns),
            EventKind::Error(error) => self.refused(dpid, &error),
            EventKind::Connected { .. } | EventKind::Gone { .. } | EventKind::Refused { .. } => {}
        }
    }

    fn counted(&mut self, dpid: Dpid, count: u32, now_ns: u64) {
        let Some(connection) = self.switches.get(dpid).map(|switch| switch.connection) else {
            return;
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let gone = self.ledger.counted(connection, count, now_ns);
        if gone > 0 {
            self.totals.rules_restored += gone as u64;
            let name = self.switches.name(dpid);
            self.trouble(format!(
                "switch {name}: rules of this controller are gone ({gone}), and are put back; does somebody else delete them?"
            ));
        }
    }

    fn refused(&mut self, dpid: Dpid, error: &ErrorMessage) {
        let ErrorMessage { kind, code, .. } = error;
        if self.notices.is_first(Some(whole(dpid)), "error") {
            let name = self.switches.name(dpid);
            self.trouble(format!(
                "switch {name} refused a command: OpenFlow error type {kind}, code {code}; reported once"
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
        } else if switch.ports.len() < MAX_PORTS || switch.ports.contains_key(&port.number) {
            switch.ports.insert(port.number, port);
        } else {
            return;
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
            self.forget(host, now_ns);
        }
    }
}

/// Stands for the whole switch among reported ports.
fn whole(dpid: Dpid) -> PortId {
    PortId {
        dpid,
        port: PortNumber::ANY,
    }
}
