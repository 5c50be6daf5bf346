//! An open interface with everything that answers on it: what an agent and a reflector share.

pub mod config;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use log::warn;
use probe_core::identity::Identity;
use probe_host::privileges::{Capability, Privileges, reduce};
use probe_io::backend::ebpf::{PortConfig, PortError, PortEvent};
use probe_io::port::{Engine, Kind};
use probe_io::udp::sockets::{PassedUp, Sockets};
use probe_io::udp::stamped::Received;

use crate::command::shared::endpoint::config::{EndpointConfig, StampingConfig};
use crate::command::shared::host::{WITHOUT_EBPF, check_host};
use crate::command::shared::introductions::{Introductions, own_identity};
use crate::command::shared::reflector::UserReflector;
use crate::command::shared::responder::ResponderService;

pub struct Endpoint {
    pub engine: Engine,
    pub introductions: Introductions,
    reflector: UserReflector,
    responder: ResponderService,
}

impl Endpoint {
    /// Opens the interface, drops privileges that are no longer needed, and answers from now on. Returns the privileges
    /// that are left.
    pub async fn open(config: &EndpointConfig) -> Result<(Self, Privileges)> {
        let EndpointConfig { port, stamping, .. } = config;
        let engine = open(port.clone(), stamping).await?;
        let mut responder = ResponderService::load(&port.interface, config.responder);
        let user = config.user.as_deref();
        // The programs are attached again when a deleted interface comes back.
        let attaches = (engine.kind() == Kind::Ebpf).then_some(Capability::CAP_NET_ADMIN);
        let raises = responder.is_realtime().then_some(Capability::CAP_SYS_NICE);
        let keep: Vec<_> = attaches.into_iter().chain(raises).collect();
        let privileges = reduce(user, &keep, port.test_port)?;
        responder.start(&engine);
        let own = identity(&config.name, &engine, !stamping.stateless)?;
        let mut introductions = Introductions::new(own, port.test_port);
        introductions.set_responder(&responder);
        let endpoint = Self {
            reflector: UserReflector::new(port, stamping, &engine),
            engine,
            introductions,
            responder,
        };
        Ok((endpoint, privileges))
    }

    /// Answers a packet that came to the test port's socket, or counts why not.
    pub fn answer(&mut self, packet: Vec<u8>, received: &Received) {
        let introductions = &mut self.introductions;
        self.reflector.answer(packet, received, &self.engine, introductions);
    }

    /// Follows the interface, and returns what happened to it. Call it every `POLL_INTERVAL`.
    pub async fn poll(&mut self) -> Vec<PortEvent> {
        let events = self.engine.poll().await;
        self.responder.poll(&self.engine, &events);
        self.introductions.set_responder(&self.responder);
        self.introductions.follow(&self.engine);
        self.reflector.follow(&self.engine);
        events
    }

    /// Counters of the engine and of the userspace reflector.
    pub fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counters = self.engine.counters()?;
        counters.extend(self.reflector.counters());
        Ok(counters)
    }

    /// Waits for a packet that the kernel programs left to userspace. Cancel safe.
    pub async fn passed_up(&self) -> PassedUp {
        passed_up(|v6| self.engine.sockets(v6)).await
    }
}

/// Waits for a packet on the `sockets` of either IP version. Cancel safe.
pub async fn passed_up<'a>(sockets: impl Fn(bool) -> Option<&'a Sockets>) -> PassedUp {
    let receive = async |v6| {
        let Some(sockets) = sockets(v6) else {
            return std::future::pending().await;
        };
        loop {
            match sockets.passed_up().await {
                Ok(packet) => return packet,
                Err(error) => {
                    // An ICMP error for an earlier packet, or the interface went down.
                    warn!("cannot read packets that the programs passed up: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    };
    tokio::select! {
        packet = receive(false) => packet,
        packet = receive(true) => packet,
    }
}

async fn open(port: PortConfig, stamping: &StampingConfig) -> Result<Engine> {
    if stamping.kind == Kind::Ebpf {
        check_host()?;
    }
    let opened = Engine::open(port, stamping.kind, stamping.key.clone()).await;
    opened.map_err(|error| match error {
        PortError::Object(_) => anyhow!("{error}; {WITHOUT_EBPF}"),
        error => error.into(),
    })
}

fn identity(name: &str, engine: &Engine, stateful: bool) -> Result<Identity> {
    let receive = engine.attachment().map(|(receive, _)| receive.to_string());
    let egress = match engine.kind() {
        Kind::Ebpf => "tc",
        Kind::Socket => "socket",
    };
    own_identity(name, engine.clock(), receive, egress, stateful)
}
