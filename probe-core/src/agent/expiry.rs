//! The effects of time: probes expire, windows close, peers go down.

use std::collections::VecDeque;
use std::net::IpAddr;

use probe_common::family::Family;

use crate::agent::event::{DownReason, Event};
use crate::agent::peers::{Peer, Recent};
use crate::agent::{Agent, hand_out};
use crate::observation::Fate;
use crate::reflector::policy::Policy;
use crate::schedule::Schedule;
use crate::session::{Outcome, Overdue, Session};
use crate::stats::report::Path;

impl Agent {
    /// Resolves probes that were not answered in time, by their `fate` for (ssid, seq, peer, send time). Closes windows whose time is
    /// over, and declares silent peers down. Only due peers are looked at, unless a window ends.
    pub fn expire(&mut self, now_ns: u64, fate: &mut dyn FnMut(u16, u32, IpAddr, u64) -> Fate) {
        self.skip_missed(now_ns);
        let rolls = now_ns >= self.roll_ns;
        while let Some(place) = self.timers.take_due(now_ns) {
            self.expire_probes(place, now_ns, fate);
            if !rolls {
                self.hand_out_finished(place);
            }
        }
        if rolls {
            self.roll(now_ns);
        }
        if now_ns >= self.silence_ns {
            self.declare_silent_peers_down(now_ns);
        }
        self.expired_ns = self.expired_ns.max(now_ns);
        let is_over = self.is_over();
        self.groups.iter_mut().for_each(|group| group.recent.expire(&is_over));
    }

    /// Closes the windows of all sessions.
    fn roll(&mut self, now_ns: u64) {
        let missed_rolls = (now_ns - self.roll_ns) / self.config.report_ns;
        self.roll_ns += (missed_rolls + 1) * self.config.report_ns;
        let mut sessions = 0;
        for (_, session) in self.peers.iter_mut().flat_map(Peer::sessions) {
            session.roll(now_ns);
            sessions += 1;
        }
        self.held.closed(now_ns, sessions);
        (0..self.peers.len()).for_each(|place| self.hand_out_finished(place));
    }

    /// Makes the finished windows of a peer events, and sets the peer's next deadline.
    pub(super) fn hand_out_finished(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        hand_out(peer, &mut self.held, &mut self.events);
        let next = peer.sessions().filter_map(|(_, session)| session.next_deadline()).min();
        if let Some(next_ns) = next {
            self.timers.wake_at(place, next_ns);
        }
    }

    fn expire_probes(&mut self, place: usize, now_ns: u64, fate: &mut dyn FnMut(u16, u32, IpAddr, u64) -> Fate) {
        let samples = self.config.samples;
        let peer = &mut self.peers[place];
        let address = peer.address;
        let group = self.groups.iter().find(|group| group.family == Family::of(address));
        let (unicast, group) = (peer.ssid(), group.map(|group| group.sequence.ssid));
        for (path, session) in peer.sessions() {
            let ssid = if path == Path::Unicast { unicast } else { group };
            session.expire(now_ns, &mut |overdue| {
                let Overdue {
                    seq,
                    sent_ns,
                    window_ns,
                } = overdue;
                let fate = ssid.map_or(Fate::Unanswered, |ssid| fate(ssid, seq, address, sent_ns));
                let outcome = match fate {
                    Fate::Unanswered => Some(Outcome::Lost),
                    Fate::NeverLeft(why) => Some(Outcome::Failed(why)),
                    Fate::CollectorLost => None,
                };
                if let Some(outcome) = outcome.filter(|_| samples) {
                    self.events.push_back(Event::Sample {
                        peer: address,
                        path,
                        ssid: ssid.unwrap_or_default(),
                        seq,
                        window_ns: window_ns.filter(|_| outcome == Outcome::Lost),
                        sent_ns: Some(sent_ns),
                        reply: None,
                        estimated_ns: None,
                        outcome,
                    });
                }
                fate
            });
        }
    }

    fn declare_silent_peers_down(&mut self, now_ns: u64) {
        let longest_ns = self.longest_silence_ns();
        self.silence_ns = u64::MAX;
        if self.schedule.is_empty() {
            return;
        }
        let count = self.config.count;
        for peer in self.peers.iter_mut().filter(|peer| peer.up) {
            let unicast = peer.unicast.as_ref().map(|unicast| &unicast.sequence);
            let group = self
                .groups
                .iter()
                .find(|group| group.family == Family::of(peer.address));
            let group = group.filter(|_| peer.in_group).map(|group| &group.sequence);
            // A peer that gets no more probes has nothing to answer.
            if [unicast, group]
                .into_iter()
                .flatten()
                .all(|sequence| sequence.is_done(count))
            {
                continue;
            }
            let until_ns = peer.heard_ns.saturating_add(longest_ns);
            if until_ns > now_ns {
                self.silence_ns = self.silence_ns.min(until_ns);
                continue;
            }
            take_down(peer, DownReason::Silent, &mut self.schedule, &mut self.events);
        }
    }

    /// The peer said that it ends. Its pending probes are no longer measured, nor are later ones until it answers again.
    pub fn ended(&mut self, peer: IpAddr, now_ns: u64) {
        let Some(&place) = self.by_address.get(&peer).filter(|&&place| self.peers[place].up) else {
            return;
        };
        let peer = &mut self.peers[place];
        peer.said_goodbye(now_ns);
        self.gone.insert(place);
        peer.sessions().for_each(|(_, session)| session.withdraw_pending());
        take_down(peer, DownReason::Ended, &mut self.schedule, &mut self.events);
        if let Some(unicast) = &mut peer.unicast {
            unicast.away = Some(Recent::default());
        }
        hand_out(peer, &mut self.held, &mut self.events);
        self.link_move(place);
    }

    /// A peer answers group probes from its address in the sender's subnet. One in a subnet in which this host has no address
    /// any more answers from another address, if it has one, and is found there.
    pub(super) fn leave_subnets(&mut self, before: &Policy) {
        let Self { policy, peers, .. } = self;
        // Without any address of its IP version, probes fail to leave, which is shown.
        let is_left =
            |address| before.allows(address) && !policy.allows(address) && policy.has_address(Family::of(address));
        for peer in peers.iter_mut().filter(|peer| peer.up && is_left(peer.address)) {
            if peer.found.is_named() {
                peer.in_group = false;
                peer.group
                    .as_deref_mut()
                    .into_iter()
                    .for_each(Session::withdraw_pending);
            } else {
                peer.sessions().for_each(|(_, session)| session.withdraw_pending());
                take_down(peer, DownReason::NoAddress, &mut self.schedule, &mut self.events);
                if let Some(unicast) = &mut peer.unicast {
                    unicast.away = Some(Recent::default());
                }
            }
            hand_out(peer, &mut self.held, &mut self.events);
        }
    }

    /// Stops probing a peer that was found, until it is found again. Its measurements stay.
    pub fn retire(&mut self, peer: IpAddr) {
        let place = self.by_address.get(&peer);
        let peer = place.and_then(|&place| self.peers.get_mut(place));
        if let Some(peer) = peer.filter(|peer| peer.up && !peer.found.is_named()) {
            take_down(peer, DownReason::SpeaksStamp, &mut self.schedule, &mut self.events);
        }
    }

    /// A peer that gets one probe per interval cannot answer more often.
    pub(super) fn longest_silence_ns(&self) -> u64 {
        self.config
            .peer_expiry_ns
            .max(self.config.interval_ns.saturating_add(self.config.timeout_ns))
    }
}

/// A peer that was found gets no more unicast probes, and may be found again.
pub(super) fn take_down(peer: &mut Peer, reason: DownReason, schedule: &mut Schedule, events: &mut VecDeque<Event>) {
    peer.up = false;
    peer.in_group = false;
    if let Some(ssid) = peer.ssid().filter(|_| !peer.found.is_named()) {
        schedule.leave(ssid);
    }
    events.push_back(Event::PeerDown {
        peer: peer.address,
        found: peer.found,
        reason,
    });
}
