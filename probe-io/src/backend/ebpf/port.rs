//! One interface with its sockets and programs.

mod error;
mod live;
mod sender;
mod survey;
mod upkeep;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

pub use error::PortError;
use ipnet::IpNet;
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use probe_core::observation::Fate;
use probe_core::reflector::policy::{Policy, Rates};
use probe_host::clock::ClockState;
use probe_host::link::Netlink;
pub use sender::Sender;

use crate::backend::ebpf::plan::{Choice, ReceiveMode};
use crate::backend::ebpf::port::live::Live;
use crate::backend::ebpf::port::survey::Survey;
use crate::backend::ebpf::programs::Programs;
use crate::backend::ebpf::ring::Ring;
use crate::backend::ebpf::settings;
use crate::compare::kernel;
use crate::udp::sockets::{SocketPair, Sockets};

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
    /// Who is answered, and how often.
    pub answering: Answering,
}

/// Who is answered, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answering {
    /// Prefixes beside the interface's own.
    pub allow: Vec<IpNet>,
    /// Packets a second.
    pub rates: Rates,
}

/// Something that happened to the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortEvent {
    /// It was taken down, or lost its carrier.
    Down,
    /// It is up again, with a carrier.
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
    programs: Programs,
    live: Option<Live>,
    clock: ClockState,
    /// How the receive program is attached, or was before the interface went.
    mode: ReceiveMode,
    /// Whether the interface is up and has a carrier, as far as has been told.
    running: bool,
    /// What failed at the last look, so that it is said once.
    trouble: Option<String>,
}

impl Port {
    /// Checks everything that can be checked, then opens sockets, loads and attaches. What fails leaves nothing behind.
    ///
    /// # Errors
    /// One line: what is wrong with the interface, and what to do.
    pub async fn open(config: PortConfig) -> Result<(Self, Ring), PortError> {
        let netlink = Netlink::open()?;
        let survey = Survey::of(&netlink, &config.interface, config.choice).await?;
        survey.check_addresses(&config)?;
        let mut sockets = SocketPair::default();
        live::open_missing(&mut sockets, &config, &survey.link, &survey.addresses)?;
        let (mut programs, samples) = Programs::load(config.log_level)?;
        let ring = Ring::new(samples).map_err(PortError::Ring)?;
        if config.log_level != 0 {
            programs.print_log().map_err(PortError::Log)?;
        }
        let clock = clock_state();
        let live = Live::start(survey, sockets, &mut programs, &config, clock)?;
        let port = Self {
            config,
            netlink,
            programs,
            mode: live.receive.mode,
            running: true,
            live: Some(live),
            clock,
            trouble: None,
        };
        Ok((port, ring))
    }

    /// Says of an interface how an agent would receive on it, in words.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub async fn examine(interface: &str) -> Result<String, PortError> {
        let survey = Survey::of(&Netlink::open()?, interface, Choice::Auto).await?;
        if survey.addresses.is_empty() {
            return Err(PortError::NoAddress {
                interface: interface.to_owned(),
                family: "IP",
            });
        }
        Ok(survey.describe())
    }

    /// How the receive program is attached, and why so; `None` while the interface is gone.
    pub fn attachment(&self) -> Option<(ReceiveMode, &str)> {
        self.live.as_ref().map(|live| (live.receive.mode, live.reason.as_str()))
    }

    /// The interface's addresses in use.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.programs.addresses()
    }

    /// This host's clock, as of the last [`Port::poll`].
    pub fn clock(&self) -> ClockState {
        self.clock
    }

    /// The error estimate that goes with this host's stamps.
    pub fn error_estimate(&self) -> ErrorEstimate {
        settings::error_estimate(&self.clock)
    }

    /// The sockets of one IP version; `None` while the interface is gone or the version is not in use.
    pub fn sockets(&self, v6: bool) -> Option<&Sockets> {
        self.live.as_ref()?.sockets.of(v6)
    }

    /// Sends one probe; T1 is taken by the egress program.
    ///
    /// # Errors
    /// The socket's, or that the interface is gone.
    pub fn send(&mut self, to: IpAddr, ssid: u16, seq: u32) -> io::Result<()> {
        if seq == 0 && !to.is_multicast() {
            // It serves replies without an identifier, and is refused for none that has one.
            self.programs.set_session(to, ssid).map_err(io::Error::other)?;
        }
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
        let sockets = self.sockets(to.is_ipv6()).ok_or_else(gone)?;
        let probe = stamp::probe(seq, self.error_estimate(), ssid);
        sockets.send_probe(&probe, to, self.config.test_port).map(drop)
    }

    /// Sends the probes of session `ssid` to `to` from another thread, as [`Port::send`] would.
    ///
    /// # Errors
    /// The socket's, or that the interface is gone.
    pub fn sender(&mut self, to: IpAddr, ssid: u16) -> io::Result<kernel::Sender> {
        self.programs.set_session(to, ssid).map_err(io::Error::other)?;
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
        let error = self.error_estimate();
        let sockets = self.sockets(to.is_ipv6()).ok_or_else(gone)?;
        Ok(kernel::Sender {
            socket: sockets.clone_sender()?,
            peer: sockets.endpoint(to, self.config.test_port),
            error,
            ssid,
        })
    }

    /// What became of a probe that has no reply.
    pub fn fate(&mut self, ssid: u16, seq: u32, peer: IpAddr) -> Fate {
        self.programs.fate(ssid, seq, peer)
    }

    /// Who is answered, by the programs and by whoever answers what they pass up.
    pub fn policy(&self) -> &Policy {
        self.programs.policy()
    }

    /// Probes of `source` that a limit of this port has refused. It starts again at 0 when the programs have forgotten
    /// the source.
    ///
    /// # Errors
    /// The map's.
    pub fn refused(&self, source: IpAddr) -> Result<u64, PortError> {
        Ok(self.programs.refused(source)?)
    }

    /// The programs' counters by name.
    ///
    /// # Errors
    /// The map's.
    pub fn counters(&mut self) -> Result<BTreeMap<&'static str, u64>, PortError> {
        Ok(self.programs.counters()?)
    }
}

/// A clock of which the kernel says nothing is not synchronised.
pub(crate) fn clock_state() -> ClockState {
    ClockState::read().unwrap_or(ClockState {
        synchronised: false,
        error_ns: u64::MAX,
        tai_offset_s: 0,
    })
}
