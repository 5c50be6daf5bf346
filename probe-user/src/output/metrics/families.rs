//! Every metric: its name, its meaning, its labels.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use probe_core::stats::native::NativeHistogram;
use probe_host::process::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_protobuf,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::output::metrics::format::Format;
use crate::output::metrics::series::Series;
use crate::output::metrics::{Detail, Metrics, family, native};

const S_PER_NS: f64 = 1e-9;

/// One number of a series.
type Count = fn(&Series) -> u64;

type Labels = Vec<(&'static str, String)>;

/// Writes all metrics.
pub fn encode(metrics: &Arc<Mutex<Metrics>>, format: Format) -> Result<Vec<u8>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        metrics: Arc::clone(metrics),
        format,
        usage: Usage::now(),
    }));
    let mut written = String::new();
    match format {
        Format::Text => prometheus_text::encode(&mut written, &registry)?,
        Format::OpenMetrics => text::encode(&mut written, &registry)?,
        Format::Protobuf => return prometheus_protobuf::encode_to_vec(&registry).map_err(|_| fmt::Error),
    }
    Ok(written.into_bytes())
}

#[derive(Debug)]
struct Scrape {
    metrics: Arc<Mutex<Metrics>>,
    format: Format,
    usage: Option<Usage>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut families = Families {
            encoder,
            format: self.format,
        };
        of_agent(&metrics, &mut families)?;
        of_process(self.usage, &mut families)?;
        of_peers(&metrics, &mut families)?;
        let series: Vec<(Labels, &Series)> = match metrics.detail {
            Detail::Peer => by_peer(&metrics),
            Detail::Total => by_path(&metrics),
        };
        counts(&series, &mut families)?;
        delays(&series, &mut families)?;
        clocks(&series, metrics.detail, &mut families)
    }
}

struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
    format: Format,
}

impl Families<'_> {
    /// One family; none without series.
    fn family<T>(
        &mut self,
        (name, unit, kind): (&str, Option<Unit>, MetricType),
        help: &str,
        series: impl IntoIterator<Item = (Labels, T)>,
        mut write: impl FnMut(&T, &mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in series {
            // A metric without labels has no braces.
            match labels.is_empty() {
                true => write(&value, &mut encoder)?,
                false => write(&value, &mut encoder.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }

    fn counters<N: EncodeCounterValue + Copy>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        self.family((name, unit, MetricType::Counter), help, series, |value, encoder| {
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    fn gauges<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        series: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        self.family((name, unit, MetricType::Gauge), help, series, |value, encoder| {
            encoder.encode_gauge(value)
        })
    }

    fn histograms<'h>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, &'h NativeHistogram)>,
    ) -> fmt::Result {
        let format = self.format;
        let descriptor = (name, Some(Unit::Seconds), MetricType::Histogram);
        self.family(descriptor, help, series, |histogram, encoder| {
            native::encode(histogram, format, encoder)
        })
    }
}

/// One series without labels.
fn alone<T>(value: T) -> [(Labels, T); 1] {
    [(Labels::new(), value)]
}

fn of_agent(metrics: &Metrics, families: &mut Families<'_>) -> fmt::Result {
    if let Some(start) = &metrics.start {
        let build = vec![("version", start.version.clone())];
        let agent = vec![
            ("name", start.name.clone()),
            ("interface", start.interface.clone()),
            ("engine", start.engine.name().to_owned()),
            ("attach", start.attach.receive.to_string()),
        ];
        families.gauges(
            "kstamp_build_info",
            None,
            "Always 1; the version of kstamp.",
            [(build, 1)],
        )?;
        families.gauges(
            "kstamp_agent_info",
            None,
            "Always 1; this agent, and how it stamps.",
            [(agent, 1)],
        )?;
    }
    let is_up = i64::from(metrics.interface_is_up);
    families.gauges(
        "kstamp_interface_up",
        None,
        "1 if the interface is up and has carrier.",
        alone(is_up),
    )?;
    let last = metrics.last_window_ns.map(|ns| ns as f64 * S_PER_NS);
    families.gauges(
        "kstamp_last_window_timestamp",
        Some(Unit::Seconds),
        "When windows were last added to these metrics, in seconds since 1970.",
        last.into_iter().flat_map(alone),
    )?;
    let clock = metrics.state.clock;
    families.gauges(
        "kstamp_clock_synchronised",
        None,
        "1 if this host's clock is synchronised to UTC.",
        clock.into_iter().flat_map(|clock| alone(i64::from(clock.synchronised))),
    )?;
    families.gauges(
        "kstamp_clock_error_bound",
        Some(Unit::Seconds),
        "Bound on the distance of this host's clock from UTC; absent if it is not synchronised.",
        clock
            .filter(|clock| clock.synchronised)
            .into_iter()
            .flat_map(|clock| alone(clock.error_ns as f64 * S_PER_NS)),
    )?;
    families.counters(
        "kstamp_clock_steps",
        None,
        "Steps of this host's wall clock.",
        alone(metrics.own_clock_steps),
    )?;
    families.counters(
        "kstamp_program_packets",
        None,
        "Packets by what the kernel programs and the process did with them.",
        metrics
            .state
            .counters
            .iter()
            .map(|(name, &value)| (vec![("counter", (*name).to_owned())], value)),
    )?;
    families.counters(
        "kstamp_metrics_events_lost",
        None,
        "Events that are missing in these metrics, because the server was too slow.",
        alone(metrics.events_lost),
    )
}

fn of_process(usage: Option<Usage>, families: &mut Families<'_>) -> fmt::Result {
    let Some(usage) = usage else { return Ok(()) };
    families.counters(
        "process_cpu",
        Some(Unit::Seconds),
        "CPU time of this process.",
        alone(usage.cpu.as_secs_f64()),
    )?;
    families.gauges(
        "process_resident_memory",
        Some(Unit::Bytes),
        "Resident memory of this process.",
        alone(usage.resident),
    )?;
    families.gauges(
        "process_open_fds",
        None,
        "Open files of this process.",
        alone(usage.open_files),
    )
}

fn of_peers(metrics: &Metrics, families: &mut Families<'_>) -> fmt::Result {
    let shown = metrics.peers.iter().filter(|(_, peer)| !peer.is_gone);
    match metrics.detail {
        Detail::Peer => {
            let up = shown.map(|(&address, peer)| {
                let labels = vec![
                    ("peer", address.to_string()),
                    ("peer_name", peer.name.clone()),
                    ("family", family(address).to_owned()),
                ];
                (labels, i64::from(peer.is_up))
            });
            families.gauges("kstamp_peer_up", None, "1 if the peer answers.", up)
        }
        Detail::Total => {
            let [mut up, mut down] = [0, 0];
            shown.for_each(|(_, peer)| *if peer.is_up { &mut up } else { &mut down } += 1);
            let series =
                [("up", up), ("down", down)].map(|(state, number)| (vec![("state", state.to_owned())], number));
            families.gauges::<i64>("kstamp_peers", None, "Peers by state.", series)
        }
    }
}

fn by_peer(metrics: &Metrics) -> Vec<(Labels, &Series)> {
    let peers = metrics.peers.iter().flat_map(|(&address, peer)| {
        peer.series.iter().map(move |(&path, series)| {
            let labels = vec![
                ("peer", address.to_string()),
                ("peer_name", peer.name.clone()),
                ("path", path.name().to_owned()),
                ("family", family(address).to_owned()),
            ];
            (labels, series)
        })
    });
    peers.collect()
}

fn by_path(metrics: &Metrics) -> Vec<(Labels, &Series)> {
    let totals = metrics.totals.iter().map(|(&(path, family), series)| {
        let labels = vec![("path", path.name().to_owned()), ("family", family.to_owned())];
        (labels, series)
    });
    totals.collect()
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

fn counts(series: &[(Labels, &Series)], families: &mut Families<'_>) -> fmt::Result {
    let lost = series.iter().flat_map(|(labels, series)| {
        let counts = series.counts;
        [
            ("forward", counts.lost_forward),
            ("backward", counts.lost_backward),
            ("unknown", counts.lost_unknown),
        ]
        .map(|(direction, lost)| (with(labels, "direction", direction), lost))
    });
    families.counters(
        "kstamp_probes_lost",
        None,
        "Probes without a reply within the timeout, by where they were lost.",
        lost,
    )?;
    let table: [(&str, &str, Count); 9] = [
        ("sent", "Probes that left this host.", |series| series.counts.sent),
        ("received", "Probes answered within the timeout.", |series| {
            series.counts.received
        }),
        (
            "unanswered",
            "Probes without an answer in time: lost, or not sent by the kernel.",
            |series| series.counts.unanswered(),
        ),
        ("send_failed", "Probes that did not leave this host.", |series| {
            series.counts.send_failed
        }),
        ("late", "Replies after the timeout.", |series| series.counts.late),
        ("duplicate", "Replies beyond the first to the same probe.", |series| {
            series.counts.duplicates
        }),
        (
            "reordered",
            "Replies that a later probe's reply has overtaken.",
            |series| series.counts.reordered,
        ),
        (
            "collector_lost",
            "Replies whose sample was lost on this host; counted as received.",
            |series| series.counts.collector_lost,
        ),
        (
            "not_sent",
            "Probes that were due while the process did not run.",
            |series| series.counts.not_sent,
        ),
    ];
    for (name, help, value) in table {
        let values = series.iter().map(|(labels, series)| (labels.clone(), value(series)));
        families.counters(&format!("kstamp_probes_{name}"), None, help, values)?;
    }
    Ok(())
}

fn delays(series: &[(Labels, &Series)], families: &mut Families<'_>) -> fmt::Result {
    let rtt = series.iter().map(|(labels, series)| (labels.clone(), &series.rtt));
    families.histograms(
        "kstamp_rtt",
        "Round-trip delay less the reflector's residence (RFC 2681).",
        rtt,
    )?;
    let residence = series
        .iter()
        .map(|(labels, series)| (labels.clone(), &series.residence));
    families.histograms(
        "kstamp_residence",
        "From the arrival of a probe to its reply, in the reflector.",
        residence,
    )?;
    let table = [
        (
            "kstamp_forward_delay",
            "One-way delay to the peer (RFC 7679), by the clock that backs it.",
        ),
        (
            "kstamp_backward_delay",
            "One-way delay from the peer (RFC 7679), by the clock that backs it.",
        ),
    ];
    for (direction, (name, help)) in table.into_iter().enumerate() {
        let one_way = series.iter().flat_map(|(labels, series)| {
            let clocks = series.one_way.iter();
            clocks.map(move |(clock, delays)| (with(labels, "clock", clock), &delays[direction]))
        });
        families.histograms(name, help, one_way)?;
    }
    Ok(())
}

fn clocks(series: &[(Labels, &Series)], detail: Detail, families: &mut Families<'_>) -> fmt::Result {
    let steps = series
        .iter()
        .map(|(labels, series)| (labels.clone(), series.steps.peer));
    families.counters(
        "kstamp_peer_clock_steps",
        None,
        "Steps of the peer's wall clock.",
        steps,
    )?;
    // A bound of all peers together means nothing.
    let bounds = series
        .iter()
        .filter(|_| detail == Detail::Peer)
        .filter_map(|(labels, series)| {
            let clock = series.clock?;
            Some((
                with(labels, "clock", clock.name()),
                clock.bound_ns().unwrap_or(0) as f64 * S_PER_NS,
            ))
        });
    families.gauges(
        "kstamp_one_way_error_bound",
        Some(Unit::Seconds),
        "Bound on the error of one-way delays in the last window.",
        bounds,
    )
}
