//! Native histograms as the encoders take them, and classic buckets from them.

use probe_core::stats::native::NativeHistogram;
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use prometheus_client::encoding::{NativeHistogram as Fields, NativeHistogramBuckets};

use crate::output::metrics::format::Format;

const S_PER_NS: f64 = 1e-9;

/// Delays are whole nanoseconds, so that only 0 is below it. It also marks a histogram without samples as a native one.
pub(super) const ZERO_THRESHOLD: f64 = 0.5e-9;

/// Gaps up to this many buckets are filled: an empty bucket takes a byte, a new span at least five.
const MAX_FILLED: i32 = 4;

/// Classic buckets end at powers of two seconds, which are bounds of native buckets of every schema: 1 µs to 8 s.
const CLASSIC: std::ops::RangeInclusive<i32> = -20..=3;

pub(super) fn encode(histogram: &NativeHistogram, format: Format, encoder: &mut MetricEncoder<'_>) -> std::fmt::Result {
    let sum = histogram.sum_ns() as f64 * S_PER_NS;
    let count = histogram.count();
    if format != Format::Protobuf {
        return encoder.encode_histogram::<NoLabelSet>(sum, count, &classic(histogram), None);
    }
    let (negative, positive) = (Side::of(histogram.negative()), Side::of(histogram.positive()));
    let native = Fields {
        schema: i32::from(histogram.schema()),
        zero_threshold: ZERO_THRESHOLD,
        zero_count: histogram.zero(),
        negative: negative.buckets(),
        positive: positive.buckets(),
        created: None,
    };
    encoder.encode_histogram_with_native::<NoLabelSet>(sum, count, &[], None, native)
}

/// Buckets as spans of neighbours, each with the difference to the one before.
#[derive(Debug, Default, PartialEq)]
struct Side {
    /// Distance from the end of the last span (of the first: its index), and length.
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
}

impl Side {
    fn of(buckets: &[(i16, u64)]) -> Self {
        let mut side = Self::default();
        let (mut next, mut last) = (0, 0);
        for &(index, count) in buckets {
            let index = i32::from(index);
            match side.spans.last_mut() {
                Some((_, length)) if index - next <= MAX_FILLED => {
                    for _ in next..index {
                        side.deltas.push(-last);
                        last = 0;
                        *length += 1;
                    }
                    *length += 1;
                }
                _ => side.spans.push((index - next, 1)),
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            side.deltas.push(count - last);
            (next, last) = (index + 1, count);
        }
        side
    }

    fn buckets(&self) -> NativeHistogramBuckets<'_> {
        NativeHistogramBuckets {
            spans: &self.spans,
            deltas: &self.deltas,
        }
    }
}

/// Upper bounds in seconds and numbers of samples, each sample in one bucket.
fn classic(histogram: &NativeHistogram) -> Vec<(f64, u64)> {
    let below = histogram.negative().iter().map(|(_, count)| count).sum::<u64>() + histogram.zero();
    let mut buckets: Vec<_> = CLASSIC.map(|power| (2f64.powi(power), 0)).collect();
    buckets[0].1 = below;
    for &(index, count) in histogram.positive() {
        // Rounds up: the bucket ends at 2^(index / 2ˢ).
        let power = -(-i32::from(index)).div_euclid(1 << histogram.schema());
        let place = usize::try_from(power - CLASSIC.start()).unwrap_or(0);
        if let Some(bucket) = buckets.get_mut(place) {
            bucket.1 += count;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use probe_core::stats::distribution::Distribution;

    use super::*;

    #[test]
    fn spans_have_gaps_and_deltas() {
        let side = Side::of(&[(-3, 5), (-2, 7), (1, 2), (9, 1)]);
        assert_eq!(side.spans, [(-3, 5), (7, 1)]);
        assert_eq!(side.deltas, [5, 2, -7, 0, 2, -1]);
        assert_eq!(Side::of(&[]), Side::default());
    }

    #[test]
    fn classic_buckets_count_each_sample_up_to_their_bound() {
        let mut delays = Distribution::default();
        // Below all, in the first bucket, on a bound, above it, beyond all.
        for ns in [-5, 0, 900, 500_000_000, 510_000_000, 9_000_000_000] {
            delays.record(ns);
        }
        let buckets = classic(&delays.native());
        assert_eq!(buckets.len(), 24);
        assert_eq!(buckets[0], (2f64.powi(-20), 3));
        let half: Vec<_> = buckets.iter().filter(|(bound, _)| [0.5, 1.0].contains(bound)).collect();
        assert_eq!(half, [&(0.5, 1), &(1.0, 1)]);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 5);
    }
}
