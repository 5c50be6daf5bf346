//! The peers and groups that the agent measures, and the sequence numbers of their probes.

use std::collections::VecDeque;
use std::net::IpAddr;

use probe_common::family::Family;

use crate::agent::config::ProbeConfig;
use crate::agent::event::{Found, Refutation};
use crate::clock::{ClockFit, Estimate};
use crate::observation::Reply;
use crate::session::sequence::ahead;
use crate::session::{ClockOwner, Session};
use crate::stats::report::{OneWayClock, Path};

/// An agent may answer from its new address for so long before its goodbye for the old one arrives.
const OVERLAP_NS: u64 = 1_000_000_000;

/// A peer that has been up for this time may come back at once after its goodbye, as any agent that is restarted.
const STEADY_NS: u64 = 10_000_000_000;
/// The second goodbye of a peer that is not steady holds for this time, and each further one for twice as long.
const FIRST_HOLD_NS: u64 = 1_000_000_000;
const MAX_HOLD_NS: u64 = 60_000_000_000;

/// The sequence numbers of a session.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) ssid: u16,
    used: u64,
}

impl Sequence {
    pub(super) fn new(ssid: u16) -> Self {
        Self { ssid, used: 0 }
    }

    /// The next sequence number, from 0 (RFC 8762 §4.2.1).
    pub(super) fn next(&mut self) -> u32 {
        let seq = self.used as u32;
        self.used += 1;
        seq
    }

    /// Whether the session has sent all its probes.
    pub(super) fn is_done(&self, count: Option<u64>) -> bool {
        count.is_some_and(|count| self.used >= count)
    }
}

/// The multicast group of one family.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) family: Family,
    pub(super) sequence: Sequence,
    /// Probes that a new peer could still answer in time.
    pub(super) recent: Recent,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SentProbe {
    pub(super) seq: u32,
    pub(super) sent_ns: u64,
}

/// Probes that may still be answered in time by a peer that is not measured yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<SentProbe>);

impl Recent {
    pub(super) fn push(&mut self, seq: u32, sent_ns: u64) {
        self.0.push_back(SentProbe { seq, sent_ns });
    }

    /// The probes from `seq` on, if `seq` is one of them.
    pub(super) fn since(&self, seq: u32) -> Option<impl Iterator<Item = &SentProbe>> {
        let place = self.place(seq)?;
        Some(self.0.range(place..))
    }

    /// The probe did not leave, so no peer can answer it.
    pub(super) fn remove(&mut self, seq: u32) {
        if let Some(place) = self.place(seq) {
            self.0.remove(place);
        }
    }

    /// The index of `seq`.
    pub(super) fn place(&self, seq: u32) -> Option<usize> {
        let first = self.0.front()?.seq;
        let distance = ahead(seq, first);
        self.0
            .binary_search_by_key(&distance, |probe| ahead(probe.seq, first))
            .ok()
    }

    pub(super) fn newest(&self) -> Option<&SentProbe> {
        self.0.back()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the probes that are over by now.
    pub(super) fn expire(&mut self, is_over: impl Fn(&SentProbe) -> bool) {
        while self.0.pop_front_if(|probe| is_over(probe)).is_some() {}
    }
}

#[derive(Debug)]
pub(super) struct Unicast {
    pub(super) sequence: Sequence,
    pub(super) session: Session,
    /// While the peer has ended: the probes with which it may come back. They are measured from the first that it answers.
    pub(super) away: Option<Recent>,
}

#[derive(Debug)]
pub struct Peer {
    pub(super) address: IpAddr,
    pub(super) found: Found,
    pub(super) up: bool,
    pub(super) heard_ns: u64,
    /// When it came up.
    pub(super) up_ns: u64,
    /// When it said that it ends, unless it has come up since, or is known to have moved.
    pub(super) ended_ns: Option<u64>,
    goodbye: Goodbye,
    pub(super) instance: Option<u64>,
    pub(super) unicast: Option<Unicast>,
    pub(super) group: Option<Box<Session>>,
    /// The peer is expected to answer group probes.
    pub(super) in_group: bool,
    /// [`Event::TimestampFormat`] was emitted.
    ///
    /// [`Event::TimestampFormat`]: crate::agent::event::Event::TimestampFormat
    pub(super) wrong_z: bool,
    /// The peer has proven that it reads our clock.
    proven: bool,
    refutation: Option<Refutation>,
    /// The refutation was reported.
    refuted: bool,
    /// No reply has shown that the clocks of both ends are not synchronised.
    synced: bool,
    stateful: Option<bool>,
    clock: ClockFit,
    /// The peer's steps get no event before this.
    step_event_ns: u64,
    /// Steps since the last event.
    steps_left_out: u64,
    refused: Option<Refused>,
}

/// The last goodbye of a peer. Its answers do not count while it holds, so that saying goodbye over and over costs little.
#[derive(Debug, Default)]
struct Goodbye {
    said_ns: Option<u64>,
    /// For how long it holds, `None` before the first.
    hold_ns: Option<u64>,
}

/// Probes refused, as reported by the peer.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// The total in the last report.
    reported: u64,
    /// Probes of this agent.
    ours: u64,
}

impl Peer {
    pub(super) fn new(address: IpAddr, found: Found, now_ns: u64) -> Self {
        Self {
            address,
            found,
            up: false,
            heard_ns: now_ns,
            up_ns: now_ns,
            ended_ns: None,
            goodbye: Goodbye::default(),
            instance: None,
            unicast: None,
            group: None,
            in_group: false,
            wrong_z: false,
            proven: false,
            refutation: None,
            refuted: false,
            synced: true,
            stateful: None,
            clock: ClockFit::default(),
            step_event_ns: 0,
            steps_left_out: 0,
            refused: None,
        }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn found(&self) -> Found {
        self.found
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Identifier of the unicast session.
    pub fn ssid(&self) -> Option<u16> {
        self.unicast.as_ref().map(|unicast| unicast.sequence.ssid)
    }

    pub(super) fn new_session(&self, path: Path, config: &ProbeConfig, start_ns: u64) -> Session {
        let mut session = Session::new(self.address, path, config.timeout_ns, start_ns);
        session.keep_delays(config.delays);
        session.set_same_clock(self.is_on_same_clock());
        if let Some(stateful) = self.stateful {
            session.set_stateful(stateful);
        }
        session
    }

    /// Unicast first.
    pub(super) fn sessions(&mut self) -> impl Iterator<Item = (Path, &mut Session)> {
        let unicast = self
            .unicast
            .as_mut()
            .map(|unicast| (Path::Unicast, &mut unicast.session));
        unicast
            .into_iter()
            .chain(self.group.as_deref_mut().map(|session| (Path::Group, session)))
    }

    pub(super) fn pending(&self) -> u64 {
        let unicast = self.unicast.as_ref().map_or(0, |unicast| unicast.session.pending());
        unicast + self.group.as_deref().map_or(0, Session::pending)
    }

    /// `proven`: the peer has proven that it reads our clock. Returns its refutation, the first time that it voids the proof.
    pub(super) fn set_same_clock(&mut self, proven: bool) -> Option<Refutation> {
        self.proven = proven;
        self.apply_same_clock()
    }

    /// Another process at this address may read another clock, so what the stamps of the last one have refuted is open
    /// again. It is reported no second time.
    pub(super) fn set_instance(&mut self, instance: u64) {
        if self.instance.replace(instance).is_some_and(|before| before != instance) {
            self.refutation = None;
        }
    }

    /// The peer has said goodbye.
    pub(super) fn said_goodbye(&mut self, now_ns: u64) {
        let Goodbye { said_ns, hold_ns } = &mut self.goodbye;
        let is_steady = now_ns.saturating_sub(self.up_ns) >= STEADY_NS;
        *hold_ns = Some(match *hold_ns {
            Some(before) if !is_steady => before.saturating_mul(2).clamp(FIRST_HOLD_NS, MAX_HOLD_NS),
            _ => 0,
        });
        *said_ns = Some(now_ns);
        self.ended_ns = *said_ns;
    }

    /// Whether its goodbye still holds.
    pub(super) fn is_held(&self, now_ns: u64) -> bool {
        self.has_left_within(self.goodbye.hold_ns.unwrap_or(0), now_ns)
    }

    /// Whether another peer may take the place of this one. A peer that has just left keeps it, so that addresses that come
    /// and go cause few events.
    pub(super) fn is_evictable(&self, now_ns: u64) -> bool {
        let is_recent = self.is_held(now_ns) || self.has_left_within(STEADY_NS, now_ns);
        !self.up && !self.found.is_named() && !is_recent
    }

    fn has_left_within(&self, time_ns: u64, now_ns: u64) -> bool {
        let said_ns = self.goodbye.said_ns;
        !self.up && said_ns.is_some_and(|said_ns| now_ns < said_ns.saturating_add(time_ns))
    }

    /// Whether the agent that has ended here is found at `other`, where it came up at about that time.
    pub(super) fn is_now(&self, other: &Self, longest_ns: u64) -> bool {
        let about_then = |ended_ns: u64| ended_ns.saturating_sub(OVERLAP_NS)..=ended_ns.saturating_add(longest_ns);
        self.ended_ns
            .is_some_and(|ended_ns| about_then(ended_ns).contains(&other.up_ns))
            && other.up
            && self.instance.is_some()
            && self.instance == other.instance
            && Family::of(self.address) == Family::of(other.address)
    }

    /// Stamps that contradict the proof void it as long as the peer runs, even if they came first.
    pub(super) fn check_same_clock(&mut self, reply: &Reply) -> Option<Refutation> {
        if self.refutation.is_some() || !reply.refutes_same_clock() {
            return None;
        }
        self.refutation = Some(Refutation {
            forward_ns: reply.forward_ns(),
            backward_ns: reply.backward_ns(),
        });
        self.apply_same_clock()
    }

    fn apply_same_clock(&mut self) -> Option<Refutation> {
        let same_clock = self.is_on_same_clock();
        self.sessions()
            .for_each(|(_, session)| session.set_same_clock(same_clock));
        let refutation = self.refutation.filter(|_| self.proven && !self.refuted)?;
        self.refuted = true;
        Some(refutation)
    }

    /// The peer is believed to read our clock.
    pub fn is_on_same_clock(&self) -> bool {
        self.proven && self.refutation.is_none()
    }

    pub(super) fn check_synced(&mut self, reply: &Reply) {
        if reply.is_stamped() && !self.is_on_same_clock() {
            self.synced &= reply.synced_bound_ns().is_some();
        }
    }

    /// The clock that the one-way delays of a single reply rest on.
    pub fn one_way_clock(&self, reply: &Reply) -> Option<OneWayClock> {
        if !reply.is_stamped() {
            return None;
        }
        if self.is_on_same_clock() {
            return Some(OneWayClock::SameClock);
        }
        let bound_ns = reply.synced_bound_ns().filter(|_| self.synced)?;
        Some(OneWayClock::Synced { bound_ns })
    }

    /// If the total falls, the peer restarted.
    pub(super) fn set_refused(&mut self, total: u64) {
        let refused = self.refused.get_or_insert(Refused {
            reported: total,
            ours: 0,
        });
        refused.ours += total.checked_sub(refused.reported).unwrap_or(total);
        refused.reported = total;
    }

    /// Splits the refused probes between the sessions. The peer counts both paths together, so they are attributed to
    /// unicast first, up to its losses.
    pub(super) fn split_refused(&mut self) {
        let Some(Refused { mut ours, .. }) = self.refused else {
            return;
        };
        for (_, session) in self.sessions() {
            session.set_refused(Some(ours));
            let taken = session.summary(0).patterns.lost_refused.unwrap_or_default();
            ours -= taken;
        }
    }

    /// The estimate for the one-way delays of `reply`; `None` if both ends read one clock.
    pub(super) fn clock_for(&self, reply: &Reply) -> Option<Estimate> {
        if self.is_on_same_clock() {
            return None;
        }
        self.clock.estimate_for(reply)
    }

    /// Feeds a reply in time. Returns the step of the peer's clock, if there was one.
    pub(super) fn follow_clock(&mut self, reply: &Reply) -> Option<i64> {
        if self.is_on_same_clock() {
            return None;
        }
        let step = self.clock.observe(reply)?;
        self.sessions()
            .for_each(|(_, session)| session.clock_stepped(ClockOwner::Peer));
        Some(step)
    }

    /// If a step gets an event: the number of steps before it that got none.
    pub(super) fn steps_left_out(&mut self, now_ns: u64, apart_ns: u64) -> Option<u64> {
        if now_ns < self.step_event_ns {
            self.steps_left_out += 1;
            return None;
        }
        self.step_event_ns = now_ns.saturating_add(apart_ns);
        Some(std::mem::take(&mut self.steps_left_out))
    }

    pub(super) fn set_stateful(&mut self, stateful: bool) {
        self.stateful = Some(stateful);
        self.sessions().for_each(|(_, session)| session.set_stateful(stateful));
    }
}
