//! Changes of the configuration while the agent runs.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;

use crate::agent::config::ProbeConfig;
use crate::agent::event::{DownReason, Found};
use crate::agent::expiry::take_down;
use crate::agent::{Agent, candidate_ns};

impl Agent {
    /// Applies another configuration: intervals, times, named peers, and whether there are samples. All else stays as it was.
    /// Returns the named peers for which there is no room.
    pub fn reconfigure(&mut self, config: ProbeConfig, now_ns: u64) -> Vec<IpAddr> {
        let before = mem::replace(&mut self.config, config);
        self.config.count = before.count;
        self.config.group = before.group;
        self.config.unicast = before.unicast;
        self.config.first_ssid = before.first_ssid;
        self.config.delays = before.delays;
        let interval_ns = self.config.interval_ns;
        if interval_ns != before.interval_ns {
            self.schedule.set_interval(interval_ns, self.ordinal(), now_ns);
        }
        if self.config.timeout_ns != before.timeout_ns {
            self.apply_timeout();
        }
        if self.config.report_ns != before.report_ns {
            let began_ns = self.roll_ns.saturating_sub(before.report_ns);
            self.roll_ns = match self.config.report_ns {
                0 => u64::MAX,
                report_ns => began_ns.saturating_add(report_ns).max(now_ns),
            };
        }
        self.candidates.set_epoch(candidate_ns(&self.config));
        // Another expiry is noticed at once.
        self.silence_ns = now_ns;
        let named_before = named(&before.static_peers, &self.assigned);
        self.follow_named(&named_before, now_ns)
    }

    /// Probes these peers beside those of the configuration from now on, and no longer others that were assigned. Returns those
    /// for which there is no room.
    pub fn assign(&mut self, peers: Vec<IpAddr>, now_ns: u64) -> Vec<IpAddr> {
        let before = mem::replace(&mut self.assigned, peers);
        let named_before = named(&self.config.static_peers, &before);
        let refused = self.follow_named(&named_before, now_ns);
        self.assigned.retain(|peer| !refused.contains(peer));
        refused
    }

    /// Adds and removes peers. Returns those for which there is no room.
    fn follow_named(&mut self, before: &[(IpAddr, Found)], now_ns: u64) -> Vec<IpAddr> {
        let named = named(&self.config.static_peers, &self.assigned);
        let (known, wanted): (HashMap<_, _>, HashMap<_, _>) =
            (before.iter().copied().collect(), named.iter().copied().collect());
        for (peer, _) in before.iter().filter(|(peer, _)| !wanted.contains_key(peer)) {
            self.remove(*peer);
        }
        let changed = named.into_iter().filter(|(peer, found)| known.get(peer) != Some(found));
        let refused = changed.filter(|&(peer, found)| !self.add(peer, found, now_ns));
        refused.map(|(peer, _)| peer).collect()
    }

    fn apply_timeout(&mut self) {
        for place in 0..self.peers.len() {
            let timeout_ns = self.config.timeout_ns;
            self.peers[place]
                .sessions()
                .for_each(|(_, session)| session.set_timeout(timeout_ns));
            self.hand_out_finished(place);
        }
    }

    /// Returns false if there is no room.
    fn add(&mut self, address: IpAddr, found: Found, now_ns: u64) -> bool {
        let known = self.by_address.get(&address).copied();
        let Some(place) = known.or_else(|| self.admit_found(address, found, now_ns)) else {
            return false;
        };
        let peer = &mut self.peers[place];
        let was_named = mem::replace(&mut peer.found, found).is_named();
        if known.is_none() || !peer.up && !was_named {
            self.probe(place, now_ns);
        }
        true
    }

    /// A peer that is no longer named stays one if it is found in the group. Its measurements stay in any case.
    fn remove(&mut self, address: IpAddr) {
        let Some(&place) = self.by_address.get(&address) else {
            return;
        };
        let peer = &mut self.peers[place];
        if !peer.in_group {
            if let Some(ssid) = peer.ssid() {
                self.schedule.leave(ssid);
            }
            if peer.up {
                take_down(peer, DownReason::Removed, &mut self.schedule, &mut self.events);
            }
        }
        peer.found = Found::Multicast;
    }
}

/// The peers that are probed even if they do not answer, each once.
fn named(static_peers: &[IpAddr], assigned: &[IpAddr]) -> Vec<(IpAddr, Found)> {
    let of_user = static_peers.iter().map(|&peer| (peer, Found::Static));
    let of_hub = assigned.iter().filter(|peer| !static_peers.contains(peer));
    of_user.chain(of_hub.map(|&peer| (peer, Found::Assigned))).collect()
}
