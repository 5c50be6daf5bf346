//! What Open vSwitch knows of a port, from its database (OVSDB, RFC 7047), and how it forwards a flow.
//!
//! Nothing is changed there. A thread of its own follows the database, so measuring never waits for it.

mod database;
mod follow;
mod jsonrpc;
mod trace;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::link::Link;
use crate::ovs::follow::Shared;
pub use crate::ovs::trace::{Flow, Trace, TraceError, trace};

/// Where Open vSwitch has its database's socket, unless it was built or started otherwise.
pub const USUAL_SOCKET: &str = "/var/run/openvswitch/db.sock";

/// Tunnels that are listed; a bridge of a large network has one to each other host.
const MAX_TUNNELS: usize = 16;

/// A port of Open vSwitch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFacts {
    pub bridge: String,
    /// `system` (the kernel's) or `netdev` (that of ovs-vswitchd).
    pub datapath_type: String,
    /// A bond has several interfaces.
    pub port: String,
    /// In Open vSwitch; of a veth pair the end in the switch.
    pub interface: String,
    /// `system`, `internal`, `tap`, `dpdk` …
    #[serde(rename = "type")]
    pub kind: String,
    /// OpenFlow port number; `None` if the switch could not add the port.
    pub ofport: Option<u32>,
    /// VLAN of an access port.
    pub vlan: Option<u16>,
    /// `external_ids:iface-id`, by which OVN and Neutron know the port.
    pub iface_id: Option<String>,
    /// Of the bridge, and of those that patch ports join to it; by name, at most 16.
    pub tunnels: Vec<Tunnel>,
    /// Tunnels that are not listed.
    pub more_tunnels: usize,
    /// Of Open vSwitch.
    pub version: Option<String>,
}

/// A tunnel port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tunnel {
    pub name: String,
    pub bridge: String,
    /// `vxlan`, `geneve`, `gre` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Identifier of the network (VNI), or `flow`: rules decide.
    pub key: Option<String>,
    /// An address, or `flow`.
    pub remote_ip: Option<String>,
    pub local_ip: Option<String>,
}

/// By what a port is recognised in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub mac: [u8; 6],
    /// Kind of the virtual interface.
    pub kind: Option<String>,
    /// Name and MAC address of the other end of a veth pair.
    pub peer: Option<(String, [u8; 6])>,
}

impl Wanted {
    /// `peer` is the other end of a veth pair.
    pub fn new(link: &Link, peer: Option<&Link>) -> Self {
        Self {
            name: link.name.clone(),
            mac: link.mac,
            kind: link.kind.clone(),
            peer: peer.map(|peer| (peer.name.clone(), peer.mac)),
        }
    }
}

/// The database of one Open vSwitch, as it is now. Dropped, the thread ends.
#[derive(Debug)]
pub struct Ovs {
    shared: Arc<Shared>,
}

impl Ovs {
    /// Follows the database behind this socket from now on. A failure is a warning in the log, and is tried again.
    ///
    /// Call it before privileges are dropped: it connects for the first time. Its thread gives up all capabilities.
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        Ok(Self {
            shared: follow::start(socket)?,
        })
    }

    /// Returns when the database has been read once, or is away, or after this time.
    pub fn wait(&self, timeout: Duration) {
        self.shared.wait(timeout);
    }

    /// Another number after each change of the database.
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// `None` if no port of the switch is the wanted one, or the database has never been read. While it is away, the facts
    /// before hold: the switch, too, goes on with what it read last.
    pub fn facts_of(&self, wanted: &Wanted) -> Option<PortFacts> {
        self.shared.facts_of(wanted)
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
