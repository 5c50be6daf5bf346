//! What an agent and a reflector have in common: an interface that is open, and all that answers others there.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use probe_core::identity::Identity;
use probe_host::privileges::{Capability, Privileges, reduce};
use probe_io::backend::ebpf::{PortConfig, PortError, PortEvent};
use probe_io::port::{Engine, Kind};
use probe_io::udp::stamped::Received;

use crate::command::config::{StampingConfig, StationConfig};
use crate::command::echo::EchoService;
use crate::command::introductions::Introductions;
use crate::command::responder::Responder;
use crate::command::{WITHOUT_EBPF, check_host, identity_of};

/// An open interface, and who answers on it.
pub(super) struct Station {
    /// The interface.
    pub(super) engine: Engine,
    /// Who asks and tells who agents are.
    pub(super) introductions: Introductions,
    responder: Responder,
    echo: EchoService,
}

impl Station {
    /// Opens the interface, gives up the privileges that are needed for nothing else, and answers from now on. The
    /// privileges are those that are left.
    pub(super) async fn open(config: &StationConfig) -> Result<(Self, Privileges)> {
        let StationConfig { port, stamping, .. } = config;
        let engine = open(port.clone(), stamping).await?;
        let mut echo = EchoService::load(&port.interface, config.echo);
        let user = config.user.as_deref();
        // The programs are attached again when a deleted interface comes back.
        let attaches = (engine.kind() == Kind::Ebpf).then_some(Capability::CAP_NET_ADMIN);
        let raises = echo.is_realtime().then_some(Capability::CAP_SYS_NICE);
        let keep: Vec<_> = attaches.into_iter().chain(raises).collect();
        let privileges = reduce(user, &keep, port.test_port)?;
        echo.start(&engine);
        let own = identity(&config.name, &engine, !stamping.stateless)?;
        let mut introductions = Introductions::new(own, port.test_port);
        introductions.set_echo(&echo);
        let station = Self {
            responder: Responder::new(port, stamping, &engine),
            engine,
            introductions,
            echo,
        };
        Ok((station, privileges))
    }

    /// Answers a packet that came to the test port, or counts why not.
    pub(super) fn answer(&mut self, packet: Vec<u8>, received: &Received) {
        let introductions = &mut self.introductions;
        self.responder.answer(packet, received, &self.engine, introductions);
    }

    /// Follows the interface. What has become of it is returned.
    pub(super) async fn look_after(&mut self) -> Vec<PortEvent> {
        let events = self.engine.poll().await;
        self.echo.look_after(&self.engine, &events);
        self.introductions.set_echo(&self.echo);
        self.introductions.follow(&self.engine);
        self.responder.follow(&self.engine);
        events
    }

    /// What the engine and the userspace reflector have counted.
    pub(super) fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counters = self.engine.counters()?;
        counters.extend(self.responder.counters());
        Ok(counters)
    }
}

/// Opens the interface as the command line has it.
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

/// What this agent says of itself.
fn identity(name: &str, engine: &Engine, stateful: bool) -> Result<Identity> {
    let receive = engine.attachment().map(|(receive, _)| receive.to_string());
    let egress = match engine.kind() {
        Kind::Ebpf => "tc",
        Kind::Socket => "socket",
    };
    identity_of(name, engine.clock(), receive, egress, stateful)
}
