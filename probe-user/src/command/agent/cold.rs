//! `--cold`: probes from ports that change, so that each is a new flow to a switch. They have sessions of their own, with the
//! peers that are up.

use probe_core::agent::config::{Families, ProbeConfig};
use probe_core::agent::event::{Destination, Event};
use probe_core::agent::{Agent, Peer};
use probe_core::observation::Reply;
use probe_core::stats::report::{Path, Report};
use probe_io::port::{Outgoing, Port};

use crate::command::agent::config::{AgentConfig, ColdConfig};

/// Session identifiers of cold probes are that far from those of others.
const FIRST_SSID: u16 = 1 << 15;

/// Cold probes are due this part of an interval after a turn of the others, which are at its halves, quarters, and so on. Next
/// to one of those, a probe would find its code in the caches of the processor, and be faster for that reason.
const APART_PERCENT: u64 = 38;

pub struct ColdProbes {
    config: ColdConfig,
    agent: Agent,
}

impl ColdProbes {
    /// `None` without `--cold`.
    pub fn new(config: &AgentConfig, now_ns: u64) -> Option<Self> {
        let cold = config.cold?;
        let mut agent = Agent::new(core(&config.core, cold), now_ns);
        agent.start_turns(now_ns + config.core.interval_ns / 100 * APART_PERCENT);
        Some(Self { config: cold, agent })
    }

    pub fn reconfigure(&mut self, config: &ProbeConfig, now_ns: u64) {
        self.agent.reconfigure(core(config, self.config), now_ns);
    }

    /// Probes the peers of `warm` that are up, and no others.
    pub fn follow(&mut self, warm: &Agent, now_ns: u64) {
        let up = || warm.peers().iter().filter(|peer| peer.is_up());
        let peers: Vec<_> = up().map(Peer::address).collect();
        if peers != self.agent.assigned() {
            self.agent.assign(peers, now_ns);
        }
        up().for_each(|peer| self.agent.set_same_clock(peer.address(), peer.is_on_same_clock()));
    }

    /// Takes a reply, unless it is of another session.
    pub fn take(&mut self, reply: &Reply, now_ns: u64) -> bool {
        let is_cold = self.agent.ssid(reply.peer) == Some(reply.ssid);
        if is_cold {
            // A reflector counts the replies to each port by themselves, so its counter says nothing about losses.
            let uncounted = Reply {
                reflector_seq: reply.seq,
                ..*reply
            };
            self.agent.reply(&uncounted, now_ns);
        }
        is_cold
    }

    /// Expires probes, and sends what is due.
    pub fn work(&mut self, port: &mut Port, now_ns: u64, taken_until_ns: u64) {
        self.agent.expire(taken_until_ns, &mut |ssid, seq, peer, sent_ns| {
            port.fate(ssid, seq, peer, sent_ns)
        });
        while let Some(transmit) = self.agent.poll_transmit(now_ns) {
            let Destination::Peer(to) = transmit.destination else {
                continue;
            };
            if let Err(why) = port.send_cold(&Outgoing { transmit, to }) {
                self.agent.transmit_failed(&transmit, why, now_ns);
            }
        }
    }

    /// A window or sample. Which peers are up is of the others.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            let mut event = self.agent.poll_event()?;
            match &mut event {
                Event::Window(report) => report.path = Path::Cold,
                Event::Sample { path, .. } => *path = Path::Cold,
                _ => continue,
            }
            return Some(event);
        }
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.agent.next_deadline()
    }

    pub fn held_window_end_ns(&self) -> Option<u64> {
        self.agent.held_window_end_ns()
    }

    pub fn stop_sending(&mut self) {
        self.agent.stop_sending();
    }

    pub fn is_settled(&self) -> bool {
        self.agent.is_settled()
    }

    /// The summaries of the whole run.
    pub fn finish(&mut self, now_ns: u64) -> Vec<Report> {
        self.agent.finish(now_ns).into_iter().map(cold).collect()
    }
}

fn core(config: &ProbeConfig, cold: ColdConfig) -> ProbeConfig {
    ProbeConfig {
        interval_ns: cold.interval_ns,
        group: Families { v4: false, v6: false },
        static_peers: Vec::new(),
        first_ssid: config.first_ssid.wrapping_add(FIRST_SSID),
        ..config.clone()
    }
}

fn cold(report: Report) -> Report {
    Report {
        path: Path::Cold,
        ..report
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use probe_core::observation::Fate;

    use super::*;
    use crate::command::{Command, read};

    const MS: u64 = 1_000_000;

    fn config() -> AgentConfig {
        match read("agent --iface p1 --no-group --peer 10.1.1.6 --peer 10.1.1.7 --cold 2 --report 1s") {
            Ok(Command::Agent(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    /// The reply of a reflector that counts by port, so that each cold probe is the first.
    fn reply(peer: IpAddr, ssid: u16, seq: u32, now_ns: u64) -> Reply {
        Reply {
            peer,
            ssid,
            seq,
            reflector_seq: 0,
            sent_mono_ns: now_ns,
            received_mono_ns: now_ns + 1,
            t1_ns: now_ns,
            t2_ns: now_ns,
            t3_ns: now_ns,
            t4_ns: now_ns + 1,
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        }
    }

    #[test]
    fn peers_that_are_up_get_cold_probes_in_sessions_of_their_own() {
        let config = config();
        let mut warm = Agent::new(config.core.clone(), 0);
        let mut cold = ColdProbes::new(&config, 0).unwrap();
        let [up, down] = [0, 1].map(|place| config.core.static_peers[place]);
        let sent = std::iter::from_fn(|| warm.poll_transmit(500 * MS)).count();
        assert_eq!(sent, 2);
        let ssid = warm.ssid(up).unwrap();
        warm.reply(&reply(up, ssid, 0, 500 * MS), 500 * MS);
        cold.follow(&warm, 500 * MS);
        let probes = (1..=6).filter_map(|half| {
            let now_ns = half * 500 * MS;
            let transmit = cold.agent.poll_transmit(now_ns)?;
            assert_eq!(transmit.destination, Destination::Peer(up));
            let reply = reply(up, transmit.ssid, transmit.seq, now_ns);
            // The third is lost.
            assert!(transmit.seq == 2 || cold.take(&reply, now_ns));
            Some(transmit.ssid)
        });
        let ssids: Vec<u16> = probes.collect();
        assert!(ssids.len() >= 5 && !ssids.contains(&ssid), "{ssids:?}");
        assert!(!cold.take(&reply(up, ssid, 1, 0), 0), "of a warm session");
        assert!(!cold.take(&reply(down, ssids[0], 0, 0), 0), "of another peer");
        let now_ns = 10_000 * MS;
        cold.agent.expire(now_ns, &mut |_, _, _, _| Fate::Unanswered);
        let report = cold.finish(now_ns).remove(0);
        assert_eq!((report.peer, report.path), (up, Path::Cold));
        let counts = report.counts;
        assert_eq!(
            (counts.lost, counts.lost_unknown),
            (1, 1),
            "a counter by port tells no direction"
        );
        let events = std::iter::from_fn(|| cold.poll_event());
        let are_cold = events.map(|event| match event {
            Event::Window(report) => report.path == Path::Cold,
            Event::Sample { path, .. } => path == Path::Cold,
            _ => false,
        });
        assert!(are_cold.collect::<Vec<_>>().iter().all(|is_cold| *is_cold));
    }
}
