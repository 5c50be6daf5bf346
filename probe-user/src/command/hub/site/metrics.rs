//! The metrics of a hub: of itself, of each host, of the worst pairs, and alerts by kind.

use std::collections::BTreeMap;
use std::fmt;

use probe_host::process::Usage;
use probe_hub::hub::alerts::Kind;
use probe_hub::hub::fleet::{Now, PortId};
use probe_hub::hub::matrix::Cell;
use probe_hub::hub::problems;

use crate::command::hub::site::api::{fresh, worst};
use crate::command::hub::site::source::{Source, hub_line};
use crate::output::metrics::format::Format;
use crate::output::metrics::instruments::{
    Export, Instrument, Labels, Unit, Value, Walk, counter, gauge, of_process, seconds,
};
use crate::output::metrics::prometheus::encode_walk;

/// Hosts with series.
const MAX_HOSTS: usize = 2_000;
/// Pairs with series: the worst ones.
const MAX_PAIRS: usize = 50;

const HOST_ALIVE: Instrument = gauge(
    "kstamp_fleet_host_alive",
    None,
    "1 if heartbeats of any port of the host come.",
);
const HOST_LOSS: Instrument = gauge(
    "kstamp_fleet_host_loss_ratio",
    None,
    "Share of the probes lost in the newest windows of the host's ports, from 0 to 1.",
);
const HOST_WORST: Instrument = gauge(
    "kstamp_fleet_host_worst_p99",
    Some(Unit::Seconds),
    "Highest 99th percentile of the round-trip times in the newest windows of the host's ports.",
);
const PAIR_LOSS: Instrument = gauge(
    "kstamp_fleet_pair_loss_ratio",
    None,
    "Share of the probes lost in the newest window of one of the worst pairs of ports, by direction, from 0 to 1.",
);
const PAIR_P99: Instrument = gauge(
    "kstamp_fleet_pair_p99",
    Some(Unit::Seconds),
    "99th percentile of the round-trip times in the newest window of one of the worst pairs of ports.",
);
const PORTS: Instrument = gauge("kstamp_fleet_ports", None, "Ports by whether their heartbeats come.");
const ALERTS: Instrument = gauge("kstamp_fleet_alerts", None, "Alerts that are raised, by kind.");
const REFUSED: Instrument = counter(
    "kstamp_fleet_refused",
    "Batches and windows that were not taken, by reason.",
);
const NEWEST: Instrument = gauge(
    "kstamp_fleet_newest_window_age",
    Some(Unit::Seconds),
    "Time since the end of the newest window; absent without one.",
);

type Owned = Vec<(&'static str, String)>;

/// What the newest windows of a host's ports say.
#[derive(Debug, Default)]
struct OfHost {
    is_alive: bool,
    lost: u64,
    concluded: u64,
    p99_ns: Option<u64>,
}

/// A copy of what the series are made of, so that nothing is locked while they are written.
struct Snapshot {
    hosts: Vec<(Owned, OfHost)>,
    hosts_in_all: usize,
    pairs: Vec<(Owned, Cell)>,
    alerts: BTreeMap<String, u64>,
}

fn snapshot(source: &impl Source, now: Now) -> Snapshot {
    let cells = fresh(source, now.utc_ns);
    let (worst, _) = worst(cells.iter().copied(), MAX_PAIRS, |one, other| {
        one.severity_order(other, now.utc_ns)
    });
    let fleet = source.fleet();
    let mut rows: BTreeMap<PortId, OfHost> = BTreeMap::new();
    for (from, cell) in &cells {
        let row = rows.entry(*from).or_default();
        row.lost += u64::from(cell.lost());
        row.concluded += u64::from(cell.lost()) + u64::from(cell.received);
        row.p99_ns = row.p99_ns.max(cell.p99_ns());
    }
    let hosts = fleet.hosts().take(MAX_HOSTS).map(|(name, ports)| {
        let mut host = OfHost {
            is_alive: fleet.is_host_alive(name, now.monotonic_ns),
            ..OfHost::default()
        };
        for row in ports.iter().filter_map(|id| rows.get(id)) {
            host.lost += row.lost;
            host.concluded += row.concluded;
            host.p99_ns = host.p99_ns.max(row.p99_ns);
        }
        (vec![("host", name.to_string())], host)
    });
    let hosts = hosts.collect();
    let name = |id| fleet.port(id).map(|port| port.name.to_string());
    let pairs = worst
        .into_iter()
        .filter_map(|(from, cell)| Some((vec![("from", name(from)?), ("to", name(cell.to)?)], cell)));
    let pairs = pairs.collect();
    let hosts_in_all = fleet.hosts().count();
    drop(fleet);
    let kinds = [Kind::HostDown, Kind::Silent, Kind::Loss].into_iter();
    let kinds = kinds.chain(problems::ProblemKind::ALL.map(Kind::Problem));
    let mut alerts: BTreeMap<String, u64> = kinds.map(|kind| (kind.to_string(), 0)).collect();
    for alert in source.alerts().raised() {
        *alerts.entry(alert.kind.to_string()).or_default() += 1;
    }
    Snapshot {
        hosts,
        hosts_in_all,
        pairs,
        alerts,
    }
}

pub(super) fn encode(source: &impl Source, since_ns: u64, format: Format) -> Result<Vec<u8>, fmt::Error> {
    let now = Now::read();
    let usage = Usage::now();
    let hub = hub_line(source, now);
    let refused = source.refused();
    let snapshot = snapshot(source, now);
    encode_walk(format, move |out: &mut dyn Export| {
        let mut walk = Walk::new(out, since_ns);
        let build = [("version", hub.version.to_owned())];
        let info = gauge("kstamp_build_info", None, "Always 1; the version of kstamp.");
        walk.own(&info, [(Labels::new(&build), Value::Int(1))])?;
        of_process(usage, &mut walk)?;
        for (name, help, is) in [
            (
                "kstamp_fleet_connected",
                "1 with a connection to a NATS server.",
                hub.connected,
            ),
            (
                "kstamp_fleet_coordinating",
                "1 if this hub assigns and alerts.",
                hub.coordinating,
            ),
        ] {
            walk.alone(&gauge(name, None, help), Value::Int(is.into()))?;
        }
        let batches = counter("kstamp_fleet_batches", "Batches of windows that were taken.");
        walk.alone(&batches, Value::Int(hub.batches))?;
        let by_reason = refused
            .iter()
            .map(|(reason, count)| (Labels::default().with("reason", reason), Value::Int(*count)));
        walk.own(&REFUSED, by_reason)?;
        walk.alone(&NEWEST, hub.newest_age_ns.map(seconds))?;
        let ports = [("alive", hub.ports_alive), ("silent", hub.ports - hub.ports_alive)];
        let ports = ports.map(|(state, count)| (Labels::default().with("state", state), Value::Int(count as u64)));
        walk.own(&PORTS, ports)?;
        let alerts = snapshot.alerts.iter();
        let alerts = alerts.map(|(kind, count)| (Labels::default().with("kind", kind), Value::Int(*count)));
        walk.own(&ALERTS, alerts)?;
        of_hosts(&snapshot, &mut walk)?;
        of_pairs(&snapshot.pairs, &mut walk)
    })
}

fn of_hosts(snapshot: &Snapshot, walk: &mut Walk<'_>) -> fmt::Result {
    let each = || snapshot.hosts.iter().map(|(labels, host)| (Labels::new(labels), host));
    walk.own(
        &HOST_ALIVE,
        each().map(|(labels, host)| (labels, Value::Int(host.is_alive.into()))),
    )?;
    let loss = |host: &OfHost| (host.concluded > 0).then(|| host.lost as f64 / host.concluded as f64);
    walk.own(
        &HOST_LOSS,
        each().filter_map(|(labels, host)| Some((labels, Value::Float(loss(host)?)))),
    )?;
    walk.own(
        &HOST_WORST,
        each().filter_map(|(labels, host)| Some((labels, seconds(host.p99_ns?)))),
    )?;
    let hidden = snapshot.hosts_in_all - snapshot.hosts.len();
    let help = "Hosts without series of their own, because there are too many.";
    walk.alone(
        &gauge("kstamp_fleet_hosts_not_shown", None, help),
        Value::Int(hidden as u64),
    )
}

fn of_pairs(pairs: &[(Owned, Cell)], walk: &mut Walk<'_>) -> fmt::Result {
    let each = || pairs.iter().map(|(labels, cell)| (Labels::new(labels), cell));
    let loss = each().flat_map(|(labels, cell)| {
        let concluded = f64::from(cell.lost()) + f64::from(cell.received);
        let by_direction = [
            ("forward", cell.lost_forward),
            ("backward", cell.lost_backward),
            ("unknown", cell.lost_unknown),
        ];
        by_direction.map(|(direction, lost)| {
            let share = if concluded > 0.0 {
                f64::from(lost) / concluded
            } else {
                0.0
            };
            (labels.with("direction", direction), Value::Float(share))
        })
    });
    walk.own(&PAIR_LOSS, loss)?;
    walk.own(
        &PAIR_P99,
        each().filter_map(|(labels, cell)| Some((labels, seconds(cell.p99_ns()?)))),
    )
}
