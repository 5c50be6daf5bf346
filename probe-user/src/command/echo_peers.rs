//! `--echo-peers`: the older agents are asked their own way, beside those that speak STAMP.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use log::warn;
use probe_core::agent::Agent;
use probe_core::agent::config::ProbeConfig;
use probe_core::legacy::LegacyAgent;
use probe_core::stats::report::Report;
use probe_host::link::Netlink;
use probe_io::backend::ebpf::PortEvent;
use probe_io::legacy::EchoPort;
use probe_io::port::Engine;

use crate::command::config::AgentConfig;
use crate::command::reporter::Reporter;

/// Who asks the older agents.
pub struct EchoPeers {
    agent: LegacyAgent,
    port: EchoPort,
    interface: String,
    own: Vec<IpAddr>,
    netlink: Netlink,
}

impl EchoPeers {
    /// Opens the sockets, if they are wanted.
    pub async fn open(config: &AgentConfig, engine: &Engine, now_ns: u64) -> Result<Option<Self>> {
        if !config.echo_peers {
            return Ok(None);
        }
        let interface = config.station.port.interface.clone();
        let netlink = Netlink::open()?;
        let link = netlink.link_by_name(&interface).await?;
        let index = link.with_context(|| format!("{interface} is gone"))?.index;
        let core = ProbeConfig {
            static_peers: Vec::new(),
            ..config.core.clone()
        };
        Ok(Some(Self {
            agent: LegacyAgent::new(core, now_ns),
            port: EchoPort::open(
                &interface,
                index,
                config.station.port.test_port,
                &config.station.port.groups,
            )?,
            interface,
            own: engine.addresses(),
            netlink,
        }))
    }

    /// Takes what came, gives up what did not, and sends what is due.
    pub fn work(&mut self, stamp: &Agent, now_ns: u64) {
        self.take(stamp);
        self.agent.expire(now_ns);
        while let Some(transmit) = self.agent.poll_transmit(EchoPort::now()) {
            if self.port.send(transmit).is_err() {
                self.agent.transmit_failed(transmit.number);
            }
        }
    }

    fn take(&mut self, stamp: &Agent) {
        let Self { agent, port, own, .. } = self;
        let speaks_stamp = |source| {
            let peer = stamp.peers().iter().find(|peer| peer.address() == source);
            peer.is_some_and(|peer| peer.is_up())
        };
        port.drain(agent, |source| own.contains(&source) || speaks_stamp(source));
    }

    /// A peer speaks STAMP.
    pub fn retire(&mut self, peer: IpAddr) {
        self.agent.retire(peer);
    }

    /// Writes what there is to tell.
    pub fn report(&mut self, reporter: &mut Reporter) -> Result<()> {
        while let Some(event) = self.agent.poll_event() {
            reporter.echo_event(event)?;
        }
        Ok(())
    }

    /// Follows the interface.
    pub async fn follow(&mut self, events: &[PortEvent], engine: &Engine) {
        for event in events {
            match event {
                PortEvent::Deleted => self.port.close(),
                PortEvent::Back => {
                    if let Err(error) = self.reopen().await {
                        warn!("older agents are asked no more: {error}");
                    }
                }
                PortEvent::Down | PortEvent::Up | PortEvent::Reattached { .. } => {}
            }
        }
        self.own = engine.addresses();
    }

    async fn reopen(&mut self) -> Result<()> {
        let link = self.netlink.link_by_name(&self.interface).await?;
        let index = link.context("the interface is gone")?.index;
        Ok(self.port.reopen(index)?)
    }

    /// As [`LegacyAgent::next_deadline`].
    pub fn next_deadline(&self) -> Option<u64> {
        self.agent.next_deadline()
    }

    /// As [`LegacyAgent::held_window_end_ns`].
    pub fn held_window_end_ns(&self) -> Option<u64> {
        self.agent.held_window_end_ns()
    }

    /// As [`LegacyAgent::stop_sending`].
    pub fn stop_sending(&mut self) {
        self.agent.stop_sending();
    }

    /// As [`LegacyAgent::is_settled`].
    pub fn is_settled(&self) -> bool {
        self.agent.is_settled()
    }

    /// As [`EchoPort::ready`].
    pub async fn ready(&self) -> io::Result<()> {
        self.port.ready().await
    }

    /// The summaries of the whole run.
    pub fn finish(&mut self, stamp: &Agent, now_ns: u64) -> Vec<Report> {
        self.take(stamp);
        self.agent.finish(now_ns)
    }

    /// As [`LegacyAgent::unmatched`].
    pub fn unmatched(&self) -> u64 {
        self.agent.unmatched()
    }
}

/// Returns when older agents may have answered; never if none are asked. Cancel safe.
pub async fn ready(echo: Option<&EchoPeers>) -> io::Result<()> {
    match echo {
        Some(echo) => echo.ready().await,
        None => std::future::pending().await,
    }
}
