//! Metrics for Prometheus: the sums of all windows since the start, and the state of peers and clocks.
//!
//! A counter only grows, because a window is added once, when its last probe is resolved. A direction of loss that is found later
//! is in the summary of the run alone.

pub mod format;
pub(crate) mod instruments;
mod native;
pub mod otlp;
pub(crate) mod prometheus;
pub use prometheus::encode;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::ValueEnum;
use probe_core::agent::config::MAX_PEERS;
use probe_core::agent::event::{DownReason, Found};
use probe_core::stats::report::Path;
use probe_host::clock::ClockState;
use probe_hub::agent::Status;

use crate::output::metrics::series::Series;
use crate::output::model::hops::Hops;
use crate::output::model::{Event, InterfaceEvent, PeerChange, PeerEvent, Results, Start};

/// Peers with series beside those that the user named, which stay always: twice as many as the agent measures at a time.
const MAX_SHOWN: usize = 2 * MAX_PEERS;

/// The series of a peer that was found are removed when it has been silent for this time. An alert can fire before.
const GONE_NS: u64 = 3_600_000_000_000;

/// How many series there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Detail {
    /// For each peer and path
    #[default]
    Peer,
    /// For each path and IP version, all peers together
    Total,
}

/// Differences below it are not real on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoiseFloor {
    /// The attach mode that it holds for.
    pub attach: String,
    pub ns: u64,
}

/// What the agent reports beside its events.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub clock: Option<ClockState>,
    /// How the agent and its fleet are connected.
    pub hub: Option<Status>,
    /// Packets by counter.
    pub counters: BTreeMap<&'static str, u64>,
    /// Events that the agent could not hand over.
    pub events_lost: u64,
    /// All windows have been sent.
    pub has_ended: bool,
}

#[derive(Debug)]
struct Peer {
    name: String,
    found: Option<Found>,
    is_up: bool,
    /// When it came up or went down.
    since_ns: u64,
    /// It has ended, or was silent for long: it has no series until it comes up again.
    is_gone: bool,
    series: BTreeMap<Path, Series>,
}

/// All that a scrape shows. `now_ns` is the same clock in all calls.
#[derive(Debug)]
pub struct Metrics {
    detail: Detail,
    floor: Option<NoiseFloor>,
    start: Option<Start>,
    peers: BTreeMap<IpAddr, Peer>,
    /// With [`Detail::Total`]: by path and IP version.
    totals: BTreeMap<(Path, &'static str), Series>,
    state: State,
    interface_is_up: bool,
    last_window_ns: Option<u64>,
    own_clock_steps: u64,
    /// Events that the agent could not hand over.
    events_lost: u64,
}

impl Metrics {
    pub fn new(detail: Detail, floor: Option<NoiseFloor>) -> Self {
        Self {
            detail,
            floor,
            start: None,
            peers: BTreeMap::new(),
            totals: BTreeMap::new(),
            state: State::default(),
            interface_is_up: true,
            last_window_ns: None,
            own_clock_steps: 0,
            events_lost: 0,
        }
    }

    pub fn set_state(&mut self, state: State) {
        self.events_lost = self.events_lost.max(state.events_lost);
        self.state = state;
    }

    pub fn set_events_lost(&mut self, lost: u64) {
        self.events_lost = lost;
    }

    /// Whether the peer has series, or would have them with [`Detail::Peer`].
    pub fn is_shown(&self, peer: &IpAddr) -> bool {
        self.peers.get(peer).is_some_and(|peer| !peer.is_gone)
    }

    pub fn interface_is_up(&self) -> bool {
        self.interface_is_up
    }

    /// With the hook that is in use now.
    pub fn start(&self) -> Option<&Start> {
        self.start.as_ref()
    }

    /// Whether everything has come.
    pub fn has_ended(&self) -> bool {
        self.state.has_ended
    }

    pub fn event(&mut self, event: &Event, now_ns: u64) {
        match event {
            Event::Start(start) => {
                self.start = Some(start.clone());
                for &address in &start.peers {
                    self.peer(address, now_ns).found = Some(Found::Static);
                }
            }
            Event::Attach(change) => {
                if let Some(start) = &mut self.start {
                    start.attach.receive = change.receive;
                }
            }
            Event::Interface(change) => match change.event {
                InterfaceEvent::Down | InterfaceEvent::Deleted => self.interface_is_up = false,
                InterfaceEvent::Up | InterfaceEvent::Back => self.interface_is_up = true,
                InterfaceEvent::Joined => {}
            },
            Event::Peer(change) => self.peer_changed(change, now_ns),
            Event::Ovs(change) => {
                if let Some(start) = &mut self.start {
                    start.ovs = change.ovs.clone().map(Box::new);
                }
            }
            Event::Clock(step) => self.own_clock_steps += u64::from(step.peer.is_none()),
            Event::Windows(windows) => {
                windows.results.iter().for_each(|results| self.window(results, now_ns));
                self.last_window_ns = Some(windows.time.unix_ns);
            }
            Event::Hops(hops) => self.hops(hops, now_ns),
            Event::Outlier(_) | Event::Counters(_) | Event::End(_) => {}
        }
    }

    /// Removes the series of peers that have been silent for long.
    pub fn expire(&mut self, now_ns: u64) {
        for peer in self.peers.values_mut() {
            let is_silent = !peer.is_up && now_ns.saturating_sub(peer.since_ns) >= GONE_NS;
            if is_silent && peer.found != Some(Found::Static) {
                peer.leave();
            }
        }
    }

    fn peer_changed(&mut self, change: &PeerChange, now_ns: u64) {
        let peer = self.peer(change.peer, now_ns);
        if peer.found != Some(Found::Static) {
            peer.found = Some(change.found);
        }
        if let Some(name) = &change.name {
            peer.name.clone_from(name);
        }
        let is_up = change.event != PeerEvent::Down;
        if peer.is_up != is_up {
            (peer.is_up, peer.since_ns) = (is_up, now_ns);
        }
        if is_up {
            peer.is_gone = false;
        }
        let has_left = match change.reason {
            Some(DownReason::Ended | DownReason::NoAddress) => peer.found != Some(Found::Static),
            Some(DownReason::Removed) => true,
            // A legacy agent is now probed by STAMP.
            Some(DownReason::Silent | DownReason::SpeaksStamp) | None => false,
        };
        if has_left {
            peer.leave();
        }
    }

    fn window(&mut self, results: &Results, now_ns: u64) {
        let peer = self.peer(results.peer, now_ns);
        if let Some(name) = &results.peer_name {
            peer.name.clone_from(name);
        }
        if let Some(series) = self.series(results.peer, results.path, now_ns) {
            series.add(results);
        }
    }

    fn hops(&mut self, hops: &Hops, now_ns: u64) {
        if let Some(series) = self.series(hops.peer, hops.path, now_ns) {
            series.add_hops(hops);
        }
    }

    /// The sums that a window of this peer and path is added to.
    fn series(&mut self, peer: IpAddr, path: Path, now_ns: u64) -> Option<&mut Series> {
        match self.detail {
            Detail::Peer => {
                let peer = self.peer(peer, now_ns);
                (!peer.is_gone).then(|| peer.series.entry(path).or_default())
            }
            Detail::Total => Some(self.totals.entry((path, family(peer))).or_default()),
        }
    }

    fn peer(&mut self, address: IpAddr, now_ns: u64) -> &mut Peer {
        let named = self.start.as_ref().map_or(0, |start| start.peers.len());
        if self.peers.len() >= MAX_SHOWN + named && !self.peers.contains_key(&address) {
            let down = self
                .peers
                .iter()
                .filter(|(_, peer)| !peer.is_up && peer.found != Some(Found::Static));
            let oldest = down.min_by_key(|(_, peer)| peer.since_ns).map(|(address, _)| *address);
            oldest.map(|address| self.peers.remove(&address));
        }
        self.peers.entry(address).or_insert_with(|| Peer {
            name: String::new(),
            found: None,
            is_up: false,
            since_ns: now_ns,
            is_gone: false,
            series: BTreeMap::new(),
        })
    }
}

impl Peer {
    fn leave(&mut self) {
        self.is_gone = true;
        self.series.clear();
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "v4" } else { "v6" }
}
