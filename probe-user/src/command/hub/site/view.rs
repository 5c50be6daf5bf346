//! The hosts of a matrix: an index for each, the ports behind it, and labels.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use probe_hub::hub::fleet::{Fleet, PortId};
use probe_hub::hub::matrix::{Cell, Matrix};
use probe_hub::message::presence::{RACK, ZONE};
use probe_hub::name::HostName;
use serde::Serialize;

/// Hosts of one matrix. Of a larger fleet, one zone at a time is shown.
pub const MAX_HOSTS: usize = 1_024;
/// No host of the matrix has the port.
const NONE: u16 = u16::MAX;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Host {
    pub name: HostName,
    pub zone: String,
    pub rack: String,
}

#[derive(Debug, Default)]
pub struct View {
    pub hosts: Vec<Host>,
    /// By host.
    ports: Vec<Vec<PortId>>,
    /// By the number of a port.
    of_port: Vec<u16>,
    /// Hosts that are not heard.
    pub down: Vec<u16>,
    /// Hosts of the fleet.
    pub number: usize,
    /// In alphabetical order.
    pub zones: Vec<String>,
}

/// A label of the first port that has it, or "".
pub fn label<'a>(fleet: &'a Fleet, mut ports: impl Iterator<Item = PortId>, name: &str) -> &'a str {
    let found = ports.find_map(|id| {
        let label = fleet.port(id)?.presence.label(name);
        (!label.is_empty()).then_some(label)
    });
    found.unwrap_or_default()
}

impl View {
    /// The first [`MAX_HOSTS`] hosts, by name, of one zone or of all.
    pub fn new(fleet: &Fleet, zone: Option<&str>, monotonic_ns: u64) -> Self {
        let mut view = Self::default();
        for (name, ports) in fleet.hosts() {
            view.number += 1;
            let [host_zone, rack] = [ZONE, RACK].map(|name| label(fleet, ports.iter().copied(), name).to_owned());
            view.zones.push(host_zone.clone());
            if view.hosts.len() == MAX_HOSTS || zone.is_some_and(|zone| zone != host_zone) {
                continue;
            }
            let index = view.hosts.len() as u16;
            for id in ports {
                let at = id.0 as usize;
                if view.of_port.len() <= at {
                    view.of_port.resize(at + 1, NONE);
                }
                view.of_port[at] = index;
            }
            if !fleet.is_host_alive(name, monotonic_ns) {
                view.down.push(index);
            }
            view.ports.push(ports.iter().copied().collect());
            view.hosts.push(Host {
                name: name.clone(),
                zone: host_zone,
                rack,
            });
        }
        view.zones.sort_unstable();
        view.zones.dedup();
        view.zones.retain(|zone| !zone.is_empty());
        view
    }

    /// Another one if hosts or their labels are others.
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hosts.hash(&mut hasher);
        hasher.finish()
    }

    /// The index of the host that has a port.
    pub fn host_of(&self, port: PortId) -> Option<u16> {
        let index = self.of_port.get(port.0 as usize)?;
        (*index != NONE).then_some(*index)
    }

    /// Pairs of hosts whose cells have changed since a version: each with the worst cell of its pairs of ports.
    pub fn changed(&self, matrix: &Matrix, since: u64, now_ns: u64) -> Vec<(u16, u16, Cell)> {
        let number = self.hosts.len();
        let mut seen = vec![0_u64; (number * number).div_ceil(64)];
        let mut changed = Vec::new();
        for (port, cell) in matrix.cells_since(since) {
            let (Some(from), Some(to)) = (self.host_of(port), self.host_of(cell.to)) else {
                continue;
            };
            if from == to {
                continue;
            }
            if self.ports[usize::from(from)].len() == 1 && self.ports[usize::from(to)].len() == 1 {
                changed.push((from, to, *cell));
                continue;
            }
            let place = usize::from(from) * number + usize::from(to);
            let (word, bit) = (place / 64, 1 << (place % 64));
            if seen[word] & bit == 0 {
                seen[word] |= bit;
                changed.extend(self.worst(matrix, from, to, now_ns).map(|cell| (from, to, *cell)));
            }
        }
        changed
    }

    fn worst<'a>(&self, matrix: &'a Matrix, from: u16, to: u16, now_ns: u64) -> Option<&'a Cell> {
        let [from, to] = [from, to].map(|host| &self.ports[usize::from(host)]);
        let cells = from
            .iter()
            .flat_map(|from| to.iter().filter_map(|to| matrix.cell(*from, *to)));
        cells.max_by(|one, other| one.severity_order(other, now_ns))
    }
}
