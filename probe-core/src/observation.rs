//! What an engine reports to the core: an answered probe with its stamps, or the fate of an unanswered one.

mod failure;

use std::net::IpAddr;

use probe_common::ntp::ErrorEstimate;

pub use crate::observation::failure::SendFailure;

/// Agents on one clock read it in different ways, which agree to this.
pub(crate) const SAME_CLOCK_BOUND_NS: u64 = 1_000;

/// The kernel slews a clock by at most this part of the time.
const MAX_SLEW_PART: u64 = 1_000;

/// One reply with every stamp of its round trip.
///
/// The two `*_mono_ns` stamps are `CLOCK_MONOTONIC` of this host; the four `t*_ns` are UTC nanoseconds since 1970,
/// T1 and T4 of this host, T2 and T3 as the reflector wrote them, or 0 where it wrote none.
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
    /// T2 and T3 were not in the format that the Z bit of the reflector's Error Estimate says.
    pub wrong_z: bool,
    /// This host's clock was set during the round trip or shortly before, so agents on it may disagree about the offset of
    /// UTC.
    pub clock_set: bool,
}

/// T2 and T3 of a reply, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorStamps {
    /// As [`Reply::t2_ns`].
    pub t2_ns: u64,
    /// As [`Reply::t3_ns`].
    pub t3_ns: u64,
    /// As [`Reply::reflector_error_ns`].
    pub error_ns: Option<u64>,
    /// As [`Reply::wrong_z`].
    pub wrong_z: bool,
}

impl ReflectorStamps {
    /// Decodes the stamps of a reply that arrived at `t4_ns`. A stamp of zeros is none: in NTP format it would be a time in
    /// 2036.
    pub fn read(error: ErrorEstimate, t2_wire: u64, t3_wire: u64, t4_ns: u64) -> Self {
        let format = error.written_format([t2_wire, t3_wire], t4_ns);
        let decode = |wire| if wire == 0 { 0 } else { format.decode(wire, t4_ns) };
        Self {
            t2_ns: decode(t2_wire),
            t3_ns: decode(t3_wire),
            error_ns: error.synchronised().then(|| error.bound_ns()).flatten(),
            wrong_z: format != error.format(),
        }
    }
}

impl Reply {
    /// T4 − T1, monotonic, residence included.
    pub fn elapsed_ns(&self) -> u64 {
        self.received_mono_ns.saturating_sub(self.sent_mono_ns)
    }

    /// Whether the reflector wrote both stamps. If not, only the round trip is known, residence included.
    pub fn is_stamped(&self) -> bool {
        self.t2_ns != 0 && self.t3_ns != 0
    }

    /// T3 − T2; `None` without both stamps, or if it is negative or longer than the whole trip, as when the reflector's
    /// clock was stepped.
    pub fn residence_ns(&self) -> Option<u64> {
        let residence = self.t3_ns.checked_sub(self.t2_ns).filter(|_| self.is_stamped())?;
        (residence <= self.elapsed_ns()).then_some(residence)
    }

    /// Round-trip delay (T4 − T1) − (T3 − T2) (RFC 2681, less the residence). Without both stamps of the reflector, it is
    /// T4 − T1; `None` if the two contradict each other.
    pub fn rtt_ns(&self) -> Option<u64> {
        if !self.is_stamped() {
            return Some(self.elapsed_ns());
        }
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

    /// Whether two agents on one clock cannot have made these stamps; `false` if this host's clock was set.
    pub fn refutes_same_clock(&self) -> bool {
        let wall_ns = self.t4_ns.wrapping_sub(self.t1_ns) as i64;
        let set_by_ns = wall_ns.wrapping_sub_unsigned(self.elapsed_ns()).unsigned_abs();
        let was_set = set_by_ns > SAME_CLOCK_BOUND_NS + self.elapsed_ns() / MAX_SLEW_PART;
        self.is_stamped() && !self.clock_set && !was_set && !self.is_possible(SAME_CLOCK_BOUND_NS)
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
    /// It did not leave this host.
    NeverLeft(SendFailure),
    /// The reply was accepted, but the ring buffer was full.
    CollectorLost,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use probe_common::ntp::NtpTime;

    use super::*;

    const T4: u64 = 1_795_000_000_000_000_000;

    fn reply(stamps: ReflectorStamps) -> Reply {
        Reply {
            peer: Ipv4Addr::LOCALHOST.into(),
            ssid: 1,
            seq: 0,
            reflector_seq: 0,
            sent_mono_ns: 1_000,
            received_mono_ns: 2_000,
            t1_ns: T4 - 1_000,
            t2_ns: stamps.t2_ns,
            t3_ns: stamps.t3_ns,
            t4_ns: T4,
            reflector_error_ns: stamps.error_ns,
            own_error_ns: None,
            wrong_z: stamps.wrong_z,
            clock_set: false,
        }
    }

    #[test]
    fn a_stamp_of_zeros_is_none() {
        let ntp = |ns| NtpTime::from_unix_ns(ns).0;
        let (t2, t3) = (T4 - 600, T4 - 400);
        let table = [
            (ntp(t2), ntp(t3), Some(200), Some(800)),
            (0, 0, None, Some(1_000)),
            (ntp(t2), 0, None, Some(1_000)),
            (0, ntp(t3), None, Some(1_000)),
            (ntp(t3), ntp(t2), None, None),
            (ntp(t2), ntp(t2), Some(0), Some(1_000)),
        ];
        for estimate in [ErrorEstimate(1), ErrorEstimate(0x8001)] {
            for (t2, t3, residence, rtt) in table {
                let reply = reply(ReflectorStamps::read(estimate, t2, t3, T4));
                assert_eq!((reply.residence_ns(), reply.rtt_ns()), (residence, rtt), "{t2} {t3}");
                assert_eq!(reply.is_stamped(), t2 != 0 && t3 != 0);
                assert!(!reply.wrong_z);
            }
        }
    }

    #[test]
    fn stamps_are_read_in_the_format_that_they_have() {
        let ptp = |ns: u64| (ns / 1_000_000_000) << 32 | (ns % 1_000_000_000);
        for (estimate, wrong_z) in [(ErrorEstimate(0x8001), true), (ErrorEstimate(0xc001), false)] {
            let stamps = ReflectorStamps::read(estimate, ptp(T4 - 600), ptp(T4 - 400), T4);
            assert_eq!((stamps.t2_ns, stamps.t3_ns), (T4 - 600, T4 - 400));
            assert_eq!((stamps.wrong_z, stamps.error_ns), (wrong_z, Some(1)));
            assert_eq!(reply(stamps).residence_ns(), Some(200));
        }
    }
}
