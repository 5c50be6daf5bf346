//! Measures legacy agents, which return any datagram unchanged. The probes are ASCII numbers ("1", "2", …), each sent
//! once.
//!
//! [`Agent`] makes the decisions; this module maps its probes to numbers and back. A datagram with the number of a probe,
//! from a foreign address, is its reply. Nothing else ties them together, so anybody who guesses a number can forge its
//! reply.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use probe_common::family::Family;
use probe_common::legacy;

use crate::agent::Agent;
use crate::agent::config::ProbeConfig;
use crate::agent::event::{Destination, Event, Transmit};
use crate::observation::{Fate, Reply, SendFailure};
use crate::reflector::policy::Policy;
use crate::stats::report::Report;

/// Probes remembered, answered or not.
const MAX_PROBES: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyTransmit {
    pub destination: Destination,
    /// From 1 on.
    pub number: u64,
}

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub unix_ns: u64,
    pub mono_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    transmit: Transmit,
    /// When the kernel got the probe, or when it left, once that is known.
    sent: Moment,
    stamped: bool,
}

#[derive(Debug)]
pub struct LegacyAgent {
    agent: Agent,
    /// The last probes; the first has the number `first`.
    probes: VecDeque<Probe>,
    first: u64,
    numbers: HashMap<(u16, u32), u64>,
    stamped: u64,
    unmatched: u64,
}

impl LegacyAgent {
    /// As [`Agent::new`].
    pub fn new(config: ProbeConfig, now_ns: u64) -> Self {
        Self {
            agent: Agent::new(config, now_ns),
            probes: VecDeque::new(),
            first: 1,
            numbers: HashMap::new(),
            stamped: 0,
            unmatched: 0,
        }
    }

    /// As [`Agent::add_group`].
    pub fn add_group(&mut self, family: Family, now_ns: u64) {
        self.agent.add_group(family, now_ns);
    }

    /// As [`Agent::reconfigure`], which names no peers here.
    pub fn reconfigure(&mut self, config: ProbeConfig, now_ns: u64) {
        let static_peers = Vec::new();
        self.agent.reconfigure(ProbeConfig { static_peers, ..config }, now_ns);
    }

    /// A number to send now; call again until there is none.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<LegacyTransmit> {
        let transmit = self.agent.poll_transmit(now.mono_ns)?;
        let number = self.first + self.probes.len() as u64;
        self.probes.push_back(Probe {
            transmit,
            sent: now,
            stamped: false,
        });
        self.numbers.insert((transmit.ssid, transmit.seq), number);
        if self.probes.len() > MAX_PROBES
            && let Some(oldest) = self.probes.pop_front()
        {
            self.first += 1;
            self.numbers.remove(&(oldest.transmit.ssid, oldest.transmit.seq));
        }
        Some(LegacyTransmit {
            destination: transmit.destination,
            number,
        })
    }

    pub fn transmit_failed(&mut self, number: u64, why: SendFailure) {
        if let Some(Probe { transmit, sent, .. }) = self.probe(number).copied() {
            self.agent.transmit_failed(&transmit, why, sent.mono_ns);
        }
    }

    pub fn transmitted(&mut self, number: u64, at: Moment) {
        let Some(probe) = self.probe(number) else { return };
        // If the stamp is from before the send call, the clock was set in between.
        if at.mono_ns >= probe.sent.mono_ns {
            probe.sent = at;
        }
        if !probe.stamped {
            probe.stamped = true;
            self.stamped += 1;
        }
    }

    /// Takes a datagram from a foreign address.
    pub fn answer(&mut self, source: IpAddr, payload: &[u8], at: Moment, now_ns: u64) {
        let Some(probe) = number_in(payload).and_then(|number| self.probe(number).copied()) else {
            self.unmatched += 1;
            return;
        };
        self.agent.reply(
            &Reply {
                peer: source,
                ssid: probe.transmit.ssid,
                seq: probe.transmit.seq,
                // A legacy agent has no counter of its own.
                reflector_seq: probe.transmit.seq,
                sent_mono_ns: probe.sent.mono_ns,
                received_mono_ns: at.mono_ns,
                t1_ns: probe.sent.unix_ns,
                t2_ns: 0,
                t3_ns: 0,
                t4_ns: at.unix_ns,
                reflector_error_ns: None,
                own_error_ns: None,
                wrong_z: false,
                clock_set: false,
            },
            now_ns,
        );
    }

    /// As [`Agent::set_policy`].
    pub fn set_policy(&mut self, policy: impl Into<Arc<Policy>>) {
        self.agent.set_policy(policy);
    }

    /// The address speaks STAMP, and is measured with that only.
    pub fn retire(&mut self, peer: IpAddr) {
        self.agent.retire(peer);
    }

    /// As [`Agent::expire`]. If the device stamps what it sends, a number without a stamp did not leave.
    pub fn expire(&mut self, now_ns: u64) {
        let (probes, numbers, first, stamps) = (&self.probes, &self.numbers, self.first, self.stamped > 0);
        self.agent.expire(now_ns, &mut |ssid, seq, _, _| {
            let number = numbers.get(&(ssid, seq));
            let place = number.and_then(|number| usize::try_from(number - first).ok());
            match place.and_then(|place| probes.get(place)) {
                Some(probe) if !probe.stamped && stamps => Fate::NeverLeft(SendFailure::Unknown),
                _ => Fate::Unanswered,
            }
        });
    }

    /// As [`Agent::next_deadline`].
    pub fn next_deadline(&self) -> Option<u64> {
        self.agent.next_deadline()
    }

    /// As [`Agent::poll_event`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.agent.poll_event()
    }

    /// As [`Agent::held_window_end_ns`].
    pub fn held_window_end_ns(&self) -> Option<u64> {
        self.agent.held_window_end_ns()
    }

    /// As [`Agent::stop_sending`].
    pub fn stop_sending(&mut self) {
        self.agent.stop_sending();
    }

    /// As [`Agent::is_settled`].
    pub fn is_settled(&self) -> bool {
        self.agent.is_settled()
    }

    /// As [`Agent::finish`].
    pub fn finish(&mut self, now_ns: u64) -> Vec<Report> {
        self.agent.finish(now_ns)
    }

    pub fn unmatched(&self) -> u64 {
        self.unmatched + self.agent.unmatched() + self.agent.not_allowed()
    }

    fn probe(&mut self, number: u64) -> Option<&mut Probe> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.probes.get_mut(place)
    }
}

fn number_in(payload: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(payload).ok()?;
    digits.parse().ok().filter(|_| legacy::is_probe(payload))
}

#[cfg(test)]
mod tests;
