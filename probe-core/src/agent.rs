//! The prober's brain: whom to probe and when, who answered, who fell silent, and what there is to report.
//!
//! A driver sends what [`Agent::poll_transmit`] says, passes in replies, calls [`Agent::expire`] when
//! [`Agent::next_deadline`] is reached, after the replies at hand, and takes events out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use probe_common::family::Family;

use crate::agent::config::ProbeConfig;
use crate::agent::event::{Destination, Event, Found, Transmit};
pub use crate::agent::peers::Peer;
use crate::agent::peers::{Group, GroupProbe, Numbers, Unicast};
use crate::schedule::Schedule;
use crate::session::{ClockOwner, GRACE_NS};
use crate::stats::report::{Path, Report};

pub mod config;
pub mod event;
mod expiry;
mod peers;
mod replies;
#[cfg(test)]
mod tests;

/// Whose probes carry a session identifier.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// Place in `groups`.
    Group(usize),
    /// Place in `peers`.
    Peer(usize),
}

/// All peers and groups of one prober.
#[derive(Debug)]
pub struct Agent {
    config: ProbeConfig,
    schedule: Schedule,
    groups: Vec<Group>,
    /// In the order in which they became known. A peer that is down keeps its entry.
    peers: Vec<Peer>,
    by_address: HashMap<IpAddr, usize>,
    by_ssid: HashMap<u16, Owner>,
    events: VecDeque<Event>,
    /// Not before this does any session have something to expire or hand out.
    expiry_ns: u64,
    /// Not before this is any peer silent for too long.
    silence_ns: u64,
    roll_ns: u64,
    stopped: bool,
    unmatched: u64,
    refused: u64,
}

impl Agent {
    /// An agent whose first probes are due at `now_ns`.
    pub fn new(config: ProbeConfig, now_ns: u64) -> Agent {
        let mut agent = Agent {
            schedule: Schedule::new(config.interval_ns, now_ns),
            groups: Vec::new(),
            peers: Vec::new(),
            by_address: HashMap::new(),
            by_ssid: HashMap::new(),
            events: VecDeque::new(),
            expiry_ns: u64::MAX,
            silence_ns: u64::MAX,
            roll_ns: if config.report_ns == 0 {
                u64::MAX
            } else {
                now_ns + config.report_ns
            },
            stopped: false,
            unmatched: 0,
            refused: 0,
            config,
        };
        for (family, enabled) in [(Family::V4, agent.config.group.v4), (Family::V6, agent.config.group.v6)] {
            if let Some(ssid) = agent.free_ssid().filter(|_| enabled) {
                agent.by_ssid.insert(ssid, Owner::Group(agent.groups.len()));
                let numbers = Numbers::new(ssid);
                if !numbers.is_done(agent.config.count) {
                    agent.join(ssid, now_ns);
                }
                agent.groups.push(Group {
                    family,
                    numbers,
                    recent: VecDeque::new(),
                });
            }
        }
        for address in agent.config.static_peers.clone() {
            if !agent.by_address.contains_key(&address) {
                let peer = agent.admit(address, Found::Static, now_ns);
                agent.probe(peer, now_ns);
            }
        }
        agent
    }

    /// A probe to be sent now; ask again until there is none. After a stall each session sends one probe, not those
    /// it missed.
    pub fn poll_transmit(&mut self, now_ns: u64) -> Option<Transmit> {
        let ssid = self.schedule.take_due(now_ns)?;
        let (destination, seq, done) = match *self.by_ssid.get(&ssid)? {
            Owner::Peer(peer) => {
                let peer = &mut self.peers[peer];
                let unicast = peer.unicast.as_mut()?;
                let seq = unicast.numbers.next();
                unicast.session.sent(seq, now_ns);
                let done = unicast.numbers.is_done(self.config.count);
                (Destination::Peer(peer.address), seq, done)
            }
            Owner::Group(group) => {
                let group = &mut self.groups[group];
                let seq = group.numbers.next();
                group.recent.push_back(GroupProbe { seq, sent_ns: now_ns });
                let family = group.family;
                for peer in self.peers.iter_mut().filter(|peer| peer.in_group) {
                    if let Some(session) = &mut peer.group
                        && Family::of(peer.address) == family
                    {
                        session.sent(seq, now_ns);
                    }
                }
                let done = group.numbers.is_done(self.config.count);
                (Destination::Group(family), seq, done)
            }
        };
        if done {
            self.schedule.leave(ssid);
        }
        self.expiry_ns = self.expiry_ns.min(self.deadline(now_ns));
        Some(Transmit { destination, ssid, seq })
    }

    /// The kernel refused a probe: it is `send_failed`, not sent.
    pub fn transmit_failed(&mut self, transmit: &Transmit) {
        match self.by_ssid.get(&transmit.ssid) {
            Some(&Owner::Peer(peer)) => {
                if let Some(unicast) = &mut self.peers[peer].unicast {
                    unicast.session.send_failed(transmit.seq);
                }
            }
            Some(&Owner::Group(group)) => {
                let group = &mut self.groups[group];
                group.remove(transmit.seq);
                for peer in &mut self.peers {
                    if let Some(session) = &mut peer.group
                        && Family::of(peer.address) == group.family
                    {
                        session.send_failed(transmit.seq);
                    }
                }
            }
            None => {}
        }
    }

    /// When the driver has to call again: [`Agent::poll_transmit`] and [`Agent::expire`].
    pub fn next_deadline(&self) -> Option<u64> {
        let next = self.expiry_ns.min(self.roll_ns);
        let next = next.min(match self.schedule.next_due() {
            Some(due_ns) => due_ns.min(self.silence_ns),
            // A new peer may answer the last probes: the run is not over before their time is.
            None if !self.stopped => self.discovery_ends_ns(),
            None => u64::MAX,
        });
        (next != u64::MAX).then_some(next)
    }

    /// When no group probe sent so far can be answered in time any more.
    fn discovery_ends_ns(&self) -> u64 {
        let last = self.groups.iter().filter_map(|group| group.recent.back());
        let last = last.map(|probe| probe.sent_ns).max();
        last.map_or(u64::MAX, |sent_ns| self.deadline(sent_ns))
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The peer runs on this host's clock, or does not: see [`crate::stats::report::OneWayClock::SameClock`].
    pub fn set_same_clock(&mut self, peer: IpAddr, same_clock: bool) {
        if let Some(&place) = self.by_address.get(&peer) {
            self.peers[place].set_same_clock(same_clock);
        }
    }

    /// The peer keeps a counter of its own, as its identity tells.
    pub fn set_stateful(&mut self, peer: IpAddr, stateful: bool) {
        if let Some(&place) = self.by_address.get(&peer) {
            self.peers[place].set_stateful(stateful);
        }
    }

    /// The wall clock of this host was stepped.
    pub fn own_clock_stepped(&mut self, by_ns: i64) {
        let sessions = self.peers.iter_mut().flat_map(Peer::sessions);
        sessions.for_each(|(_, session)| session.clock_stepped(ClockOwner::ThisHost));
        self.events.push_back(Event::ClockStep { peer: None, by_ns });
    }

    /// The peer's policy has refused `total` probes of this host since the peer began, as it tells. What it had refused
    /// when it told for the first time was not asked by this agent, as far as that can be known.
    pub fn set_refused(&mut self, peer: IpAddr, total: u64) {
        if let Some(&place) = self.by_address.get(&peer) {
            self.peers[place].set_refused(total);
        }
    }

    /// No more probes; those sent are waited for.
    pub fn stop_sending(&mut self) {
        self.stopped = true;
        self.schedule.clear();
    }

    /// Nothing more will be sent, and nothing is waited for: neither an answer to a probe nor, unless the agent was
    /// told to stop, a new peer.
    pub fn is_settled(&self) -> bool {
        let discovered = self.stopped || self.groups.iter().all(|group| group.recent.is_empty());
        self.schedule.is_empty() && discovered && self.peers.iter().all(|peer| peer.pending() == 0)
    }

    /// Ends the run: the last windows become events, whatever is pending, and the summaries are returned, in the
    /// order in which the peers became known, unicast before group.
    pub fn finish(&mut self, now_ns: u64) -> Vec<Report> {
        self.stop_sending();
        let mut summaries = Vec::new();
        for peer in &mut self.peers {
            peer.share_refused();
            for (_, session) in peer.sessions() {
                session.end(now_ns);
                summaries.push(session.summary(now_ns));
            }
            hand_out(peer, &mut self.events);
        }
        summaries
    }

    /// Replies that answer no probe of this agent, or not from where it was sent.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Replies of peers that were one too many for [`ProbeConfig::max_peers`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// End of the oldest window that is over but has not become an event yet: some of its probes may still be
    /// answered. All windows that ended before have become events.
    pub fn held_window_end_ns(&self) -> Option<u64> {
        self.peers.iter().filter_map(Peer::held_window_end_ns).min()
    }

    /// All peers, up or down, in the order in which they became known.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    fn deadline(&self, sent_ns: u64) -> u64 {
        deadline(sent_ns, self.config.timeout_ns)
    }

    fn admit(&mut self, address: IpAddr, found: Found, now_ns: u64) -> usize {
        let place = self.peers.len();
        self.by_address.insert(address, place);
        self.peers.push(Peer::new(address, found, now_ns));
        place
    }

    /// Begins to probe a peer at its own address, or begins again. Without a free identifier it is not probed.
    fn probe(&mut self, place: usize, now_ns: u64) {
        if self.peers[place].unicast.is_none() {
            let Some(ssid) = self.free_ssid() else { return };
            self.by_ssid.insert(ssid, Owner::Peer(place));
            let session = self.peers[place].session(Path::Unicast, self.config.timeout_ns, now_ns);
            self.peers[place].unicast = Some(Unicast {
                numbers: Numbers::new(ssid),
                session,
            });
        }
        if let Some(Unicast { numbers, .. }) = &self.peers[place].unicast
            && !numbers.is_done(self.config.count)
        {
            self.join(numbers.ssid, now_ns);
        }
    }

    fn join(&mut self, ssid: u16, now_ns: u64) {
        if !self.stopped {
            self.schedule
                .join(ssid, ssid.wrapping_sub(self.config.first_ssid), now_ns);
        }
    }

    /// The first identifier after the last one given that is neither 0 nor in use.
    fn free_ssid(&self) -> Option<u16> {
        let given = self.by_ssid.len() as u16;
        let after = self.config.first_ssid.wrapping_add(given);
        (0..=u16::MAX)
            .map(|step| after.wrapping_add(step))
            .find(|ssid| *ssid != 0 && !self.by_ssid.contains_key(ssid))
    }
}

fn deadline(sent_ns: u64, timeout_ns: u64) -> u64 {
    sent_ns.saturating_add(timeout_ns).saturating_add(GRACE_NS)
}

/// Takes the finished windows out of a peer's sessions.
fn hand_out(peer: &mut Peer, events: &mut VecDeque<Event>) {
    for (_, session) in peer.sessions() {
        events.extend(std::iter::from_fn(|| session.take_finished()).map(|report| Event::Window(Box::new(report))));
    }
}
