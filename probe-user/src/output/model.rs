//! What is reported while kstamp runs, with the field names that programs rely on: adding one is allowed, renaming one
//! is not.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use probe_core::agent::event::Found;
use probe_host::clock::ClockState;
use probe_io::backend::ebpf::plan::ReceiveMode;
use probe_io::port::{Kind, Receive};
use serde::Serialize;

use crate::output::fields;
use crate::output::results::Results;
use crate::output::time::Utc;

/// What is reported while an agent or a reflector runs, in this order: one start, any number of others, one end.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and a start only once")]
pub enum Event {
    /// The programs are attached.
    Start(Start),
    /// The receive program is now attached in another way.
    Attach(AttachChange),
    /// The interface came or went.
    Interface(InterfaceChange),
    /// A peer came or went.
    Peer(PeerChange),
    /// A wall clock was stepped.
    Clock(ClockStep),
    /// A report interval ended.
    Windows(Windows),
    /// The kernel's counters, at the end of a reflector's report interval.
    Counters(Counters),
    /// The run ended.
    End(End),
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack.
    XdpGeneric,
    /// Traffic control (TCX, or clsact below Linux 6.6).
    Tc,
    /// No program: a socket sends and receives.
    Socket,
}

impl AttachMode {
    /// The mode of this name; `None` if there is none, as a peer may say what it likes.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::XdpNative, Self::XdpGeneric, Self::Tc, Self::Socket]
            .into_iter()
            .find(|mode| mode.to_string() == name)
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
            Self::Socket => "socket",
        })
    }
}

impl From<ReceiveMode> for AttachMode {
    fn from(mode: ReceiveMode) -> Self {
        match mode {
            ReceiveMode::XdpNative => Self::XdpNative,
            ReceiveMode::XdpGeneric => Self::XdpGeneric,
            ReceiveMode::Tc => Self::Tc,
        }
    }
}

impl From<Receive> for AttachMode {
    fn from(receive: Receive) -> Self {
        match receive {
            Receive::Program(mode) => mode.into(),
            Receive::Socket => Self::Socket,
        }
    }
}

/// How each program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Attach {
    /// The program that stamps probes as they leave; `None` of a reflector.
    pub egress: Option<AttachMode>,
    /// The program that reflects probes and stamps replies.
    pub receive: AttachMode,
}

impl Attach {
    /// No program at all: sockets send and receive.
    pub const SOCKETS: Self = Self {
        egress: Some(AttachMode::Socket),
        receive: AttachMode::Socket,
    };
}

/// State of this host's clock against UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clock {
    /// Something disciplines it.
    pub synchronised: bool,
    /// Bound on its error; meaningless unless `synchronised`.
    pub error_ns: u64,
    /// TAI − UTC.
    pub tai_offset_s: i32,
}

impl From<ClockState> for Clock {
    fn from(state: ClockState) -> Self {
        let ClockState {
            synchronised,
            error_ns,
            tai_offset_s,
        } = state;
        Self {
            synchronised,
            error_ns,
            tai_offset_s,
        }
    }
}

/// What runs, where, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    /// Version of kstamp.
    pub version: String,
    /// The interface.
    pub interface: String,
    /// How each program is attached.
    pub attach: Attach,
    /// Why the receive program is attached like that.
    pub attach_reason: String,
    /// How stamps are obtained.
    pub engine: Engine,
    /// Whether packets are authenticated, and no others are sent or answered.
    pub authenticated: bool,
    /// State of this host's clock.
    pub clock: Clock,
    /// The kernel's release.
    pub kernel: String,
    /// The agent's name.
    pub name: String,
    /// Addresses that probes are sent from and answered at.
    pub addresses: Vec<IpAddr>,
    /// Port on which probes arrive.
    pub port: u16,
    /// Groups that were joined.
    pub groups: Vec<IpAddr>,
    /// Peers that were named by the user; none of a reflector.
    pub peers: Vec<IpAddr>,
    /// Whether probes are sent to `groups`, and to who answers there.
    pub group_probes: bool,
    /// Time between two probes of a session; `None` of a reflector.
    pub interval_ns: Option<u64>,
    /// Time after which a probe is lost; `None` of a reflector.
    pub timeout_ns: Option<u64>,
    /// Prefixes whose sources are answered.
    pub allowed: Vec<String>,
    /// Most answers a second to all sources together; 0 for no limit.
    pub rate: u32,
    /// Most answers a second to each source; 0 for no limit.
    pub rate_source: u32,
    /// Most answers a second to each source that probes a group; 0 for no limit.
    pub rate_group: u32,
    /// Who runs it.
    pub user: String,
    /// Capabilities that it has kept.
    pub capabilities: Vec<String>,
    /// When it started.
    pub time: Utc,
}

/// How a peer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By STAMP.
    Stamp,
    /// As the older agents do: by numbers in ASCII that come back as they are.
    Echo,
}

/// How stamps are obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// By kernel programs.
    Ebpf,
    /// By sockets.
    Socket,
}

impl From<Kind> for Engine {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ebpf => Self::Ebpf,
            Kind::Socket => Self::Socket,
        }
    }
}

/// The receive program is now attached in another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachChange {
    /// In which way.
    pub receive: AttachMode,
    /// Why.
    pub reason: String,
    /// When.
    pub time: Utc,
}

/// What became of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceEvent {
    /// It went down, or lost its carrier.
    Down,
    /// It is up again.
    Up,
    /// It was deleted.
    Deleted,
    /// It was made again, and the programs are attached to it again.
    Back,
}

/// The interface came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceChange {
    /// What became of it.
    pub event: InterfaceEvent,
    /// Its name.
    pub interface: String,
    /// When.
    pub time: Utc,
}

/// What became of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerEvent {
    /// It answers.
    Up,
    /// It has not answered for longer than the peer expiry.
    Down,
}

/// A peer came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerChange {
    /// What became of it.
    pub event: PeerEvent,
    /// Its address.
    pub peer: IpAddr,
    /// How it was found.
    #[serde(with = "fields::FoundName")]
    pub found: Found,
    /// How it was asked.
    pub method: Method,
    /// What it calls itself, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version of kstamp, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When.
    pub time: Utc,
}

/// A wall clock was stepped: round-trip delays do not rest on it, one-way delays across it mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockStep {
    /// The peer whose clock it is; `None` for this host's.
    pub peer: Option<IpAddr>,
    /// By how much; positive if it went forward.
    pub by_ns: i64,
    /// When that was noticed.
    pub time: Utc,
}

/// The results of one report interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// When it ended.
    pub time: Utc,
    /// One for each peer and path.
    pub results: Vec<Results>,
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// One for each peer and path.
    pub results: Vec<Results>,
    /// The kernel's counters.
    pub counters: Counters,
}

/// What has become of the packets that concerned kstamp since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Each kernel counter by its name: each is a field of the record.
    #[serde(flatten)]
    pub values: BTreeMap<String, u64>,
    /// When they were read.
    pub time: Utc,
}
