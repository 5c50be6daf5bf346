//! The controller's result model. Field names are stable; durations are integer nanoseconds and end in `_ns`; what is not
//! known is null, never zero.

use std::net::SocketAddr;

use probe_controller::link_delay::{LinkState, Statistic};
use probe_controller::topology;
use serde::{Serialize, Serializer};

use crate::output::time::Utc;

/// A port, as `{dpid, port}` with what they are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// 16 hexadecimal digits.
    pub dpid: String,
    /// OpenFlow port number.
    pub port: u32,
    /// What the switch is called.
    pub switch: String,
    /// What the port is called.
    pub name: Option<String>,
}

/// A value for each direction: forward is from `from` to `to`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BothWays {
    /// From `from` to `to`.
    pub forward: Option<i64>,
    /// From `to` to `from`.
    pub backward: Option<i64>,
}

impl From<[Option<i64>; 2]> for BothWays {
    fn from([forward, backward]: [Option<i64>; 2]) -> Self {
        Self { forward, backward }
    }
}

/// A value for each method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByMethod<T> {
    /// LLDP both ways less both echoes.
    pub lldp_echo: Option<T>,
    /// Data-plane round trip less the packet-out baseline.
    pub bounce: Option<T>,
    /// Kernel stamps of the same LLDP at both ends.
    pub kernel: Option<T>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkLine {
    /// When this was so.
    pub time: Utc,
    /// One end.
    pub from: End,
    /// The other.
    pub to: End,
    /// `valid`, `below_resolution`, `negative`, `stale` or `missing`.
    #[serde(serialize_with = "state")]
    pub state: LinkState,
    /// Smallest LLDP time of the window: controller, switch, link, switch, controller.
    pub lldp_ns: BothWays,
    /// Round trip of the link.
    pub rtt_ns: ByMethod<i64>,
    /// Bound of its error, by the spread of the terms; for `lldp_echo` it is the resolution.
    pub error_ns: ByMethod<u64>,
    /// How far it is from what the kernel's stamps say.
    pub off_ns: ByMethod<i64>,
    /// One-way delay by kernel stamps.
    pub kernel_ns: BothWays,
    /// Whether `lldp_echo` compares minima or, while there are few samples, medians.
    #[serde(serialize_with = "statistic")]
    pub by: Option<Statistic>,
    /// Delay one way with which paths are computed; null where the link is not used.
    pub weight_ns: Option<u64>,
    /// Whether broadcast uses it.
    pub in_tree: bool,
    /// How many estimates were below zero.
    pub negatives: u64,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchLine {
    /// When this was so.
    pub time: Utc,
    /// 16 hexadecimal digits.
    pub dpid: String,
    /// The name of its own port.
    pub name: String,
    /// From where it connected.
    pub address: SocketAddr,
    /// How many of its ports are up.
    pub ports: usize,
    /// Smallest echo time of the window.
    pub echo_ns: Option<i64>,
    /// Median echo time of the window.
    pub echo_p50_ns: Option<i64>,
    /// Smallest time of a packet-out to CONTROLLER.
    pub baseline_ns: Option<i64>,
}

/// One link of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HopLine {
    /// Where it leaves a switch.
    pub from: End,
    /// Where it enters the next.
    pub to: End,
}

/// The way between two switches; the same links are used both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathLine {
    /// When this was so.
    pub time: Utc,
    /// From this switch, 16 hexadecimal digits
    pub from: String,
    /// to this one.
    pub to: String,
    /// All switches on it, by what they are called.
    pub switches: Vec<String>,
    /// Its links in order.
    pub hops: Vec<HopLine>,
    /// The sum of their delays one way.
    pub delay_ns: u64,
    /// The addresses of the hosts at `from`,
    pub from_hosts: Vec<String>,
    /// and at `to`.
    pub to_hosts: Vec<String>,
}

/// Counts over the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SummaryLine {
    /// When it ended.
    pub time: Utc,
    /// Switches connected.
    pub switches: usize,
    /// Links by state.
    pub links: LinkCounts,
    /// Hosts learnt.
    pub hosts: usize,
    /// Estimates below zero; none was ever a weight.
    pub negatives: u64,
    /// Broadcast storms.
    pub storms: u64,
    /// Changes of a way between switches.
    pub reroutes: u64,
    /// Group frames of hosts.
    pub broadcasts: u64,
    /// Frames that claimed to be this run's LLDP and were not.
    pub forged: u64,
    /// Probes handed to the server,
    pub sent: u64,
    /// answered in time,
    pub answered: u64,
    /// not answered in time,
    pub lost: u64,
    /// LLDP out of ports that lead to no switch,
    pub unheard: u64,
    /// answered late or twice,
    pub late: u64,
    /// and answers that fit nothing that was sent.
    pub mismatched: u64,
    /// Packet-ins above the limit, dropped.
    pub packet_ins_over_limit: u64,
    /// Events that the controller did not keep up with.
    pub events_dropped: u64,
}

/// Links by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounts {
    /// Above the noise.
    pub valid: usize,
    /// Within it.
    pub below_resolution: usize,
    /// Below zero by more than it.
    pub negative: usize,
    /// LLDP no longer comes.
    pub stale: usize,
    /// Samples are missing.
    pub missing: usize,
}

/// A state of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub time: Utc,
    /// Links.
    pub links: Vec<LinkLine>,
    /// Switches.
    pub switches: Vec<SwitchLine>,
    /// Ways.
    pub paths: Vec<PathLine>,
    /// Counts so far.
    pub summary: SummaryLine,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    Start(Start),
    /// A line for people, with what it is about for programs.
    Event(Happened),
}

/// What the run was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    /// When.
    pub time: Utc,
    /// kstamp's version.
    pub version: &'static str,
    /// Where switches connect to.
    pub listen: SocketAddr,
    /// Whether by TLS.
    pub tls: bool,
    /// Time in which everything is measured once.
    pub period_ns: u64,
    /// Whether nothing is forwarded.
    pub measure_only: bool,
    /// Interfaces that are tapped.
    pub taps: Vec<String>,
}

/// What happened, when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When.
    pub time: Utc,
    /// `switch_up`, `switch_down`, `link_up`, `link_stale`, `link_down`, `reroute` or `trouble`.
    pub event: &'static str,
    /// In words.
    pub text: String,
}

/// What a state is called in results.
pub fn state_name(state: LinkState) -> &'static str {
    match state {
        LinkState::Valid => "valid",
        LinkState::BelowResolution => "below_resolution",
        LinkState::Negative => "negative",
        LinkState::Stale => "stale",
        LinkState::Missing => "missing",
    }
}

impl LinkCounts {
    /// How many links are in each state.
    pub fn of(states: impl Iterator<Item = LinkState>) -> Self {
        let mut counts = Self::default();
        for state in states {
            *match state {
                LinkState::Valid => &mut counts.valid,
                LinkState::BelowResolution => &mut counts.below_resolution,
                LinkState::Negative => &mut counts.negative,
                LinkState::Stale => &mut counts.stale,
                LinkState::Missing => &mut counts.missing,
            } += 1;
        }
        counts
    }
}

impl PathLine {
    /// Whether there are hosts at both ends.
    pub fn has_hosts(&self) -> bool {
        !self.from_hosts.is_empty() && !self.to_hosts.is_empty()
    }
}

impl End {
    /// A port by what its switch is called.
    pub fn new(port: topology::PortId, switch: String, name: Option<&str>) -> Self {
        Self {
            dpid: port.dpid.to_string(),
            port: port.port.0,
            switch,
            name: name.map(str::to_owned),
        }
    }
}

fn state<S: Serializer>(state: &LinkState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state_name(*state))
}

fn statistic<S: Serializer>(by: &Option<Statistic>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = by.map(|by| match by {
        Statistic::Minimum => "minimum",
        Statistic::Median => "median",
    });
    name.serialize(serializer)
}
