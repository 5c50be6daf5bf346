use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use probe_core::agent::event::Found;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::{Counts, Delays, OneWayClock};
use probe_host::ovs::PortFacts;
use probe_hub::agent;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{BucketSpan, MetricFamily};
use prost::Message as _;

use super::format::{Format, zipped};
use super::*;
use crate::output::fixtures::{self, ip};
use crate::output::model::Results;
use crate::output::model::hops::Hops;

const S: u64 = 1_000_000_000;

fn delays(samples: impl IntoIterator<Item = i64> + Clone) -> Option<Box<Delays>> {
    let native = |by: i64| {
        let mut distribution = Distribution::default();
        samples
            .clone()
            .into_iter()
            .for_each(|sample| distribution.record(sample / by));
        distribution.native()
    };
    Some(Box::new(Delays {
        rtt: native(1),
        residence: native(100),
        forward: native(2),
        backward: native(-2),
    }))
}

/// The peer 10.1.1.6, h2:p2: 20 probes of 161 µs to 1.28 ms.
fn good() -> Results {
    Results {
        delays: delays((1..=20).map(|step| 161_000 + step * step * 2_800)),
        ..fixtures::good()
    }
}

fn metrics(detail: Detail, results: Vec<Results>) -> Metrics {
    let floor = NoiseFloor {
        attach: "xdp-native".to_owned(),
        ns: 5_000,
    };
    let mut metrics = Metrics::new(detail, Some(floor));
    metrics.event(&Event::Start(fixtures::start()), 0);
    metrics.event(&Event::Windows(fixtures::windows(results)), 0);
    metrics
}

fn written(metrics: Metrics, format: Format) -> Vec<u8> {
    encode(&Arc::new(Mutex::new(metrics)), format).unwrap()
}

fn text(metrics: Metrics) -> String {
    String::from_utf8(written(metrics, Format::Text)).unwrap()
}

fn families(mut bytes: &[u8]) -> Vec<MetricFamily> {
    let next = || (!bytes.is_empty()).then(|| MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    std::iter::from_fn(next).collect()
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

const GOOD: &str = r#"{peer="10.1.1.6",peer_name="h2:p2",path="unicast",family="v4""#;

#[test]
fn a_window_is_in_every_count() {
    let troubled = fixtures::troubled();
    let text = text(metrics(Detail::Peer, vec![good(), troubled.clone(), good()]));
    for line in [
        format!("kstamp_probes_sent_total{GOOD}}} 40"),
        format!("kstamp_probes_received_total{GOOD}}} 40"),
        format!("kstamp_probes_lost_total{GOOD},direction=\"forward\"}} 0"),
        format!("kstamp_rtt_seconds_count{GOOD}}} 40"),
        format!("kstamp_rtt_seconds_bucket{GOOD},le=\"0.00048828125\"}} 20"),
        format!("kstamp_rtt_seconds_bucket{GOOD},le=\"+Inf\"}} 40"),
        format!("kstamp_residence_seconds_count{GOOD}}} 40"),
        format!("kstamp_forward_delay_seconds_count{GOOD},clock=\"same-clock\"}} 40"),
        format!("kstamp_backward_delay_seconds_bucket{GOOD},clock=\"same-clock\",le=\"9.5367431640625e-07\"}} 40"),
        format!("kstamp_one_way_error_bound_seconds{GOOD},clock=\"same-clock\"}} 0.0"),
        "kstamp_build_info{version=\"0.1.0\"} 1".to_owned(),
        "kstamp_agent_info{name=\"h1:p1\",interface=\"p1\",engine=\"ebpf\",attach=\"xdp-native\"} 1".to_owned(),
        "kstamp_interface_up 1".to_owned(),
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    let values = |name: &str| {
        let lines = lines(&text, &format!("kstamp_probes_{name}_total{{peer=\"fe80:"));
        lines
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    let Counts {
        lost_forward,
        lost_backward,
        lost_unknown,
        ..
    } = troubled.counts;
    assert_eq!(values("lost"), [lost_forward, lost_backward, lost_unknown]);
    for (name, want) in [
        ("late", 5),
        ("duplicate", 6),
        ("reordered", 7),
        ("collector_lost", 8),
        ("unanswered", 19),
        ("send_failed", 10),
        ("not_sent", 11),
    ] {
        assert_eq!(values(name), [want], "{name}");
    }
    assert!(lines(&text, "process_cpu_seconds_total ").len() == 1 && text.contains("process_resident_memory_bytes "));
}

#[test]
fn one_way_delays_are_by_clock_and_absent_without_one() {
    let synced = Results {
        clock: Some(OneWayClock::Synced { bound_ns: 2_400_000 }),
        ..good()
    };
    let text = text(metrics(
        Detail::Peer,
        vec![good(), synced, Results { clock: None, ..good() }],
    ));
    let counts = lines(&text, "kstamp_forward_delay_seconds_count");
    assert_eq!(
        counts,
        ["same-clock", "synced"]
            .map(|clock| format!("kstamp_forward_delay_seconds_count{GOOD},clock=\"{clock}\"}} 20"))
    );
    assert!(
        lines(&text, "kstamp_one_way_error_bound").is_empty(),
        "of the last window alone"
    );
    assert_eq!(
        lines(&text, "kstamp_rtt_seconds_count"),
        [format!("kstamp_rtt_seconds_count{GOOD}}} 60")]
    );
}

#[test]
fn every_format_has_the_same_counts_and_only_protobuf_native_buckets() {
    let metrics = || metrics(Detail::Peer, vec![good()]);
    let open = String::from_utf8(written(metrics(), Format::OpenMetrics)).unwrap();
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(open.contains("# UNIT kstamp_rtt_seconds seconds\n"));
    assert!(open.contains(&format!("kstamp_probes_sent_total{GOOD}}} 20\n")));
    let families = families(&written(metrics(), Format::Protobuf));
    let family = |name: &str| families.iter().find(|family| family.name == name).unwrap();
    let sent = &family("kstamp_probes_sent_total").metric[0];
    assert_eq!(sent.counter.as_ref().unwrap().value, 20.0);
    let rtt = family("kstamp_rtt_seconds").metric[0].histogram.clone().unwrap();
    assert_eq!((rtt.sample_count, rtt.schema, rtt.bucket.len()), (20, 6, 0));
    let mut last = 0;
    let counts: i64 = rtt
        .positive_delta
        .iter()
        .map(|delta| {
            last += delta;
            last
        })
        .sum();
    assert_eq!(counts, 20);
    let length: u32 = rtt.positive_span.iter().map(|span| span.length).sum();
    assert_eq!(length as usize, rtt.positive_delta.len());
    // 163.8 µs are in the bucket that ends at 2^(-804/64) seconds.
    assert_eq!(rtt.positive_span[0].offset, (163_800e-9f64.log2() * 64.0).ceil() as i32);
    let backward = family("kstamp_backward_delay_seconds").metric[0]
        .histogram
        .clone()
        .unwrap();
    assert!(backward.positive_span.is_empty() && !backward.negative_span.is_empty());
    assert!(backward.zero_threshold > 0.0 && backward.zero_threshold < 1e-9);
}

/// A value as both protocols have it.
#[derive(Debug, PartialEq)]
enum Shown {
    /// Of the process, which changes.
    Usage,
    Counter(f64),
    Gauge(f64),
    /// Scale, count, samples at 0, and buckets below and above it by Prometheus' index.
    Histogram(i32, u64, u64, [Vec<(i32, u64)>; 2]),
}

/// By name and labels.
type AllShown = BTreeMap<(String, BTreeMap<String, String>), Shown>;

fn sparse(spans: &[BucketSpan], deltas: &[i64]) -> Vec<(i32, u64)> {
    let (mut next, mut count, mut deltas) = (0, 0, deltas.iter());
    let mut buckets = Vec::new();
    for span in spans {
        next += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            buckets.push((next, count as u64));
            next += 1;
        }
    }
    buckets.retain(|(_, count)| *count > 0);
    buckets
}

fn by_prometheus(metrics: Metrics) -> AllShown {
    let mut all = AllShown::new();
    for family in families(&written(metrics, Format::Protobuf)) {
        for metric in family.metric {
            let labels = metric.label.into_iter().map(|label| (label.name, label.value));
            let shown = match (metric.counter, metric.gauge, metric.histogram) {
                _ if family.name.starts_with("process_") => Shown::Usage,
                (Some(counter), None, None) => Shown::Counter(counter.value),
                (None, Some(gauge), None) => Shown::Gauge(gauge.value),
                (None, None, Some(histogram)) => Shown::Histogram(
                    histogram.schema,
                    histogram.sample_count,
                    histogram.zero_count,
                    [
                        sparse(&histogram.negative_span, &histogram.negative_delta),
                        sparse(&histogram.positive_span, &histogram.positive_delta),
                    ],
                ),
                other => panic!("{}: {other:?}", family.name),
            };
            assert_eq!(all.insert((family.name.clone(), labels.collect()), shown), None);
        }
    }
    all
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    let attributes = attributes.iter();
    attributes
        .map(|attribute| (attribute.key.clone(), text(attribute)))
        .collect()
}

fn from_dense(buckets: Option<Buckets>) -> Vec<(i32, u64)> {
    let Some(Buckets { offset, bucket_counts }) = buckets else {
        return Vec::new();
    };
    let mut buckets: Vec<_> = (offset + 1..).zip(bucket_counts).collect();
    buckets.retain(|(_, count)| *count > 0);
    buckets
}

/// With the names that Prometheus gives to them.
fn by_otlp(request: ExportMetricsServiceRequest, now_ns: u64) -> AllShown {
    let mut all = AllShown::new();
    let [resource] = request.resource_metrics.try_into().unwrap();
    let [scope] = resource.scope_metrics.try_into().unwrap();
    for metric in scope.metrics {
        assert!(!metric.description.is_empty());
        let unit = match metric.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            unit => unit,
        };
        let name = format!("{}{unit}", metric.name);
        let mut add = |name: &str, attributes: &[KeyValue], times: [u64; 2], shown: Shown| {
            assert!(
                0 < times[0] && times[0] <= times[1] && times[1] == now_ns,
                "{name}: {times:?}"
            );
            let shown = if name.starts_with("process_") {
                Shown::Usage
            } else {
                shown
            };
            assert_eq!(all.insert((name.to_owned(), texts(attributes)), shown), None);
        };
        let number = |value: Option<Number>| match value.unwrap() {
            Number::AsInt(value) => value as f64,
            Number::AsDouble(value) => value,
        };
        match metric.data.unwrap() {
            Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                for point in sum.data_points {
                    let times = [point.start_time_unix_nano, point.time_unix_nano];
                    let shown = Shown::Counter(number(point.value));
                    add(&format!("{name}_total"), &point.attributes, times, shown);
                }
            }
            Data::Gauge(gauge) => {
                for point in gauge.data_points {
                    let times = [point.start_time_unix_nano, point.time_unix_nano];
                    add(&name, &point.attributes, times, Shown::Gauge(number(point.value)));
                }
            }
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, 2);
                for point in histogram.data_points {
                    let times = [point.start_time_unix_nano, point.time_unix_nano];
                    let sides = [from_dense(point.negative), from_dense(point.positive)];
                    assert_eq!(point.sum.is_some(), sides[0].is_empty(), "{name}");
                    let shown = Shown::Histogram(point.scale, point.count, point.zero_count, sides);
                    add(&name, &point.attributes, times, shown);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

#[test]
fn scrapes_and_otlp_have_the_same_names_labels_and_values() {
    assert!(
        text(Metrics::new(Detail::Peer, None))
            .lines()
            .all(|line| !line.contains("noise_floor"))
    );
    let now_ns = u64::MAX / 4;
    for detail in [Detail::Peer, Detail::Total] {
        let metrics = || {
            let mut metrics = metrics(detail, vec![good(), fixtures::troubled(), fixtures::good_group()]);
            metrics.set_state(State {
                clock: Some(ClockState {
                    synchronised: true,
                    error_ns: 1_500_000,
                    tai_offset_s: 37,
                }),
                counters: BTreeMap::from([("reflected", 7), ("collected", 5)]),
                ..State::default()
            });
            metrics
        };
        let prometheus = by_prometheus(metrics());
        assert!(prometheus.len() > 40, "{}", prometheus.len());
        let request = otlp::request(&metrics(), "h1", now_ns).unwrap();
        let resource = texts(&request.resource_metrics[0].resource.clone().unwrap().attributes);
        let resource: Vec<_> = resource
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            resource,
            [
                ("host.name", "h1"),
                ("service.instance.id", "h1:p1"),
                ("service.name", "kstamp"),
                ("service.version", "0.1.0"),
            ]
        );
        assert_eq!(by_otlp(request, now_ns), prometheus);
    }
    assert_eq!(
        otlp::encode(&Metrics::new(Detail::Peer, None), "h1", now_ns),
        None,
        "not started"
    );
}

fn peer_event(metrics: &mut Metrics, event: PeerEvent, found: Found, reason: Option<DownReason>, now_ns: u64) {
    let change = PeerChange {
        reason,
        ..fixtures::peer_change(event, found, Some("h2:p2"))
    };
    metrics.event(&Event::Peer(change), now_ns);
}

#[test]
fn a_peer_that_is_gone_takes_its_series_with_it() {
    let shown = |metrics: &Metrics| {
        let peer = metrics.peers.get(&ip("10.1.1.6"));
        peer.map(|peer| (!peer.is_gone, peer.is_up, peer.series.len()))
    };
    let windows = |metrics: &mut Metrics| metrics.event(&Event::Windows(fixtures::windows(vec![good()])), S);
    for (found, reason, after_ns, stays) in [
        (Found::Multicast, DownReason::Ended, 0, false),
        (Found::Introduced, DownReason::NoAddress, 0, false),
        (Found::Multicast, DownReason::Silent, GONE_NS - 1, true),
        (Found::Multicast, DownReason::Silent, GONE_NS, false),
        (Found::Static, DownReason::Silent, GONE_NS, true),
        (Found::Static, DownReason::Ended, 0, true),
    ] {
        let mut metrics = Metrics::new(Detail::Peer, None);
        peer_event(&mut metrics, PeerEvent::Up, found, None, S);
        windows(&mut metrics);
        assert_eq!(shown(&metrics), Some((true, true, 1)));
        peer_event(&mut metrics, PeerEvent::Down, found, Some(reason), 2 * S);
        metrics.expire(2 * S + after_ns);
        assert_eq!(
            shown(&metrics),
            Some((stays, false, usize::from(stays))),
            "{found:?} {reason:?}"
        );
        // Its last windows come after its end.
        windows(&mut metrics);
        assert_eq!(shown(&metrics).unwrap().2, usize::from(stays), "{found:?} {reason:?}");
        peer_event(&mut metrics, PeerEvent::Up, found, None, 3 * S);
        windows(&mut metrics);
        assert_eq!(shown(&metrics), Some((true, true, 1)));
        let sent = metrics.peers[&ip("10.1.1.6")].series[&Path::Unicast].counts.sent;
        assert_eq!(sent, if stays { 60 } else { 20 });
    }
}

#[test]
fn peers_are_bounded_and_those_that_are_up_stay() {
    let mut metrics = Metrics::new(Detail::Peer, None);
    peer_event(&mut metrics, PeerEvent::Up, Found::Multicast, None, 0);
    for number in 0..3 * MAX_SHOWN as u32 {
        metrics.peer(IpAddr::from(std::net::Ipv4Addr::from_bits(number)), u64::from(number));
    }
    assert_eq!(metrics.peers.len(), MAX_SHOWN);
    assert!(metrics.peers[&ip("10.1.1.6")].is_up);
}

#[test]
fn named_peers_are_all_shown_and_stay() {
    let mut metrics = Metrics::new(Detail::Peer, None);
    let named: Vec<_> = (0..2 * MAX_SHOWN as u32)
        .map(|number| IpAddr::from(std::net::Ipv4Addr::from_bits(number)))
        .collect();
    let start = Start {
        peers: named.clone(),
        ..fixtures::start()
    };
    metrics.event(&Event::Start(start), 0);
    for number in 0..2 * MAX_SHOWN as u128 {
        metrics.peer(IpAddr::from(std::net::Ipv6Addr::from_bits(number)), number as u64);
    }
    assert_eq!(metrics.peers.len(), 3 * MAX_SHOWN);
    assert!(named.iter().all(|peer| metrics.peers.contains_key(peer)));
}

#[test]
fn the_port_of_open_vswitch_is_shown_as_it_is_now() {
    let shown = |changes: &[Option<PortFacts>]| {
        let mut metrics = metrics(Detail::Peer, vec![]);
        for facts in changes {
            metrics.event(&Event::Ovs(fixtures::ovs_change(facts.clone())), S);
        }
        lines(&text(metrics), "kstamp_ovs_info{").join("\n")
    };
    let line =
        r#"kstamp_ovs_info{bridge="br-int",port="p1",ofport="3",datapath="system",iface_id="vm-1",version="3.1.0"} 1"#;
    let facts = Some(fixtures::port_facts());
    assert_eq!(shown(std::slice::from_ref(&facts)), line);
    assert_eq!(shown(&[facts, None]), "");
}

#[test]
fn totals_have_no_peer_and_keep_what_a_peer_has_added() {
    let mut metrics = metrics(Detail::Total, vec![good(), fixtures::good_group()]);
    peer_event(&mut metrics, PeerEvent::Up, Found::Multicast, None, S);
    peer_event(
        &mut metrics,
        PeerEvent::Down,
        Found::Multicast,
        Some(DownReason::Ended),
        S,
    );
    let text = text(metrics);
    assert_eq!(
        lines(&text, "kstamp_probes_sent_total"),
        [
            r#"kstamp_probes_sent_total{path="unicast",family="v4"} 20"#,
            r#"kstamp_probes_sent_total{path="group",family="v4"} 20"#,
        ]
    );
    assert_eq!(lines(&text, "kstamp_peers{").len(), 2);
    assert!(!text.contains("peer=") && !text.contains("kstamp_one_way_error_bound"));
}

#[test]
fn the_interface_and_the_state_are_shown() {
    let mut metrics = metrics(Detail::Peer, vec![]);
    metrics.event(&Event::Interface(fixtures::interface_change(InterfaceEvent::Down)), 0);
    metrics.event(&Event::Clock(fixtures::clock_step(None, 5)), 0);
    metrics.event(&Event::Clock(fixtures::clock_step(Some("10.1.1.6"), 5)), 0);
    metrics.set_state(State {
        clock: Some(ClockState {
            synchronised: true,
            error_ns: 1_500_000,
            tai_offset_s: 37,
        }),
        counters: BTreeMap::from([("reflected", 7)]),
        ..State::default()
    });
    metrics.set_events_lost(3);
    let text = text(metrics);
    for line in [
        "kstamp_interface_up 0",
        "kstamp_clock_synchronised 1",
        "kstamp_clock_error_bound_seconds 0.0015",
        "kstamp_clock_steps_total 1",
        "kstamp_noise_floor_seconds{attach=\"xdp-native\"} 0.000005",
        "kstamp_program_packets_total{counter=\"reflected\"} 7",
        "kstamp_metrics_events_lost_total 3",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_link_to_a_fleet_is_shown_if_there_is_one() {
    let shown = |hub| {
        let mut metrics = metrics(Detail::Peer, vec![]);
        metrics.set_state(State {
            hub,
            ..State::default()
        });
        text(metrics)
    };
    assert!(!shown(None).contains("kstamp_hub_"));
    let status = |state| Status {
        state,
        waiting: 5,
        dropped: 6,
        generation: 7,
        peers: 8,
        ..Status::default()
    };
    let connected = shown(Some(status(agent::State::Connected)));
    for line in [
        "kstamp_hub_connected 1",
        "kstamp_hub_batches_waiting 5",
        "kstamp_hub_batches_dropped_total 6",
        "kstamp_hub_assignment_generation 7",
        "kstamp_hub_assigned_peers 8",
    ] {
        assert!(
            connected.lines().any(|have| have == line),
            "{line} is not in\n{connected}"
        );
    }
    let lost = shown(Some(status(agent::State::Lost)));
    assert!(lost.contains("kstamp_hub_connected 0\n"), "{lost}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_names() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        println!("SKIPPED: no promtool");
        return;
    };
    let text = text(metrics(Detail::Peer, vec![good(), fixtures::troubled()]));
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let mut metrics = metrics(Detail::Peer, vec![good()]);
    metrics.set_state(State {
        clock: Some(ClockState {
            synchronised: true,
            error_ns: 1,
            tai_offset_s: 37,
        }),
        counters: BTreeMap::from([("reflected", 7)]),
        ..State::default()
    });
    let text = text(metrics);
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let mut known: Vec<_> = series.filter_map(|line| line.split(['{', ' ']).next()).collect();
    // A native histogram is one series.
    let native: Vec<_> = known.iter().filter_map(|name| name.strip_suffix("_bucket")).collect();
    known.extend(native);
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/");
    for file in [
        "prometheus/kstamp.rules.yml",
        "prometheus/kstamp.alerts.yml",
        "grafana/kstamp.json",
    ] {
        let text = std::fs::read_to_string(format!("{deploy}{file}")).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        for word in words.filter(|word| word.starts_with("kstamp_") || word.starts_with("process_")) {
            assert!(
                known.contains(&word) || word == "kstamp_peer_up",
                "{file}: there is no {word}"
            );
        }
    }
}

/// 1,000 peers on both paths with 7,200 probes each, an hour of them: log-normal, with a tail. 128 of them differ.
fn thousand() -> Metrics {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as f64 / f64::from(1u32 << 31)
    };
    let kinds = (0..128).map(|kind| {
        let middle = 100_000.0 * (1.0 + f64::from(kind) / 10.0);
        let samples: Vec<i64> = (0..7_200)
            .map(|_| {
                // The sum of twelve uniform numbers is nearly normal.
                let normal: f64 = (0..12).map(|_| next()).sum::<f64>() - 6.0;
                let tail = if next() < 0.001 { 10.0 * next() } else { 0.0 };
                (middle * (0.1 * normal + tail).exp()) as i64
            })
            .collect();
        delays(samples)
    });
    let kinds: Vec<_> = kinds.collect();
    let results = (0..1_000u32).flat_map(|peer| [(peer, Path::Unicast), (peer, Path::Group)]);
    let results = results.enumerate().map(|(number, (peer, path))| Results {
        peer: IpAddr::from([10, 1, (peer >> 8) as u8, peer as u8]),
        peer_name: Some(format!("host-{peer}:eth0")),
        path,
        counts: Counts {
            sent: 7_200,
            received: 7_200,
            ..Counts::default()
        },
        delays: kinds[number % kinds.len()].clone(),
        ..fixtures::good()
    });
    metrics(Detail::Peer, results.collect())
}

#[test]
fn a_scrape_of_a_thousand_peers_is_small() {
    let metrics = Arc::new(Mutex::new(thousand()));
    let begin = Instant::now();
    let plain = encode(&metrics, Format::Protobuf).unwrap();
    let encoded = begin.elapsed();
    let zipped = zipped(&plain).unwrap();
    println!(
        "1000 peers, both paths: {} bytes in {encoded:?}, {} bytes with gzip in {:?}",
        plain.len(),
        zipped.len(),
        begin.elapsed()
    );
    assert!(zipped.len() <= 2_000_000, "{} bytes", zipped.len());
    let families = families(&plain);
    let rtt = families
        .iter()
        .find(|family| family.name == "kstamp_rtt_seconds")
        .unwrap();
    assert_eq!(rtt.metric.len(), 2_000);
}

#[test]
fn hops_are_added_up_by_segment_and_direction() {
    let of = |hops: Vec<Hops>| {
        let mut metrics = metrics(Detail::Peer, vec![good()]);
        hops.into_iter().for_each(|hops| metrics.event(&Event::Hops(hops), 0));
        text(metrics)
    };
    assert!(!of(vec![]).contains("kstamp_hop"), "without hops there are no series");
    let text = of(vec![fixtures::hops(), fixtures::troubled_hops()]);
    let at = |hop: &str, direction: &str| format!("{GOOD},hop=\"{hop}\",direction=\"{direction}\"");
    for line in [
        format!("kstamp_hop_seconds_count{}}} 40", at("own_switch", "forward")),
        format!(
            "kstamp_hop_seconds_bucket{},le=\"1.52587890625e-05\"}} 40",
            at("own_switch", "backward")
        ),
        format!("kstamp_hop_seconds_count{}}} 40", at("underlay", "both")),
        format!("kstamp_hop_seconds_count{}}} 40", at("reflector", "both")),
        format!("kstamp_hop_lost_total{}}} 7", at("underlay", "forward")),
        format!("kstamp_hop_lost_total{}}} 2", at("underlay", "backward")),
        format!("kstamp_hop_lost_total{}}} 0", at("far_switch", "forward")),
        format!("kstamp_hop_lost_total{}}} 1", at("reflector", "both")),
        format!("kstamp_hop_lost_total{GOOD},hop=\"late\"}} 1"),
        format!("kstamp_hop_lost_total{GOOD},hop=\"unknown\"}} 3"),
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    let lost = lines(&text, "kstamp_hop_lost_total");
    let lost = lost
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(lost.sum::<u64>(), fixtures::troubled_hops().lost);
    assert_eq!(
        lines(&text, &format!("kstamp_hop_seconds_count{}", at("underlay", "forward"))),
        [""; 0],
        "it adds up"
    );
    // Without a tunnel device and a far half: absent, not zero.
    let near = of(vec![fixtures::near_hops()]);
    assert_eq!(lines(&near, "kstamp_hop_seconds_count").len(), 3, "{near}");
    assert!(
        !near.contains("encapsulation") && !near.contains("far_switch"),
        "{near}"
    );
}
