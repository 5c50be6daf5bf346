//! What records say about an agent and its peers, in bounded memory and without I/O.

mod row;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use log::Level;
use probe_core::agent::config::MAX_PEERS;
use probe_core::hops::MAX_HOOKS;
use probe_core::stats::report::Path;
use probe_core::text::plain;

pub use crate::command::top::model::row::{Key, MAX_POINTS, Point, Row, State};
use crate::output::model::hops::{HopHistory, Hops};
use crate::output::report::record::{Event, Happening, Hooks, LeftOut, Peer, Record, Results, Start};
use crate::output::text::hops::outlier_words;
use crate::output::time::Utc;

/// Peers by both paths. `--peer` may name more.
pub const MAX_ROWS: usize = 2 * MAX_PEERS;
pub const MAX_EVENTS: usize = 500;
/// Longest text that is kept, in bytes.
const MAX_TEXT: usize = 200;
const MAX_NAME: usize = 64;

/// What a source reports.
#[derive(Debug)]
pub enum Update {
    /// Who measured, and what.
    Record(String, Box<Record>),
    /// A peer as it is now.
    Known {
        peer: IpAddr,
        name: Option<String>,
        is_down: bool,
    },
    /// A line that is no record, and why.
    Unreadable(String),
    /// A line of the agent's diagnostics.
    Said(String),
    /// No records come any more, and why.
    Lost(String),
    /// Records come again, from the start.
    Found,
}

/// Whether a peer is up, by its last record.
#[derive(Debug, Clone, Default)]
struct Whereabouts {
    is_down: bool,
    name: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub agent: String,
    pub start: Option<Box<Start>>,
    /// The hooks of the programs now.
    pub attach: Option<Hooks>,
    /// Since when no records come, and why.
    pub lost: Option<(Utc, String)>,
    rows: BTreeMap<Key, Row>,
    peers: BTreeMap<IpAddr, Whereabouts>,
    events: VecDeque<Happening>,
    /// Peers and paths for which there was no room.
    pub rows_left_out: u64,
    pub summaries: Vec<Results>,
    /// The end of the last window.
    newest: Option<Utc>,
}

impl Model {
    pub fn update(&mut self, update: Update, now: Utc) {
        match update {
            Update::Record(agent, record) => {
                self.agent = plain(&agent, MAX_NAME);
                self.lost = None;
                self.record(*record);
            }
            Update::Known { peer, name, is_down } => self.known(peer, name.as_deref(), is_down),
            Update::Unreadable(why) => self.event(now, &format!("a line that is no record: {why}")),
            Update::Said(line) => self.event(now, message_of(&line)),
            Update::Lost(why) => {
                let why = plain(&why, MAX_TEXT);
                if self.lost.as_ref().is_none_or(|(_, before)| *before != why) {
                    self.event(now, &why);
                }
                let since = self.lost.take().map_or(now, |(since, _)| since);
                self.lost = Some((since, why));
            }
            Update::Found => self.lost = None,
        }
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::Start(start) => self.started(start),
            Record::Event(event) => self.happened(event),
            Record::Window(window) => self.window(*window),
            Record::Summary(mut summary) => {
                clean(&mut summary);
                if self.summaries.len() < MAX_ROWS {
                    self.summaries.push(*summary);
                }
            }
            Record::LeftOut(LeftOut { left_out, time }) => {
                let parts: Vec<String> = left_out
                    .iter()
                    .map(|(kind, number)| format!("{number} {kind}"))
                    .collect();
                self.event(time, &format!("records left out so far: {}", parts.join(", ")));
            }
            Record::Hops(hops) => self.hops(*hops),
            Record::Outlier(outlier) => {
                let text = format!("outlier: {}", outlier_words(&outlier));
                self.happened_once(outlier.time, &text);
            }
            Record::Sample(_) | Record::HopSample | Record::Counters => {}
        }
    }

    fn started(&mut self, mut start: Box<Start>) {
        let of = |text: &String| plain(text, MAX_NAME);
        start.version = of(&start.version);
        start.interface = start.interface.as_ref().map(of);
        start.engine = of(&start.engine);
        if let Some(attach) = &mut start.attach {
            *attach = hooks(attach);
        }
        let is_new = self.start.as_ref().is_none_or(|before| before.time != start.time);
        if is_new {
            // Another run, which counts from 0.
            self.rows.clear();
            self.peers.clear();
            self.newest = None;
            self.event(start.time, "the agent started");
        }
        self.attach.clone_from(&start.attach);
        self.start = Some(start);
    }

    fn happened(&mut self, event: Event) {
        let Happening { time, text } = event.clone().into();
        if !self.happened_once(time, &text) {
            return;
        }
        match &event {
            Event::Attach(change) => {
                if let Some(attach) = &mut self.attach {
                    attach.receive = plain(&change.receive, MAX_NAME);
                }
            }
            Event::Peer(peer) => self.peer(peer),
            Event::Interface(_) | Event::Clock(_) | Event::Ovs(_) => {}
        }
    }

    /// Adds an event, unless it is there already, as from the history. Returns whether it is new.
    fn happened_once(&mut self, time: Utc, text: &str) -> bool {
        let text = plain(text, MAX_TEXT);
        let is_it = |event: &Happening| (event.time, &event.text) == (time, &text);
        let is_new = !self.events.iter().any(is_it);
        if is_new {
            self.event(time, &text);
        }
        is_new
    }

    fn hops(&mut self, mut hops: Hops) {
        let devices = hops.own_devices.iter_mut().chain(hops.far_devices.iter_mut().flatten());
        devices.for_each(|device| device.device = plain(&device.device, MAX_NAME));
        hops.own_devices.truncate(MAX_HOOKS);
        if let Some(devices) = &mut hops.far_devices {
            devices.truncate(MAX_HOOKS);
        }
        // A window comes before its hops.
        if let Some(row) = self.rows.get_mut(&(hops.peer, hops.path)) {
            HopHistory::add_to(&mut row.hops, &hops);
        }
    }

    fn peer(&mut self, change: &Peer) {
        let address = change.peer;
        if let Some(from) = change.moved_from.filter(|_| change.event == "moved") {
            self.peers.remove(&from);
            for path in Path::ALL {
                if let Some(row) = self.rows.remove(&(from, path)) {
                    self.rows.entry((address, path)).or_insert(Row { peer: address, ..row });
                }
            }
        }
        self.known(address, change.name.as_deref(), change.event == "down");
        if change.event == "up" && !self.rows.keys().any(|(peer, _)| *peer == address) {
            self.row(address, Path::Unicast);
        }
    }

    fn known(&mut self, address: IpAddr, name: Option<&str>, is_down: bool) {
        if self.peers.len() >= MAX_ROWS && !self.peers.contains_key(&address) {
            self.peers.retain(|_, peer| !peer.is_down);
        }
        if self.peers.len() < MAX_ROWS || self.peers.contains_key(&address) {
            let peer = self.peers.entry(address).or_default();
            peer.is_down = is_down;
            if let Some(name) = name {
                peer.name = Some(plain(name, MAX_NAME));
            }
        }
    }

    fn window(&mut self, mut window: Results) {
        clean(&mut window);
        self.newest = self.newest.max(Some(window.end));
        if let (Some(name), Some(peer)) = (&window.peer_name, self.peers.get_mut(&window.peer)) {
            peer.name = Some(name.clone());
        }
        match self.row(window.peer, window.path) {
            Some(row) => row.add(window),
            None => self.rows_left_out += 1,
        }
    }

    /// The row, which is created if there is room: the longest silent one gives way.
    fn row(&mut self, peer: IpAddr, path: Path) -> Option<&mut Row> {
        let key = (peer, path);
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            let silent = self.rows.iter().filter(|(_, row)| self.is_gone(row));
            let oldest = silent.min_by_key(|(_, row)| row.last_end()).map(|(&key, _)| key)?;
            self.rows.remove(&oldest);
        }
        Some(self.rows.entry(key).or_insert_with(|| Row::new(peer, path)))
    }

    /// Adds an event in the order of time.
    fn event(&mut self, time: Utc, text: &str) {
        let mut place = self.events.partition_point(|event| event.time <= time);
        if self.events.len() >= MAX_EVENTS {
            if place == 0 {
                return;
            }
            self.events.pop_front();
            place -= 1;
        }
        let text = plain(text, MAX_TEXT);
        self.events.insert(place, Happening { time, text });
    }

    fn is_gone(&self, row: &Row) -> bool {
        matches!(self.state(row), State::Down | State::Stale)
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    pub fn name<'a>(&'a self, row: &'a Row) -> Option<&'a str> {
        let of_peer = || self.peers.get(&row.peer)?.name.as_deref();
        row.name().or_else(of_peer)
    }

    pub fn state(&self, row: &Row) -> State {
        let is_down = self.peers.get(&row.peer).is_some_and(|peer| peer.is_down);
        row.state(is_down, self.newest)
    }

    /// The newest first.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &Happening> {
        self.events.iter().rev()
    }

    /// Number of peers, and of those that are down.
    pub fn peers(&self) -> (usize, usize) {
        let mut peers: Vec<_> = self
            .rows()
            .map(|row| (row.peer, self.state(row) == State::Down))
            .collect();
        peers.dedup_by_key(|(peer, _)| *peer);
        (peers.len(), peers.iter().filter(|(_, is_down)| *is_down).count())
    }

    /// Length of the last window.
    pub fn window_ns(&self) -> Option<u64> {
        let latest = self.rows().filter_map(|row| row.latest.as_ref());
        let latest = latest.max_by_key(|window| window.end)?;
        Some(latest.end.unix_ns.saturating_sub(latest.start.unix_ns))
    }
}

fn hooks(hooks: &Hooks) -> Hooks {
    Hooks {
        egress: hooks.egress.as_ref().map(|hook| plain(hook, MAX_NAME)),
        receive: plain(&hooks.receive, MAX_NAME),
    }
}

/// A line of diagnostics without time, level and module: an event has a time, and its text must fit.
fn message_of(line: &str) -> &str {
    let logged = line.strip_prefix('[').and_then(|line| line.split_once("] "));
    let is_level = |head: &str| {
        head.split_whitespace()
            .nth(1)
            .is_some_and(|word| word.parse::<Level>().is_ok())
    };
    match logged {
        Some((head, message)) if is_level(head) => message,
        _ => line,
    }
}

/// Peers choose their names, and a server may send anything.
fn clean(results: &mut Results) {
    let texts = [&mut results.peer_name, &mut results.peer_attach, &mut results.clock];
    for text in texts.into_iter().flatten() {
        *text = plain(text, MAX_NAME);
    }
}

#[cfg(test)]
mod tests;
