//! One interface with its sockets and programs, from opening it to what becomes of it while running.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use aya::maps::MapError;
use log::{debug, warn};
use probe_common::abi::{Address, COUNTER_NAMES, Counter, InFlightKey, MissedKey};
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use thiserror::Error;

use super::attach::{self, AttachError, Attachment, Egress};
use super::object::{Object, ObjectError, XDP};
use super::plan::{self, Choice, Device, Plan, ReceiveMode};
use super::ring::Ring;
use super::settings::{self, Facts};
use super::watch::Watch;
use crate::core::observation::Fate;
use crate::engine::sockets::{SocketError, Sockets};
use crate::host::clock::ClockState;
use crate::host::link::{self, Link, LinkError, Netlink, XdpMode};

/// What to open.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Name of the interface.
    pub interface: String,
    /// Port on which probes arrive.
    pub test_port: u16,
    /// The group of each IP version in use.
    pub groups: Vec<IpAddr>,
    /// How to receive.
    pub choice: Choice,
    /// Whether to send probes, or only to reflect.
    pub probing: bool,
    /// aya-log's level for lines from the programs, 0 for none.
    pub log_level: u8,
}

/// The interface cannot be used.
#[derive(Debug, Error)]
pub enum PortError {
    /// There is none of this name.
    #[error("no interface named {0} in this network namespace; `ip link` lists those that are there")]
    NoInterface(String),
    /// It is down.
    #[error("{0} is down; bring it up with `ip link set {0} up`")]
    Down(String),
    /// It has no address that could be probed from.
    #[error("{interface} has no {family} address; add one with `ip address add`, or choose another --family")]
    NoAddress {
        /// Which interface.
        interface: String,
        /// IPv4 or IPv6.
        family: &'static str,
    },
    /// What the user asked for cannot be had.
    #[error("{interface}: {refusal}")]
    Refused {
        /// Which interface.
        interface: String,
        /// What stands in the way, and what to do.
        refusal: String,
    },
    /// The kernel would not tell.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A socket could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The programs could not be loaded, or their maps not be used.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The programs could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The ring buffer could not be watched.
    #[error("cannot watch the ring buffer: {0}")]
    Ring(io::Error),
}

/// Something that happened to the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortEvent {
    /// It was taken down.
    Down,
    /// It is up again.
    Up,
    /// It was deleted.
    Deleted,
    /// It is there again, with sockets and programs.
    Back,
    /// The receive program is attached in another way than before.
    Reattached {
        /// How now.
        mode: ReceiveMode,
        /// Why.
        reason: String,
    },
}

/// An interface under measurement.
pub struct Port {
    config: PortConfig,
    netlink: Netlink,
    object: Object,
    live: Option<Live>,
    clock: ClockState,
    destinations: BTreeMap<IpAddr, u32>,
    reopen_failure: Option<String>,
}

/// What exists only while the interface does.
struct Live {
    link: Link,
    addresses: Vec<link::Address>,
    v4: Option<Sockets>,
    v6: Option<Sockets>,
    plan: Plan,
    reason: String,
    watch: Watch,
    receive: Attachment,
    _egress: Option<Egress>,
}

impl Port {
    /// Checks everything that can be checked, then opens sockets, loads and attaches. What fails leaves nothing behind.
    pub async fn open(config: PortConfig) -> Result<(Self, Ring), PortError> {
        let netlink = Netlink::open()?;
        let link = usable_link(&netlink, &config.interface).await?;
        let addresses = netlink.addresses(link.index).await?;
        check_addresses(&config, &addresses)?;
        let plan = make_plan(&netlink, config.choice, &link).await?;
        let sockets = open_sockets(&config, &link)?;
        let mut object = Object::load(config.log_level)?;
        let ring = Ring::new(object.take_samples()?).map_err(PortError::Ring)?;
        let mut port = Self {
            config,
            netlink,
            object,
            live: None,
            clock: clock_state(),
            destinations: BTreeMap::new(),
            reopen_failure: None,
        };
        port.go_live(link, addresses, sockets, plan)?;
        Ok((port, ring))
    }

    /// Says of an interface how an agent would receive on it, in words.
    pub async fn examine(interface: &str) -> Result<String, PortError> {
        let netlink = Netlink::open()?;
        let link = usable_link(&netlink, interface).await?;
        let addresses = netlink.addresses(link.index).await?;
        if addresses.is_empty() {
            return Err(PortError::NoAddress {
                interface: interface.to_owned(),
                family: "IP",
            });
        }
        let plan = make_plan(&netlink, Choice::Auto, &link).await?;
        let kind = link.kind.as_deref().unwrap_or("device");
        let because = plan.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Ok(format!(
            "{interface} ({kind}) is up with {} addresses; to try {}{because}",
            addresses.len(),
            plan.modes[0]
        ))
    }

    /// Prints what the programs log from now on, if [`PortConfig::log_level`] lets them.
    pub fn log_programs(&mut self) -> io::Result<()> {
        if self.config.log_level == 0 {
            Ok(())
        } else {
            super::log::print(&mut self.object)
        }
    }

    /// How the receive program is attached, and why so; `None` while the interface is gone.
    pub fn attachment(&self) -> Option<(ReceiveMode, &str)> {
        self.live.as_ref().map(|live| (live.receive.mode, live.reason.as_str()))
    }

    /// The interface's addresses in use.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.destinations
            .keys()
            .copied()
            .filter(|ip| !ip.is_multicast())
            .collect()
    }

    /// This host's clock, as of the last [`Port::poll`].
    pub fn clock(&self) -> ClockState {
        self.clock
    }

    /// The error estimate that goes with this host's stamps.
    pub fn error_estimate(&self) -> ErrorEstimate {
        settings::error_estimate(&self.clock)
    }

    /// The sockets of the IP version of `address`; `None` while the interface is gone or the version is not in use.
    pub fn sockets(&self, v6: bool) -> Option<&Sockets> {
        let live = self.live.as_ref()?;
        if v6 { live.v6.as_ref() } else { live.v4.as_ref() }
    }

    /// Sends one probe; T1 is taken by the egress program.
    pub fn send(&self, to: IpAddr, ssid: u16, seq: u32) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
        let sockets = self.sockets(to.is_ipv6()).ok_or_else(gone)?;
        sockets.send_probe(
            &stamp::probe(seq, self.error_estimate(), ssid),
            to,
            self.config.test_port,
        )
    }

    /// What became of a probe that has no reply.
    pub fn fate(&mut self, ssid: u16, seq: u32, peer: IpAddr) -> Fate {
        let probe = InFlightKey { seq, ssid, reserved: 0 };
        let missed = MissedKey {
            source: Address::from(peer),
            probe,
        };
        let was_missed = self.object.missed().is_ok_and(|map| map.get(&missed, 0).is_ok());
        let has_left = self.object.in_flight().is_ok_and(|map| map.get(&probe, 0).is_ok());
        match (was_missed, has_left) {
            (true, _) => Fate::CollectorLost,
            (false, true) => Fate::Unanswered,
            (false, false) => Fate::NeverLeft,
        }
    }

    /// The programs' counters by name.
    pub fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, PortError> {
        Ok(COUNTER_NAMES.into_iter().zip(self.object.counters()?).collect())
    }

    /// Looks after the interface: call it twice a second. Says what has changed.
    pub async fn poll(&mut self) -> Result<Vec<PortEvent>, PortError> {
        self.clock = clock_state();
        let mut events = Vec::new();
        let link = self.netlink.link_by_name(&self.config.interface).await?;
        let known = self.live.as_ref().map(|live| live.link.index);
        if known.is_some() && link.as_ref().map(|link| link.index) != known {
            // The kernel detaches programs from a device that goes; the sockets are bound to an index that is no more.
            self.live = None;
            events.push(PortEvent::Deleted);
        }
        match link {
            Some(link) if self.live.is_some() => self.follow(link, &mut events).await?,
            Some(link) if link.up => self.reopen(link, &mut events).await,
            _ => {}
        }
        Ok(events)
    }

    /// The interface is still the same one: follow its state and addresses, and see that replies leave it.
    async fn follow(&mut self, link: Link, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let addresses = self.netlink.addresses(link.index).await?;
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        if live.link.up != link.up {
            events.push(if link.up { PortEvent::Up } else { PortEvent::Down });
        }
        live.link = link;
        live.addresses = addresses;
        self.tell_programs()?;
        self.leave_a_mode_that_swallows(events)
    }

    fn leave_a_mode_that_swallows(&mut self, events: &mut Vec<PortEvent>) -> Result<(), PortError> {
        let reflected = self.reflected()?;
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        if live.receive.mode != ReceiveMode::XdpNative || !live.watch.swallows(reflected, live.link.tx_dropped) {
            return Ok(());
        }
        let swallowed = format!(
            "{} dropped the replies that native XDP transmitted",
            self.config.interface
        );
        if live.plan.modes.len() < 2 {
            warn!("{swallowed}: its other end has no XDP program? --attach auto finds a mode that works");
            return Ok(());
        }
        live.plan.modes.remove(0);
        self.reattach(swallowed.clone())?;
        if let Some((mode, _)) = self.attachment() {
            events.push(PortEvent::Reattached {
                mode,
                reason: swallowed,
            });
        }
        Ok(())
    }

    /// Takes up the next mode of the plan.
    fn reattach(&mut self, reason: String) -> Result<(), PortError> {
        let Some(Live {
            link,
            addresses,
            v4,
            v6,
            mut plan,
            watch,
            receive,
            _egress,
            ..
        }) = self.live.take()
        else {
            return Ok(());
        };
        drop(receive);
        let index = link.index;
        let (receive, _) = self.attach_first(&mut plan, index)?;
        self.live = Some(Live {
            link,
            addresses,
            v4,
            v6,
            plan,
            reason,
            watch,
            receive,
            _egress,
        });
        self.tell_programs()
    }

    /// The interface is there again.
    async fn reopen(&mut self, link: Link, events: &mut Vec<PortEvent>) {
        match self.try_reopen(link).await {
            Ok(()) => {
                self.reopen_failure = None;
                events.push(PortEvent::Back);
            }
            Err(error) => {
                let failure = error.to_string();
                if self.reopen_failure.as_ref() != Some(&failure) {
                    warn!("{failure}; trying again");
                }
                self.reopen_failure = Some(failure);
            }
        }
    }

    async fn try_reopen(&mut self, link: Link) -> Result<(), PortError> {
        let addresses = self.netlink.addresses(link.index).await?;
        check_addresses(&self.config, &addresses)?;
        let plan = make_plan(&self.netlink, self.config.choice, &link).await?;
        let sockets = open_sockets(&self.config, &link)?;
        self.go_live(link, addresses, sockets, plan)
    }

    fn go_live(
        &mut self,
        link: Link,
        addresses: Vec<link::Address>,
        (v4, v6): (Option<Sockets>, Option<Sockets>),
        mut plan: Plan,
    ) -> Result<(), PortError> {
        let index = link.index;
        self.tell(&link, &addresses, (v4.as_ref(), v6.as_ref()), plan.modes[0])?;
        let egress = if self.config.probing {
            Some(attach::egress(&mut self.object, &self.config.interface)?)
        } else {
            None
        };
        let (receive, refusal) = self.attach_first(&mut plan, index)?;
        let reason = reason(self.config.choice, &plan, refusal);
        let watch = Watch::new(self.reflected()?, link.tx_dropped);
        self.live = Some(Live {
            link,
            addresses,
            v4,
            v6,
            plan,
            reason,
            watch,
            receive,
            _egress: egress,
        });
        self.tell_programs()
    }

    /// Attaches in the first mode of the plan that the kernel accepts, and strikes those before it off the plan. Also
    /// says why they were refused.
    fn attach_first(&mut self, plan: &mut Plan, index: u32) -> Result<(Attachment, Option<String>), PortError> {
        let mut refusal = None;
        loop {
            match attach::receive(&mut self.object, &self.config.interface, index, plan.modes[0]) {
                Ok(attachment) => return Ok((attachment, refusal)),
                Err(error) if plan.modes.len() == 1 => return Err(error.into()),
                Err(error) => {
                    debug!("{error}");
                    plan.modes.remove(0);
                    refusal = Some(error.to_string());
                }
            }
        }
    }

    fn reflected(&mut self) -> Result<u64, PortError> {
        let counters = self.object.counters()?;
        Ok(counters[Counter::Reflected as usize] + counters[Counter::ReflectedGroup as usize])
    }

    fn tell_programs(&mut self) -> Result<(), PortError> {
        let Some(live) = self.live.take() else {
            return Ok(());
        };
        let told = self.tell(
            &live.link,
            &live.addresses,
            (live.v4.as_ref(), live.v6.as_ref()),
            live.receive.mode,
        );
        self.live = Some(live);
        told
    }

    /// Writes the settings and brings the destinations up to date.
    fn tell(
        &mut self,
        link: &Link,
        addresses: &[link::Address],
        (v4, v6): (Option<&Sockets>, Option<&Sockets>),
        mode: ReceiveMode,
    ) -> Result<(), PortError> {
        let sender_port = |sockets: Option<&Sockets>| sockets.map_or(0, |sockets| sockets.sender_port);
        let facts = Facts {
            link,
            addresses,
            groups: &self.config.groups,
            test_port: self.config.test_port,
            sender_port_v4: sender_port(v4),
            sender_port_v6: sender_port(v6),
            clock: self.clock,
            mode,
        };
        self.object.set_settings(&facts.settings())?;
        let wanted = facts.destinations();
        let failed = |source: MapError| ObjectError::Map {
            name: "DESTINATIONS",
            source,
        };
        let mut map = self.object.destinations()?;
        for (ip, kind) in &wanted {
            if self.destinations.get(ip) != Some(kind) {
                map.insert(Address::from(*ip), kind, 0).map_err(failed)?;
            }
        }
        for ip in self.destinations.keys().filter(|ip| !wanted.contains_key(ip)) {
            map.remove(&Address::from(*ip)).map_err(failed)?;
        }
        self.destinations = wanted;
        Ok(())
    }
}

/// What to tell the user of the choice.
fn reason(choice: Choice, plan: &Plan, refusal: Option<String>) -> String {
    match (choice, &plan.reason, refusal) {
        (Choice::Only(_), ..) => "as asked for".to_owned(),
        (Choice::Auto, Some(reason), None) => reason.clone(),
        (Choice::Auto, None, Some(refusal)) => refusal,
        (Choice::Auto, Some(reason), Some(refusal)) => format!("{reason}; {refusal}"),
        (Choice::Auto, None, None) => "the fastest that this device takes".to_owned(),
    }
}

/// A clock of which the kernel says nothing is not synchronised.
fn clock_state() -> ClockState {
    ClockState::read().unwrap_or(ClockState {
        synchronised: false,
        error_ns: 0,
        tai_offset_s: 0,
    })
}

async fn usable_link(netlink: &Netlink, interface: &str) -> Result<Link, PortError> {
    let link = netlink.link_by_name(interface).await?;
    let link = link.ok_or_else(|| PortError::NoInterface(interface.to_owned()))?;
    if link.up {
        Ok(link)
    } else {
        Err(PortError::Down(interface.to_owned()))
    }
}

/// Each IP version in use needs an address.
fn check_addresses(config: &PortConfig, addresses: &[link::Address]) -> Result<(), PortError> {
    for group in &config.groups {
        if !addresses.iter().any(|address| address.ip.is_ipv4() == group.is_ipv4()) {
            let family = if group.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(PortError::NoAddress {
                interface: config.interface.clone(),
                family,
            });
        }
    }
    Ok(())
}

async fn make_plan(netlink: &Netlink, choice: Choice, link: &Link) -> Result<Plan, PortError> {
    let peer = match link.peer_index {
        Some(index) => netlink.link_by_index(index).await?,
        None => None,
    };
    let native = |link: &Link| link.xdp.as_ref().is_some_and(|xdp| xdp.mode == XdpMode::Native);
    let device = Device {
        kind: link.kind.clone(),
        foreign_xdp: link.xdp.as_ref().map(|xdp| foreign(xdp.program_id)),
        peer_has_xdp: peer.as_ref().is_some_and(native),
    };
    plan::plan(choice, &device).map_err(|refusal| PortError::Refused {
        interface: link.name.clone(),
        refusal,
    })
}

/// In words; an agent of ours gets a hint with it.
fn foreign(program_id: u32) -> String {
    let program = attach::describe_program(program_id);
    if program.contains(XDP) {
        format!("{program} of another kstamp")
    } else {
        program
    }
}

fn open_sockets(config: &PortConfig, link: &Link) -> Result<(Option<Sockets>, Option<Sockets>), PortError> {
    let open = |v6: bool| {
        let group = config.groups.iter().find(|group| group.is_ipv6() == v6);
        group
            .map(|&group| Sockets::open(&config.interface, link.index, config.test_port, group))
            .transpose()
    };
    Ok((open(false)?, open(true)?))
}
