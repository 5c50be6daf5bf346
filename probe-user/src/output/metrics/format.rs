//! The exposition formats, and which of them a client wants.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Prometheus text 0.0.4, with classic histograms.
    Text,
    /// OpenMetrics text 1.0.0, with classic histograms.
    OpenMetrics,
    /// Delimited `io.prometheus.client.MetricFamily`, with native histograms.
    Protobuf,
}

const PROTO: &str = "io.prometheus.client.MetricFamily";

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format that an `Accept` header wants most; text if it names none of them.
    pub fn negotiated(accept: &str) -> Self {
        let offers = accept.split(',').filter_map(offer);
        // The first of the best.
        let best = offers.reduce(|best, offer| if offer.0 > best.0 { offer } else { best });
        best.map_or(Self::Text, |(_, format)| format)
    }
}

/// Thousandths of the weight, and the format, of one media range (RFC 9110 §12.5.1).
fn offer(range: &str) -> Option<(u32, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().trim_matches('"'))
    };
    let format = match media.as_str() {
        "application/vnd.google.protobuf"
            if parameter("proto") == Some(PROTO) && parameter("encoding") == Some("delimited") =>
        {
            Format::Protobuf
        }
        "application/openmetrics-text" if matches!(parameter("version"), None | Some("0.0.1" | "1.0.0")) => {
            Format::OpenMetrics
        }
        "text/plain" | "text/*" | "*/*" => Format::Text,
        _ => return None,
    };
    let weight = parameter("q").map_or(Some(1.0), |weight| weight.parse::<f32>().ok())?;
    (weight > 0.0).then_some(((weight.min(1.0) * 1e3) as u32, format))
}

/// Whether an `Accept-Encoding` header allows gzip.
pub fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map(str::trim);
        name.trim().eq_ignore_ascii_case("gzip")
            && weight.is_none_or(|weight| weight.parse().is_ok_and(|q: f32| q > 0.0))
    })
}

/// With the fastest level, which takes a tenth of the time of the best.
pub fn zipped(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_its_format() {
        let table = [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html, application/xhtml+xml;q=0.9, */*;q=0.8", Format::Text),
            // Prometheus 2.42 with and without native histograms.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                 application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Protobuf,
            ),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.1", Format::Text),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Format::Text),
            (
                "application/vnd.google.protobuf;proto=other;encoding=delimited",
                Format::Text,
            ),
            ("application/openmetrics-text;q=x", Format::Text),
        ];
        for (accept, want) in table {
            assert_eq!(Format::negotiated(accept), want, "{accept}");
        }
    }

    #[test]
    fn gzip_is_used_where_it_is_accepted() {
        for (header, want) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("", false),
            ("gzip;q=0", false),
            ("identity", false),
        ] {
            assert_eq!(accepts_gzip(header), want, "{header}");
        }
    }
}
