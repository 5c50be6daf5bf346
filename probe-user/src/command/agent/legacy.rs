//! `--legacy-peers`: probes legacy agents with ASCII numbers, beside the peers that speak STAMP.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use log::warn;
use probe_common::family::Family;
use probe_core::agent::Agent;
use probe_core::agent::config::ProbeConfig;
use probe_core::legacy::LegacyAgent;
use probe_core::observation::SendFailure;
use probe_core::stats::report::Report;
use probe_host::clock::monotonic_ns;
use probe_host::link::Netlink;
use probe_io::legacy::LegacyProber;
use probe_io::port::{Port, PortEvent};

use crate::command::agent::config::AgentConfig;
use crate::command::shared::reporter::Reporter;

pub struct LegacyPeers {
    agent: LegacyAgent,
    prober: LegacyProber,
    interface: String,
    own: Vec<IpAddr>,
    netlink: Netlink,
}

impl LegacyPeers {
    /// Opens the sockets, if `--legacy-peers` is given.
    pub async fn open(config: &AgentConfig, port: &Port, now_ns: u64) -> Result<Option<Self>> {
        if !config.legacy_peers {
            return Ok(None);
        }
        let interface = config.endpoint.port.interface.clone();
        let netlink = Netlink::open()?;
        let link = netlink.link_by_name(&interface).await?;
        let index = link.with_context(|| format!("{interface} is gone"))?.index;
        let core = ProbeConfig {
            static_peers: Vec::new(),
            ..config.core.clone()
        };
        let mut agent = LegacyAgent::new(core, now_ns);
        agent.set_policy(port.policy());
        Ok(Some(Self {
            agent,
            prober: LegacyProber::open(
                &interface,
                index,
                config.endpoint.port.test_port,
                &config.endpoint.port.groups,
            )?,
            interface,
            own: port.addresses(),
            netlink,
        }))
    }

    pub fn reconfigure(&mut self, config: &ProbeConfig, now_ns: u64) {
        self.agent.reconfigure(config.clone(), now_ns);
    }

    /// Takes replies, expires probes, sends what is due.
    pub fn work(&mut self, stamp: &Agent, now_ns: u64) {
        self.take(stamp);
        self.agent.expire(now_ns);
        while let Some(transmit) = self.agent.poll_transmit(LegacyProber::now()) {
            if let Err(error) = self.prober.send(transmit) {
                self.agent.transmit_failed(transmit.number, SendFailure::from(&error));
            }
        }
    }

    fn take(&mut self, stamp: &Agent) {
        let Self { agent, prober, own, .. } = self;
        // Before an agent that speaks both answers a second number, it has answered one probe in STAMP.
        prober.drain(agent, |source| own.contains(&source) || stamp.has_answered(source));
    }

    /// Stops probing a peer, because it speaks STAMP.
    pub fn retire(&mut self, peer: IpAddr) {
        self.agent.retire(peer);
    }

    pub fn report(&mut self, reporter: &mut Reporter) -> Result<()> {
        while let Some(event) = self.agent.poll_event() {
            reporter.legacy_event(event)?;
        }
        Ok(())
    }

    pub async fn follow(&mut self, events: &[PortEvent], port: &Port) {
        for event in events {
            match event {
                PortEvent::Deleted => self.prober.close(),
                PortEvent::Back => {
                    if let Err(error) = self.reopen().await {
                        warn!("legacy agents are no longer probed: {error}");
                    }
                }
                PortEvent::Joined { group } => match self.prober.add(*group) {
                    Ok(()) => self.agent.add_group(Family::of(*group), monotonic_ns()),
                    Err(error) => warn!("legacy agents in {group} are not probed: {error}"),
                },
                PortEvent::Down | PortEvent::Up | PortEvent::Reattached { .. } => {}
            }
        }
        self.own = port.addresses();
        self.agent.set_policy(port.policy());
    }

    async fn reopen(&mut self) -> Result<()> {
        let link = self.netlink.link_by_name(&self.interface).await?;
        let index = link.context("the interface is gone")?.index;
        Ok(self.prober.reopen(index)?)
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
    pub fn finish(&mut self, stamp: &Agent, now_ns: u64) -> Vec<Report> {
        self.take(stamp);
        self.agent.finish(now_ns)
    }

    pub fn unmatched(&self) -> u64 {
        self.agent.unmatched()
    }
}

/// Returns when legacy agents may have answered; never if none are probed. Cancel safe.
pub async fn ready(peers: Option<&LegacyPeers>) -> io::Result<()> {
    match peers {
        Some(peers) => peers.prober.ready().await,
        None => std::future::pending().await,
    }
}
