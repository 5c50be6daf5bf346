//! What an engine reports to the core: an answered probe with its stamps, or the fate of an unanswered one.

use std::net::IpAddr;

/// Agents on one clock read it in different ways, which agree to this.
const SAME_CLOCK_BOUND_NS: u64 = 1_000;

/// The kernel slews a clock by at most this part of the time.
const MAX_SLEW_PART: u64 = 1_000;

/// One reply with every stamp of its round trip.
///
/// The two `*_mono_ns` stamps are `CLOCK_MONOTONIC` of this host; the four `t*_ns` are UTC nanoseconds since 1970,
/// T1 and T4 of this host, T2 and T3 as the reflector wrote them, or both 0 from one that stamps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub peer: IpAddr,
    /// Session identifier (RFC 8972 §3) that the probe carried.
    pub ssid: u16,
    /// Of the probe.
    pub seq: u32,
    /// Of the reply: the reflector's own counter if it is stateful, else a copy of `seq`.
    pub reflector_seq: u32,
    /// T1, monotonic.
    pub sent_mono_ns: u64,
    /// T4, monotonic.
    pub received_mono_ns: u64,
    /// T1: the probe left this host.
    pub t1_ns: u64,
    /// T2: the probe reached the reflector.
    pub t2_ns: u64,
    /// T3: the reply left the reflector.
    pub t3_ns: u64,
    /// T4: the reply reached this host.
    pub t4_ns: u64,
    /// Bound on the error of the reflector's clock against UTC, if its Error Estimate has the S bit.
    pub reflector_error_ns: Option<u64>,
    /// The same for this host's clock, if the kernel says that it is synchronised.
    pub own_error_ns: Option<u64>,
}

impl Reply {
    /// T4 − T1, monotonic, residence included.
    pub fn elapsed_ns(&self) -> u64 {
        self.received_mono_ns.saturating_sub(self.sent_mono_ns)
    }

    /// Whether the reflector stamped the reply. If not, only the round trip is known, residence included.
    pub fn is_stamped(&self) -> bool {
        (self.t2_ns, self.t3_ns) != (0, 0)
    }

    /// T3 − T2; `None` if it is negative or longer than the whole trip, as when the reflector's clock was stepped.
    pub fn residence_ns(&self) -> Option<u64> {
        let residence = self.t3_ns.checked_sub(self.t2_ns)?;
        (residence <= self.elapsed_ns()).then_some(residence)
    }

    /// Round-trip delay (T4 − T1) − (T3 − T2) (RFC 2681, less the residence); `None` as for [`Reply::residence_ns`].
    pub fn rtt_ns(&self) -> Option<u64> {
        self.elapsed_ns().checked_sub(self.residence_ns()?)
    }

    /// T2 − T1, signed: the two clocks may disagree.
    pub fn forward_ns(&self) -> i64 {
        self.t2_ns.wrapping_sub(self.t1_ns) as i64
    }

    /// T4 − T3, signed: the two clocks may disagree.
    pub fn backward_ns(&self) -> i64 {
        self.t4_ns.wrapping_sub(self.t3_ns) as i64
    }

    /// Whether clocks that differ by at most `bound_ns` can have stamped this reply: no packet arrives before it leaves. A
    /// reflector whose PTP stamps are TAI, which its Error Estimate cannot express, is off by more.
    pub fn is_possible(&self, bound_ns: u64) -> bool {
        let bound_ns = i64::try_from(bound_ns).unwrap_or(i64::MAX);
        self.forward_ns().min(self.backward_ns()) >= -bound_ns
    }

    /// The sum of both error bounds, if both ends say that they are synchronised, and the stamps do not refute it.
    pub fn synced_bound_ns(&self) -> Option<u64> {
        let (own, reflector) = self.own_error_ns.zip(self.reflector_error_ns)?;
        let bound_ns = own.saturating_add(reflector);
        self.is_possible(bound_ns).then_some(bound_ns)
    }

    /// Whether the stamps show that two agents on one clock cannot have made them. If this host's clock was set meanwhile,
    /// they show nothing.
    pub fn refutes_same_clock(&self) -> bool {
        let wall_ns = self.t4_ns.wrapping_sub(self.t1_ns) as i64;
        let set_by_ns = wall_ns.wrapping_sub_unsigned(self.elapsed_ns()).unsigned_abs();
        let was_set = set_by_ns > SAME_CLOCK_BOUND_NS + self.elapsed_ns() / MAX_SLEW_PART;
        self.is_stamped() && !was_set && !self.is_possible(SAME_CLOCK_BOUND_NS)
    }

    /// T2 − T1, with T1 monotonic.
    pub fn forward_mono_ns(&self) -> i64 {
        self.t2_ns.wrapping_sub(self.sent_mono_ns) as i64
    }

    /// T4 − T3, with T4 monotonic.
    pub fn backward_mono_ns(&self) -> i64 {
        self.received_mono_ns.wrapping_sub(self.t3_ns) as i64
    }
}

/// What the engine knows about a probe that has no reply when its timeout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The egress program stamped it, and no reply came.
    Unanswered,
    /// The egress program never saw it, so it did not leave this host.
    NeverLeft,
    /// The reply was accepted, but the ring buffer was full.
    CollectorLost,
}
