//! NTP timestamps and the STAMP error estimate.

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970) (RFC 5905 §6).
pub const UNIX_EPOCH_IN_NTP: u64 = 2_208_988_800;

pub const NS_PER_S: u64 = 1_000_000_000;

/// UTC in whole seconds since 1970 and nanoseconds within the second (below 10⁹).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixTime {
    seconds: u64,
    ns: u64,
}

impl UnixTime {
    #[inline(always)]
    pub fn from_unix_ns(unix_ns: u64) -> Self {
        Self {
            seconds: unix_ns / NS_PER_S,
            ns: unix_ns % NS_PER_S,
        }
    }

    /// The time `unix_ns`. Takes no division if it is within the same second.
    #[inline(always)]
    pub fn moved_to(self, unix_ns: u64) -> Self {
        let ns = unix_ns.wrapping_sub(self.seconds * NS_PER_S);
        if ns < NS_PER_S {
            Self { ns, ..self }
        } else {
            Self::from_unix_ns(unix_ns)
        }
    }

    #[inline(always)]
    pub fn to_ntp(self) -> NtpTime {
        NtpTime::from_parts(self.seconds, self.ns)
    }
}

/// A timestamp in NTP 64-bit format: seconds since 1900 modulo 2³², then a 32-bit fraction (RFC 5905 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From UTC nanoseconds since 1970, rounded down to a multiple of 2⁻³² s or to the one below it (error at most 0.5 ns).
    #[inline(always)]
    pub fn from_unix_ns(unix_ns: u64) -> Self {
        UnixTime::from_unix_ns(unix_ns).to_ntp()
    }

    /// From seconds since 1970 and nanoseconds within the second (below 10⁹).
    #[inline(always)]
    pub fn from_parts(seconds: u64, ns: u64) -> Self {
        // 2³² / 10⁹ = 4 + 1266874889.709… / 2³²: a multiplication in place of a second division.
        let fraction = 4 * ns + ((ns * 1_266_874_889) >> 32);
        Self(((seconds + UNIX_EPOCH_IN_NTP) << 32) | fraction)
    }

    /// UTC nanoseconds since 1970, to the nearest nanosecond.
    ///
    /// The era (RFC 5905 §6) is the one that lies within 68 years of `near_unix_ns`.
    pub fn to_unix_ns(self, near_unix_ns: u64) -> u64 {
        let near = near_unix_ns / NS_PER_S + UNIX_EPOCH_IN_NTP;
        let seconds = (self.0 >> 32) as u32;
        let ahead = seconds.wrapping_sub(near as u32) as i32;
        let seconds = near
            .wrapping_add_signed(i64::from(ahead))
            .wrapping_sub(UNIX_EPOCH_IN_NTP);
        let ns = ((self.0 & 0xffff_ffff) * NS_PER_S + (1 << 31)) >> 32;
        seconds.wrapping_mul(NS_PER_S).wrapping_add(ns)
    }

    #[inline(always)]
    pub fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    #[inline(always)]
    pub fn from_be_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

/// A PTPv2 truncated timestamp: seconds, then nanoseconds (RFC 8762 §4.2.1, IEEE 1588), as UTC nanoseconds since 1970.
pub fn ptp_to_unix_ns(wire: u64) -> u64 {
    (wire >> 32) * NS_PER_S + (wire & 0xffff_ffff)
}

/// A clock that is set differs from ours by less than this. The two formats are 66 years apart.
const MAX_CLOCK_DIFFERENCE_NS: u64 = 86_400 * NS_PER_S;

/// The format of a timestamp on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Seconds since 1900 and a binary fraction.
    Ntp,
    /// Seconds since 1970 and nanoseconds.
    Ptp,
}

impl TimestampFormat {
    /// UTC nanoseconds since 1970; `near_unix_ns` as in [`NtpTime::to_unix_ns`].
    pub fn decode(self, wire: u64, near_unix_ns: u64) -> u64 {
        match self {
            Self::Ntp => NtpTime(wire).to_unix_ns(near_unix_ns),
            Self::Ptp => ptp_to_unix_ns(wire),
        }
    }

    /// Whether a set clock could have written `wire` in this format at `near_unix_ns`.
    fn is_plausible(self, wire: u64, near_unix_ns: u64) -> bool {
        let has_format = self == Self::Ntp || wire & 0xffff_ffff < NS_PER_S;
        has_format && self.decode(wire, near_unix_ns).abs_diff(near_unix_ns) < MAX_CLOCK_DIFFERENCE_NS
    }

    fn other(self) -> Self {
        match self {
            Self::Ntp => Self::Ptp,
            Self::Ptp => Self::Ntp,
        }
    }
}

/// The error estimate of a timestamp: `S | Z | scale (6) | multiplier (8)`, error = multiplier · 2⁻³² · 2^scale s
/// (RFC 4656 §4.1.2, RFC 8762 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorEstimate(pub u16);

impl ErrorEstimate {
    const SYNCHRONISED: u16 = 0x8000;
    const PTP: u16 = 0x4000;

    /// The smallest representable bound that is not below `error_ns`; the multiplier is never zero (RFC 4656 §4.1.2).
    pub fn new(synchronised: bool, error_ns: u64) -> Self {
        let mut multiplier = (u128::from(error_ns) << 32).div_ceil(u128::from(NS_PER_S)).max(1);
        let mut scale = 0;
        while multiplier > 0xff {
            multiplier = multiplier.div_ceil(2);
            scale += 1;
        }
        let synchronised = if synchronised { Self::SYNCHRONISED } else { 0 };
        Self(synchronised | (scale << 8) | multiplier as u16)
    }

    /// The S bit: the clock is synchronised to UTC by an external source.
    pub fn synchronised(self) -> bool {
        self.0 & Self::SYNCHRONISED != 0
    }

    /// The Z bit: the timestamp beside it is in PTPv2 format, not NTP.
    pub fn is_ptp(self) -> bool {
        self.0 & Self::PTP != 0
    }

    /// The bound in nanoseconds, rounded up; `None` if the multiplier is zero, which is undefined.
    pub fn bound_ns(self) -> Option<u64> {
        let multiplier = u128::from(self.0 & 0xff);
        let scale = (self.0 >> 8) & 0x3f;
        let bound = ((multiplier << scale) * u128::from(NS_PER_S)).div_ceil(1 << 32);
        (multiplier != 0).then(|| u64::try_from(bound).unwrap_or(u64::MAX))
    }

    /// The format of the timestamps beside this estimate, as the Z bit says.
    pub fn format(self) -> TimestampFormat {
        match self.is_ptp() {
            true => TimestampFormat::Ptp,
            false => TimestampFormat::Ntp,
        }
    }

    /// The format in which the timestamps beside this estimate are written. Some reflectors write PTP and leave Z at 0.
    /// So if a set clock can have written the stamps in the other format only, they are in the other one. Zeros are no
    /// stamp.
    pub fn written_format(self, stamps: [u64; 2], near_unix_ns: u64) -> TimestampFormat {
        let said = self.format();
        let all_fit = |format: TimestampFormat| {
            let mut written = stamps.into_iter().filter(|&wire| wire != 0);
            written.all(|wire| format.is_plausible(wire, near_unix_ns))
        };
        match all_fit(said.other()) && !all_fit(said) {
            true => said.other(),
            false => said,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const Y2026_NS: u64 = 1_795_000_000 * NS_PER_S;

    #[test]
    fn known_instants() {
        assert_eq!(NtpTime::from_unix_ns(0).0, UNIX_EPOCH_IN_NTP << 32);
        assert_eq!(NtpTime::from_unix_ns(NS_PER_S / 2).0 & 0xffff_ffff, 0x7fff_ffff);
        // 2036-02-07T06:28:16Z: NTP era 1 begins at zero.
        let era1_ns = 2_085_978_496 * NS_PER_S;
        assert_eq!(NtpTime::from_unix_ns(era1_ns).0, 0);
        assert_eq!(NtpTime(0).to_unix_ns(Y2026_NS), era1_ns);
    }

    #[test]
    fn error_estimate_is_an_upper_bound_and_never_zero() {
        for (error_ns, low, high) in [
            (0, 0, 1),
            (1, 1, 2),
            (1_000_000, 1_000_000, 1_010_000),
            (16_000_000_000, 16_000_000_000, 16_200_000_000),
        ] {
            let bound = ErrorEstimate::new(false, error_ns).bound_ns().unwrap();
            assert!((low..=high).contains(&bound), "{error_ns}: {bound}");
        }
        assert!(ErrorEstimate::new(true, 5).synchronised());
        assert!(!ErrorEstimate::new(false, 5).synchronised());
        assert_eq!(ErrorEstimate::new(true, 0).0, 0x8001);
        assert_eq!(ErrorEstimate::new(false, 474).0, 0x03ff, "the largest multiplier");
        assert_eq!(ErrorEstimate(0x8000).bound_ns(), None);
        assert!(ErrorEstimate::new(false, u64::MAX).bound_ns().unwrap() > 0);
    }

    #[test]
    fn the_estimate_says_the_format_of_its_timestamp() {
        let (ptp, ntp) = (ErrorEstimate(0x4001), ErrorEstimate(0x8001));
        assert!(ptp.is_ptp() && !ntp.is_ptp());
        assert_eq!(ptp.format().decode((7 << 32) | 9, Y2026_NS), 7 * NS_PER_S + 9);
        assert_eq!(ntp.format().decode(NtpTime::from_unix_ns(7).0, Y2026_NS), 7);
    }

    #[test]
    fn stamps_in_the_format_that_z_denies_are_recognised() {
        use TimestampFormat::{Ntp, Ptp};
        let ntp = |ns| NtpTime::from_unix_ns(ns).0;
        let ptp = |ns: u64| (ns / NS_PER_S) << 32 | (ns % NS_PER_S);
        let (z0, z1) = (ErrorEstimate(0x8001), ErrorEstimate(0x4001));
        let hour = 3600 * NS_PER_S;
        let table = [
            (z0, [ntp(Y2026_NS), ntp(Y2026_NS + 1)], Ntp, "as it should be"),
            (z1, [ptp(Y2026_NS), ptp(Y2026_NS + 1)], Ptp, "as it should be"),
            (
                z0,
                [ptp(Y2026_NS - hour), ptp(Y2026_NS - hour + 1)],
                Ptp,
                "PTP without Z, an hour behind",
            ),
            (z0, [ptp(Y2026_NS + 37 * NS_PER_S); 2], Ptp, "PTP in TAI"),
            (z1, [ntp(Y2026_NS), ntp(Y2026_NS + 1)], Ntp, "NTP with Z"),
            (z0, [ntp(hour), ntp(hour)], Ntp, "a clock that starts in 1970"),
            (z0, [ptp(hour), ptp(hour)], Ntp, "neither is plausible: Z decides"),
            (z1, [ptp(hour), ptp(hour)], Ptp, "neither is plausible: Z decides"),
            (z0, [ptp(Y2026_NS), ntp(Y2026_NS)], Ntp, "both stamps must fit"),
            (z0, [ptp(Y2026_NS) | 0xffff_ffff; 2], Ntp, "no nanoseconds"),
            (z0, [0, ptp(Y2026_NS)], Ptp, "the other stamp is missing"),
            (z1, [0, 0], Ptp, "no stamp"),
        ];
        for (estimate, stamps, written, what) in table {
            assert_eq!(estimate.written_format(stamps, Y2026_NS), written, "{what}");
        }
    }

    proptest! {
        #[test]
        fn ntp_round_trips_to_the_nanosecond(unix_ns in 0..4 * Y2026_NS, skew_s in -1_000_000_000i64..1_000_000_000) {
            let near = unix_ns.saturating_add_signed(skew_s * NS_PER_S as i64);
            prop_assert_eq!(NtpTime::from_unix_ns(unix_ns).to_unix_ns(near), unix_ns);
        }

        #[test]
        fn a_time_moves_to_any_other(unix_ns in 0..4 * Y2026_NS, by_ns in -3_000_000_000i64..3_000_000_000) {
            let other_ns = unix_ns.saturating_add_signed(by_ns);
            let moved = UnixTime::from_unix_ns(unix_ns).moved_to(other_ns);
            prop_assert_eq!(moved, UnixTime::from_unix_ns(other_ns));
            prop_assert_eq!(moved.to_ntp(), NtpTime::from_unix_ns(other_ns));
        }

        #[test]
        fn ntp_keeps_order(a in 0..NS_PER_S, b in 0..NS_PER_S) {
            prop_assert_eq!(a < b, NtpTime::from_parts(1, a).0 < NtpTime::from_parts(1, b).0);
        }

        #[test]
        fn error_bound_holds(error_ns in 0..(1u64 << 60)) {
            let bound = ErrorEstimate::new(false, error_ns).bound_ns().unwrap();
            prop_assert!(bound >= error_ns);
            prop_assert!(bound <= error_ns + error_ns / 64 + 2);
        }
    }
}
