//! One measured interface: its sockets, its backend, and its changes.

mod error;
mod plan;
mod sender;
mod survey;
mod unsent;
mod upkeep;

use std::collections::BTreeMap;
use std::future::{pending, poll_fn};
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use probe_common::abi::COLD_PORTS;
use probe_common::family::Family;
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use probe_core::agent::event::Transmit;
use probe_core::attach::AttachMode;
use probe_core::auth::Key;
pub use probe_core::engine::Engine;
use probe_core::mismatch::Mismatches;
use probe_core::observation::{Fate, Reply, SendFailure};
use probe_core::reflector::SessionKey;
use probe_core::reflector::policy::Policy;
use probe_core::rings::Rings;
use probe_host::clock::{ClockState, monotonic_ns};
use probe_host::link::{Changes, LinkError, Netlink};

use crate::backend::Backend;
pub use crate::backend::Outgoing;
use crate::backend::ebpf::EbpfBackend;
pub use crate::backend::ebpf::handover::Inherited;
use crate::backend::ebpf::handover::Name;
pub use crate::backend::facts::Answering;
use crate::backend::socket::SocketBackend;
use crate::clock::{clock_state, error_estimate};
pub use crate::port::error::PortError;
pub use crate::port::plan::Choice;
use crate::port::plan::Plan;
pub use crate::port::sender::ProbeSender;
pub(crate) use crate::port::survey::Survey;
pub(crate) use crate::port::unsent::Unsent;
use crate::udp::membership::{Repetition, member};
use crate::udp::sockets::{self, PassedUp, Ports, SocketPair, Sockets};

/// What to open.
#[derive(Debug, Clone)]
pub struct PortConfig {
    pub interface: String,
    /// Port to which probes are sent, and on which they arrive.
    pub test_port: u16,
    /// Ports on which probes arrive, too.
    pub other_ports: Vec<u16>,
    /// Ports of `other_ports` that cannot be bound are left out, because they are a default and not the user's choice.
    pub other_ports_are_optional: bool,
    /// The group of each IP version in use.
    pub groups: Vec<IpAddr>,
    /// The groups of IP versions that are taken up when the interface gets an address of them.
    pub late: Vec<IpAddr>,
    /// How kernel programs receive.
    pub choice: Choice,
    /// Whether to send probes, or only to reflect.
    pub probing: bool,
    /// The rings of records of probes in flight; used with [`Engine::Ebpf`] only.
    pub rings: Rings,
    /// aya-log's level for lines from the programs, 0 for none.
    pub log_level: u8,
    pub answering: Answering,
    /// Whether to open the ports of cold probes.
    pub cold: bool,
}

impl PortConfig {
    /// All ports on which probes arrive.
    pub fn test_ports(&self) -> Vec<u16> {
        [self.test_port].iter().chain(&self.other_ports).copied().collect()
    }

    fn cold_ports(&self) -> u16 {
        if self.cold { COLD_PORTS } else { 0 }
    }
}

/// Something that happened to the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortEvent {
    /// It was taken down, or lost its carrier.
    Down,
    /// It is up again, with a carrier.
    Up,
    Deleted,
    /// It is there again, with sockets and programs.
    Back,
    /// It has the first address of an IP version, whose group is in use from now on.
    Joined {
        group: IpAddr,
    },
    /// The receive program is attached in another mode.
    Reattached {
        mode: AttachMode,
        reason: String,
    },
}

/// Changes of the interface are followed at most this often.
const MIN_POLL: Duration = Duration::from_millis(50);

/// A device that drops replies for a moment is looked at again after this time.
const MIN_CHECK: Duration = Duration::from_millis(400);

/// An interface under measurement.
pub struct Port {
    config: PortConfig,
    /// Probes and replies are authenticated.
    has_key: bool,
    netlink: Netlink,
    changes: Changes,
    polled: Instant,
    /// When replies that never left were last looked for.
    checked: Instant,
    unsent: Unsent,
    /// Foreign TC programs before the egress program, and before that at ingress.
    preceding: Vec<String>,
    preceding_ingress: Vec<String>,
    sockets: SocketPair,
    repetition: Repetition,
    backend: Box<dyn Backend>,
    clock: ClockState,
    /// Index of the interface; `None` while it is gone.
    index: Option<u32>,
    /// The first mode is in use.
    plan: Plan,
    /// Why that mode.
    reason: String,
    /// The mode that was last reported.
    mode: AttachMode,
    /// The addresses in use, in the order in which they came: the first ones answer.
    by_age: Vec<IpAddr>,
    policy: Arc<Policy>,
    /// Whether the interface was up and had a carrier at the last poll.
    running: bool,
    /// The failure of the last poll, so that it is logged once.
    trouble: Option<String>,
    warned_of_addresses: bool,
}

impl Port {
    /// Checks all facts, then opens sockets, loads and attaches. A failure leaves nothing behind. With a key, which needs
    /// sockets, probes are authenticated.
    pub async fn open(config: PortConfig, engine: Engine, key: Option<Key>) -> Result<Self, PortError> {
        Self::open_after(config, engine, key, &mut Inherited::default()).await
    }

    /// As [`Port::open`], but takes over `inherited` of a process before, so that probes are answered all the time. After a
    /// failure, programs of the process before stay attached.
    pub async fn open_after(
        mut config: PortConfig,
        engine: Engine,
        key: Option<Key>,
        inherited: &mut Inherited,
    ) -> Result<Self, PortError> {
        if engine == Engine::Socket {
            config.choice = Choice::Only(AttachMode::Socket);
        }
        let netlink = Netlink::open()?;
        let changes = Changes::open().map_err(LinkError::Open)?;
        let mut survey = Survey::of(&netlink, &config.interface, config.choice, &inherited.xdp_programs()).await?;
        survey.check_addresses(&config.groups)?;
        if config.other_ports_are_optional {
            leave_out_ports(&mut config);
        }
        let mut sockets = SocketPair::default();
        sockets.open_missing(
            &survey.link,
            &survey.addresses,
            Ports {
                test: &config.test_ports(),
                cold: config.cold_ports(),
            },
            &config.groups,
            engine,
        )?;
        let has_key = key.is_some();
        let backend: Box<dyn Backend> = match engine {
            Engine::Ebpf => {
                let former = inherited.take(&survey.link);
                if let Some(mode) = former.mode() {
                    survey.plan.resume(mode);
                }
                Box::new(EbpfBackend::load_after(
                    config.log_level,
                    config.rings,
                    &config.interface,
                    former,
                )?)
            }
            Engine::Socket => Box::new(SocketBackend::new(config.test_port, key)),
        };
        let mut port = Self {
            config,
            has_key,
            netlink,
            changes,
            polled: Instant::now(),
            checked: Instant::now(),
            unsent: Unsent::default(),
            preceding: Vec::new(),
            preceding_ingress: Vec::new(),
            sockets,
            repetition: Repetition::new(monotonic_ns()),
            backend,
            clock: clock_state(),
            index: None,
            plan: survey.plan,
            reason: String::new(),
            mode: AttachMode::Socket,
            by_age: Vec::new(),
            policy: Arc::default(),
            running: true,
            trouble: None,
            warned_of_addresses: false,
        };
        port.unsent.follow(Some(&survey.link), false, monotonic_ns());
        port.attach(&survey.link, &survey.addresses)?;
        port.find_preceding();
        port.mode = port.plan.modes[0];
        Ok(port)
    }

    pub fn interface(&self) -> &str {
        &self.config.interface
    }

    /// The ports on which probes arrive.
    pub fn test_ports(&self) -> Vec<u16> {
        self.config.test_ports()
    }

    /// How an agent would receive on an interface, in words.
    pub async fn examine(interface: &str) -> Result<String, PortError> {
        Survey::of(&Netlink::open()?, interface, Choice::Auto, &[])
            .await?
            .describe()
    }

    pub fn engine(&self) -> Engine {
        self.backend.engine()
    }

    /// The receive mode, and the reason for it; `None` while the interface is gone.
    pub fn attachment(&self) -> Option<(AttachMode, &str)> {
        self.index.map(|_| (self.plan.modes[0], self.reason.as_str()))
    }

    /// The group of each IP version in use.
    pub fn groups(&self) -> &[IpAddr] {
        &self.config.groups
    }

    /// The interface's addresses in use, in order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.policy.own().to_vec()
    }

    /// Sets prefixes and rates, which apply from the next [`Port::poll`] on.
    pub fn set_answering(&mut self, answering: Answering) {
        self.config.answering = answering;
    }

    /// The sources that are answered.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.clone()
    }

    /// This host's clock, as of the last [`Port::poll`].
    pub fn clock(&self) -> ClockState {
        self.clock
    }

    /// The error estimate that goes with this host's stamps.
    pub fn error_estimate(&self) -> ErrorEstimate {
        error_estimate(&self.clock)
    }

    /// The sockets of one IP version; `None` while the interface is gone or the version is not in use.
    pub fn sockets(&self, family: Family) -> Option<&Sockets> {
        self.sockets.of(family)
    }

    /// As [`Port::sockets`], but `None` while the interface has no address of the version: the kernel would send from
    /// 0.0.0.0.
    pub fn sender_sockets(&self, family: Family) -> Option<&Sockets> {
        self.sockets(family).filter(|_| self.policy.has_address(family))
    }

    /// Waits for a packet that is not for the kernel programs, of either IP version. Cancel safe; only one task can
    /// wait.
    pub async fn passed_up(&self) -> PassedUp {
        let receive = async |family| {
            let Some(sockets) = self.sockets(family) else {
                return pending().await;
            };
            loop {
                match sockets.passed_up().await {
                    Ok(packet) => return packet,
                    Err(error) => {
                        // An ICMP error for an earlier request, or the interface went down.
                        warn!("reading packets that the programs passed up: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        tokio::select! {
            packet = receive(Family::V4) => packet,
            packet = receive(Family::V6) => packet,
        }
    }

    /// Sends probes back to back, IPv4 first. Calls `failed` for each probe that was not sent.
    pub fn send(&mut self, probes: &[Outgoing], mut failed: impl FnMut(&Outgoing, SendFailure)) {
        let unsent = &mut self.unsent;
        for family in [Family::V4, Family::V6] {
            let mut probes = probes.iter().filter(|probe| Family::of(probe.to) == family).copied();
            let sockets = self.sockets.of(family);
            match sockets.filter(|_| self.policy.has_address(family)) {
                Some(sockets) => self
                    .backend
                    .send(sockets, &mut probes, &self.clock, &mut |probe, error| {
                        failed(&probe, unsent.refused(&error, probe.to));
                    }),
                None if self.index.is_some() => probes.for_each(|probe| failed(&probe, SendFailure::NoAddress)),
                None => probes.for_each(|probe| failed(&probe, unsent.refused(&gone(), probe.to))),
            }
        }
    }

    /// Sends a probe as a new flow: from one of the ports of cold probes, in turn by its number.
    pub fn send_cold(&mut self, probe: &Outgoing) -> Result<(), SendFailure> {
        let Outgoing {
            transmit: Transmit { ssid, seq, .. },
            to,
        } = *probe;
        let prepared = self.backend.prepare(ssid, seq).map_err(io::Error::other);
        let packet = stamp::probe(seq, self.error_estimate(), ssid);
        let sent = match self.sender_sockets(Family::of(to)) {
            Some(sockets) => {
                prepared.and_then(|()| sockets.send_cold(seq, &packet, sockets.endpoint(to, self.config.test_port)))
            }
            None if self.index.is_some() => return Err(SendFailure::NoAddress),
            None => Err(gone()),
        };
        sent.map_err(|error| self.unsent.refused(&error, to))
    }

    /// Sends the probes of session `ssid` to `to` from another thread, as [`Port::send`] would.
    pub fn sender(&mut self, to: IpAddr, ssid: u16) -> io::Result<ProbeSender> {
        self.backend.set_session(to, ssid).map_err(io::Error::other)?;
        let sockets = self.sockets.of(Family::of(to)).ok_or_else(gone)?;
        Ok(ProbeSender {
            socket: sockets.clone_sender()?,
            peer: sockets.endpoint(to, self.config.test_port),
            error: self.error_estimate(),
            ssid,
        })
    }

    /// The fate of a probe without a reply, sent at `sent_ns`.
    pub fn fate(&mut self, ssid: u16, seq: u32, peer: IpAddr, sent_ns: u64) -> Fate {
        let trace = self.backend.trace(&self.sockets, ssid, seq, peer);
        let is_preceded = || !self.preceding.is_empty();
        self.unsent.fate(trace, peer, sent_ns, is_preceded)
    }

    /// Foreign programs that see probes before kstamp's, by name.
    pub fn preceding(&self) -> Vec<String> {
        self.preceding.clone()
    }

    /// Returns when the interface has changed, so that [`Port::poll`] is due. Cancel safe.
    pub async fn changed(&self) {
        if self.changes.changed(self.index).await.is_err() {
            // Polling goes on without notices.
            return pending().await;
        }
        tokio::time::sleep_until((self.polled + MIN_POLL).into()).await;
    }

    /// Returns when there may be replies. Cancel safe; only one task can wait.
    pub async fn ready(&self) -> io::Result<()> {
        poll_fn(|cx| self.backend.poll_ready(&self.sockets, cx)).await
    }

    /// Takes the replies received so far, but only as many as do not hold up the caller: with more of them waiting, it
    /// returns T4 of the last one taken, `CLOCK_MONOTONIC`.
    pub fn drain(&mut self, mut each: impl FnMut(&Reply)) -> Option<u64> {
        self.backend.drain(&self.sockets, &self.clock, &mut each)
    }

    /// Probes of `source` that a limit has refused, if the backend counts them.
    pub fn refused(&self, source: IpAddr) -> Option<u64> {
        self.backend.refused(source)
    }

    /// The session of the probes with identifier `ssid` to `to`; `None` if they have no route.
    pub fn session(&self, to: IpAddr, ssid: u16) -> Option<SessionKey> {
        let sockets = self.sender_sockets(Family::of(to))?;
        Some(SessionKey {
            source: sockets.source_of(&self.config.interface, to).ok()?,
            source_port: sockets.sender_port,
            destination: to,
            destination_port: self.config.test_port,
            ssid,
        })
    }

    /// UTC − `CLOCK_MONOTONIC` of the stamps that this host writes into packets, modulo 2⁶⁴.
    pub fn utc_offset_ns(&self) -> u64 {
        self.backend.utc_offset_ns()
    }

    /// Replies that kernel programs have sent in a session, modulo 2³²; `None` if they do not know it.
    pub fn replies_sent(&self, session: &SessionKey) -> Option<u32> {
        self.backend.replies_sent(session)
    }

    /// Stops answering and measuring. The sockets stay open.
    pub fn detach(&mut self) {
        self.backend.detach();
    }

    /// What the next process needs to go on without a gap, by name. It changes with events of [`Port::poll`].
    pub fn kept(&self) -> Vec<(String, BorrowedFd<'_>)> {
        self.backend.kept()
    }

    /// Sockets that stay members of the groups until the next process is one: a switch that snoops does not see this host
    /// leave.
    pub fn members(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let Some(index) = self.index else {
            return Ok(Vec::new());
        };
        let groups = self.config.groups.iter();
        let members = groups.map(|&group| {
            let what = format!("member-{}", Family::of(group));
            Ok((Name::text(index, &what, 0), member(group, index)?))
        });
        members.collect()
    }

    /// Stops measuring. Programs in [`Port::kept`] go on answering for as long as another process keeps them.
    pub fn leave(&mut self) {
        self.backend.leave();
    }

    /// Packets so far that arrived where replies are expected, and answer no probe.
    pub fn mismatches(&mut self) -> Mismatches {
        self.backend.mismatches(&self.sockets)
    }

    /// Counters by name.
    pub fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, PortError> {
        let mut counters = self.backend.counters()?;
        counters.extend(self.mismatches().by_name());
        Ok(counters)
    }
}

fn leave_out_ports(config: &mut PortConfig) {
    let PortConfig { interface, groups, .. } = config;
    config.other_ports.retain(|&port| {
        let checked = sockets::check_port(interface, port, groups);
        if let Err(error) = &checked {
            warn!("probes to port {port} are not answered: {error}");
        }
        checked.is_ok()
    });
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the interface is gone")
}
