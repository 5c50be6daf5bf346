//! Every metric: its name, its meaning, its labels. All exporters walk this list.

use std::fmt;

use probe_core::hops::Part;
use probe_core::stats::native::NativeHistogram;
use probe_host::process::Usage;
use probe_hub::agent::State;

use crate::output::fields::direction_name;
use crate::output::metrics::series::Series;
use crate::output::metrics::{Detail, Metrics, family};

const S_PER_NS: f64 = 1e-9;

/// What a family of series measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instrument {
    /// Without unit and `_total`.
    pub(crate) name: &'static str,
    pub(crate) unit: Option<Unit>,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) labels: Labels<'a>,
    pub(crate) value: Value<'a>,
    /// When it began to count, in nanoseconds since 1970.
    pub(crate) since_ns: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Int(u64),
    Float(f64),
    /// In seconds.
    Histogram(&'a NativeHistogram),
}

/// Labels that many series share, and those of one alone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Labels<'a> {
    shared: &'a [(&'static str, String)],
    own: [Option<(&'static str, &'a str)>; 2],
}

impl<'a> Labels<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let shared = self.shared.iter().map(|(name, value)| (*name, value.as_str()));
        shared.chain(self.own.into_iter().flatten())
    }

    pub(crate) fn new(shared: &'a [(&'static str, String)]) -> Self {
        Self { shared, own: [None; 2] }
    }

    /// Adds a label; of two at most.
    pub(crate) fn with(self, name: &'static str, value: &'a str) -> Self {
        Self {
            own: [Some((name, value)), self.own[0]],
            ..self
        }
    }
}

/// Writes families of series in one format.
pub(crate) trait Export {
    /// One family, with at least one series.
    fn family<'a>(&mut self, instrument: &Instrument, points: &mut dyn Iterator<Item = Point<'a>>) -> fmt::Result;
}

/// Passes each family that has series to `out`.
pub(super) fn walk(metrics: &Metrics, usage: Option<Usage>, out: &mut dyn Export) -> fmt::Result {
    let since_ns = metrics.start.as_ref().map_or(0, |start| start.time.unix_ns);
    let mut walk = Walk::new(out, since_ns);
    of_agent(metrics, &mut walk)?;
    of_process(usage, &mut walk)?;
    of_peers(metrics, &mut walk)?;
    let series = match metrics.detail {
        Detail::Peer => by_peer(metrics),
        Detail::Total => by_path(metrics),
    };
    counts(&series, &mut walk)?;
    delays(&series, &mut walk)?;
    hops(&series, &mut walk)?;
    clocks(&series, metrics.detail, &mut walk)
}

pub(crate) struct Walk<'o> {
    out: &'o mut dyn Export,
    /// When the agent started.
    since_ns: u64,
}

impl<'o> Walk<'o> {
    pub(crate) fn new(out: &'o mut dyn Export, since_ns: u64) -> Self {
        Self { out, since_ns }
    }

    fn family<'a>(&mut self, instrument: &Instrument, points: impl IntoIterator<Item = Point<'a>>) -> fmt::Result {
        let mut points = points.into_iter().peekable();
        match points.peek() {
            Some(_) => self.out.family(instrument, &mut points),
            None => Ok(()),
        }
    }

    /// Series of the agent.
    pub(crate) fn own<'a>(
        &mut self,
        instrument: &Instrument,
        values: impl IntoIterator<Item = (Labels<'a>, Value<'a>)>,
    ) -> fmt::Result {
        let since_ns = self.since_ns;
        let points = values.into_iter().map(|(labels, value)| Point {
            labels,
            value,
            since_ns,
        });
        self.family(instrument, points)
    }

    /// One series without labels, or none.
    pub(crate) fn alone<'a>(&mut self, instrument: &Instrument, value: impl Into<Option<Value<'a>>>) -> fmt::Result {
        self.own(instrument, value.into().map(|value| (Labels::default(), value)))
    }
}

pub(crate) const fn counter(name: &'static str, help: &'static str) -> Instrument {
    Instrument {
        name,
        unit: None,
        kind: Kind::Counter,
        help,
    }
}

pub(crate) const fn gauge(name: &'static str, unit: Option<Unit>, help: &'static str) -> Instrument {
    Instrument {
        name,
        unit,
        kind: Kind::Gauge,
        help,
    }
}

const fn histogram(name: &'static str, help: &'static str) -> Instrument {
    Instrument {
        name,
        unit: Some(Unit::Seconds),
        kind: Kind::Histogram,
        help,
    }
}

pub(crate) fn seconds(ns: u64) -> Value<'static> {
    Value::Float(ns as f64 * S_PER_NS)
}

fn of_agent(metrics: &Metrics, walk: &mut Walk<'_>) -> fmt::Result {
    if let Some(start) = &metrics.start {
        let build = [("version", start.version.clone())];
        let agent = [
            ("name", start.name.clone()),
            ("interface", start.interface.clone()),
            ("engine", start.engine.name().to_owned()),
            ("attach", start.attach.receive.to_string()),
        ];
        let info = |shared| [(Labels::new(shared), Value::Int(1))];
        let build_info = gauge("kstamp_build_info", None, "Always 1; the version of kstamp.");
        walk.own(&build_info, info(&build))?;
        let agent_info = gauge("kstamp_agent_info", None, "Always 1; this agent, and how it stamps.");
        walk.own(&agent_info, info(&agent))?;
        if let Some(ovs) = &start.ovs {
            let text = |value: Option<String>| value.unwrap_or_default();
            let switch = [
                ("bridge", ovs.bridge.clone()),
                ("port", ovs.port.clone()),
                ("ofport", text(ovs.ofport.map(|number| number.to_string()))),
                ("datapath", ovs.datapath_type.clone()),
                ("iface_id", text(ovs.iface_id.clone())),
                ("version", text(ovs.version.clone())),
            ];
            let help = "Always 1; the port of Open vSwitch that the interface is.";
            walk.own(&gauge("kstamp_ovs_info", None, help), info(&switch))?;
        }
    }
    let is_up = Value::Int(u64::from(metrics.interface_is_up));
    walk.alone(
        &gauge("kstamp_interface_up", None, "1 if the interface is up and has carrier."),
        is_up,
    )?;
    walk.alone(
        &gauge(
            "kstamp_last_window_timestamp",
            Some(Unit::Seconds),
            "When windows were last added to these metrics, in seconds since 1970.",
        ),
        metrics.last_window_ns.map(seconds),
    )?;
    let clock = metrics.state.clock;
    walk.alone(
        &gauge(
            "kstamp_clock_synchronised",
            None,
            "1 if this host's clock is synchronised to UTC.",
        ),
        clock.map(|clock| Value::Int(u64::from(clock.synchronised))),
    )?;
    walk.alone(
        &gauge(
            "kstamp_clock_error_bound",
            Some(Unit::Seconds),
            "Bound on the distance of this host's clock from UTC; absent if it is not synchronised.",
        ),
        clock
            .filter(|clock| clock.synchronised)
            .map(|clock| seconds(clock.error_ns)),
    )?;
    walk.alone(
        &counter("kstamp_clock_steps", "Steps of this host's wall clock."),
        Value::Int(metrics.own_clock_steps),
    )?;
    walk.own(
        &gauge(
            "kstamp_noise_floor",
            Some(Unit::Seconds),
            "Differences of delays below this are not real on this host, by kstamp calibrate.",
        ),
        metrics
            .floor
            .iter()
            .map(|floor| (Labels::default().with("attach", &floor.attach), seconds(floor.ns))),
    )?;
    of_hub(metrics, walk)?;
    let counters = metrics.state.counters.iter();
    walk.own(
        &counter(
            "kstamp_program_packets",
            "Packets by what the kernel programs and the process did with them.",
        ),
        counters.map(|(name, &value)| (Labels::default().with("counter", name), Value::Int(value))),
    )?;
    walk.alone(
        &counter(
            "kstamp_metrics_events_lost",
            "Events that are missing in these metrics, because the server was too slow.",
        ),
        Value::Int(metrics.events_lost),
    )
}

fn of_hub(metrics: &Metrics, walk: &mut Walk<'_>) -> fmt::Result {
    let hub = metrics.state.hub.as_ref();
    walk.alone(
        &gauge(
            "kstamp_hub_connected",
            None,
            "1 if the agent is connected to its fleet.",
        ),
        hub.map(|hub| Value::Int(u64::from(hub.state == State::Connected))),
    )?;
    walk.alone(
        &gauge(
            "kstamp_hub_assigned_peers",
            None,
            "Addresses that are probed because the hub has assigned them.",
        ),
        hub.map(|hub| Value::Int(hub.peers.into())),
    )?;
    walk.alone(
        &gauge(
            "kstamp_hub_assignment_generation",
            None,
            "Number of the assignment that is in force; 0 for none.",
        ),
        hub.map(|hub| Value::Int(hub.generation)),
    )?;
    walk.alone(
        &gauge(
            "kstamp_hub_batches_waiting",
            None,
            "Batches and events that wait until the hub has them.",
        ),
        hub.map(|hub| Value::Int(hub.waiting)),
    )?;
    walk.alone(
        &counter(
            "kstamp_hub_batches_dropped",
            "Batches and events that the hub will not get, because there was no room for them.",
        ),
        hub.map(|hub| Value::Int(hub.dropped)),
    )
}

pub(crate) fn of_process(usage: Option<Usage>, walk: &mut Walk<'_>) -> fmt::Result {
    let Some(usage) = usage else { return Ok(()) };
    let cpu = Instrument {
        unit: Some(Unit::Seconds),
        ..counter("process_cpu", "CPU time of this process.")
    };
    walk.alone(&cpu, Value::Float(usage.cpu.as_secs_f64()))?;
    walk.alone(
        &gauge(
            "process_resident_memory",
            Some(Unit::Bytes),
            "Resident memory of this process.",
        ),
        Value::Int(usage.resident),
    )?;
    walk.alone(
        &gauge("process_open_fds", None, "Open files of this process."),
        Value::Int(usage.open_files),
    )
}

fn of_peers(metrics: &Metrics, walk: &mut Walk<'_>) -> fmt::Result {
    let shown = metrics.peers.iter().filter(|(_, peer)| !peer.is_gone);
    match metrics.detail {
        Detail::Peer => {
            let states: Vec<_> = shown
                .map(|(&address, peer)| {
                    let labels = [
                        ("peer", address.to_string()),
                        ("peer_name", peer.name.clone()),
                        ("family", family(address).to_owned()),
                    ];
                    (labels, Value::Int(u64::from(peer.is_up)))
                })
                .collect();
            let points = states.iter().map(|(shared, value)| (Labels::new(shared), *value));
            walk.own(&gauge("kstamp_peer_up", None, "1 if the peer answers."), points)
        }
        Detail::Total => {
            let [mut up, mut down] = [0, 0];
            shown.for_each(|(_, peer)| *if peer.is_up { &mut up } else { &mut down } += 1);
            let points = [("up", up), ("down", down)]
                .map(|(state, number)| (Labels::default().with("state", state), Value::Int(number)));
            walk.own(&gauge("kstamp_peers", None, "Peers by state."), points)
        }
    }
}

/// The sums of one peer and path, or of all peers of one path.
struct Labelled<'a> {
    labels: Vec<(&'static str, String)>,
    series: &'a Series,
}

impl Labelled<'_> {
    fn labels(&self) -> Labels<'_> {
        Labels::new(&self.labels)
    }

    fn point<'a>(&'a self, value: Value<'a>) -> Point<'a> {
        Point {
            labels: self.labels(),
            value,
            since_ns: self.series.since_ns,
        }
    }

    fn point_with<'a>(&'a self, name: &'static str, label: &'a str, value: Value<'a>) -> Point<'a> {
        let point = self.point(value);
        Point {
            labels: point.labels.with(name, label),
            ..point
        }
    }

    fn point_at<'a>(&'a self, part: Part, value: Value<'a>) -> Point<'a> {
        let point = self.point_with("direction", direction_name(part.direction), value);
        Point {
            labels: point.labels.with("hop", part.segment.name()),
            ..point
        }
    }
}

fn by_peer(metrics: &Metrics) -> Vec<Labelled<'_>> {
    let peers = metrics.peers.iter().flat_map(|(&address, peer)| {
        peer.series.iter().map(move |(&path, series)| Labelled {
            labels: vec![
                ("peer", address.to_string()),
                ("peer_name", peer.name.clone()),
                ("path", path.name().to_owned()),
                ("family", family(address).to_owned()),
            ],
            series,
        })
    });
    peers.collect()
}

fn by_path(metrics: &Metrics) -> Vec<Labelled<'_>> {
    let totals = metrics.totals.iter().map(|(&(path, family), series)| Labelled {
        labels: vec![("path", path.name().to_owned()), ("family", family.to_owned())],
        series,
    });
    totals.collect()
}

/// One number of a series.
type Count = fn(&Series) -> u64;

const COUNTS: [(Instrument, Count); 9] = [
    (counter("kstamp_probes_sent", "Probes that left this host."), |series| {
        series.counts.sent
    }),
    (
        counter("kstamp_probes_received", "Probes answered within the timeout."),
        |series| series.counts.received,
    ),
    (
        counter(
            "kstamp_probes_unanswered",
            "Probes without an answer in time: lost, or not sent by the kernel.",
        ),
        |series| series.counts.unanswered(),
    ),
    (
        counter("kstamp_probes_send_failed", "Probes that did not leave this host."),
        |series| series.counts.send_failed,
    ),
    (counter("kstamp_probes_late", "Replies after the timeout."), |series| {
        series.counts.late
    }),
    (
        counter("kstamp_probes_duplicate", "Replies beyond the first to the same probe."),
        |series| series.counts.duplicates,
    ),
    (
        counter(
            "kstamp_probes_reordered",
            "Replies that a later probe's reply has overtaken.",
        ),
        |series| series.counts.reordered,
    ),
    (
        counter(
            "kstamp_probes_collector_lost",
            "Replies whose sample was lost on this host; counted as received.",
        ),
        |series| series.counts.collector_lost,
    ),
    (
        counter(
            "kstamp_probes_not_sent",
            "Probes that were due while the process did not run.",
        ),
        |series| series.counts.not_sent,
    ),
];

fn counts(all: &[Labelled<'_>], walk: &mut Walk<'_>) -> fmt::Result {
    let lost = all.iter().flat_map(|one| {
        let counts = one.series.counts;
        [
            ("forward", counts.lost_forward),
            ("backward", counts.lost_backward),
            ("unknown", counts.lost_unknown),
        ]
        .map(|(direction, lost)| one.point_with("direction", direction, Value::Int(lost)))
    });
    walk.family(
        &counter(
            "kstamp_probes_lost",
            "Probes without a reply within the timeout, by where they were lost.",
        ),
        lost,
    )?;
    for (instrument, count) in &COUNTS {
        walk.family(
            instrument,
            all.iter().map(|one| one.point(Value::Int(count(one.series)))),
        )?;
    }
    Ok(())
}

fn delays(all: &[Labelled<'_>], walk: &mut Walk<'_>) -> fmt::Result {
    walk.family(
        &histogram(
            "kstamp_rtt",
            "Round-trip delay less the reflector's residence (RFC 2681).",
        ),
        all.iter().map(|one| one.point(Value::Histogram(&one.series.rtt))),
    )?;
    walk.family(
        &histogram(
            "kstamp_residence",
            "From the arrival of a probe to its reply, in the reflector.",
        ),
        all.iter().map(|one| one.point(Value::Histogram(&one.series.residence))),
    )?;
    let one_way = [
        histogram(
            "kstamp_forward_delay",
            "One-way delay to the peer (RFC 7679), by the clock that backs it.",
        ),
        histogram(
            "kstamp_backward_delay",
            "One-way delay from the peer (RFC 7679), by the clock that backs it.",
        ),
    ];
    for (direction, instrument) in one_way.iter().enumerate() {
        let points = all.iter().flat_map(|one| {
            let clocks = one.series.one_way.iter();
            clocks.map(move |(clock, delays)| one.point_with("clock", clock, Value::Histogram(&delays[direction])))
        });
        walk.family(instrument, points)?;
    }
    Ok(())
}

fn hops(all: &[Labelled<'_>], walk: &mut Walk<'_>) -> fmt::Result {
    let known = || all.iter().filter_map(|one| Some((one, one.series.hops.as_ref()?)));
    let delays = known().flat_map(|(one, hops)| {
        let delays = hops.delays.iter();
        delays.map(move |(part, delays)| one.point_at(*part, Value::Histogram(delays)))
    });
    walk.family(
        &histogram(
            "kstamp_hop",
            "Time in one segment of the path. Those of a path add up to the round trip with the reflector's residence.",
        ),
        delays,
    )?;
    let lost = known().flat_map(|(one, hops)| {
        let places = hops.lost.iter();
        let places = places.map(move |(part, &lost)| one.point_at(*part, Value::Int(lost)));
        let elsewhere = [("late", hops.lost_late), ("unknown", hops.lost_unknown)];
        places.chain(elsewhere.map(|(hop, lost)| one.point_with("hop", hop, Value::Int(lost))))
    });
    walk.family(
        &counter(
            "kstamp_hop_lost",
            "Lost probes by the segment in which they were lost; late: nowhere, answered after the timeout.",
        ),
        lost,
    )
}

fn clocks(all: &[Labelled<'_>], detail: Detail, walk: &mut Walk<'_>) -> fmt::Result {
    walk.family(
        &counter("kstamp_peer_clock_steps", "Steps of the peer's wall clock."),
        all.iter().map(|one| one.point(Value::Int(one.series.steps.peer))),
    )?;
    // A bound of all peers together means nothing.
    let bounds = all.iter().filter(|_| detail == Detail::Peer).filter_map(|one| {
        let clock = one.series.clock?;
        Some(one.point_with("clock", clock.name(), seconds(clock.bound_ns().unwrap_or(0))))
    });
    walk.family(
        &gauge(
            "kstamp_one_way_error_bound",
            Some(Unit::Seconds),
            "Bound on the error of one-way delays in the last window.",
        ),
        bounds,
    )
}
