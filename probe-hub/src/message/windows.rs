//! Results of one port over one interval: a Protocol Buffers message in a stream. Roll-ups have the same form.

use std::net::IpAddr;
use std::ops::AddAssign;

use probe_core::stats::native::{Buckets, NativeHistogram};
use probe_core::stats::report::{Counts, OneWayClock, Path, Summary};

/// The header with which JetStream recognises a batch that was sent again: [`Batch::id`].
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Length of the windows in the stream of minutes.
pub const MINUTE_NS: u64 = 60_000_000_000;
/// Length of the windows in the stream of quarters of an hour.
pub const QUARTER_NS: u64 = 15 * MINUTE_NS;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// As in the presence.
    #[prost(fixed64, tag = "1")]
    pub boot: u64,
    /// Counts the batches of one process and one stream, from 1.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Since 1970, as `end_ns`.
    #[prost(fixed64, tag = "3")]
    pub start_ns: u64,
    #[prost(fixed64, tag = "4")]
    pub end_ns: u64,
    #[prost(message, repeated, tag = "5")]
    pub windows: Vec<Window>,
}

impl Batch {
    /// Its identifier among all batches of `subject`.
    pub fn id(&self, subject: &str) -> String {
        message_id(subject, self.boot, self.number)
    }
}

/// The identifier of the batch or event `number` of a process, among all messages of `subject`.
pub fn message_id(subject: &str, boot: u64, number: u64) -> String {
    format!("{subject}.{boot:x}.{number}")
}

/// One peer and path.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Window {
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// As a target is named, or empty for a peer that was not assigned.
    #[prost(string, tag = "2")]
    pub peer: String,
    /// To the multicast group.
    #[prost(bool, tag = "3")]
    pub group: bool,
    #[prost(message, optional, tag = "4")]
    pub counts: Option<WireCounts>,
    #[prost(message, optional, tag = "5")]
    pub rtt: Option<Delay>,
    #[prost(message, optional, tag = "6")]
    pub residence: Option<Delay>,
    #[prost(message, optional, tag = "7")]
    pub forward: Option<Delay>,
    #[prost(message, optional, tag = "8")]
    pub backward: Option<Delay>,
    /// What backs the one-way delays.
    #[prost(enumeration = "Clock", tag = "9")]
    pub clock: i32,
    /// Bound on the error of a one-way delay; 0 on one clock.
    #[prost(uint64, tag = "10")]
    pub clock_bound_ns: u64,
    /// Single probes: the slowest one, and the first ones lost. Empty in roll-ups.
    #[prost(message, repeated, tag = "11")]
    pub probes: Vec<Probe>,
}

/// As [`Counts`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct WireCounts {
    #[prost(uint64, tag = "1")]
    pub sent: u64,
    #[prost(uint64, tag = "2")]
    pub received: u64,
    #[prost(uint64, tag = "3")]
    pub lost_forward: u64,
    #[prost(uint64, tag = "4")]
    pub lost_backward: u64,
    #[prost(uint64, tag = "5")]
    pub lost_unknown: u64,
    #[prost(uint64, tag = "6")]
    pub late: u64,
    #[prost(uint64, tag = "7")]
    pub duplicates: u64,
    #[prost(uint64, tag = "8")]
    pub reordered: u64,
    #[prost(uint64, tag = "9")]
    pub collector_lost: u64,
    #[prost(uint64, tag = "10")]
    pub send_failed: u64,
    #[prost(uint64, tag = "11")]
    pub not_sent: u64,
}

/// A distribution in nanoseconds, as [`Summary`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delay {
    #[prost(sint64, tag = "1")]
    pub min: i64,
    #[prost(sint64, tag = "2")]
    pub mean: i64,
    #[prost(sint64, tag = "3")]
    pub p50: i64,
    #[prost(sint64, tag = "4")]
    pub p90: i64,
    #[prost(sint64, tag = "5")]
    pub p99: i64,
    #[prost(sint64, tag = "6")]
    pub p999: i64,
    #[prost(sint64, tag = "7")]
    pub max: i64,
    #[prost(sint64, tag = "8")]
    pub stddev: i64,
    #[prost(uint64, tag = "9")]
    pub count: u64,
    /// Absent in the windows of other delays than the round trip.
    #[prost(message, optional, tag = "10")]
    pub histogram: Option<Histogram>,
}

/// As [`NativeHistogram`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    #[prost(uint32, tag = "1")]
    pub schema: u32,
    #[prost(sint64, tag = "2")]
    pub sum_ns: i64,
    #[prost(uint64, tag = "3")]
    pub zero: u64,
    /// Index of the first bucket, then differences to the one before.
    #[prost(sint32, repeated, tag = "4")]
    pub positive: Vec<i32>,
    #[prost(uint64, repeated, tag = "5")]
    pub positive_counts: Vec<u64>,
    #[prost(sint32, repeated, tag = "6")]
    pub negative: Vec<i32>,
    #[prost(uint64, repeated, tag = "7")]
    pub negative_counts: Vec<u64>,
}

/// One probe. The stamps are UTC nanoseconds; T2 to T4 are 0 of a lost one.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Probe {
    #[prost(uint32, tag = "1")]
    pub seq: u32,
    #[prost(fixed64, tag = "2")]
    pub t1_ns: u64,
    #[prost(fixed64, tag = "3")]
    pub t2_ns: u64,
    #[prost(fixed64, tag = "4")]
    pub t3_ns: u64,
    #[prost(fixed64, tag = "5")]
    pub t4_ns: u64,
    /// T4 − T1 less T3 − T2, from the monotonic stamps.
    #[prost(uint64, tag = "6")]
    pub rtt_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum Clock {
    None = 0,
    SameClock = 1,
    Synced = 2,
    Estimated = 3,
}

impl Clock {
    /// With the bound on the error.
    pub fn of(clock: Option<OneWayClock>) -> (Self, u64) {
        let kind = match clock {
            None => Self::None,
            Some(OneWayClock::SameClock) => Self::SameClock,
            Some(OneWayClock::Synced { .. }) => Self::Synced,
            Some(OneWayClock::Estimated { .. }) => Self::Estimated,
        };
        (kind, clock.and_then(OneWayClock::bound_ns).unwrap_or(0))
    }
}

impl Window {
    pub fn address(&self) -> Option<IpAddr> {
        match self.address.len() {
            4 => <[u8; 4]>::try_from(&self.address[..]).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(&self.address[..]).ok().map(IpAddr::from),
        }
    }

    pub fn path(&self) -> Path {
        if self.group { Path::Group } else { Path::Unicast }
    }
}

/// The bytes of [`Window::address`].
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl From<Counts> for WireCounts {
    fn from(counts: Counts) -> Self {
        Self {
            sent: counts.sent,
            received: counts.received,
            lost_forward: counts.lost_forward,
            lost_backward: counts.lost_backward,
            lost_unknown: counts.lost_unknown,
            late: counts.late,
            duplicates: counts.duplicates,
            reordered: counts.reordered,
            collector_lost: counts.collector_lost,
            send_failed: counts.send_failed,
            not_sent: counts.not_sent,
        }
    }
}

impl WireCounts {
    pub fn lost(&self) -> u64 {
        self.lost_forward
            .saturating_add(self.lost_backward)
            .saturating_add(self.lost_unknown)
    }
}

impl AddAssign for WireCounts {
    fn add_assign(&mut self, other: Self) {
        for (own, theirs) in [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.lost_forward, other.lost_forward),
            (&mut self.lost_backward, other.lost_backward),
            (&mut self.lost_unknown, other.lost_unknown),
            (&mut self.late, other.late),
            (&mut self.duplicates, other.duplicates),
            (&mut self.reordered, other.reordered),
            (&mut self.collector_lost, other.collector_lost),
            (&mut self.send_failed, other.send_failed),
            (&mut self.not_sent, other.not_sent),
        ] {
            *own = own.saturating_add(theirs);
        }
    }
}

impl From<&NativeHistogram> for Histogram {
    fn from(native: &NativeHistogram) -> Self {
        let (positive, positive_counts) = split(native.positive());
        let (negative, negative_counts) = split(native.negative());
        Self {
            schema: native.schema().into(),
            sum_ns: native.sum_ns().clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            zero: native.zero(),
            positive,
            positive_counts,
            negative,
            negative_counts,
        }
    }
}

impl Histogram {
    /// `None` if it is none: anybody may have sent it.
    pub fn native(&self) -> Option<NativeHistogram> {
        NativeHistogram::from_parts(
            u8::try_from(self.schema).ok()?,
            self.sum_ns.into(),
            self.zero,
            joined(&self.negative, &self.negative_counts)?,
            joined(&self.positive, &self.positive_counts)?,
        )
    }
}

/// Differences of indices, and counts.
fn split(buckets: &[(i16, u64)]) -> (Vec<i32>, Vec<u64>) {
    let mut before = 0;
    let step = |&(index, _): &(i16, u64)| i32::from(index) - std::mem::replace(&mut before, i32::from(index));
    let steps = buckets.iter().map(step).collect();
    (steps, buckets.iter().map(|(_, count)| *count).collect())
}

fn joined(steps: &[i32], counts: &[u64]) -> Option<Buckets> {
    let mut index: i32 = 0;
    let bucket = |(step, count): (&i32, &u64)| {
        index = index.checked_add(*step)?;
        Some((i16::try_from(index).ok()?, *count))
    };
    let buckets = steps.iter().zip(counts).map(bucket).collect::<Option<_>>()?;
    (steps.len() == counts.len()).then_some(buckets)
}

impl Delay {
    pub fn new(summary: &Summary, histogram: Option<Histogram>) -> Self {
        Self {
            min: summary.min,
            mean: summary.mean,
            p50: summary.p50,
            p90: summary.p90,
            p99: summary.p99,
            p999: summary.p999,
            max: summary.max,
            stddev: summary.stddev,
            count: summary.count,
            histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn invalid_histograms_are_refused() {
        let right = Histogram {
            schema: 6,
            positive: vec![-5, 2],
            positive_counts: vec![1, 7],
            ..Histogram::default()
        };
        assert_eq!(right.native().unwrap().positive(), [(-5, 1), (-3, 7)]);
        let wrong = [
            Histogram {
                schema: 300,
                ..right.clone()
            },
            Histogram {
                positive_counts: vec![1],
                ..right.clone()
            },
            Histogram {
                positive: vec![i32::MAX, 1],
                ..right.clone()
            },
            Histogram {
                positive: vec![1, i32::MAX],
                ..right.clone()
            },
            Histogram {
                positive: vec![1, 0],
                ..right
            },
        ];
        for histogram in wrong {
            assert_eq!(histogram.native(), None, "{histogram:?}");
        }
    }

    proptest! {
        #[test]
        fn a_histogram_arrives_as_it_was_sent(
            samples in prop::collection::btree_map(-2_000_000_000_i64..2_000_000_000, 1..9_u64, 0..300)
        ) {
            let sum_ns = samples.iter().map(|(ns, count)| i128::from(*ns) * i128::from(*count)).sum();
            let native = NativeHistogram::new(sum_ns, samples.into_iter());
            let bytes = Histogram::from(&native).encode_to_vec();
            prop_assert_eq!(Histogram::decode(&bytes[..]).unwrap().native(), Some(native));
        }
    }
}
