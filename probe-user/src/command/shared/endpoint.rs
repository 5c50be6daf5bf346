//! An open interface with everything that answers on it, shared by `agent` and `reflect`.

pub mod config;

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use anyhow::{Result, anyhow};
use futures_util::FutureExt as _;
use log::warn;
use probe_core::identity::Identity;
use probe_core::reflector::SessionKey;
use probe_host::clock::monotonic_ns;
use probe_host::privileges::{Capability, Privileges, reduce};
use probe_io::hops::HopConfig;
use probe_io::port::{Engine, Inherited, Port, PortConfig, PortError, PortEvent};
use probe_io::udp::sockets::PassedUp;
use probe_io::udp::stamped::Received;
use tokio::time::Interval;

use crate::command::shared::endpoint::config::{EndpointConfig, HopStampsConfig, StampingConfig};
use crate::command::shared::hops::HopStamps;
use crate::command::shared::host::{WITHOUT_EBPF, check_host};
use crate::command::shared::introductions::{Introductions, clock_key, own_identity};
use crate::command::shared::reflector::UserReflector;
use crate::command::shared::responder::ResponderService;
use crate::service::Service;

/// Packets that are still answered at the end: a flood must not keep the process from it.
const MAX_WAITING: usize = 256;

pub struct Endpoint {
    pub port: Port,
    pub introductions: Introductions,
    /// With `--hops`.
    pub hops: Option<HopStamps>,
    reflector: UserReflector,
    responder: ResponderService,
}

impl Endpoint {
    /// Opens the interface, drops privileges that are no longer needed, and answers from now on. Returns the privileges
    /// that are left. Takes over from the process before, if `service` has its descriptors.
    pub async fn open(config: &EndpointConfig, service: &mut Service) -> Result<(Self, Privileges)> {
        let EndpointConfig {
            port: port_config,
            stamping,
            ..
        } = config;
        let mut inherited = Inherited::new(service.take_inherited());
        let port = open(port_config.clone(), stamping, &mut inherited).await?;
        inherited.discard();
        let mut responder = ResponderService::load(&port_config.interface, config.responder);
        let hops = config.hops.as_ref().map(|hops| attach_hops(hops, &port)).transpose()?;
        let user = config.user.as_deref();
        // The programs are attached again when a deleted interface comes back.
        let attaches = (port.engine() == Engine::Ebpf).then_some(Capability::CAP_NET_ADMIN);
        let raises = responder.is_realtime().then_some(Capability::CAP_SYS_NICE);
        let keep: Vec<_> = attaches.into_iter().chain(raises).collect();
        let privileges = reduce(user, &keep, &port.test_ports())?;
        responder.start(&port);
        let own = identity(config, &port);
        let mut introductions = Introductions::new(own, clock_key()?, port_config.test_port);
        introductions.set_responder(&responder);
        let endpoint = Self {
            reflector: UserReflector::new(port_config, stamping, &port),
            port,
            introductions,
            hops,
            responder,
        };
        Ok((endpoint, privileges))
    }

    /// One short line: `what` is done on which interface, in which mode.
    pub fn status(&self, what: &str, config: &EndpointConfig) -> String {
        let interface = &config.port.interface;
        match self.port.attachment() {
            Some((mode, _)) => format!("{what} on {interface} ({mode})"),
            None => format!("{interface} is gone; waiting until it is back"),
        }
    }

    /// Applies prefixes and rates of another configuration. Call [`Endpoint::poll`] next.
    pub fn set_answering(&mut self, config: &EndpointConfig) {
        self.reflector.set_rates(config.port.answering.rates);
        self.introductions.set_volley_limit(config.volley_limit);
        self.port.set_answering(config.port.answering.clone());
    }

    /// Answers a packet that came to a test port's socket, or counts why not.
    pub fn answer(&mut self, port: u16, packet: Vec<u8>, received: &Received) {
        let Self {
            introductions, hops, ..
        } = self;
        self.reflector
            .answer(port, packet, received, &self.port, introductions, hops.as_mut());
    }

    /// Takes the hop stamps so far.
    pub fn take_hops(&mut self) {
        if let Some(hops) = &mut self.hops {
            let now_ns = monotonic_ns();
            hops.take(now_ns);
            hops.expire(now_ns);
        }
    }

    /// Returns when [`Endpoint::poll`] is due: at each tick, and after a change of the interface. Cancel safe.
    pub async fn poll_is_due(&self, poll: &mut Interval) {
        tokio::select! {
            _ = poll.tick() => {}
            () = self.port.changed() => {}
        }
    }

    /// Follows the interface, and returns what happened to it. Call it every `POLL_INTERVAL`.
    pub async fn poll(&mut self) -> Vec<PortEvent> {
        let events = self.port.poll().await;
        self.responder.poll(&self.port, &events);
        self.introductions.set_responder(&self.responder);
        self.introductions.follow(&self.port);
        self.introductions.follow_addresses(&self.port);
        self.reflector.follow(&self.port);
        if let Some(hops) = &mut self.hops {
            hops.follow(&self.port.addresses());
            hops.follow_utc(&self.port);
        }
        events
    }

    /// Has the service manager keep what the next process needs. Call it at the start and after each event.
    pub fn keep(&self, service: &mut Service) {
        service.keep(&self.port.kept());
    }

    /// Stops answering, and then tells the agents that measure this host. An answer after that would bring it up for them. If
    /// another process follows, the programs keep answering, and peers get no goodbye.
    pub fn end(&mut self, service: &mut Service, is_followed: bool) {
        if is_followed && service.has_kept() {
            let members = self.port.members().unwrap_or_else(|error| {
                warn!("cannot stay a member of the groups until the next process is one: {error}");
                Vec::new()
            });
            let members = members.iter().map(|(name, member)| (name.clone(), member.as_fd()));
            service.keep(&self.port.kept().into_iter().chain(members).collect::<Vec<_>>());
            return self.port.leave();
        }
        self.answer_waiting();
        self.port.detach();
        self.introductions.end(&self.port);
        service.keep(&[]);
    }

    /// Answers the packets that are there already: an agent that has just asked who this is must be told of the end, too.
    fn answer_waiting(&mut self) {
        for _ in 0..MAX_WAITING {
            match self.port.passed_up().now_or_never() {
                Some(PassedUp::TestPort { port, packet, received }) => self.answer(port, packet, &received),
                Some(PassedUp::Control { .. }) => {}
                None => return,
            }
        }
    }

    /// Replies sent in a session, modulo 2³², by the kernel programs or else by the userspace reflector; `None` if neither knows
    /// it.
    pub fn replies_sent(&self, session: &SessionKey) -> Option<u32> {
        let by_programs = self.port.replies_sent(session);
        by_programs.or_else(|| self.reflector.replies_sent(session))
    }

    /// Counters of the port, of the userspace reflector and of hop stamps.
    pub fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counters = self.port.counters()?;
        counters.extend(self.reflector.counters());
        counters.extend(self.hops.iter().flat_map(HopStamps::counters));
        Ok(counters)
    }
}

async fn open(config: PortConfig, stamping: &StampingConfig, inherited: &mut Inherited) -> Result<Port> {
    if stamping.engine == Engine::Ebpf {
        check_host().map_err(|error| anyhow!("{error}; {WITHOUT_EBPF}"))?;
    }
    let opened = Port::open_after(config, stamping.engine, stamping.key.clone(), inherited).await;
    opened.map_err(|error| match error {
        PortError::Object(_) => anyhow!("{error}; {WITHOUT_EBPF}"),
        error => error.into(),
    })
}

fn attach_hops(config: &HopStampsConfig, port: &Port) -> Result<HopStamps> {
    // Stamping at sockets needs no privileges; observing devices does.
    check_host().map_err(|error| anyhow!("--hops: {error}"))?;
    let observers = HopConfig {
        host_netns: config.host_netns.clone(),
        port: port.interface().to_owned(),
        addresses: port.addresses(),
        test_ports: port.test_ports(),
    };
    HopStamps::attach(observers, config.core)
}

fn identity(config: &EndpointConfig, port: &Port) -> Identity {
    let receive = port.attachment().map(|(mode, _)| mode);
    let (egress, stateful) = (port.engine().egress_mode(), !config.stamping.stateless);
    let volley_limit = Some(config.volley_limit);
    own_identity(&config.name, port.clock(), receive, egress, stateful, volley_limit)
}
