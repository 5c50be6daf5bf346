//! `--cold`: probes from ports that change, so that each is a new flow to a switch. They have sessions of their own, with the
//! peers that are up.

use probe_core::agent::Agent;
use probe_core::agent::config::{Families, ProbeConfig};
use probe_core::agent::event::{Destination, Event};
use probe_core::observation::Reply;
use probe_core::stats::report::{Path, Report};
use probe_io::port::{Outgoing, Port};

use crate::command::agent::config::{AgentConfig, ColdConfig};

/// Session identifiers of cold probes are that far from those of others.
const FIRST_SSID: u16 = 1 << 15;

pub struct ColdProbes {
    config: ColdConfig,
    agent: Agent,
}

impl ColdProbes {
    /// `None` without `--cold`.
    pub fn new(config: &AgentConfig, now_ns: u64) -> Option<Self> {
        let cold = config.cold?;
        Some(Self {
            config: cold,
            agent: Agent::new(core(&config.core, cold), now_ns),
        })
    }

    pub fn reconfigure(&mut self, config: &ProbeConfig, now_ns: u64) {
        self.agent.reconfigure(core(config, self.config), now_ns);
    }

    /// Probes the peers of `warm` that are up, and no others.
    pub fn follow(&mut self, warm: &Agent, now_ns: u64) {
        let peers: Vec<_> = warm
            .peers()
            .iter()
            .filter(|peer| peer.is_up())
            .map(|peer| peer.address())
            .collect();
        if peers != self.agent.assigned() {
            self.agent.assign(peers, now_ns);
        }
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
