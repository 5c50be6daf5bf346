//! What an engine hands to the core: one answered probe with its stamps, and what became of an unanswered one.

use std::net::IpAddr;

/// One reply with every stamp of its round trip.
///
/// The two `*_mono_ns` stamps are `CLOCK_MONOTONIC` of this host; the four `t*_ns` are UTC nanoseconds since 1970,
/// T1 and T4 of this host, T2 and T3 as the reflector wrote them, or both 0 from one that stamps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Source address of the reply.
    pub peer: IpAddr,
    /// Session identifier (RFC 8972 §3) that the probe carried.
    pub ssid: u16,
    /// Sequence number of the probe.
    pub seq: u32,
    /// Sequence number that the reflector gave its reply: a counter of its own if it is stateful, else a copy of `seq`.
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
    /// Bound on the reflector's clock error against UTC, if its Error Estimate says that it is synchronised.
    pub reflector_error_ns: Option<u64>,
    /// Bound on this host's clock error against UTC, if the kernel says that it is synchronised.
    pub own_error_ns: Option<u64>,
}

impl Reply {
    /// Time from T1 to T4 on this host's monotonic clock, reflector residence included.
    pub fn elapsed_ns(&self) -> u64 {
        self.received_mono_ns.saturating_sub(self.sent_mono_ns)
    }

    /// Whether there are a T2 and a T3. Without them the round trip is all that is known, residence included.
    pub fn is_stamped(&self) -> bool {
        (self.t2_ns, self.t3_ns) != (0, 0)
    }

    /// T3 − T2, or `None` where the reflector's wall clock was stepped in between (negative, or longer than the whole trip).
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
}

/// What the engine knows of a probe that has no reply when its timeout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The egress program stamped it and nothing came back.
    Unanswered,
    /// The egress program never saw it: it did not leave this host.
    NeverLeft,
    /// A reply came and was accepted, but the ring buffer had no room for it.
    CollectorLost,
}
