//! Decides which peers to probe and when, which are up, and what to report.
//!
//! The driver sends the probes from [`Agent::poll_transmit`] and passes in replies. At [`Agent::next_deadline`] it calls
//! [`Agent::expire`], after the replies it already has. Then it takes the events.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use probe_common::family::Family;

use crate::agent::candidates::Candidates;
use crate::agent::config::ProbeConfig;
use crate::agent::event::{Destination, Event, Found, Transmit};
pub use crate::agent::peers::Peer;
use crate::agent::peers::{Group, Recent, SentProbe, Sequence, Unicast};
use crate::agent::timers::{HeldWindows, Timers};
use crate::observation::SendFailure;
use crate::reflector::policy::Policy;
use crate::schedule::Schedule;
use crate::session::{ClockOwner, GRACE_NS, Outcome, Session};
use crate::stats::report::{Path, Report};

mod candidates;
pub mod config;
pub mod event;
mod expiry;
mod peers;
mod reconfigure;
mod replies;
#[cfg(test)]
mod tests;
mod timers;

/// Peers whose timestamp format is reported in one run, however many come and go.
pub const MAX_FORMAT_EVENTS: usize = 32;

/// The owner of a session identifier.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// Index in `groups`.
    Group(usize),
    /// Index in `peers`.
    Peer(usize),
}

/// All peers and groups that are probed.
#[derive(Debug)]
pub struct Agent {
    config: ProbeConfig,
    /// Probed beside the static peers of the configuration.
    assigned: Vec<IpAddr>,
    schedule: Schedule,
    groups: Vec<Group>,
    /// In the order of discovery, except for those that took the place of another. A peer that is down keeps its entry
    /// until a new one needs it.
    peers: Vec<Peer>,
    /// The last summaries of evicted peers.
    ended: VecDeque<Report>,
    evicted: u64,
    by_address: HashMap<IpAddr, usize>,
    candidates: Candidates,
    /// The sources that may be peers without being named.
    policy: Arc<Policy>,
    by_ssid: HashMap<u16, Owner>,
    events: VecDeque<Event>,
    /// When the sessions of each peer have something to expire or to hand out.
    timers: Timers,
    /// Places of the peers that announced their end.
    gone: BTreeSet<usize>,
    held: HeldWindows,
    /// All replies to probes whose deadline is not after this have been processed.
    expired_ns: u64,
    /// No peer is silent for too long before this.
    silence_ns: u64,
    roll_ns: u64,
    stopped: bool,
    unmatched: u64,
    not_allowed: u64,
    refused: u64,
    format_events: usize,
}

/// Summaries of evicted peers that are kept.
const MAX_ENDED: usize = 1024;

/// A peer causes one [`Event::ClockStep`] in this time, and in a report window if that is longer.
const MIN_STEP_EVENT_NS: u64 = 10_000_000_000;

/// In this many intervals a candidate has time to answer a second probe, even if some get lost.
const CANDIDATE_PROBES: u64 = 8;

impl Agent {
    /// The first probes are due at `now_ns`. Until [`Agent::set_policy`], no peer is found.
    pub fn new(config: ProbeConfig, now_ns: u64) -> Self {
        let mut agent = Self {
            schedule: Schedule::new(config.interval_ns, now_ns),
            groups: Vec::new(),
            peers: Vec::new(),
            ended: VecDeque::new(),
            evicted: 0,
            by_address: HashMap::new(),
            candidates: Candidates::new(candidate_ns(&config)),
            policy: Arc::default(),
            by_ssid: HashMap::new(),
            events: VecDeque::new(),
            timers: Timers::default(),
            gone: BTreeSet::new(),
            held: HeldWindows::default(),
            expired_ns: 0,
            silence_ns: u64::MAX,
            roll_ns: if config.report_ns == 0 {
                u64::MAX
            } else {
                now_ns + config.report_ns
            },
            stopped: false,
            unmatched: 0,
            not_allowed: 0,
            refused: 0,
            format_events: 0,
            assigned: Vec::new(),
            config,
        };
        for (family, enabled) in [(Family::V4, agent.config.group.v4), (Family::V6, agent.config.group.v6)] {
            if enabled {
                agent.add_group(family, now_ns);
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

    /// Counts the turns of sessions from `start_ns` on. Call it before there are any.
    pub fn start_turns(&mut self, start_ns: u64) {
        self.schedule = Schedule::new(self.config.interval_ns, start_ns);
    }

    /// Probes the group of another IP version from now on.
    pub fn add_group(&mut self, family: Family, now_ns: u64) {
        let is_known = self.groups.iter().any(|group| group.family == family);
        let Some(ssid) = self.free_ssid().filter(|_| !is_known) else {
            return;
        };
        self.by_ssid.insert(ssid, Owner::Group(self.groups.len()));
        let sequence = Sequence::new(ssid);
        if !sequence.is_done(self.config.count) {
            self.join(ssid, now_ns);
        }
        self.groups.push(Group {
            family,
            sequence,
            recent: Recent::default(),
        });
    }

    /// A probe to send now; call again until there is none. After a stall each session sends one probe, not those it
    /// missed.
    pub fn poll_transmit(&mut self, now_ns: u64) -> Option<Transmit> {
        let ssid = self.schedule.take_due(now_ns)?;
        let deadline_ns = self.deadline(now_ns);
        let (destination, seq, done) = match *self.by_ssid.get(&ssid)? {
            Owner::Peer(place) => {
                let is_over = self.is_over();
                let peer = &mut self.peers[place];
                let unicast = peer.unicast.as_mut()?;
                let seq = unicast.sequence.next();
                match &mut unicast.away {
                    Some(recent) => {
                        recent.expire(is_over);
                        recent.push(seq, now_ns);
                    }
                    None => {
                        unicast.session.sent(seq, now_ns);
                        self.timers.wake_at(place, deadline_ns);
                    }
                }
                let done = unicast.sequence.is_done(self.config.count);
                (Destination::Peer(peer.address), seq, done)
            }
            Owner::Group(group) => {
                let group = &mut self.groups[group];
                let seq = group.sequence.next();
                group.recent.push(seq, now_ns);
                let family = group.family;
                for (place, session) in group_sessions(&mut self.peers, family) {
                    session.sent(seq, now_ns);
                    self.timers.wake_at(place, deadline_ns);
                }
                let done = group.sequence.is_done(self.config.count);
                (Destination::Group(family), seq, done)
            }
        };
        if done {
            self.schedule.leave(ssid);
        }
        Some(Transmit { destination, ssid, seq })
    }

    /// The kernel refused a probe at `now_ns`: it counts as `send_failed`, not as sent.
    pub fn transmit_failed(&mut self, transmit: &Transmit, why: SendFailure, now_ns: u64) {
        let seq = transmit.seq;
        let mut failed = Vec::new();
        match self.by_ssid.get(&transmit.ssid) {
            Some(&Owner::Peer(peer)) => {
                let peer = &mut self.peers[peer];
                if let Some(unicast) = &mut peer.unicast {
                    match &mut unicast.away {
                        Some(recent) => recent.remove(seq),
                        None => {
                            unicast.session.send_failed(seq, why);
                            failed.push((peer.address, Path::Unicast));
                        }
                    }
                }
            }
            Some(&Owner::Group(group)) => {
                let group = &mut self.groups[group];
                group.recent.remove(seq);
                for peer in &mut self.peers {
                    if let Some(session) = &mut peer.group
                        && Family::of(peer.address) == group.family
                    {
                        session.send_failed(seq, why);
                        failed.extend(peer.in_group.then_some((peer.address, Path::Group)));
                    }
                }
            }
            None => {}
        }
        if self.config.samples {
            self.events.extend(failed.into_iter().map(|(peer, path)| Event::Sample {
                peer,
                path,
                ssid: transmit.ssid,
                seq,
                window_ns: None,
                sent_ns: Some(now_ns),
                reply: None,
                estimated_ns: None,
                outcome: Outcome::Failed(why),
            }));
        }
    }

    /// Counts the turns that were missed while the process did not run, in the windows that were open then.
    fn skip_missed(&mut self, now_ns: u64) {
        while let Some((ssid, probes)) = self.schedule.skip_missed(now_ns) {
            match self.by_ssid.get(&ssid) {
                Some(&Owner::Peer(peer)) => {
                    let unicast = self.peers[peer].unicast.as_mut();
                    if let Some(unicast) = unicast.filter(|unicast| unicast.away.is_none()) {
                        unicast.session.not_sent(probes);
                    }
                }
                Some(&Owner::Group(group)) => {
                    let family = self.groups[group].family;
                    group_sessions(&mut self.peers, family).for_each(|(_, session)| session.not_sent(probes));
                }
                None => {}
            }
        }
    }

    /// When to call [`Agent::poll_transmit`] and [`Agent::expire`] next.
    pub fn next_deadline(&self) -> Option<u64> {
        let next = self.timers.next_ns().min(self.roll_ns);
        let next = next.min(match self.schedule.next_due() {
            Some(due_ns) => due_ns.min(self.silence_ns),
            // A new peer may still answer the last probes.
            None if !self.stopped => self.discovery_ends_ns(),
            None => u64::MAX,
        });
        (next != u64::MAX).then_some(next)
    }

    /// When the next probe is due; `None` if no more are sent.
    pub fn next_transmit(&self) -> Option<u64> {
        self.schedule.next_due()
    }

    /// From then on, no group probe sent so far can be answered in time.
    fn discovery_ends_ns(&self) -> u64 {
        let last = self.groups.iter().filter_map(|group| group.recent.newest());
        let last = last.map(|probe| probe.sent_ns).max();
        last.map_or(u64::MAX, |sent_ns| self.deadline(sent_ns))
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sets the sources that may be peers without being named: those that this host answers.
    pub fn set_policy(&mut self, policy: impl Into<Arc<Policy>>) {
        let before = std::mem::replace(&mut self.policy, policy.into());
        self.leave_subnets(&before);
    }

    /// Whether the peer has proven that it reads our clock (see [`crate::stats::report::OneWayClock::SameClock`]). It is
    /// not believed if its stamps refute it.
    pub fn set_same_clock(&mut self, peer: IpAddr, proven: bool) {
        if let Some(&place) = self.by_address.get(&peer)
            && let Some(by) = self.peers[place].set_same_clock(proven)
        {
            self.events.push_back(Event::SameClockRefuted { peer, by });
        }
    }

    /// The instance in the peer's identity. Anybody can copy it, so it alone ends no peer: only a peer that has said that it
    /// ends is taken for one that came up at about that time.
    pub fn set_instance(&mut self, peer: IpAddr, instance: u64) {
        let Some(&place) = self.by_address.get(&peer) else {
            return;
        };
        self.peers[place].set_instance(instance);
        self.link_move(place);
    }

    /// The addresses that an agent gave up and at which it is found are one peer that has moved, if either is this one.
    fn link_move(&mut self, place: usize) {
        let longest_ns = self.longest_silence_ns();
        // Only a peer that has ended can have moved.
        let from_here = self.gone.contains(&place).then_some(0..self.peers.len());
        let from_here = from_here.into_iter().flatten().map(|other| (place, other));
        let mut pairs = self.gone.iter().map(|&other| (other, place)).chain(from_here);
        if let Some((from, to)) = pairs.find(|&(from, to)| self.peers[from].is_now(&self.peers[to], longest_ns)) {
            self.peers[from].ended_ns = None;
            self.gone.remove(&from);
            let Peer { address, found, .. } = self.peers[to];
            self.events.push_back(Event::PeerMoved {
                peer: address,
                found,
                from: self.peers[from].address,
            });
        }
    }

    /// The peer's identity says whether its reflector keeps a counter of its own.
    pub fn set_stateful(&mut self, peer: IpAddr, stateful: bool) {
        if let Some(&place) = self.by_address.get(&peer) {
            self.peers[place].set_stateful(stateful);
        }
    }

    pub fn own_clock_stepped(&mut self, by_ns: i64) {
        let sessions = self.peers.iter_mut().flat_map(Peer::sessions);
        sessions.for_each(|(_, session)| session.clock_stepped(ClockOwner::ThisHost));
        self.events.push_back(Event::ClockStep {
            peer: None,
            by_ns,
            left_out: 0,
        });
    }

    /// The peer reported that it has refused `total` probes of this host since it started. Those in its first report are
    /// not attributed to this agent.
    pub fn set_refused(&mut self, peer: IpAddr, total: u64) {
        if let Some(&place) = self.by_address.get(&peer) {
            self.peers[place].set_refused(total);
        }
    }

    /// Sends no more probes. Those sent are still waited for.
    pub fn stop_sending(&mut self) {
        self.stopped = true;
        self.schedule.clear();
    }

    /// Whether [`Agent::stop_sending`] was called.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether nothing more will be sent, and neither a reply nor (unless stopped) a new peer is waited for.
    pub fn is_settled(&self) -> bool {
        let discovered = self.stopped || self.groups.iter().all(|group| group.recent.is_empty());
        self.schedule.is_empty() && discovered && self.peers.iter().all(|peer| peer.pending() == 0)
    }

    /// Ends the run: the last windows become events, even with pending probes. Returns the summaries of evicted peers, as
    /// far as they are kept, and of all others, unicast before group.
    pub fn finish(&mut self, now_ns: u64) -> Vec<Report> {
        self.stop_sending();
        let mut summaries: Vec<_> = std::mem::take(&mut self.ended).into();
        for peer in &mut self.peers {
            summaries.extend(end(peer, &mut self.held, &mut self.events, now_ns));
        }
        summaries
    }

    /// Replies to no probe of this agent, or from another address than the probe went to.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Replies to the group's probes from addresses that may not be peers.
    pub fn not_allowed(&self) -> u64 {
        self.not_allowed
    }

    /// Whether the address is a peer that is up, or has answered one probe to the group.
    pub fn has_answered(&self, address: IpAddr) -> bool {
        match self.by_address.get(&address) {
            Some(&place) => self.peers[place].up,
            None => self.candidates.contains(address),
        }
    }

    /// Replies of new peers while [`ProbeConfig::max_peers`] others are up.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Peers that were down and lost their entry to a new one.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// End of the oldest window that is over but not an event yet, because some of its probes may still be answered. All
    /// earlier windows have become events.
    pub fn held_window_end_ns(&self) -> Option<u64> {
        self.held.oldest_ns()
    }

    /// The session of the unicast probes to a peer.
    pub fn ssid(&self, peer: IpAddr) -> Option<u16> {
        let place = *self.by_address.get(&peer)?;
        self.peers[place].ssid()
    }

    /// The peers that are assigned, and for which there is room.
    pub fn assigned(&self) -> &[IpAddr] {
        &self.assigned
    }

    /// Up or down, in the order of discovery.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    fn deadline(&self, sent_ns: u64) -> u64 {
        deadline(sent_ns, self.config.timeout_ns)
    }

    /// Whether no more replies to a probe can be in time.
    fn is_over(&self) -> impl Fn(&SentProbe) -> bool + use<> {
        let (timeout_ns, expired_ns) = (self.config.timeout_ns, self.expired_ns);
        move |probe| deadline(probe.sent_ns, timeout_ns) <= expired_ns
    }

    fn admit(&mut self, address: IpAddr, found: Found, now_ns: u64) -> usize {
        let place = self.peers.len();
        self.by_address.insert(address, place);
        self.peers.push(Peer::new(address, found, now_ns));
        place
    }

    /// Adds a peer that was found; if there is no room, in the place of the one that has been down for longest.
    fn admit_found(&mut self, address: IpAddr, found: Found, now_ns: u64) -> Option<usize> {
        if self.peers.len() < self.config.max_peers {
            return Some(self.admit(address, found, now_ns));
        }
        let peers = self.peers.iter().enumerate();
        let evictable = peers.filter(|(_, peer)| peer.is_evictable(now_ns));
        let (place, _) = evictable.min_by_key(|(_, peer)| peer.heard_ns)?;
        let peer = &mut self.peers[place];
        self.ended.extend(end(peer, &mut self.held, &mut self.events, now_ns));
        let excess = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..excess);
        self.evicted += 1;
        self.by_address.remove(&peer.address);
        if let Some(ssid) = peer.ssid() {
            self.by_ssid.remove(&ssid);
        }
        self.by_address.insert(address, place);
        *peer = Peer::new(address, found, now_ns);
        self.gone.remove(&place);
        Some(place)
    }

    /// Starts or resumes unicast probes to a peer. Without a free identifier there are none.
    fn probe(&mut self, place: usize, now_ns: u64) {
        if self.peers[place].unicast.is_none() {
            let Some(ssid) = self.free_ssid() else { return };
            self.by_ssid.insert(ssid, Owner::Peer(place));
            let session = self.peers[place].new_session(Path::Unicast, &self.config, now_ns);
            self.peers[place].unicast = Some(Unicast {
                sequence: Sequence::new(ssid),
                session,
                away: None,
            });
        }
        if let Some(Unicast { sequence, away, .. }) = &mut self.peers[place].unicast
            && !sequence.is_done(self.config.count)
        {
            *away = None;
            let ssid = sequence.ssid;
            self.join(ssid, now_ns);
        }
    }

    fn join(&mut self, ssid: u16, now_ns: u64) {
        if !self.stopped {
            self.schedule.join(ssid, self.ordinal()(ssid), now_ns);
        }
    }

    /// The ordinal of a session, by its identifier.
    fn ordinal(&self) -> impl Fn(u16) -> u16 + use<> {
        let first_ssid = self.config.first_ssid;
        move |ssid| ssid.wrapping_sub(first_ssid)
    }

    /// The next identifier that is neither 0 nor in use.
    fn free_ssid(&self) -> Option<u16> {
        let given = self.by_ssid.len() as u16;
        let after = self.config.first_ssid.wrapping_add(given);
        (0..=u16::MAX)
            .map(|step| after.wrapping_add(step))
            .find(|ssid| *ssid != 0 && !self.by_ssid.contains_key(ssid))
    }
}

/// How long a candidate may take to answer a second probe.
fn candidate_ns(config: &ProbeConfig) -> u64 {
    deadline(0, config.timeout_ns).max(CANDIDATE_PROBES.saturating_mul(config.interval_ns))
}

fn deadline(sent_ns: u64, timeout_ns: u64) -> u64 {
    sent_ns.saturating_add(timeout_ns).saturating_add(GRACE_NS)
}

/// The group sessions of the peers that are expected to answer in the group of `family`, by the peer's place.
fn group_sessions(peers: &mut [Peer], family: Family) -> impl Iterator<Item = (usize, &mut Session)> {
    let members = peers
        .iter_mut()
        .enumerate()
        .filter(move |(_, peer)| peer.in_group && Family::of(peer.address) == family);
    members.filter_map(|(place, peer)| Some((place, peer.group.as_deref_mut()?)))
}

/// Makes the last windows of a peer events, and returns its summaries.
fn end(peer: &mut Peer, held: &mut HeldWindows, events: &mut VecDeque<Event>, now_ns: u64) -> Vec<Report> {
    peer.split_refused();
    hand_out(peer, held, events);
    // The windows that end now are not those of other sessions.
    let sessions = peer.sessions();
    sessions.for_each(|(_, session)| held.handed_out(session.held_windows(), 0));
    let sessions = peer.sessions();
    let summaries = sessions
        .map(|(_, session)| {
            session.end(now_ns);
            session.summary(now_ns)
        })
        .collect();
    peer.sessions().for_each(|(_, session)| take_finished(session, events));
    summaries
}

/// Makes the finished windows of a peer events.
fn hand_out(peer: &mut Peer, held: &mut HeldWindows, events: &mut VecDeque<Event>) {
    for (_, session) in peer.sessions() {
        let before = session.held_windows();
        if before > 0 {
            take_finished(session, events);
            held.handed_out(before, session.held_windows());
        }
    }
}

fn take_finished(session: &mut Session, events: &mut VecDeque<Event>) {
    events.extend(std::iter::from_fn(|| session.take_finished()).map(|report| Event::Window(Box::new(report))));
}
