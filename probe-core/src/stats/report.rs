//! The report about one peer and path, for one window or a whole run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::AddAssign;

use crate::observation::SendFailure;
use crate::stats::native::NativeHistogram;

/// How a probe is addressed: a switch forwards unicast and floods multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// To the peer's own address.
    Unicast,
    /// To the multicast group.
    Group,
    /// To the peer's own address, from ports that change: a switch sees new flows.
    Cold,
}

impl Path {
    pub const ALL: [Self; 3] = [Self::Unicast, Self::Group, Self::Cold];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Group => "group",
            Self::Cold => "cold",
        }
    }
}

/// What makes one-way delays meaningful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneWayClock {
    /// Both ends run on one kernel and one time namespace.
    SameClock,
    /// Both ends say that they are synchronised to UTC.
    Synced {
        /// The sum of both error bounds.
        bound_ns: u64,
    },
    /// Offset and skew of the peer's clock were estimated from the round trips (see [`crate::clock`]).
    Estimated {
        /// Bound on the error of a one-way delay, for clocks of constant rate.
        bound_ns: u64,
        /// The peer's wall clock minus this host's, at the last reply.
        offset_ns: i64,
        /// Gain of the peer's clock on this host's monotonic clock, in parts per billion.
        skew_ppb: i64,
    },
}

impl OneWayClock {
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameClock => "same-clock",
            Self::Synced { .. } => "synced",
            Self::Estimated { .. } => "estimated",
        }
    }

    /// Bound on the error of a one-way delay; `None` on one clock, which has no error.
    pub const fn bound_ns(self) -> Option<u64> {
        match self {
            Self::SameClock => None,
            Self::Synced { bound_ns } | Self::Estimated { bound_ns, .. } => Some(bound_ns),
        }
    }
}

/// Detected steps of wall clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockSteps {
    /// This host's.
    pub own: u64,
    pub peer: u64,
}

impl AddAssign for ClockSteps {
    fn add_assign(&mut self, other: ClockSteps) {
        self.own += other.own;
        self.peer += other.peer;
    }
}

/// How probes were lost, overtaken and duplicated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Of the losses without a direction: answered after the timeout, so lost in neither.
    pub lost_late: u64,
    /// Of the losses forward or without a direction: above the peer's rate limits; `None` if the peer does not report it.
    pub lost_refused: Option<u64>,
    /// Probes answered more than once, each counted once (RFC 5560).
    pub duplicated: u64,
    /// Lengths of the loss periods, in probes: one for each run of lost probes (RFC 3357 §4).
    pub loss_period: Option<Summary>,
    /// From each lost probe to the lost one before, in sequence numbers (RFC 3357 §4).
    pub loss_distance: Option<Summary>,
    /// By how many replies each reordered one was late (RFC 4737 §4.2).
    pub reordering_extent: Option<Summary>,
}

/// A distribution as reported, in nanoseconds unless noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Smallest sample, exact.
    pub min: i64,
    /// Arithmetic mean.
    pub mean: i64,
    /// Median, within 1 %.
    pub p50: i64,
    /// 90th percentile, within 1 %.
    pub p90: i64,
    /// 99th percentile, within 1 %.
    pub p99: i64,
    /// 99.9th percentile, within 1 %.
    pub p999: i64,
    /// Largest sample, exact.
    pub max: i64,
    /// Standard deviation of the population.
    pub stddev: i64,
    /// Number of samples, never zero.
    pub count: u64,
}

impl Summary {
    /// The summary of the same samples, each shifted by `by_ns`.
    ///
    /// With `by_ns` = −min this is the PDV of a delay, D(i) − Dmin (RFC 5481 §4.2). Its percentiles are within 1 % of
    /// the delay, not of the variation.
    pub fn shifted(self, by_ns: i64) -> Summary {
        let shift = |value: i64| value.saturating_add(by_ns);
        Summary {
            min: shift(self.min),
            mean: shift(self.mean),
            p50: shift(self.p50),
            p90: shift(self.p90),
            p99: shift(self.p99),
            p999: shift(self.p999),
            max: shift(self.max),
            ..self
        }
    }
}

/// The counts of a window or run. `sent = received + lost + pending`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes that left this host.
    pub sent: u64,
    /// Probes answered within the timeout, those in `collector_lost` included.
    pub received: u64,
    /// Probes with no answer within the timeout.
    pub lost: u64,
    /// Probes still waiting.
    pub pending: u64,
    /// Of `lost`: the probe did not reach the reflector.
    pub lost_forward: u64,
    /// Of `lost`: the reply did not come back.
    pub lost_backward: u64,
    /// Of `lost`: the direction is not known (yet).
    pub lost_unknown: u64,
    /// Replies that came after the timeout; their probes stay lost.
    pub late: u64,
    /// Replies beyond the first to the same probe (RFC 5560).
    pub duplicates: u64,
    /// Replies whose sequence number was below one already seen (RFC 4737).
    pub reordered: u64,
    /// Of `received`: the ring buffer had no room for the sample.
    pub collector_lost: u64,
    /// Probes that never left this host; not in `sent`.
    pub send_failed: u64,
    /// Probes that were due while the process did not run.
    pub not_sent: u64,
}

impl Counts {
    /// Probes that got no answer in time, for whatever reason.
    pub fn unanswered(&self) -> u64 {
        self.lost + self.send_failed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.pending += other.pending;
        self.lost_forward += other.lost_forward;
        self.lost_backward += other.lost_backward;
        self.lost_unknown += other.lost_unknown;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.collector_lost += other.collector_lost;
        self.send_failed += other.send_failed;
        self.not_sent += other.not_sent;
    }
}

/// One peer and path over one window or a whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub peer: IpAddr,
    pub path: Path,
    /// Start, monotonic.
    pub start_ns: u64,
    /// End, monotonic.
    pub end_ns: u64,
    pub counts: Counts,
    /// Of `counts.send_failed`: how many for each reason.
    pub failures: BTreeMap<SendFailure, u64>,
    /// Round-trip delay less the reflector's residence (RFC 2681).
    pub rtt_ns: Option<Summary>,
    /// Reflector residence T3 − T2.
    pub residence_ns: Option<Summary>,
    /// One-way delay T2 − T1 (RFC 7679); present only if `clock` is.
    pub forward_ns: Option<Summary>,
    /// One-way delay T4 − T3 (RFC 7679); present only if `clock` is.
    pub backward_ns: Option<Summary>,
    /// Round-trip delay variation D(i) − Dmin (RFC 5481 §4.2).
    pub pdv_ns: Option<Summary>,
    /// Round-trip delay variation D(i) − D(i−1) (RFC 5481 §4.1), of consecutive sequence numbers.
    pub ipdv_ns: Option<Summary>,
    /// Variation of the one-way delay to the peer, D(i) − Dmin (RFC 5481 §4.2); present only if `clock` is.
    pub forward_pdv_ns: Option<Summary>,
    /// Variation of the one-way delay from the peer, D(i) − Dmin (RFC 5481 §4.2); present only if `clock` is.
    pub backward_pdv_ns: Option<Summary>,
    pub clock: Option<OneWayClock>,
    /// One-way delays across a step are meaningless.
    pub steps: ClockSteps,
    pub patterns: Patterns,
    /// Of a window, if [`ProbeConfig::delays`] asks for them.
    ///
    /// [`ProbeConfig::delays`]: crate::agent::config::ProbeConfig::delays
    pub delays: Option<Box<Delays>>,
}

/// The delays of one window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delays {
    pub rtt: NativeHistogram,
    pub residence: NativeHistogram,
    /// Empty without a clock.
    pub forward: NativeHistogram,
    /// Empty without a clock.
    pub backward: NativeHistogram,
}
