//! Puts the records of all files together. Its memory depends on the number of pairs, not on the number of records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use probe_core::stats::report::Path;

use crate::output::report::record::{Happening, Record, Results, Sample, Start};
use crate::output::report::session::Session;
use crate::output::time::Utc;

/// Peers and paths of all agents together.
pub const MAX_SESSIONS: usize = 4_096;
/// Further events are counted.
pub const MAX_EVENTS: usize = 1_000;
/// Further runs are counted.
const MAX_RUNS: usize = 256;

/// Why a record cannot be added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("more than {MAX_SESSIONS} pairs of agent, peer and path; report on fewer files at once")]
    TooManySessions,
    #[error("a sample without `t1_ns` and `sent_ns` has no time; correct the line or leave this file out")]
    NoTime,
}

/// A peer and path of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub agent: String,
    pub path: Path,
    pub peer: IpAddr,
}

#[derive(Debug, Default)]
pub struct Model {
    sessions: BTreeMap<Key, Session>,
    runs: Vec<(String, Start)>,
    runs_left_out: u64,
    events: BTreeSet<(Happening, String)>,
    events_left_out: u64,
    agents: BTreeSet<String>,
    /// The agent of an address; `None` of several.
    addresses: BTreeMap<IpAddr, Option<String>>,
    /// From the first to the last record with results.
    time: Option<(Utc, Utc)>,
}

/// An agent, one of its peers, and all addresses and paths between them.
pub struct Pair<'a> {
    pub from: &'a str,
    pub to: String,
    pub sessions: Vec<(&'a Key, &'a Session)>,
}

impl Pair<'_> {
    /// The session that stands for the pair: unicast rather than multicast, IPv4 rather than IPv6.
    pub fn main(&self) -> &Session {
        self.sessions[0].1
    }
}

impl Model {
    pub fn add(&mut self, agent: &str, record: Record) -> Result<(), ModelError> {
        match record {
            Record::Start(start) => self.start(agent, *start),
            Record::Event(event) => self.event(agent, event.into()),
            Record::LeftOut(record) => {
                let parts = record
                    .left_out
                    .iter()
                    .map(|(kind, number)| format!("{number} × {kind}"));
                let parts: Vec<String> = parts.collect();
                let text = format!(
                    "records left out so far, because the reader was too slow: {}",
                    parts.join(", ")
                );
                self.event(
                    agent,
                    Happening {
                        time: record.time,
                        text,
                    },
                );
            }
            Record::Window(window) => {
                self.session(agent, window.peer, window.path)?.add_window(&window);
                self.during(window.start, window.end);
            }
            Record::Summary(summary) => self.summary(agent, &summary)?,
            Record::Sample(sample) => self.sample(agent, &sample)?,
            Record::Hops(hops) => {
                self.session(agent, hops.peer, hops.path)?.hops.add(&hops);
                self.during(hops.start, hops.end);
            }
            Record::Outlier(outlier) => {
                let session = self.session(agent, outlier.peer, outlier.path)?;
                session.hops.add_outlier(*outlier);
            }
            Record::HopSample | Record::Counters => {}
        }
        if !self.agents.contains(agent) {
            self.agents.insert(agent.to_owned());
        }
        Ok(())
    }

    fn start(&mut self, agent: &str, start: Start) {
        for address in &start.addresses {
            self.addresses
                .entry(*address)
                .and_modify(|known| *known = known.take().filter(|known| known == agent))
                .or_insert_with(|| Some(agent.to_owned()));
        }
        let what = start.target.as_ref().map(|target| format!(" to {target}"));
        let text = format!("starts{}", what.unwrap_or_default());
        self.event(agent, Happening { time: start.time, text });
        match self.runs.len() < MAX_RUNS {
            true => self.runs.push((agent.to_owned(), start)),
            false => self.runs_left_out += 1,
        }
    }

    /// Keeps the earliest ones.
    fn event(&mut self, agent: &str, happening: Happening) {
        self.events.insert((happening, agent.to_owned()));
        if self.events.len() > MAX_EVENTS {
            self.events.pop_last();
            self.events_left_out += 1;
        }
    }

    fn summary(&mut self, agent: &str, summary: &Results) -> Result<(), ModelError> {
        self.session(agent, summary.peer, summary.path)?.add_summary(summary);
        self.during(summary.start, summary.end);
        Ok(())
    }

    fn sample(&mut self, agent: &str, sample: &Sample) -> Result<(), ModelError> {
        let at_ns = sample.t1_ns.or(sample.sent_ns).ok_or(ModelError::NoTime)?;
        self.session(agent, sample.peer, sample.path)?.add_sample(at_ns, sample);
        let at = Utc { unix_ns: at_ns };
        self.during(at, at);
        Ok(())
    }

    fn session(&mut self, agent: &str, peer: IpAddr, path: Path) -> Result<&mut Session, ModelError> {
        let agent = agent.to_owned();
        let key = Key { agent, path, peer };
        if self.sessions.len() >= MAX_SESSIONS && !self.sessions.contains_key(&key) {
            return Err(ModelError::TooManySessions);
        }
        Ok(self.sessions.entry(key).or_default())
    }

    fn during(&mut self, start: Utc, end: Utc) {
        let (first, last) = self.time.unwrap_or((start, end));
        self.time = Some((first.min(start), last.max(end)));
    }

    /// From the first to the last result; `None` without results.
    pub fn time(&self) -> Option<(Utc, Utc)> {
        self.time
    }

    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.agents.iter().map(String::as_str)
    }

    pub fn runs(&self) -> (&[(String, Start)], u64) {
        (&self.runs, self.runs_left_out)
    }

    /// The events in order of time, and the number of further ones.
    pub fn events(&self) -> (impl ExactSizeIterator<Item = (&Happening, &str)>, u64) {
        let events = self.events.iter().map(|(happening, agent)| (happening, agent.as_str()));
        (events, self.events_left_out)
    }

    /// The name that a peer has given, or that the agent with this address has; else the address.
    fn name(&self, key: &Key, session: &Session) -> String {
        let of_address = || self.addresses.get(&key.peer).cloned().flatten();
        let name = session.peer_name.clone().or_else(of_address);
        name.unwrap_or_else(|| key.peer.to_string())
    }

    pub fn pairs(&self) -> Vec<Pair<'_>> {
        let mut pairs: BTreeMap<(&str, String), Vec<(&Key, &Session)>> = BTreeMap::new();
        for (key, session) in &self.sessions {
            let pair = (key.agent.as_str(), self.name(key, session));
            pairs.entry(pair).or_default().push((key, session));
        }
        let pair = |((from, to), sessions)| Pair { from, to, sessions };
        pairs.into_iter().map(pair).collect()
    }
}
