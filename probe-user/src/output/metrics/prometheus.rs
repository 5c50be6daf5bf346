//! The metrics in Prometheus' formats.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use probe_host::process::Usage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
    prometheus_protobuf, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use crate::output::metrics::format::Format;
use crate::output::metrics::instruments::{Export, Instrument, Kind, Labels, Point, Unit, Value, walk};
use crate::output::metrics::{Metrics, native};

/// Writes all metrics of an agent.
pub fn encode(metrics: &Arc<Mutex<Metrics>>, format: Format) -> Result<Vec<u8>, fmt::Error> {
    let metrics = Arc::clone(metrics);
    let usage = Usage::now();
    encode_walk(format, move |out| {
        let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        walk(&metrics, usage, out)
    })
}

/// Writes the families that `walk` passes on.
pub(crate) fn encode_walk(
    format: Format,
    walk: impl Fn(&mut dyn Export) -> fmt::Result + Send + Sync + 'static,
) -> Result<Vec<u8>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { walk, format }));
    let mut written = String::new();
    match format {
        Format::Text => prometheus_text::encode(&mut written, &registry)?,
        Format::OpenMetrics => text::encode(&mut written, &registry)?,
        Format::Protobuf => return prometheus_protobuf::encode_to_vec(&registry).map_err(|_| fmt::Error),
    }
    Ok(written.into_bytes())
}

struct Scrape<W> {
    walk: W,
    format: Format,
}

impl<W> fmt::Debug for Scrape<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl<W: Fn(&mut dyn Export) -> fmt::Result + Send + Sync + 'static> Collector for Scrape<W> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families {
            encoder,
            format: self.format,
        };
        (self.walk)(&mut families)
    }
}

struct Families<'e> {
    encoder: DescriptorEncoder<'e>,
    format: Format,
}

impl Export for Families<'_> {
    fn family<'a>(&mut self, instrument: &Instrument, points: &mut dyn Iterator<Item = Point<'a>>) -> fmt::Result {
        let Instrument { name, unit, kind, help } = *instrument;
        let unit = unit.map(|unit| match unit {
            Unit::Seconds => registry::Unit::Seconds,
            Unit::Bytes => registry::Unit::Bytes,
        });
        let metric_type = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut encoder = self.encoder.encode_descriptor(name, help, unit.as_ref(), metric_type)?;
        for Point { labels, value, .. } in points {
            // A metric without labels has no braces.
            match labels.iter().next() {
                None => write(kind, value, self.format, &mut encoder)?,
                Some(_) => write(kind, value, self.format, &mut encoder.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }
}

fn write(kind: Kind, value: Value<'_>, format: Format, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (_, Value::Histogram(histogram)) => native::encode(histogram, format, encoder),
        (Kind::Counter, Value::Int(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        (Kind::Counter, Value::Float(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        (_, Value::Int(value)) => encoder.encode_gauge(&value),
        (_, Value::Float(value)) => encoder.encode_gauge(&value),
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.iter().try_for_each(|label| label.encode(encoder.encode_label()))
    }
}
