//! What an engine reports to the core: an answered probe with its stamps, or the fate of an unanswered one.

use std::net::IpAddr;

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
