//! Connected switches with their ports.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::link_delay::Window;
use crate::openflow::id::{Dpid, MacAddress, PortNumber};
use crate::openflow::port::Port;
use crate::openflow::server::{Command, ConnectionId};
use crate::topology::PortId;

/// Commands for the server, in order.
pub type Outbox = VecDeque<(ConnectionId, Command)>;

#[derive(Debug, Clone)]
pub struct SwitchView<'a> {
    pub dpid: Dpid,
    /// Name of its local port; else its datapath id.
    pub name: String,
    pub address: SocketAddr,
    /// Ports that are up.
    pub ports: usize,
    pub echo: Option<&'a Window>,
    /// Times of a packet-out to CONTROLLER.
    pub baseline: Option<&'a Window>,
}

#[derive(Debug)]
pub(super) struct Switch {
    pub(super) connection: ConnectionId,
    pub(super) address: SocketAddr,
    /// By number, including the local port and ports that are down.
    pub(super) ports: BTreeMap<PortNumber, Port>,
}

/// Names of switches that are kept.
const MAX_NAMES: usize = 4_096;

/// All switches. Names are kept after a switch is gone.
#[derive(Debug, Default)]
pub(super) struct Switches {
    connected: BTreeMap<Dpid, Switch>,
    by_connection: BTreeMap<ConnectionId, Dpid>,
    names: BTreeMap<Dpid, String>,
}

impl Switches {
    pub(super) fn insert(&mut self, dpid: Dpid, switch: Switch) {
        if self.names.len() >= MAX_NAMES {
            self.names.retain(|dpid, _| self.connected.contains_key(dpid));
        }
        if let Some(local) = switch.ports.get(&PortNumber::LOCAL) {
            self.names.insert(dpid, local.name.clone());
        }
        self.by_connection.insert(switch.connection, dpid);
        self.connected.insert(dpid, switch);
    }

    /// Removes the switch of a connection that has ended, unless it has a newer connection.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Dpid> {
        let dpid = self.by_connection.remove(&connection)?;
        if self.connected.get(&dpid)?.connection == connection {
            self.connected.remove(&dpid);
            return Some(dpid);
        }
        None
    }

    pub(super) fn of(&self, connection: ConnectionId) -> Option<Dpid> {
        let dpid = *self.by_connection.get(&connection)?;
        (self.connected.get(&dpid)?.connection == connection).then_some(dpid)
    }

    pub(super) fn get(&self, dpid: Dpid) -> Option<&Switch> {
        self.connected.get(&dpid)
    }

    pub(super) fn get_mut(&mut self, dpid: Dpid) -> Option<&mut Switch> {
        self.connected.get_mut(&dpid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Dpid, &Switch)> {
        self.connected.iter().map(|(dpid, switch)| (*dpid, switch))
    }

    pub(super) fn is_connected(&self, dpid: Dpid) -> bool {
        self.connected.contains_key(&dpid)
    }

    /// Name of the local port, which is the bridge's name in Open vSwitch; else the datapath id.
    pub(super) fn name(&self, dpid: Dpid) -> String {
        self.names.get(&dpid).cloned().unwrap_or_else(|| dpid.to_string())
    }

    /// Whether a frame can come in at a port: a port of the switch, or a reserved one.
    pub(super) fn has(&self, port: PortId) -> bool {
        let of_switch = |switch: &Switch| switch.ports.contains_key(&port.port);
        !port.port.is_ordinary() || self.get(port.dpid).is_some_and(of_switch)
    }

    pub(super) fn port_name(&self, port: PortId) -> Option<&str> {
        Some(&self.get(port.dpid)?.ports.get(&port.port)?.name)
    }

    pub(super) fn mac(&self, port: PortId) -> Option<MacAddress> {
        Some(self.get(port.dpid)?.ports.get(&port.port)?.mac)
    }

    /// Queues a command; false if the switch is not connected.
    pub(super) fn command(&self, dpid: Dpid, command: Command, outbox: &mut Outbox) -> bool {
        match self.connected.get(&dpid) {
            Some(switch) => {
                outbox.push_back((switch.connection, command));
                true
            }
            None => false,
        }
    }
}
