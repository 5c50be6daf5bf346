//! The controller's result model. Field names are stable; durations are integer nanoseconds and end in `_ns`; unknown
//! values are null, never zero.

use std::net::SocketAddr;

use probe_controller::link_delay::{LinkState, Statistic};
use probe_controller::topology;
use serde::{Serialize, Serializer};

use crate::output::time::Utc;

/// A port of a switch, with names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// 16 hexadecimal digits.
    pub dpid: String,
    pub port: u32,
    pub switch: String,
    pub name: Option<String>,
}

/// A value for each direction: forward is from `from` to `to`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Directions {
    pub forward: Option<i64>,
    pub backward: Option<i64>,
}

impl From<[Option<i64>; 2]> for Directions {
    fn from([forward, backward]: [Option<i64>; 2]) -> Self {
        Self { forward, backward }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Silence {
    pub forward: bool,
    pub backward: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByMethod<T> {
    /// LLDP in both directions minus both echoes.
    pub lldp_echo: Option<T>,
    /// Data-plane round trip minus the packet-out baseline.
    pub bounce: Option<T>,
    /// Kernel stamps of the same LLDP at both ends.
    pub kernel: Option<T>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkLine {
    pub time: Utc,
    pub from: End,
    pub to: End,
    /// `valid`, `below_resolution`, `negative`, `stale` or `missing`.
    #[serde(serialize_with = "state")]
    pub state: LinkState,
    /// Directions in which no LLDP has arrived for three periods.
    pub silent: Silence,
    /// Smallest LLDP time of the window: controller, switch, link, switch, controller.
    pub lldp_ns: Directions,
    /// Round trip of the link.
    pub rtt_ns: ByMethod<i64>,
    /// Bound of the error, from the spread of the terms; for `lldp_echo` it is the resolution.
    pub error_ns: ByMethod<u64>,
    /// Difference from the round trip by kernel stamps.
    pub off_ns: ByMethod<i64>,
    /// One-way delay by kernel stamps.
    pub kernel_ns: Directions,
    /// Whether `lldp_echo` compares minima or, while there are few samples, medians.
    #[serde(serialize_with = "statistic")]
    pub by: Option<Statistic>,
    /// One-way delay used to compute paths; null if the link is not used.
    pub weight_ns: Option<u64>,
    /// Broadcast uses it.
    pub in_tree: bool,
    /// Estimates below zero.
    pub negatives: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchLine {
    pub time: Utc,
    /// 16 hexadecimal digits.
    pub dpid: String,
    /// Name of its local port.
    pub name: String,
    pub address: SocketAddr,
    /// Ports that are up.
    pub ports: usize,
    /// Smallest echo time of the window.
    pub echo_ns: Option<i64>,
    /// Median echo time of the window.
    pub echo_p50_ns: Option<i64>,
    /// Smallest time of a packet-out to CONTROLLER.
    pub baseline_ns: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HopLine {
    pub from: End,
    pub to: End,
}

/// The path between two switches; both directions use the same links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathLine {
    pub time: Utc,
    /// 16 hexadecimal digits.
    pub from: String,
    /// 16 hexadecimal digits.
    pub to: String,
    /// Names of all switches on it.
    pub switches: Vec<String>,
    pub hops: Vec<HopLine>,
    /// Sum of the one-way delays of its links.
    pub delay_ns: u64,
    pub from_hosts: Vec<String>,
    pub to_hosts: Vec<String>,
}

/// Counts over the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SummaryLine {
    pub time: Utc,
    pub switches: usize,
    pub links: LinkCounts,
    /// Segments that several switches share.
    pub segments: usize,
    pub hosts: usize,
    /// Estimates below zero; none of them was used as a weight.
    pub negatives: u64,
    pub storms: u64,
    /// Changes of a path between switches.
    pub reroutes: u64,
    /// Group frames of hosts.
    pub broadcasts: u64,
    /// LLDP in the name of this run with a wrong signature.
    pub forged: u64,
    pub sent: u64,
    /// Probes answered in time.
    pub answered: u64,
    /// Probes not answered in time.
    pub lost: u64,
    /// LLDP out of ports that lead to no switch.
    pub unheard: u64,
    /// Answers that came late or twice.
    pub late: u64,
    /// Answers that match no probe.
    pub mismatched: u64,
    /// Hosts forgotten because there was no room for all.
    pub hosts_displaced: u64,
    /// Pairs of hosts that lost their rules because there was no room for all.
    pub pairs_displaced: u64,
    /// Rules that somebody deleted, and that were put back.
    pub rules_restored: u64,
    /// Packet-ins dropped above the limit.
    pub packet_ins_over_limit: u64,
    /// Events dropped because the controller could not keep up.
    pub events_dropped: u64,
}

/// Links by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounts {
    /// Above the noise.
    pub valid: usize,
    /// Within the noise.
    pub below_resolution: usize,
    /// Below zero by more than the noise.
    pub negative: usize,
    /// LLDP no longer arrives.
    pub stale: usize,
    pub missing: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerReport {
    pub time: Utc,
    pub links: Vec<LinkLine>,
    pub switches: Vec<SwitchLine>,
    pub paths: Vec<PathLine>,
    /// Counts so far.
    pub summary: SummaryLine,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControllerEvent {
    Start(Start),
    Event(Happened),
}

/// Configuration of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Start {
    pub time: Utc,
    pub version: &'static str,
    pub listen: SocketAddr,
    pub tls: bool,
    /// Everything is measured once in this time.
    pub period_ns: u64,
    pub measure_only: bool,
    pub taps: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    pub time: Utc,
    /// `switch_up`, `switch_down`, `link_up`, `link_stale`, `link_down`, `segment`, `reroute` or `trouble`.
    pub event: &'static str,
    pub text: String,
}

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
    pub fn has_hosts(&self) -> bool {
        !self.from_hosts.is_empty() && !self.to_hosts.is_empty()
    }
}

impl End {
    pub fn new(port: topology::PortId, switch: String, name: Option<&str>) -> Self {
        Self {
            dpid: port.dpid.to_string(),
            port: port.port.0,
            switch,
            name: name.map(str::to_owned),
        }
    }
}

pub fn state<S: Serializer>(state: &LinkState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state_name(*state))
}

fn statistic<S: Serializer>(by: &Option<Statistic>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = by.map(|by| match by {
        Statistic::Minimum => "minimum",
        Statistic::Median => "median",
    });
    name.serialize(serializer)
}
