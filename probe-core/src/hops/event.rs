//! The results: single probes, windows and outliers.
//!
//! All durations are in nanoseconds. A time of this host is in `CLOCK_MONOTONIC`, one of the reflector in its UTC. A
//! duration is unsigned where both of its stamps are of one host, and signed where it compares the clocks of two.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::direction::Direction;
use crate::hops::split::Split;
use crate::hops::stamp::{Hook, Mark, Part};
use crate::session::Outcome;
use crate::stats::native::NativeHistogram;
use crate::stats::report::{OneWayClock, Path, Summary};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HopEvent {
    /// One probe, if [`HopsConfig::samples`](crate::hops::HopsConfig::samples).
    Probe(Box<HopSample>),
    /// The hops of a peer's window. It comes after the window itself.
    Window(Box<HopWindow>),
    /// A probe whose round trip was over the threshold.
    Outlier(Box<Outlier>),
}

/// The devices and the stamps of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// [`Mark::hook`] is an index into these.
    pub hooks: Arc<[Hook]>,
    /// In the order in which the probe and its reply passed them.
    pub marks: Vec<Mark>,
}

/// One probe with all that is known of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopSample {
    pub peer: IpAddr,
    pub path: Path,
    pub ssid: u16,
    pub seq: u32,
    /// T1; of a lost probe: when the kernel got it.
    pub sent_ns: u64,
    /// In time, lost, or answered too late.
    pub outcome: Outcome,
    pub own: Half,
    /// `None` if the peer gave none.
    pub far: Option<Half>,
    /// Of a probe that was answered in time.
    pub split: Option<Split>,
    /// Of a lost probe; `None` if unknown.
    pub lost_at: Option<Part>,
}

/// Where the lost probes of a window were lost. Its sum is [`Counts::lost`](crate::stats::report::Counts::lost).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostAt {
    /// After the last hook that saw the probe, before the next that did not.
    pub at: BTreeMap<Part, u64>,
    /// Answered after the timeout, so lost nowhere.
    pub late: u64,
    /// The far half is not known, or stamps are missing.
    pub unknown: u64,
}

impl LostAt {
    pub fn total(&self) -> u64 {
        self.at.values().sum::<u64>() + self.late + self.unknown
    }
}

/// How much is known of the answered probes of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Halves {
    /// Split to the end: stamps of both hosts.
    pub both: u64,
    /// Stamps of this host only.
    pub own: u64,
    /// Not even those.
    pub none: u64,
    /// Of all these: some stamps contradict each other, as when a clock was set, so they are not used.
    pub contradictory: u64,
}

/// The durations of one part in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDurations {
    pub part: Part,
    /// Never negative, except for [`Segment::Underlay`](crate::hops::Segment::Underlay) in one direction, which is as true as
    /// the clocks of both hosts.
    pub summary: Summary,
    /// If [`HopsConfig::delays`](crate::hops::HopsConfig::delays).
    pub delays: Option<NativeHistogram>,
}

/// The hops of one peer and path in one window. There is one for each window of the agent with unicast probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopWindow {
    pub peer: IpAddr,
    pub path: Path,
    /// Start and end, as those of the window's report.
    pub start_ns: u64,
    pub end_ns: u64,
    pub own_hooks: Arc<[Hook]>,
    /// Empty if the peer gave none.
    pub far_hooks: Arc<[Hook]>,
    pub halves: Halves,
    /// Those that were seen, in the order of [`Part`].
    pub parts: Vec<PartDurations>,
    /// The rest, which is not split: the path beyond this host's devices, of probes without the far half.
    pub rest_ns: Option<Summary>,
    /// What the underlay's parts in one direction rest on; they are there only if this is.
    pub clock: Option<OneWayClock>,
    pub lost_at: LostAt,
    /// Over the threshold.
    pub outliers: u64,
    /// Of these: had no event, because there were too many.
    pub outliers_left_out: u64,
    /// `None` while too few probes are known.
    pub threshold_ns: Option<u64>,
}

/// Why a probe took long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It waited in an upcall of Open vSwitch.
    Upcall {
        wait_ns: u64,
        direction: Direction,
        /// In the reflector's host; else in this one.
        far: bool,
    },
    /// It waited until a processor received it.
    Cpu {
        /// From the raise of the processor's NET_RX softirq until it ran; at most the time of the largest part.
        wait_ns: u64,
        direction: Direction,
        /// In the reflector's host; else in this one.
        far: bool,
    },
    /// It waited in this host, between port and NIC.
    Queue,
    /// It waited in the reflector's host, between NIC and port.
    FarSwitch,
    Underlay,
    Reflector,
}

/// A probe whose round trip was over the threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    pub peer: IpAddr,
    pub path: Path,
    pub ssid: u16,
    pub seq: u32,
    /// T1.
    pub sent_ns: u64,
    pub threshold_ns: u64,
    pub split: Split,
    /// The part that exceeds its ordinary value by most; `None` if the rest exceeds its own by more, or nothing is known.
    pub largest: Option<Excess>,
    pub cause: Option<Cause>,
}

/// A part that took longer than it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    pub part: Part,
    pub took_ns: u64,
    /// The median of the last windows; `None` if there was none yet.
    pub ordinary_ns: Option<u64>,
}
