//! The metrics as a message of the OpenTelemetry protocol (OTLP 1.x, `ExportMetricsServiceRequest`), cumulative.

use std::fmt;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use probe_core::stats::native::NativeHistogram;
use probe_host::process::Usage;
use prost::Message as _;

use crate::output::metrics::Metrics;
use crate::output::metrics::instruments::{Export, Instrument, Kind, Labels, Point, Unit, Value, walk};
use crate::output::metrics::native::ZERO_THRESHOLD;

const S_PER_NS: f64 = 1e-9;

/// All metrics at `now_ns` since 1970; `None` before the agent has started.
pub fn encode(metrics: &Metrics, host: &str, now_ns: u64) -> Option<Vec<u8>> {
    Some(request(metrics, host, now_ns)?.encode_to_vec())
}

pub(super) fn request(metrics: &Metrics, host: &str, now_ns: u64) -> Option<ExportMetricsServiceRequest> {
    let start = metrics.start.as_ref()?;
    let attributes = [
        ("service.name", "kstamp"),
        // Unique: the host's name and the interface, unless the user chose another.
        ("service.instance.id", &start.name),
        ("service.version", &start.version),
        ("host.name", host),
    ];
    let mut message = Message {
        now_ns,
        metrics: Vec::new(),
    };
    walk(metrics, Usage::now(), &mut message).ok()?;
    Some(ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes: attributes.map(|(key, value)| attribute(key, value)).into(),
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "kstamp".to_owned(),
                    version: start.version.clone(),
                    ..InstrumentationScope::default()
                }),
                metrics: message.metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    })
}

struct Message {
    now_ns: u64,
    metrics: Vec<Metric>,
}

impl Export for Message {
    fn family<'a>(&mut self, instrument: &Instrument, points: &mut dyn Iterator<Item = Point<'a>>) -> fmt::Result {
        const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;
        let now_ns = self.now_ns;
        let data = match instrument.kind {
            Kind::Counter => Data::Sum(Sum {
                data_points: points.filter_map(|point| number(point, now_ns)).collect(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
            Kind::Gauge => Data::Gauge(Gauge {
                data_points: points.filter_map(|point| number(point, now_ns)).collect(),
            }),
            Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
                data_points: points.filter_map(|point| histogram(point, now_ns)).collect(),
                aggregation_temporality: CUMULATIVE,
            }),
        };
        let unit = match instrument.unit {
            Some(Unit::Seconds) => "s",
            Some(Unit::Bytes) => "By",
            None => "",
        };
        self.metrics.push(Metric {
            name: instrument.name.to_owned(),
            description: instrument.help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        });
        Ok(())
    }
}

fn number(point: Point<'_>, now_ns: u64) -> Option<NumberDataPoint> {
    let number = match point.value {
        Value::Int(value) => Number::AsInt(i64::try_from(value).unwrap_or(i64::MAX)),
        Value::Float(value) => Number::AsDouble(value),
        Value::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(point.labels),
        start_time_unix_nano: point.since_ns,
        time_unix_nano: now_ns,
        value: Some(number),
        ..NumberDataPoint::default()
    })
}

fn histogram(point: Point<'_>, now_ns: u64) -> Option<ExponentialHistogramDataPoint> {
    let Value::Histogram(histogram) = point.value else {
        return None;
    };
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(point.labels),
        start_time_unix_nano: point.since_ns,
        time_unix_nano: now_ns,
        count: histogram.count(),
        // Negative delays would let it fall, and a receiver takes a sum that falls for a restart.
        sum: histogram.negative().is_empty().then(|| sum(histogram)),
        scale: histogram.schema().into(),
        zero_count: histogram.zero(),
        positive: buckets(histogram.positive()),
        negative: buckets(histogram.negative()),
        zero_threshold: ZERO_THRESHOLD,
        ..ExponentialHistogramDataPoint::default()
    })
}

fn sum(histogram: &NativeHistogram) -> f64 {
    histogram.sum_ns() as f64 * S_PER_NS
}

/// The bucket at the offset o holds magnitudes above base^o, up to base^(o + 1): one less than Prometheus' index.
fn buckets(sparse: &[(i16, u64)]) -> Option<Buckets> {
    let (&(first, _), &(last, _)) = sparse.first().zip(sparse.last())?;
    let place = |index: i16| usize::try_from(i32::from(index) - i32::from(first)).unwrap_or(0);
    let mut bucket_counts = vec![0; place(last) + 1];
    for &(index, count) in sparse {
        bucket_counts[place(index)] = count;
    }
    Some(Buckets {
        offset: i32::from(first) - 1,
        bucket_counts,
    })
}

fn attributes(labels: Labels<'_>) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| attribute(key, value)).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}
