//! The effects of a reply: on the sessions, and on which peers are known and up.

use std::net::IpAddr;

use probe_common::abi::Address;
use probe_common::family::Family;

use crate::agent::event::{Event, Found};
use crate::agent::peers::{SentProbe, Unicast};
use crate::agent::{Agent, MAX_FORMAT_EVENTS, MIN_STEP_EVENT_NS, Owner, deadline, hand_out};
use crate::clock::Estimate;
use crate::observation::Reply;
use crate::session::Outcome;
use crate::stats::report::Path;

/// What a reply has done to the session.
struct Answered {
    outcome: Outcome,
    /// As in [`Event::Sample`]; `None` without samples.
    window_ns: Option<u64>,
    estimate: Option<Estimate>,
}

impl Agent {
    /// The second reply to probes to the group makes an unknown address a peer.
    pub fn reply(&mut self, reply: &Reply, now_ns: u64) {
        let matched = match self.by_ssid.get(&reply.ssid) {
            Some(&Owner::Peer(peer)) => self.unicast_reply(peer, reply, now_ns),
            Some(&Owner::Group(group)) => self.group_reply(group, reply, now_ns),
            None => None,
        };
        if matched.is_none() {
            self.unmatched += 1;
        }
    }

    fn unicast_reply(&mut self, place: usize, reply: &Reply, now_ns: u64) -> Option<()> {
        let (is_over, samples) = (self.is_over(), self.config.samples);
        let peer = &mut self.peers[place];
        let (estimate, is_held) = (peer.clock_for(reply), peer.is_held(now_ns));
        let Unicast { session, away, .. } = peer.unicast.as_mut().filter(|_| peer.address == reply.peer)?;
        if let Some(recent) = away {
            recent.expire(is_over);
            // An answer to a probe from before the end changes nothing.
            let Some(probes) = recent.since(reply.seq).filter(|_| !is_held) else {
                return Some(());
            };
            for &SentProbe { seq, sent_ns } in probes {
                session.sent(seq, sent_ns);
                self.timers.wake_at(place, deadline(sent_ns, self.config.timeout_ns));
            }
            *away = None;
        }
        session.set_clock_estimate(estimate);
        let window_ns = samples.then(|| session.window_of_pending(reply.seq)).flatten();
        let outcome = session.reply(reply)?;
        peer.heard_ns = now_ns;
        // A peer that was found comes back up as it was found: until then it gets no unicast probes.
        if peer.found.is_named() {
            self.mark_up(place, now_ns);
        }
        self.report(
            place,
            Path::Unicast,
            reply,
            Answered {
                outcome,
                window_ns,
                estimate,
            },
        );
        Some(())
    }

    fn group_reply(&mut self, group: usize, reply: &Reply, now_ns: u64) -> Option<()> {
        let group = &self.groups[group];
        if Family::of(reply.peer) != group.family || reply.peer.is_multicast() {
            return None;
        }
        let Some(&place) = self.by_address.get(&reply.peer) else {
            group.recent.place(reply.seq)?;
            if !self.may_be_a_peer(reply.peer) {
                self.not_allowed += 1;
                return Some(());
            }
            let Some(other) = self.candidates.answered(reply, now_ns) else {
                return Some(());
            };
            let Some(place) = self.admit_found(reply.peer, Found::Multicast, now_ns) else {
                self.refused += 1;
                return Some(());
            };
            let (earlier, later) = match other.sent_mono_ns <= reply.sent_mono_ns {
                true => (&other, reply),
                false => (reply, &other),
            };
            // None if this probe is too old to be measured.
            let _ = self.answered_in_group(place, earlier, now_ns);
            return self.answered_in_group(place, later, now_ns);
        };
        let peer = &self.peers[place];
        if !peer.up && !peer.found.is_named() && !self.may_be_a_peer(reply.peer) {
            self.not_allowed += 1;
            return Some(());
        }
        self.answered_in_group(place, reply, now_ns)
    }

    /// Whether to take up a host that probes this one: it may be a peer, and does not answer group probes.
    pub fn wants(&self, address: IpAddr, now_ns: u64) -> bool {
        let count = self.config.count;
        let is_sought = self
            .groups
            .iter()
            .any(|group| group.family == Family::of(address) && !group.sequence.is_done(count));
        let is_missing = match self.by_address.get(&address) {
            Some(&place) => {
                let peer = &self.peers[place];
                !peer.up && !peer.found.is_named() && !peer.is_held(now_ns)
            }
            None => !self.candidates.contains(address),
        };
        let may_start = self.config.unicast && !self.stopped;
        may_start && is_sought && is_missing && self.may_be_a_peer(address)
    }

    /// A host that is wanted has proven that it is at its address.
    pub fn introduced(&mut self, address: IpAddr, now_ns: u64) {
        if !self.wants(address, now_ns) {
            return;
        }
        let known = self.by_address.get(&address).copied();
        match known.or_else(|| self.admit_found(address, Found::Introduced, now_ns)) {
            Some(place) => {
                self.peers[place].heard_ns = now_ns;
                self.mark_up(place, now_ns);
            }
            None => self.refused += 1,
        }
    }

    /// Anybody can answer a group probe, but of the hosts that the user did not name, only those that are answered are
    /// probed in return.
    fn may_be_a_peer(&self, address: IpAddr) -> bool {
        Address::from(address).is_answerable(Family::of(address)) && self.policy.allows(address)
    }

    fn answered_in_group(&mut self, place: usize, reply: &Reply, now_ns: u64) -> Option<()> {
        if self.peers[place].is_held(now_ns) {
            return Some(());
        }
        self.measure_in_group(place, reply);
        let samples = self.config.samples;
        let peer = &mut self.peers[place];
        let estimate = peer.clock_for(reply);
        let session = peer.group.as_mut()?;
        session.set_clock_estimate(estimate);
        let window_ns = samples.then(|| session.window_of_pending(reply.seq)).flatten();
        let outcome = session.reply(reply)?;
        peer.heard_ns = now_ns;
        peer.in_group = true;
        self.mark_up(place, now_ns);
        self.report(
            place,
            Path::Group,
            reply,
            Answered {
                outcome,
                window_ns,
                estimate,
            },
        );
        Some(())
    }

    /// A peer is measured in the group from the first probe that it answered, or answered again after a silence.
    fn measure_in_group(&mut self, place: usize, reply: &Reply) {
        let peer = &mut self.peers[place];
        let group = self.groups.iter().find(|group| group.sequence.ssid == reply.ssid);
        let Some(probes) = group
            .filter(|_| !peer.in_group)
            .and_then(|group| group.recent.since(reply.seq))
        else {
            return;
        };
        let mut session = peer.group.take();
        for &SentProbe { seq, sent_ns } in probes {
            session
                .get_or_insert_with(|| Box::new(peer.new_session(Path::Group, &self.config, sent_ns)))
                .sent(seq, sent_ns);
            self.timers.wake_at(place, deadline(sent_ns, self.config.timeout_ns));
        }
        peer.group = session;
    }

    fn mark_up(&mut self, place: usize, now_ns: u64) {
        let peer = &mut self.peers[place];
        if peer.up {
            return;
        }
        peer.up = true;
        peer.up_ns = now_ns;
        peer.ended_ns = None;
        self.gone.remove(&place);
        let (address, found) = (peer.address, peer.found);
        self.events.push_back(Event::PeerUp { peer: address, found });
        self.silence_ns = self.silence_ns.min(now_ns.saturating_add(self.longest_silence_ns()));
        if !found.is_named() && self.config.unicast {
            self.probe(place, now_ns);
        }
    }

    /// Emits the outcome of a reply, and the windows it completed.
    fn report(&mut self, place: usize, path: Path, reply: &Reply, answered: Answered) {
        let Answered {
            outcome,
            window_ns,
            estimate,
        } = answered;
        let peer = &mut self.peers[place];
        if reply.wrong_z && !peer.wrong_z && self.format_events < MAX_FORMAT_EVENTS {
            peer.wrong_z = true;
            self.format_events += 1;
            self.events.push_back(Event::TimestampFormat { peer: peer.address });
        }
        if outcome == Outcome::Ok
            && let Some(by) = peer.check_same_clock(reply)
        {
            let peer = peer.address;
            self.events.push_back(Event::SameClockRefuted { peer, by });
        }
        peer.check_synced(reply);
        if outcome == Outcome::Ok
            && reply.is_stamped()
            && let Some(by_ns) = peer.follow_clock(reply)
        {
            let apart_ns = self.config.report_ns.max(MIN_STEP_EVENT_NS);
            if let Some(left_out) = peer.steps_left_out(reply.received_mono_ns, apart_ns) {
                let peer = Some(peer.address);
                self.events.push_back(Event::ClockStep { peer, by_ns, left_out });
            }
        }
        if self.config.samples {
            let (peer, seq) = (peer.address, reply.seq);
            self.events.push_back(Event::Sample {
                peer,
                path,
                ssid: reply.ssid,
                seq,
                window_ns,
                sent_ns: None,
                reply: Some(*reply),
                estimated_ns: estimate.map(|estimate| [estimate.forward_ns(reply), estimate.backward_ns(reply)]),
                outcome,
            });
        }
        hand_out(peer, &mut self.held, &mut self.events);
    }
}
