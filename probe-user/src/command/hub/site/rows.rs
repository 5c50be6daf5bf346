//! What the API's lists consist of, and the meanings of the fields.

use std::net::IpAddr;

use probe_core::stats::report::{Counts, OneWayClock, Summary};
use probe_hub::hub::alerts::{Alert, End, Kind, Subject};
use probe_hub::hub::fleet::{Fleet, Port, PortId};
use probe_hub::hub::history::Timed;
use probe_hub::hub::matrix::Cell;
use probe_hub::message::event::Direction;
use probe_hub::message::presence::{NETWORK, RACK, ZONE};
use probe_hub::message::windows::{Clock, Delay, Probe, Window, WireCounts};
use probe_hub::name::{HostName, PortName};
use serde::Serialize;

use crate::command::hub::site::view::label;
use crate::output::field_lists::Field;
use crate::output::history::{Row, SCHEMA};
use crate::output::time::Utc;

/// What a hub says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HubLine {
    pub name: String,
    pub version: &'static str,
    pub connected: bool,
    pub coordinating: bool,
    pub coordinator: Option<String>,
    pub hosts: usize,
    pub hosts_alive: usize,
    pub ports: usize,
    pub ports_alive: usize,
    pub batches: u64,
    pub pairs: usize,
    pub newest_age_ns: Option<u64>,
    pub oldest_age_ns: Option<u64>,
}

#[rustfmt::skip]
pub const HUB: &[Field] = &[
    ("name", "string", "Its name among the hubs of the fleet."),
    ("version", "string", "Version of kstamp."),
    ("connected", "boolean", "Whether it has a connection to a NATS server."),
    ("coordinating", "boolean", "Whether it assigns and alerts; others stand by."),
    ("coordinator", "string?", "Name of the hub that does; null if it is not known."),
    ("hosts", "integer", "Hosts that it knows."),
    ("hosts_alive", "integer", "Of these: heartbeats of any port come."),
    ("ports", "integer", "Ports that it knows."),
    ("ports_alive", "integer", "Of these: heartbeats come."),
    ("batches", "integer", "Batches of windows that it has accepted."),
    ("pairs", "integer", "Directed pairs of ports of which it has a window."),
    ("newest_age_ns", "ns?", "Time since the end of the newest window; null without one."),
    ("oldest_age_ns", "ns?", "Since the end of the last window of the pair that has had none for longest, up to an hour."),
];

#[derive(Debug, Serialize)]
pub struct HostLine {
    pub name: HostName,
    pub zone: String,
    pub rack: String,
    pub alive: bool,
    pub ports: Vec<String>,
    pub peers: u32,
    pub up: u32,
    pub waiting: u64,
    pub dropped: u64,
    pub version: String,
}

#[rustfmt::skip]
pub const HOST: &[Field] = &[
    ("name", "string", "Name at its enrolment."),
    ("zone", "string", "Label of its ports, or empty."),
    ("rack", "string", "Label of its ports, or empty."),
    ("alive", "boolean", "Whether heartbeats of any of its ports come."),
    ("ports", "list of strings", "Interfaces that are measured."),
    ("peers", "integer", "Peers that its ports probe."),
    ("up", "integer", "Of these: they answer."),
    ("waiting", "integer", "Batches and events that wait on its disk."),
    ("dropped", "integer", "Batches that were dropped since the start, because there was no room."),
    ("version", "string", "Version of the agent of its first port."),
];

impl HostLine {
    pub fn new(fleet: &Fleet, name: &HostName, monotonic_ns: u64) -> Self {
        let ports: Vec<(PortId, &Port)> = fleet
            .ports_of(name)
            .filter_map(|id| Some((id, fleet.port(id)?)))
            .collect();
        let label = |name| label(fleet, ports.iter().map(|(id, _)| *id), name).to_owned();
        let mut line = Self {
            name: name.clone(),
            zone: label(ZONE),
            rack: label(RACK),
            alive: fleet.is_host_alive(name, monotonic_ns),
            ports: ports.iter().map(|(_, port)| port.name.interface.clone()).collect(),
            peers: 0,
            up: 0,
            waiting: 0,
            dropped: 0,
            version: ports
                .first()
                .map(|(_, port)| port.presence.version.clone())
                .unwrap_or_default(),
        };
        for heard in ports.iter().filter_map(|(_, port)| port.heard) {
            let heartbeat = heard.heartbeat;
            line.peers = line.peers.saturating_add(heartbeat.peers);
            line.up = line.up.saturating_add(heartbeat.up);
            line.waiting = line.waiting.saturating_add(heartbeat.waiting);
            line.dropped = line.dropped.saturating_add(heartbeat.dropped);
        }
        line
    }
}

#[derive(Debug, Serialize)]
pub struct PortLine {
    pub port: PortName,
    pub addresses: Vec<IpAddr>,
    pub udp_port: u16,
    pub zone: String,
    pub rack: String,
    pub network: String,
    pub version: String,
    pub kernel: String,
    pub attach: String,
    pub interval_ns: u64,
    pub alive: bool,
    pub heard_age_ns: Option<u64>,
    pub clock_ahead_ns: Option<i64>,
    pub generation: u64,
    pub confirmed: bool,
    pub targets: usize,
    pub probers: usize,
    pub peers: u32,
    pub up: u32,
    pub waiting: u64,
    pub dropped: u64,
}

#[rustfmt::skip]
pub const PORT: &[Field] = &[
    ("port", "string", "HOST/INTERFACE."),
    ("addresses", "list of strings", "Where others probe it."),
    ("udp_port", "integer", "Where it answers probes."),
    ("zone", "string", "Label, or empty."),
    ("rack", "string", "Label, or empty."),
    ("network", "string", "Label, or empty: only ports of one network probe each other."),
    ("version", "string", "Version of the agent."),
    ("kernel", "string", "Release of its kernel."),
    ("attach", "string", "Hook of the receive program."),
    ("interval_ns", "ns", "Between two probes to one peer."),
    ("alive", "boolean", "Whether heartbeats come."),
    ("heard_age_ns", "ns?", "Since the last heartbeat; null if none has come."),
    ("clock_ahead_ns", "ns?", "The agent's wall clock less the hub's, less the time that the heartbeat took; null without one."),
    ("generation", "integer", "Of its assignment; 0 without one."),
    ("confirmed", "boolean", "Whether the agent has that assignment."),
    ("targets", "integer", "Ports that it is to probe."),
    ("probers", "integer", "Ports that are to probe it."),
    ("peers", "integer", "Peers that it probes."),
    ("up", "integer", "Of these: they answer."),
    ("waiting", "integer", "Batches and events that wait on disk."),
    ("dropped", "integer", "Batches that were dropped since the start, because there was no room."),
];

impl PortLine {
    pub fn new(fleet: &Fleet, id: PortId, port: &Port, monotonic_ns: u64) -> Self {
        let presence = &port.presence;
        let label = |name| presence.label(name).to_owned();
        let heartbeat = port.heard.map(|heard| heard.heartbeat).unwrap_or_default();
        Self {
            port: port.name.clone(),
            addresses: presence.addresses.clone(),
            udp_port: presence.udp_port,
            zone: label(ZONE),
            rack: label(RACK),
            network: label(NETWORK),
            version: presence.version.clone(),
            kernel: presence.kernel.clone(),
            attach: presence.attach.clone(),
            interval_ns: presence.interval_ns,
            alive: fleet.is_alive(id, monotonic_ns),
            heard_age_ns: port.heard.map(|heard| monotonic_ns.saturating_sub(heard.at_ns)),
            clock_ahead_ns: port.heard.map(|heard| heard.clock_ahead_ns),
            generation: port.assigned.generation,
            confirmed: fleet.is_confirmed(id),
            targets: port.assigned.targets.len(),
            probers: port.assigned.probers.len(),
            peers: heartbeat.peers,
            up: heartbeat.up,
            waiting: heartbeat.waiting,
            dropped: heartbeat.dropped,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct PairLine {
    pub from: PortName,
    pub to: PortName,
    pub end: Utc,
    pub length_ns: u64,
    pub stale: bool,
    pub sent: u32,
    pub received: u32,
    pub lost: u32,
    pub lost_forward: u32,
    pub lost_backward: u32,
    pub lost_unknown: u32,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
}

#[rustfmt::skip]
pub const PAIR: &[Field] = &[
    ("from", "string", "The port that probes."),
    ("to", "string", "The port that it probes."),
    ("end", "time", "End of the newest window."),
    ("length_ns", "ns", "Its length."),
    ("stale", "boolean", "Whether it is too old to say anything about now."),
    ("sent", "integer", "`sent` of the record `window`, as the following ones."),
    ("received", "integer", "`received`."),
    ("lost", "integer", "`lost`."),
    ("lost_forward", "integer", "`lost_forward`."),
    ("lost_backward", "integer", "`lost_backward`."),
    ("lost_unknown", "integer", "`lost_unknown`."),
    ("p50_ns", "ns?", "`rtt_ns.p50`; null without a reply."),
    ("p99_ns", "ns?", "`rtt_ns.p99`."),
];

impl PairLine {
    /// `None` if a port has left the fleet.
    pub fn new(fleet: &Fleet, from: PortId, cell: &Cell, now_ns: u64) -> Option<Self> {
        Some(Self {
            from: fleet.port(from)?.name.clone(),
            to: fleet.port(cell.to)?.name.clone(),
            end: Utc { unix_ns: cell.end_ns },
            length_ns: cell.length_ns,
            stale: cell.is_stale(now_ns),
            sent: cell.sent,
            received: cell.received,
            lost: cell.lost(),
            lost_forward: cell.lost_forward,
            lost_backward: cell.lost_backward,
            lost_unknown: cell.lost_unknown,
            p50_ns: cell.p50_ns(),
            p99_ns: cell.p99_ns(),
        })
    }
}

#[derive(Debug, Serialize)]
pub struct AlertLine {
    pub kind: Kind,
    pub from: Option<PortName>,
    pub to: Option<PortName>,
    pub port: Option<PortName>,
    pub host: Option<HostName>,
    pub direction: Option<Direction>,
    pub text: String,
    pub since: Utc,
    pub until: Option<Utc>,
    pub end: Option<End>,
    pub pairs: usize,
}

#[rustfmt::skip]
pub const ALERT: &[Field] = &[
    ("kind", "string", "`host_down`, `silent`, `loss`; of a port: `clock`, `name_conflict`, `address_conflict`, `foreign_address`, `not_enrolled`, `too_many_ports` or `bad_presence`."),
    ("from", "string?", "Of a pair: the port that probes."),
    ("to", "string?", "Of a pair: the port that is probed."),
    ("port", "string?", "The port, if it is about one port."),
    ("host", "string?", "The host, if it is about one host."),
    ("direction", "string?", "Where probes are lost: `forward`, `backward` or `unknown`."),
    ("text", "string", "It in a sentence."),
    ("since", "time", "When it began."),
    ("until", "time?", "When it ended; null while it is raised."),
    ("end", "string?", "Why it ended: `recovered`, `left`, `not_measured` or `folded` (another one stands for it)."),
    ("pairs", "integer", "Silent pairs for which it stands."),
];

impl From<&Alert> for AlertLine {
    fn from(alert: &Alert) -> Self {
        let mut line = Self {
            kind: alert.kind,
            from: None,
            to: None,
            port: None,
            host: None,
            direction: alert.direction,
            text: alert.text.clone(),
            since: Utc {
                unix_ns: alert.since_ns,
            },
            until: alert.until_ns.map(|unix_ns| Utc { unix_ns }),
            end: alert.end,
            pairs: alert.pairs,
        };
        match alert.subject.clone() {
            Subject::Pair { from, to } => (line.from, line.to) = (Some(from), Some(to)),
            Subject::Port { port } => line.port = Some(port),
            Subject::Host { host } => line.host = Some(host),
        }
        line
    }
}

/// One window of a pair, with its single probes.
#[derive(Debug, Serialize)]
pub struct WindowLine {
    #[serde(flatten)]
    row: Row,
    probes: Vec<ProbeLine>,
}

#[derive(Debug, Serialize)]
struct ProbeLine {
    seq: u32,
    t1: Utc,
    t2: Option<Utc>,
    t3: Option<Utc>,
    t4: Option<Utc>,
    rtt_ns: Option<u64>,
    forward_ns: Option<i64>,
    residence_ns: Option<i64>,
    backward_ns: Option<i64>,
}

#[rustfmt::skip]
pub const PROBE: &[Field] = &[
    ("seq", "integer", "Its sequence number."),
    ("t1", "time", "When it left the port that probes, in UTC as the following stamps."),
    ("t2", "time?", "When it arrived, by the clock of the far host; null of a lost probe, as the following ones."),
    ("t3", "time?", "When the reply left."),
    ("t4", "time?", "When the reply was back."),
    ("rtt_ns", "ns?", "T4 − T1 less T3 − T2, by the monotonic clock."),
    ("forward_ns", "ns?", "T2 − T1, as the stamps say: right only as far as both clocks agree."),
    ("residence_ns", "ns?", "T3 − T2."),
    ("backward_ns", "ns?", "T4 − T3, as the stamps say."),
];

impl From<&Probe> for ProbeLine {
    fn from(probe: &Probe) -> Self {
        let is_answered = probe.t4_ns > 0;
        let utc = |unix_ns| is_answered.then_some(Utc { unix_ns });
        let between = |from: u64, to: u64| is_answered.then(|| to.wrapping_sub(from).cast_signed());
        Self {
            seq: probe.seq,
            t1: Utc { unix_ns: probe.t1_ns },
            t2: utc(probe.t2_ns),
            t3: utc(probe.t3_ns),
            t4: utc(probe.t4_ns),
            rtt_ns: is_answered.then_some(probe.rtt_ns),
            forward_ns: between(probe.t1_ns, probe.t2_ns),
            residence_ns: between(probe.t2_ns, probe.t3_ns),
            backward_ns: between(probe.t3_ns, probe.t4_ns),
        }
    }
}

impl From<&Timed> for WindowLine {
    fn from(timed: &Timed) -> Self {
        let window = &timed.window;
        let histogram = window.rtt.as_ref().and_then(|rtt| rtt.histogram.as_ref());
        let histogram = histogram.and_then(|histogram| histogram.native());
        let row = Row {
            start: Utc {
                unix_ns: timed.start_ns,
            },
            end: Utc { unix_ns: timed.end_ns },
            counts: counts(window.counts.unwrap_or_default()),
            rtt_ns: window.rtt.as_ref().map(summary),
            forward_ns: window.forward.as_ref().map(summary),
            backward_ns: window.backward.as_ref().map(summary),
            clock: clock(window),
            rtt_buckets: histogram.map(|histogram| histogram.coarse(SCHEMA)).unwrap_or_default(),
        };
        Self {
            row,
            probes: window.probes.iter().map(ProbeLine::from).collect(),
        }
    }
}

fn counts(wire: WireCounts) -> Counts {
    Counts {
        sent: wire.sent,
        received: wire.received,
        lost: wire.lost(),
        pending: 0,
        lost_forward: wire.lost_forward,
        lost_backward: wire.lost_backward,
        lost_unknown: wire.lost_unknown,
        late: wire.late,
        duplicates: wire.duplicates,
        reordered: wire.reordered,
        collector_lost: wire.collector_lost,
        send_failed: wire.send_failed,
        not_sent: wire.not_sent,
    }
}

fn summary(delay: &Delay) -> Summary {
    Summary {
        min: delay.min,
        mean: delay.mean,
        p50: delay.p50,
        p90: delay.p90,
        p99: delay.p99,
        p999: delay.p999,
        max: delay.max,
        stddev: delay.stddev,
        count: delay.count,
    }
}

fn clock(window: &Window) -> Option<OneWayClock> {
    let bound_ns = window.clock_bound_ns;
    match window.clock() {
        Clock::None => None,
        Clock::SameClock => Some(OneWayClock::SameClock),
        Clock::Synced => Some(OneWayClock::Synced { bound_ns }),
        Clock::Estimated => Some(OneWayClock::Estimated {
            bound_ns,
            offset_ns: 0,
            skew_ppb: 0,
        }),
    }
}
