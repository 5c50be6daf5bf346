//! The newest window of each directed pair of ports. A pair without a new one ages: it is never taken for good or for lost.
//!
//! The same batches give the same cells in any order, however often each comes. A cell takes 64 bytes.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use crate::hub::fleet::PortId;
use crate::message::event::Direction;
use crate::message::windows::WireCounts;

/// A pair without a window for this time is forgotten.
pub const FORGET_NS: u64 = 3_600_000_000_000;
/// Peers of one port. The pairs with the oldest windows are forgotten for others.
pub const MAX_PEERS: usize = 1024;
/// A cell is stale when this time has passed without a new window, or three times the window's length if that is more.
const STALE_NS: u64 = 30_000_000_000;

#[derive(Debug, Default)]
pub struct Matrix {
    /// By the port that measures.
    rows: Vec<Row>,
    version: u64,
    newest_ns: u64,
}

#[derive(Debug, Default)]
struct Row {
    /// Of the newest cell.
    version: u64,
    /// In ascending order of ports.
    cells: Vec<Cell>,
}

/// What a port has measured to one peer in one window, all addresses of the peer together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub to: PortId,
    pub sent: u32,
    pub received: u32,
    pub lost_forward: u32,
    pub lost_backward: u32,
    pub lost_unknown: u32,
    pub end_ns: u64,
    pub length_ns: u64,
    /// Of the slowest address; 0 without a reply.
    p50_ns: u64,
    p99_ns: u64,
    /// Of the matrix when it was entered.
    pub version: u64,
}

impl Cell {
    /// `rtt_ns` is the median and the 99th percentile of the round trip.
    pub fn new(to: PortId, start_ns: u64, end_ns: u64, counts: &WireCounts, rtt_ns: Option<(u64, u64)>) -> Self {
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let (p50_ns, p99_ns) = rtt_ns.unwrap_or_default();
        Self {
            to,
            sent: small(counts.sent),
            received: small(counts.received),
            lost_forward: small(counts.lost_forward),
            lost_backward: small(counts.lost_backward),
            lost_unknown: small(counts.lost_unknown),
            end_ns,
            length_ns: end_ns.saturating_sub(start_ns),
            p50_ns,
            p99_ns,
            version: 0,
        }
    }

    pub fn start_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.length_ns)
    }

    pub fn lost(&self) -> u32 {
        self.lost_forward
            .saturating_add(self.lost_backward)
            .saturating_add(self.lost_unknown)
    }

    /// The share of probes that were lost; `None` if none has been concluded.
    pub fn loss(&self) -> Option<f64> {
        let lost = f64::from(self.lost());
        let concluded = lost + f64::from(self.received);
        (concluded > 0.0).then(|| lost / concluded)
    }

    /// Where most probes were lost; `None` without a loss.
    pub fn direction(&self) -> Option<Direction> {
        direction(self.lost_forward, self.lost_backward, self.lost_unknown)
    }

    /// Of the round trip.
    pub fn p50_ns(&self) -> Option<u64> {
        (self.p50_ns > 0).then_some(self.p50_ns)
    }

    pub fn p99_ns(&self) -> Option<u64> {
        (self.p99_ns > 0).then_some(self.p99_ns)
    }

    pub fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.end_ns)
    }

    /// The age after which it has no data about now.
    pub fn stale_ns(&self) -> u64 {
        STALE_NS.max(self.length_ns.saturating_mul(3))
    }

    /// It has no data about now.
    pub fn is_stale(&self, now_ns: u64) -> bool {
        self.age_ns(now_ns) > self.stale_ns()
    }

    /// Adds a window of another address of the peer.
    fn merge(&mut self, other: &Self) {
        let start_ns = self.start_ns().min(other.start_ns());
        for (own, theirs) in [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.lost_forward, other.lost_forward),
            (&mut self.lost_backward, other.lost_backward),
            (&mut self.lost_unknown, other.lost_unknown),
        ] {
            *own = own.saturating_add(theirs);
        }
        self.end_ns = self.end_ns.max(other.end_ns);
        self.length_ns = self.end_ns - start_ns;
        self.p50_ns = self.p50_ns.max(other.p50_ns);
        self.p99_ns = self.p99_ns.max(other.p99_ns);
    }

    /// The order of windows of one pair. Only equal ones have the same place.
    fn age_order(&self, other: &Self) -> Ordering {
        let key = |cell: &Self| {
            let counts = (cell.sent, cell.received, cell.lost_forward, cell.lost_backward);
            let rest = (cell.lost_unknown, cell.length_ns, cell.p50_ns, cell.p99_ns);
            (cell.end_ns, counts, rest)
        };
        key(self).cmp(&key(other))
    }

    /// Of two cells, the greater one needs attention first: it has data, then loses more, then is slower.
    pub fn severity_order(&self, other: &Self, now_ns: u64) -> Ordering {
        let loss = |cell: &Self| cell.loss().unwrap_or(0.0);
        self.is_stale(now_ns)
            .cmp(&other.is_stale(now_ns))
            .reverse()
            .then(loss(self).total_cmp(&loss(other)))
            .then(self.p99_ns.cmp(&other.p99_ns))
            .then(self.end_ns.cmp(&other.end_ns))
    }
}

/// Where most of some losses happened; `None` without any.
pub fn direction(forward: u32, backward: u32, unknown: u32) -> Option<Direction> {
    let most = forward.max(backward).max(unknown);
    match most {
        0 => None,
        _ if forward == most => Some(Direction::Forward),
        _ if backward == most => Some(Direction::Backward),
        _ => Some(Direction::Unknown),
    }
}

/// The worst of all pairs of ports of two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPair<H> {
    pub from: H,
    pub to: H,
    /// The port that measures the worst pair.
    pub port: PortId,
    pub worst: Cell,
    /// Of the newest cell.
    pub version: u64,
    pub pairs: u32,
}

impl Matrix {
    /// Enters the windows of one batch of the port `from`, and keeps in `cells` those that are newer than what was known.
    pub fn take(&mut self, from: PortId, cells: &mut Vec<Cell>) {
        let index = from.0 as usize;
        if self.rows.len() <= index {
            self.rows.resize_with(index + 1, Row::default);
        }
        let row = &mut self.rows[index];
        let version = self.version + 1;
        cells.sort_unstable_by_key(|cell| cell.to);
        cells.dedup_by(|other, cell| {
            let is_same = cell.to == other.to;
            if is_same {
                cell.merge(other);
            }
            is_same
        });
        cells.retain_mut(|cell| {
            cell.version = version;
            row.enter(*cell)
        });
        if let Some(newest_ns) = cells.iter().map(|cell| cell.end_ns).max() {
            row.version = version;
            self.version = version;
            self.newest_ns = self.newest_ns.max(newest_ns);
        }
    }

    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// End of the newest window of all; `None` if there has been none.
    pub fn newest_ns(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.newest_ns)
    }

    /// End of the window of the pair that has had none for longest.
    pub fn oldest_ns(&self) -> Option<u64> {
        self.cells().map(|(_, cell)| cell.end_ns).min()
    }

    pub fn cell(&self, from: PortId, to: PortId) -> Option<&Cell> {
        let cells = self.row(from);
        let index = cells.binary_search_by_key(&to, |cell| cell.to).ok()?;
        Some(&cells[index])
    }

    /// What a port has measured, in ascending order of peers.
    pub fn row(&self, from: PortId) -> &[Cell] {
        self.rows.get(from.0 as usize).map_or(&[], |row| &row.cells)
    }

    /// All cells, each with the port that measures.
    pub fn cells(&self) -> impl Iterator<Item = (PortId, &Cell)> {
        self.cells_since(0)
    }

    /// The cells that have changed since the matrix had this version.
    pub fn cells_since(&self, version: u64) -> impl Iterator<Item = (PortId, &Cell)> {
        let rows = self.rows.iter().zip(0..).filter(move |(row, _)| row.version > version);
        rows.flat_map(move |(row, from)| {
            let changed = row.cells.iter().filter(move |cell| cell.version > version);
            changed.map(move |cell| (PortId(from), cell))
        })
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.rows.iter().map(|row| row.cells.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.version == 0
    }

    /// The pairs of hosts that have changed since the matrix had this version. `host` says whose a port is; pairs with a port of
    /// none are left out.
    pub fn hosts_since<H: Copy + Eq + Hash>(
        &self,
        version: u64,
        now_ns: u64,
        host: impl Fn(PortId) -> Option<H>,
    ) -> Vec<HostPair<H>> {
        let mut pairs: HashMap<(H, H), HostPair<H>> = HashMap::new();
        for (port, row) in (0..).map(PortId).zip(&self.rows) {
            let Some(from) = host(port) else { continue };
            for &cell in &row.cells {
                let Some(to) = host(cell.to) else { continue };
                let pair = pairs.entry((from, to)).or_insert(HostPair {
                    from,
                    to,
                    port,
                    worst: cell,
                    version: 0,
                    pairs: 0,
                });
                if cell.severity_order(&pair.worst, now_ns).is_gt() {
                    (pair.port, pair.worst) = (port, cell);
                }
                pair.version = pair.version.max(cell.version);
                pair.pairs += 1;
            }
        }
        pairs.into_values().filter(|pair| pair.version > version).collect()
    }

    /// Forgets pairs that have had no window for [`FORGET_NS`].
    pub fn forget(&mut self, now_ns: u64) {
        for row in &mut self.rows {
            row.cells.retain(|cell| cell.age_ns(now_ns) <= FORGET_NS);
            row.cells.shrink_to(2 * row.cells.len());
        }
    }
}

impl Row {
    /// Whether it is newer than the cell that was there.
    fn enter(&mut self, cell: Cell) -> bool {
        match self.cells.binary_search_by_key(&cell.to, |cell| cell.to) {
            Ok(index) => {
                let is_newer = cell.age_order(&self.cells[index]).is_gt();
                if is_newer {
                    self.cells[index] = cell;
                }
                is_newer
            }
            Err(_) if self.cells.len() >= MAX_PEERS => {
                let key = |cell: &Cell| (cell.end_ns, cell.to);
                let Some(oldest) = (0..self.cells.len()).min_by_key(|&index| key(&self.cells[index])) else {
                    return false;
                };
                let is_newer = key(&cell) > key(&self.cells[oldest]);
                if is_newer {
                    self.cells.remove(oldest);
                    self.enter(cell);
                }
                is_newer
            }
            Err(index) => {
                self.cells.insert(index, cell);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
