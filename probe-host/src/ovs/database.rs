//! The tables of the database that say where a port is, and how a port is found in them. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use probe_core::text::plain;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::ovs::facts::{MAX_TUNNELS, PortFacts, Tunnel, Wanted};

const NAME: &str = "Open_vSwitch";
/// Type of a port that leads to one of another bridge.
const PATCH: &str = "patch";

/// Longest text of a fact, in bytes.
const MAX_TEXT: usize = 64;

/// Parameters of the request `monitor` (RFC 7047 §4.1.5) for the columns that are read here. The monitor is called `id`.
pub fn monitor_params(id: &str) -> Value {
    json!([NAME, id, {
        "Open_vSwitch": [{ "columns": ["ovs_version"] }],
        "Bridge": [{ "columns": ["name", "ports", "datapath_type"] }],
        "Port": [{ "columns": ["name", "interfaces", "tag"] }],
        "Interface": [{ "columns": ["name", "type", "ofport", "external_ids", "options", "mac_in_use"] }],
    }])
}

type Uuid = String;

/// Changed rows of each table.
#[derive(Debug, Default, Deserialize)]
pub struct Updates {
    #[serde(default, rename = "Open_vSwitch")]
    switches: BTreeMap<Uuid, Update<Switch>>,
    #[serde(default, rename = "Bridge")]
    bridges: BTreeMap<Uuid, Update<Bridge>>,
    #[serde(default, rename = "Port")]
    ports: BTreeMap<Uuid, Update<Port>>,
    #[serde(default, rename = "Interface")]
    interfaces: BTreeMap<Uuid, Update<Interface>>,
}

impl Updates {
    /// Of the reply to `monitor`: all rows.
    pub fn of_reply(message: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Reply {
            result: Updates,
        }
        serde_json::from_slice(message).map(|reply: Reply| reply.result)
    }

    /// Of the notification `update`: the rows that have changed.
    pub fn of_update(message: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Notification {
            params: (IgnoredAny, Updates),
        }
        serde_json::from_slice(message).map(|notification: Notification| notification.params.1)
    }
}

/// A row that has no new contents is deleted.
#[derive(Debug, Deserialize)]
struct Update<T> {
    new: Option<T>,
}

#[derive(Debug, Default, Deserialize)]
struct Switch {
    #[serde(default, deserialize_with = "optional_text")]
    ovs_version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Bridge {
    name: String,
    #[serde(deserialize_with = "references")]
    ports: Vec<Uuid>,
    datapath_type: String,
}

#[derive(Debug, Default, Deserialize)]
struct Port {
    name: String,
    #[serde(deserialize_with = "references")]
    interfaces: Vec<Uuid>,
    #[serde(deserialize_with = "optional_number")]
    tag: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct Interface {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(deserialize_with = "optional_number")]
    ofport: Option<i64>,
    external_ids: ExternalIds,
    options: Options,
    #[serde(deserialize_with = "mac_address")]
    mac_in_use: Option<[u8; 6]>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(from = "Pairs")]
struct ExternalIds {
    iface_id: Option<String>,
    /// MAC address of the guest or container behind the port.
    attached_mac: Option<[u8; 6]>,
}

impl From<Pairs> for ExternalIds {
    fn from(Pairs(mut pairs): Pairs) -> Self {
        // Neutron writes the first name, OVN for Kubernetes the second.
        let attached = pairs.remove("attached-mac").or_else(|| pairs.remove("attached_mac"));
        Self {
            iface_id: pairs.remove("iface-id"),
            attached_mac: attached.and_then(|text| parse_mac(&text)),
        }
    }
}

/// Others, such as the key of IPsec, are not kept.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Pairs")]
struct Options {
    key: Option<String>,
    remote_ip: Option<String>,
    local_ip: Option<String>,
    /// Of a patch port.
    peer: Option<String>,
}

impl From<Pairs> for Options {
    fn from(Pairs(mut pairs): Pairs) -> Self {
        Self {
            key: pairs.remove("key").or_else(|| pairs.remove("out_key")),
            remote_ip: pairs.remove("remote_ip"),
            local_ip: pairs.remove("local_ip"),
            peer: pairs.remove("peer"),
        }
    }
}

/// `["map", [[name, value] …]]` (RFC 7047 §5.1).
#[derive(Debug, Deserialize)]
#[serde(from = "(IgnoredAny, Vec<(String, String)>)")]
struct Pairs(BTreeMap<String, String>);

impl From<(IgnoredAny, Vec<(String, String)>)> for Pairs {
    fn from((_, pairs): (IgnoredAny, Vec<(String, String)>)) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// A set of one value is that value, any other `["set", [value …]]`. A reference is `["uuid", text]`.
fn values(value: Value) -> Vec<Value> {
    match value {
        Value::Array(mut parts) if parts.len() == 2 && parts[0] == "set" => match parts.pop() {
            Some(Value::Array(values)) => values,
            _ => Vec::new(),
        },
        one => vec![one],
    }
}

fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Ok(values(Value::deserialize(deserializer)?).into_iter().next())
}

fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(one(deserializer)?.and_then(|value| value.as_str().map(str::to_owned)))
}

fn optional_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(one(deserializer)?.and_then(|value| value.as_i64()))
}

fn mac_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 6]>, D::Error> {
    Ok(optional_text(deserializer)?.and_then(|text| parse_mac(&text)))
}

fn references<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Uuid>, D::Error> {
    let values = values(Value::deserialize(deserializer)?);
    let uuid = |value: Value| value.get(1).and_then(Value::as_str).map(str::to_owned);
    Ok(values.into_iter().filter_map(uuid).collect())
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// The rows, by their identifiers.
#[derive(Debug, Default)]
pub struct Database {
    switches: BTreeMap<Uuid, Switch>,
    bridges: BTreeMap<Uuid, Bridge>,
    ports: BTreeMap<Uuid, Port>,
    interfaces: BTreeMap<Uuid, Interface>,
}

impl Database {
    pub fn apply(&mut self, updates: Updates) {
        apply(&mut self.switches, updates.switches);
        apply(&mut self.bridges, updates.bridges);
        apply(&mut self.ports, updates.ports);
        apply(&mut self.interfaces, updates.interfaces);
    }

    /// `None` if no port, or more than one, can be the wanted one.
    pub fn facts_of(&self, wanted: &Wanted) -> Option<PortFacts> {
        let (uuid, interface) = self.find(wanted)?;
        let (port_uuid, port) = self.ports.iter().find(|(_, port)| port.interfaces.contains(uuid))?;
        let (bridge_uuid, bridge) = self.bridge_of(port_uuid)?;
        let mut tunnels = self.tunnels(bridge_uuid);
        let more_tunnels = tunnels.len().saturating_sub(MAX_TUNNELS);
        tunnels.truncate(MAX_TUNNELS);
        Some(PortFacts {
            bridge: text(&bridge.name),
            datapath_type: or_system(&bridge.datapath_type),
            port: text(&port.name),
            interface: text(&interface.name),
            kind: or_system(&interface.kind),
            // Negative if the switch could not add the port.
            ofport: interface.ofport.and_then(|number| number.try_into().ok()),
            vlan: port.tag.and_then(|tag| tag.try_into().ok()),
            iface_id: interface.external_ids.iface_id.as_deref().map(text),
            tunnels,
            more_tunnels,
            version: self
                .switches
                .values()
                .find_map(|switch| switch.ovs_version.as_deref().map(text)),
        })
    }

    /// A name alone is not enough where it may be that of another interface, in another namespace.
    fn find(&self, wanted: &Wanted) -> Option<(&Uuid, &Interface)> {
        let is_itself = |interface: &Interface| {
            interface.name == wanted.name
                && (is_made_by_switch(interface, wanted) || interface.mac_in_use == Some(wanted.mac))
        };
        let is_peer = |interface: &Interface| {
            let peer = wanted.peer.as_ref();
            peer.is_some_and(|(name, mac)| interface.name == *name && interface.mac_in_use == Some(*mac))
        };
        let is_attached = |interface: &Interface| interface.external_ids.attached_mac == Some(wanted.mac);
        let rules: [&dyn Fn(&Interface) -> bool; 3] = [&is_itself, &is_peer, &is_attached];
        let matching = |rule: &&dyn Fn(&Interface) -> bool| {
            let mut found = self.interfaces.iter().filter(|(_, interface)| rule(interface));
            found.next().filter(|_| found.next().is_none())
        };
        rules.iter().find_map(matching)
    }

    fn bridge_of(&self, port: &Uuid) -> Option<(&Uuid, &Bridge)> {
        self.bridges.iter().find(|(_, bridge)| bridge.ports.contains(port))
    }

    fn interfaces_of<'a>(&'a self, bridge: &'a Bridge) -> impl Iterator<Item = &'a Interface> {
        let ports = bridge.ports.iter().filter_map(|port| self.ports.get(port));
        ports
            .flat_map(|port| &port.interfaces)
            .filter_map(|interface| self.interfaces.get(interface))
    }

    /// Of the bridge and of those that patch ports join to it, sorted by name.
    fn tunnels(&self, bridge: &Uuid) -> Vec<Tunnel> {
        let patches = self.patch_ports();
        let mut seen = BTreeSet::from([bridge]);
        let mut to_visit = vec![bridge];
        let mut tunnels = Vec::new();
        while let Some(bridge) = to_visit.pop().and_then(|uuid| self.bridges.get(uuid)) {
            for Interface {
                name, kind, options, ..
            } in self.interfaces_of(bridge)
            {
                if options.remote_ip.is_some() {
                    tunnels.push(Tunnel {
                        name: text(name),
                        bridge: text(&bridge.name),
                        kind: text(kind),
                        key: options.key.as_deref().map(text),
                        remote_ip: options.remote_ip.as_deref().map(text),
                        local_ip: options.local_ip.as_deref().map(text),
                    });
                } else if kind == PATCH
                    && let Some(next) = options.peer.as_deref().and_then(|peer| patches.get(peer).copied())
                    && seen.insert(next)
                {
                    to_visit.push(next);
                }
            }
        }
        tunnels.sort_unstable();
        tunnels
    }

    /// The bridge of each patch port, by its name.
    fn patch_ports(&self) -> BTreeMap<&str, &Uuid> {
        let bridges = self.bridges.iter();
        let ports = bridges.flat_map(|(uuid, bridge)| self.interfaces_of(bridge).map(move |port| (port, uuid)));
        let patches = ports.filter(|(port, _)| port.kind == PATCH);
        patches.map(|(port, uuid)| (port.name.as_str(), uuid)).collect()
    }
}

fn apply<T>(rows: &mut BTreeMap<Uuid, T>, updates: BTreeMap<Uuid, Update<T>>) {
    for (uuid, update) in updates {
        match update.new {
            Some(row) => rows.insert(uuid, row),
            None => rows.remove(&uuid),
        };
    }
}

/// Whether the switch has made the wanted interface, and not only taken it up: then the name is in its database, wherever the
/// interface was moved.
fn is_made_by_switch(interface: &Interface, wanted: &Wanted) -> bool {
    let is_device = matches!(wanted.kind.as_deref(), Some("openvswitch" | "tun"));
    is_device && matches!(interface.kind.as_str(), "internal" | "tap")
}

/// Open vSwitch leaves the usual type empty.
fn or_system(kind: &str) -> String {
    text(if kind.is_empty() { "system" } else { kind })
}

/// A text of the database, safe to print.
fn text(text: &str) -> String {
    plain(text, MAX_TEXT)
}

#[cfg(test)]
mod tests;
