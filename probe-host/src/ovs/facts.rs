//! What is known of a port, and by what it is recognised.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::link::Link;

/// Tunnels that are listed; a bridge of a large network has one to each other host.
pub const MAX_TUNNELS: usize = 16;

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

impl fmt::Display for PortFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bridge, port, kind, .. } = self;
        write!(f, "{port} of bridge {bridge}, {kind}")?;
        match self.ofport {
            Some(number) => write!(f, ", OpenFlow port {number}")?,
            None => f.write_str(", without an OpenFlow port: the switch could not add it")?,
        }
        if let Some(vlan) = self.vlan {
            write!(f, ", VLAN {vlan}")?;
        }
        if let Some(id) = &self.iface_id {
            write!(f, ", iface-id {id}")?;
        }
        write!(f, "; {} datapath", self.datapath_type)?;
        if let Some(version) = &self.version {
            write!(f, ", Open vSwitch {version}")?;
        }
        match &*self.tunnels {
            [] => Ok(()),
            [tunnel] => write!(f, "; {tunnel}"),
            tunnels => write!(f, "; {} tunnels", tunnels.len() + self.more_tunnels),
        }
    }
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

impl Tunnel {
    /// Type and network, as `vxlan 42`.
    pub fn network(&self) -> String {
        let key = self.key.as_ref().map(|key| format!(" {key}"));
        format!("{}{}", self.kind, key.unwrap_or_default())
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.network())?;
        if let Some(local) = &self.local_ip {
            write!(f, " from {local}")?;
        }
        match &self.remote_ip {
            Some(remote) => write!(f, " to {remote}"),
            None => Ok(()),
        }
    }
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
