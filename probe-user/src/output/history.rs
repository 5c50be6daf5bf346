//! What an agent remembers for its page: each peer and path over the last hour by window and over the last day by minute, and the
//! last events. Memory is bounded, and a row has what the page shows, not the whole record.

mod minute;
mod packed;
mod peer;
mod row;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use probe_core::stats::report::Path;

use crate::output::history::minute::Minute;
use crate::output::history::packed::Rows;
pub use crate::output::history::peer::{PEER, Peer};
pub use crate::output::history::row::{ROW, Row, SCHEMA};
use crate::output::model::hops::{HopHistory, Outlier};
use crate::output::model::{Event, Results};

/// How long windows are kept.
pub const WINDOWS_NS: u64 = 3_600_000_000_000;
/// How long minutes are kept.
pub const MINUTES_NS: u64 = 86_400_000_000_000;
/// Events that are kept.
pub const MAX_EVENTS: usize = 500;
/// Outliers that are kept.
const MAX_OUTLIERS: usize = 500;

/// Bytes of the windows of one peer and path: an hour of about 4,000 windows.
const MAX_WINDOW_BYTES: usize = 640 << 10;
/// Bytes of its minutes.
const MAX_MINUTE_BYTES: usize = 320 << 10;
/// Bytes of all rows. With more than 273 peers and paths, each has less, and its oldest rows go.
const MAX_BYTES: usize = 256 << 20;

/// Bytes of windows and of minutes that each of so many series may have.
fn shares(number: usize) -> (usize, usize) {
    let share = MAX_BYTES / number.max(1);
    (MAX_WINDOW_BYTES.min(share / 3 * 2), MAX_MINUTE_BYTES.min(share / 3))
}

/// How rows are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// One for each window, over the last hour.
    Report,
    /// One for each minute, over the last day.
    Minute,
}

#[derive(Debug, Default)]
struct Series {
    windows: Rows,
    minutes: Rows,
    /// The minute that is not over.
    minute: Option<Minute>,
}

#[derive(Debug, Default)]
pub struct History {
    peers: BTreeMap<IpAddr, Peer>,
    series: BTreeMap<(IpAddr, Path), Series>,
    events: VecDeque<Event>,
    hops: BTreeMap<(IpAddr, Path), HopHistory>,
    outliers: VecDeque<Outlier>,
}

impl History {
    /// Takes an event. Windows of peers that are not `shown` are left out.
    pub fn event(&mut self, event: &Event, is_shown: impl Fn(&IpAddr) -> bool) {
        match event {
            Event::Windows(windows) => {
                let shown = windows.results.iter().filter(|results| is_shown(&results.peer));
                shown.for_each(|results| self.window(results));
            }
            Event::Start(start) => {
                let given = start.peers.iter().map(|&peer| (peer, Peer::given(peer, start.time)));
                self.peers.extend(given);
            }
            Event::Attach(_) | Event::Interface(_) | Event::Peer(_) | Event::Clock(_) | Event::Ovs(_) => {
                push(&mut self.events, MAX_EVENTS, event.clone());
                if let Event::Peer(change) = event {
                    let new = || Peer {
                        found: change.found,
                        ..Peer::given(change.peer, change.time)
                    };
                    self.peers.entry(change.peer).or_insert_with(new).changed(change);
                }
                self.retain(is_shown);
            }
            Event::Hops(hops) if is_shown(&hops.peer) => {
                let known = self
                    .hops
                    .entry((hops.peer, hops.path))
                    .and_modify(|known| known.add(hops));
                known.or_insert_with(|| HopHistory::new(hops));
            }
            Event::Outlier(outlier) => push(&mut self.outliers, MAX_OUTLIERS, outlier.clone()),
            Event::Hops(_) | Event::Counters(_) | Event::End(_) => {}
        }
    }

    /// Keeps these peers only.
    pub fn retain(&mut self, is_shown: impl Fn(&IpAddr) -> bool) {
        self.peers.retain(|peer, _| is_shown(peer));
        self.series.retain(|(peer, _), _| is_shown(peer));
        self.hops.retain(|(peer, _), _| is_shown(peer));
    }

    fn window(&mut self, results: &Results) {
        if let Some(peer) = self.peers.get_mut(&results.peer) {
            peer.measured(results);
        }
        let key = (results.peer, results.path);
        let number = self.series.len() + usize::from(!self.series.contains_key(&key));
        let (of_windows, of_minutes) = shares(number);
        let series = self.series.entry(key).or_default();
        series.windows.push(&Row::of_window(results), WINDOWS_NS, of_windows);
        if let Some(minute) = series.minute.take_if(|minute| !minute.has(results)) {
            series.minutes.push(&minute.row(), MINUTES_NS, of_minutes);
        }
        series.minute.get_or_insert_with(|| Minute::of(results)).add(results);
    }

    /// Rows of a peer and path, the oldest first; the last minute may not be over.
    pub fn rows(&self, peer: IpAddr, path: Path, by: By) -> impl Iterator<Item = Row> {
        let series = self.series.get(&(peer, path)).into_iter();
        series.flat_map(move |series| {
            let (rows, last) = match by {
                By::Report => (&series.windows, None),
                By::Minute => (&series.minutes, series.minute.as_ref().map(Minute::row)),
            };
            rows.iter().chain(last)
        })
    }

    /// The last windows of a peer and path, at most so many, the oldest first.
    pub fn last_windows(&self, peer: IpAddr, path: Path, number: usize) -> impl Iterator<Item = Row> {
        let series = self.series.get(&(peer, path)).into_iter();
        series.flat_map(move |series| series.windows.last(number))
    }

    /// In order of their addresses.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub fn has_peer(&self, peer: IpAddr) -> bool {
        self.peers.contains_key(&peer)
    }

    /// The newest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().rev()
    }

    /// In order of the peers' addresses, and by path.
    pub fn hops(&self) -> impl Iterator<Item = &HopHistory> {
        self.hops.values()
    }

    /// The newest first.
    pub fn outliers(&self) -> impl Iterator<Item = &Outlier> {
        self.outliers.iter().rev()
    }

    /// Bytes of all rows.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let series = self.series.values();
        series
            .map(|series| series.windows.bytes() + series.minutes.bytes())
            .sum()
    }
}

/// The oldest gives way.
fn push<T>(queue: &mut VecDeque<T>, most: usize, item: T) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests;
