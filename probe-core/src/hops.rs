//! Hop stamps: where in its round trip a probe spent its time, and where it was lost.
//!
//! Each host stamps probes and replies at its devices. The prober's agent joins its own half with the reflector's: it asks
//! for the far stamps of probes whose outcome is known, a batch at a time, and settles each probe with what it got.
//!
//! | What is kept | Size | For how long | At most |
//! |---|---|---|---|
//! | stamps of an own probe | 192 bytes | until it is settled, else 10 s after the timeout | 65,536, of one peer 16,384 |
//! | stamps of a reflected probe | 192 bytes | 10 s | 65,536, of one prober 16,384 |
//! | outcome of a probe that is not settled | 120 bytes | about a second, if asking is slow 7 s | 1,152 of a peer |
//! | distributions of a window: 16 of a peer | as those of the delays | until it is handed out | 64 windows of a peer |
//! | medians of earlier windows | 224 bytes | 15 windows | 15 of a peer |
//!
//! The first three are in hash tables, which have room for up to 2.3 times as many. Beyond the numbers, the oldest goes (of a
//! peer with too many probes, the newest), and what is missing counts as unknown.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use probe_common::abi::Limit;

use crate::agent::event::Event;
pub use crate::hops::asking::SETTLE_NS;
pub use crate::hops::event::{
    Cause, Excess, Half, Halves, HopEvent, HopSample, HopWindow, LostAt, Outlier, PartDurations,
};
pub use crate::hops::peer::HopsConfig;
use crate::hops::peer::{Devices, FarStamps, Peer, Resolved, Shared};
pub use crate::hops::split::Split;
use crate::hops::split::Trip;
pub use crate::hops::stamp::{Hook, HookId, HopStamp, MAX_HOOKS, Mark, Part, Role, Segment, Upcall};
use crate::hops::stamps::Stamps;
use crate::hops::table::{KEEP_NS, ProbeKey, Table};
pub use crate::hops::wire::{Answer, Question};
use crate::observation::SAME_CLOCK_BOUND_NS;
use crate::reflector::policy::limit;
use crate::session::Outcome;
use crate::stats::report::Path;

mod asking;
mod cause;
mod event;
mod loss;
mod ordinary;
mod peer;
mod split;
mod stamp;
pub mod stamps;
mod table;
#[cfg(test)]
mod tests;
mod traversal;
mod window;
pub mod wire;

/// Between two looks at all peers.
const ROUND_NS: u64 = 50_000_000;

/// A peer without probes is forgotten after this.
const IDLE_NS: u64 = 120_000_000_000;

/// Questions a second to all peers together. With 1,000 peers, each is asked every four seconds.
const QUESTIONS_PER_SECOND: u32 = 250;

/// Answers a second to all askers together.
const ANSWERS_PER_SECOND: u32 = 500;

/// The hops of all peers of an agent, and those of the probes that it reflects.
///
/// `now_ns` is `CLOCK_MONOTONIC`. Hand over stamps at least every 100 ms, and before an answer is made.
#[derive(Debug)]
pub struct Hops {
    /// This host's.
    addresses: Vec<IpAddr>,
    shared: Shared,
    /// Stamps of others' probes at this host.
    reflected: Table,
    /// By which T2 and T3 were written last; `None` before it is known.
    utc_offset_ns: Option<i64>,
    peers: HashMap<(IpAddr, Path), Peer>,
    /// Peers that are asked as soon as the rate allows it.
    queue: VecDeque<(IpAddr, Path)>,
    /// The peer of each open question, by its nonce.
    asked: HashMap<u64, (IpAddr, Path)>,
    questions: Bucket,
    answers: Bucket,
    /// The last look at all peers.
    round_ns: u64,
}

impl Hops {
    pub fn new(config: HopsConfig, now_ns: u64) -> Self {
        Self {
            addresses: Vec::new(),
            shared: Shared {
                config,
                devices: Devices::new(&[]),
                near: Table::new(KEEP_NS.saturating_add(config.timeout_ns), now_ns),
                events: VecDeque::new(),
            },
            reflected: Table::new(KEEP_NS, now_ns),
            utc_offset_ns: None,
            peers: HashMap::new(),
            queue: VecDeque::new(),
            asked: HashMap::new(),
            questions: Bucket::new(QUESTIONS_PER_SECOND),
            answers: Bucket::new(ANSWERS_PER_SECOND),
            round_ns: now_ns,
        }
    }

    /// Uses `config` from now on.
    pub fn reconfigure(&mut self, config: HopsConfig, now_ns: u64) {
        self.shared.config = config;
        self.shared
            .near
            .set_keep(KEEP_NS.saturating_add(config.timeout_ns), now_ns);
        for peer in self.peers.values_mut() {
            peer.asking.set_timeout(config.timeout_ns);
        }
    }

    /// The addresses of this host. Probes from one of them are its own; others are those that it reflects.
    pub fn set_addresses(&mut self, own: &[IpAddr]) {
        if self.addresses != own {
            self.addresses = own.to_vec();
        }
    }

    /// This host's hooks, by [`HookId`]: cheap if they are as before. A device keeps its place while it is gone, and its role
    /// may change.
    pub fn set_hooks(&mut self, hooks: &[Hook], now_ns: u64) {
        if *self.shared.devices.hooks == *hooks {
            return;
        }
        if !self.shared.devices.is_continued_by(hooks) {
            self.shared.near.clear(now_ns);
            self.reflected.clear(now_ns);
            self.peers.values_mut().for_each(Peer::forget_own_hooks);
        }
        self.shared.devices = Devices::new(hooks);
        self.note_lost(now_ns);
    }

    pub fn note_stamp(&mut self, stamp: &HopStamp, now_ns: u64) {
        let mark = Mark {
            hook: stamp.hook,
            egress: stamp.egress,
            direction: stamp.direction,
            at_ns: stamp.mono_ns,
        };
        let ends = (stamp.prober, stamp.reflector);
        if let Some(stamps) = self.stamps(ends, stamp.ssid, stamp.seq, now_ns) {
            stamps.note(mark);
            if stamp.softirq_ns > 0 {
                stamps.note_softirq(mark, stamp.softirq_ns);
            }
        }
    }

    /// Hand it over before the probe is settled: within [`SETTLE_NS`] of its outcome.
    pub fn note_upcall(&mut self, upcall: &Upcall, now_ns: u64) {
        let ends = (upcall.prober, upcall.reflector);
        if let Some(stamps) = self.stamps(ends, upcall.ssid, upcall.seq, now_ns) {
            stamps.note_upcall(upcall.direction, upcall.wait_ns);
        }
    }

    /// Some stamps or upcalls were lost since the last call, because a ring buffer was full.
    pub fn note_lost(&mut self, now_ns: u64) {
        self.shared.near.interrupt(now_ns);
        self.reflected.interrupt(now_ns);
    }

    /// `None` if the probe is of another host, or its peer has too many.
    fn stamps(
        &mut self,
        (prober, reflector): (IpAddr, IpAddr),
        ssid: u16,
        seq: u32,
        now_ns: u64,
    ) -> Option<&mut Stamps> {
        let key = |peer| ProbeKey { peer, ssid, seq };
        if self.addresses.contains(&prober) {
            self.shared.near.entry(key(reflector), now_ns)
        } else if self.addresses.contains(&reflector) {
            self.reflected.entry(key(prober), now_ns)
        } else {
            None
        }
    }

    /// Takes samples and windows of the agent; the others do not matter. No hook sees probes to a group.
    pub fn note_event(&mut self, event: &Event, now_ns: u64) {
        match event {
            Event::Sample {
                peer,
                path: path @ (Path::Unicast | Path::Cold),
                ssid,
                seq,
                window_ns,
                sent_ns,
                reply,
                estimated_ns,
                outcome,
            } => {
                let trip = reply.as_ref().map(|reply| Trip::new(reply, *estimated_ns));
                let sent_ns = trip.map(|trip| trip.sent_ns).or(*sent_ns);
                match (outcome, window_ns, sent_ns) {
                    (Outcome::Ok | Outcome::Lost | Outcome::Late, &Some(window_ns), Some(sent_ns)) => {
                        let probe = Resolved {
                            ssid: *ssid,
                            window_ns,
                            sent_ns,
                            outcome: *outcome,
                            is_synced: reply.as_ref().is_some_and(|reply| reply.synced_bound_ns().is_some()),
                            trip: trip.filter(|_| *outcome == Outcome::Ok),
                        };
                        self.resolved((*peer, *path), *seq, probe, now_ns);
                    }
                    (Outcome::Late, None, _) => {
                        if let Some(peer) = self.peers.get_mut(&(*peer, *path)) {
                            peer.answered_late(*seq);
                        }
                    }
                    _ => {}
                }
            }
            Event::Window(report) if report.path != Path::Group => {
                let key = (report.peer, report.path);
                peer_of(&mut self.peers, key, &self.shared).close(report, now_ns);
            }
            _ => {}
        }
    }

    fn resolved(&mut self, key: (IpAddr, Path), seq: u32, probe: Resolved, now_ns: u64) {
        let Self { peers, shared, .. } = self;
        let peer = peer_of(peers, key, shared);
        peer.resolved(seq, probe, shared, now_ns);
        enqueue(&mut self.queue, key, peer, now_ns);
    }

    /// A question to send now, with `nonce`, which nobody can guess; call again until there is none.
    pub fn poll_question(&mut self, now_ns: u64, nonce: u64) -> Option<(IpAddr, Question)> {
        while let Some(&key) = self.queue.front() {
            let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.asking.is_due(now_ns)) else {
                self.leave_queue();
                continue;
            };
            if !self.questions.allow(now_ns) {
                return None;
            }
            let probes = peer.asking.ask(nonce, now_ns);
            let ssid = peer.ssid();
            self.asked.insert(nonce, key);
            self.leave_queue();
            return Some((key.0, Question { nonce, ssid, probes }));
        }
        None
    }

    fn leave_queue(&mut self) {
        let key = self.queue.pop_front();
        if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
            peer.is_queued = false;
        }
    }

    /// Returns whether it answers the open question of some peer.
    pub fn take_answer(&mut self, answer: &Answer, now_ns: u64) -> bool {
        let Some(key) = self.asked.remove(&answer.nonce) else {
            return false;
        };
        let Self { peers, shared, .. } = self;
        let Some(peer) = peers.get_mut(&key) else { return false };
        let Some(asked) = peer.asking.is_answered_by(answer.nonce) else {
            return false;
        };
        let is_asked = |(asked, (answered, _)): &(u32, &(u32, Stamps))| asked == answered;
        let count = asked.zip(&answer.probes).take_while(is_asked).count();
        peer.set_far_hooks(&answer.hooks);
        let far = |&(seq, stamps): &(u32, Stamps)| {
            let is_complete = peer.is_younger(seq, answer.complete_ns, now_ns);
            (seq, FarStamps { stamps, is_complete })
        };
        let answered: Vec<(u32, FarStamps)> = answer.probes[..count].iter().map(far).collect();
        answered.iter().for_each(|(seq, far)| peer.note_far(*seq, far));
        for (seq, far) in answered {
            peer.settle(seq, Some(far), shared, now_ns);
        }
        for seq in peer.asking.answered(count, now_ns) {
            peer.settle(seq, None, shared, now_ns);
        }
        peer.hand_out(shared);
        enqueue(&mut self.queue, key, peer, now_ns);
        true
    }

    /// UTC − `CLOCK_MONOTONIC` by which T2 and T3 are written. Without it, a clock that was set before the first question
    /// would not be noticed.
    pub fn set_utc_offset(&mut self, offset_ns: i64, now_ns: u64) {
        let before_ns = self.utc_offset_ns.replace(offset_ns);
        let differs = |before_ns: i64| before_ns.abs_diff(offset_ns) > SAME_CLOCK_BOUND_NS;
        if before_ns.is_some_and(differs) {
            // The clock was set: T2 and T3 of earlier probes were written by another offset. Smaller differences come from more
            // precise readings.
            self.reflected.clear(now_ns);
        }
    }

    /// The answer to `asker`'s question about its own probes; `None` above the rate limit. `utc_offset_ns` is UTC −
    /// `CLOCK_MONOTONIC` by which T2 and T3 are written.
    pub fn answer_for(
        &mut self,
        asker: IpAddr,
        question: &Question,
        utc_offset_ns: i64,
        now_ns: u64,
    ) -> Option<Answer> {
        self.set_utc_offset(utc_offset_ns, now_ns);
        if !self.answers.allow(now_ns) {
            return None;
        }
        let stamps = |seq| {
            let key = ProbeKey {
                peer: asker,
                ssid: question.ssid,
                seq,
            };
            self.reflected.get(&key).shifted(utc_offset_ns)
        };
        Some(Answer {
            nonce: question.nonce,
            hooks: self.shared.devices.hooks.to_vec(),
            complete_ns: now_ns.saturating_sub(self.reflected.complete_since(asker, now_ns)),
            probes: question.probes.iter().map(|&seq| (seq, stamps(seq))).collect(),
        })
    }

    /// Whether no probe with an outcome waits for its far half.
    pub fn is_settled(&self) -> bool {
        self.peers.values().all(Peer::is_settled)
    }

    pub fn poll_event(&mut self) -> Option<HopEvent> {
        self.shared.events.pop_front()
    }

    /// When to call [`Hops::expire`] next; [`Hops::poll_question`] follows.
    pub fn next_deadline(&self) -> Option<u64> {
        let is_busy = !self.peers.is_empty() || !self.shared.near.is_empty() || !self.reflected.is_empty();
        is_busy.then(|| self.round_ns.saturating_add(ROUND_NS))
    }

    /// Settles the probes whose time is over, hands out windows, and forgets old stamps.
    pub fn expire(&mut self, now_ns: u64) {
        if now_ns < self.round_ns.saturating_add(ROUND_NS) {
            return;
        }
        self.round_ns = now_ns;
        let shared = &mut self.shared;
        for (&key, peer) in &mut self.peers {
            if let Some(nonce) = peer.expire(shared, now_ns) {
                self.asked.remove(&nonce);
            }
            peer.hand_out(shared);
            enqueue(&mut self.queue, key, peer, now_ns);
        }
        self.peers
            .retain(|_, peer| !peer.is_idle() || peer.used_ns.saturating_add(IDLE_NS) > now_ns);
        shared.near.expire(now_ns);
        self.reflected.expire(now_ns);
    }

    /// Ends the run: settles all probes without further far halves. Hand over the agent's last windows before.
    pub fn finish(&mut self, now_ns: u64) {
        for peer in self.peers.values_mut() {
            peer.settle_all(&mut self.shared, now_ns);
            peer.hand_out(&mut self.shared);
        }
        self.asked.clear();
    }
}

fn peer_of<'a>(peers: &'a mut HashMap<(IpAddr, Path), Peer>, key: (IpAddr, Path), shared: &Shared) -> &'a mut Peer {
    let (address, path) = key;
    let new = || Peer::new(address, path, &shared.config);
    peers.entry(key).or_insert_with(new)
}

fn enqueue(queue: &mut VecDeque<(IpAddr, Path)>, key: (IpAddr, Path), peer: &mut Peer, now_ns: u64) {
    if !peer.is_queued && peer.asking.is_due(now_ns) {
        peer.is_queued = true;
        queue.push_back(key);
    }
}

/// A rate limit with its state.
#[derive(Debug)]
struct Bucket {
    limit: Limit,
    earned_ns: u64,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self {
            limit: limit(per_second),
            earned_ns: 0,
        }
    }

    fn allow(&mut self, now_ns: u64) -> bool {
        let earned_ns = self.limit.charge(self.earned_ns, now_ns, 1);
        self.earned_ns = earned_ns.unwrap_or(self.earned_ns);
        earned_ns.is_some()
    }
}
