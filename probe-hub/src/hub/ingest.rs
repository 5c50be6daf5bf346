//! Takes windows from their stream into the matrix.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use prost::bytes::Bytes;

use super::fleet::{Now, PortId};
use super::follow::{Step, follow};
use super::handle::Hub;
use super::matrix::{Cell, FORGET_NS, MAX_PEERS};
use crate::message::windows::WireCounts;
use crate::name::PortName;
use crate::subjects::WINDOWS;

/// A hub that starts reads the windows of this time, so that it has its matrix at once.
const BACKLOG_NS: u64 = 120_000_000_000;
/// How far in the future a window may end: clocks differ.
const CLOCK_TOLERANCE_NS: u64 = 10_000_000_000;
const MAX_LENGTH_NS: u64 = 3_600_000_000_000;
/// Windows of one batch: of each peer and its addresses.
const MAX_WINDOWS: usize = 4 * MAX_PEERS;
/// Hosts of which wrong batches are counted. They have credentials, so there are not many.
const MAX_HOSTS: usize = 100_000;
/// How often old pairs are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Form,
    Times,
    /// Too many windows.
    Windows,
    /// They contradict each other.
    Counts,
}

pub(super) async fn run(hub: Hub) {
    tokio::select! {
        () = take_windows(&hub) => {}
        () = forget(&hub) => {}
        () = hub.stopped() => {}
    }
}

async fn take_windows(hub: &Hub) {
    hub.loaded().await;
    let since_ns = Now::read().utc_ns.saturating_sub(BACKLOG_NS);
    let mut reader = Reader::default();
    follow(hub, WINDOWS, since_ns, |step| match step {
        Step::Message { subject, payload } => take(hub, &mut reader, subject, payload),
        Step::Current => hub.figures().is_current = true,
    })
    .await;
}

fn take(hub: &Hub, reader: &mut Reader, subject: &str, payload: Bytes) {
    let Some(tokens) = subject
        .strip_prefix(WINDOWS.prefix)
        .and_then(|tokens| tokens.strip_prefix('.'))
    else {
        return;
    };
    let Some(from) = hub.fleet().id_of_tokens(tokens) else {
        hub.figures().unknown += 1;
        return;
    };
    let read = reader.read(payload, from, |name| hub.fleet().id(name), Now::read().utc_ns);
    if read.is_err() {
        let Some(name) = PortName::from_tokens(tokens) else {
            return;
        };
        let mut figures = hub.figures();
        if figures.wrong.len() < MAX_HOSTS || figures.wrong.contains_key(&name.host) {
            *figures.wrong.entry(name.host).or_default() += 1;
        }
        return;
    }
    let windows = reader.cells.len() as u64;
    hub.matrix().take(from, &mut reader.cells);
    {
        let mut figures = hub.figures();
        figures.batches += 1;
        figures.windows += windows;
        figures.old += windows - reader.cells.len() as u64;
        figures.unknown += reader.unknown;
    }
    let mut alerts = hub.alerts();
    for cell in &reader.cells {
        alerts.losses.take(from, cell);
    }
}

async fn forget(hub: &Hub) {
    let mut ticks = tokio::time::interval(FORGET);
    loop {
        ticks.tick().await;
        let now_ns = Now::read().utc_ns;
        hub.matrix().forget(now_ns);
        hub.alerts().losses.forget(now_ns);
    }
}

/// Reads batches without memory of its own for each window.
#[derive(Debug, Default)]
struct Reader {
    batch: Batch,
    /// Peers by their names in windows.
    ids: HashMap<Box<[u8]>, PortId>,
    read: u64,
    cells: Vec<Cell>,
    /// Windows to ports that are not in the fleet.
    unknown: u64,
}

/// A name may get another number, if a port was forgotten and has come back.
const KEEP_IDS: u64 = 100_000;

impl Reader {
    /// Afterwards `cells` are the windows of the batch.
    fn read(
        &mut self,
        payload: Bytes,
        from: PortId,
        id: impl Fn(&PortName) -> Option<PortId>,
        now_ns: u64,
    ) -> Result<(), Wrong> {
        let Self { batch, ids, cells, .. } = self;
        self.read += 1;
        if self.read.is_multiple_of(KEEP_IDS) {
            ids.clear();
        }
        cells.clear();
        self.unknown = 0;
        batch.clear();
        batch.merge(payload).map_err(|_| Wrong::Form)?;
        let length_ns = batch.end_ns.checked_sub(batch.start_ns).ok_or(Wrong::Times)?;
        if !(1..=MAX_LENGTH_NS).contains(&length_ns) || batch.end_ns > now_ns.saturating_add(CLOCK_TOLERANCE_NS) {
            return Err(Wrong::Times);
        }
        if batch.windows.len() > MAX_WINDOWS {
            return Err(Wrong::Windows);
        }
        if now_ns.saturating_sub(batch.end_ns) > FORGET_NS {
            return Ok(());
        }
        for window in &batch.windows {
            let counts = window.counts.unwrap_or_default();
            if counts.lost().saturating_add(counts.received) > counts.sent {
                return Err(Wrong::Counts);
            }
            // A peer without a name was not assigned.
            if window.group || window.peer.is_empty() {
                continue;
            }
            let Some(to) = known(ids, &window.peer, &id).filter(|to| *to != from) else {
                self.unknown += 1;
                continue;
            };
            let rtt_ns = |delay: &Delay| Some((u64::try_from(delay.p50).ok()?, u64::try_from(delay.p99).ok()?));
            let rtt_ns = window.rtt.as_ref().and_then(rtt_ns);
            cells.push(Cell::new(to, batch.start_ns, batch.end_ns, &counts, rtt_ns));
        }
        Ok(())
    }
}

fn known(
    ids: &mut HashMap<Box<[u8]>, PortId>,
    peer: &[u8],
    id: impl Fn(&PortName) -> Option<PortId>,
) -> Option<PortId> {
    if let Some(id) = ids.get(peer) {
        return Some(*id);
    }
    let name = std::str::from_utf8(peer).ok()?.parse().ok()?;
    let id = id(&name)?;
    ids.insert(peer.into(), id);
    Some(id)
}

/// The part of [`windows::Batch`](crate::message::windows::Batch) that the matrix needs.
#[derive(Clone, PartialEq, prost::Message)]
struct Batch {
    #[prost(fixed64, tag = "3")]
    start_ns: u64,
    #[prost(fixed64, tag = "4")]
    end_ns: u64,
    #[prost(message, repeated, tag = "5")]
    windows: Vec<Window>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Window {
    #[prost(bytes = "bytes", tag = "2")]
    peer: Bytes,
    #[prost(bool, tag = "3")]
    group: bool,
    #[prost(message, optional, tag = "4")]
    counts: Option<WireCounts>,
    #[prost(message, optional, tag = "5")]
    rtt: Option<Delay>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Delay {
    #[prost(sint64, tag = "3")]
    p50: i64,
    #[prost(sint64, tag = "5")]
    p99: i64,
}

#[cfg(test)]
mod tests;
