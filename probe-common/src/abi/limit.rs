//! How often something may happen.

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a packet costs
/// `interval_ns`, and the debt may not exceed `burst_ns`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Time in which one packet is earned; 0 for no limit.
    pub interval_ns: u64,
    /// How far what has been spent may be ahead of what has been earned.
    pub burst_ns: u64,
}

impl Limit {
    /// As much as comes.
    pub const NONE: Self = Self {
        interval_ns: 0,
        burst_ns: 0,
    };

    /// The debt after `packets` more at `now_ns`, as the time at which it will have been earned; `None` if that is too
    /// much. `earned_ns` is the debt before.
    ///
    /// A debt that no series of packets can have made is that of a clock that has been set back: it is forgiven. Nobody
    /// can have made twice what is allowed, even if another CPU's clock is some nanoseconds ahead.
    #[inline(always)]
    pub fn charge(&self, earned_ns: u64, now_ns: u64, packets: u64) -> Option<u64> {
        let cost_ns = self.interval_ns.wrapping_mul(packets);
        let debt_ns = earned_ns.wrapping_sub(now_ns) as i64;
        let debt_ns = if debt_ns > 0 && debt_ns as u64 <= self.burst_ns.wrapping_mul(2) {
            debt_ns as u64
        } else {
            0
        };
        let debt_ns = debt_ns.wrapping_add(cost_ns);
        (debt_ns <= self.burst_ns).then_some(now_ns.wrapping_add(debt_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets that pass of those that come every `step_ns` until `end_ns`.
    fn passing(limit: Limit, step_ns: u64, end_ns: u64) -> u64 {
        let mut earned_ns = 0;
        let mut passed = 0;
        for now_ns in (1_000_000_000..1_000_000_000 + end_ns).step_by(step_ns as usize) {
            if let Some(after_ns) = limit.charge(earned_ns, now_ns, 1) {
                earned_ns = after_ns;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_limit_lets_its_burst_and_then_its_rate_pass() {
        // 1,000 a second, 250 at once.
        let limit = Limit {
            interval_ns: 1_000_000,
            burst_ns: 250_000_000,
        };
        assert_eq!(passing(limit, 1, 100), 100);
        assert_eq!(passing(limit, 1_000, 1_000_000), 250, "the burst");
        let in_two_seconds = passing(limit, 10_000, 2_000_000_000);
        assert!((2249..=2250).contains(&in_two_seconds), "{in_two_seconds}");
        assert_eq!(
            passing(limit, 1_000_000, 2_000_000_000),
            2000,
            "nothing of what keeps to the rate"
        );
        assert_eq!(limit.charge(0, 0, 250), Some(250_000_000));
        assert_eq!(limit.charge(0, 0, 251), None);
        assert_eq!(Limit::NONE.charge(0, 5, u64::MAX), Some(5));
    }

    #[test]
    fn a_clock_that_is_set_starts_the_limit_anew() {
        let limit = Limit {
            interval_ns: 1_000,
            burst_ns: 10_000,
        };
        let hour_ns = 3_600_000_000_000;
        assert_eq!(limit.charge(2 * hour_ns, hour_ns, 1), Some(hour_ns + 1_000), "set back");
        assert_eq!(
            limit.charge(hour_ns, 2 * hour_ns, 1),
            Some(2 * hour_ns + 1_000),
            "set forth"
        );
        assert_eq!(limit.charge(u64::MAX, 0, 1), Some(1_000));
        assert_eq!(
            limit.charge(hour_ns + 10_000, hour_ns - 5, 1),
            None,
            "not by another CPU's clock"
        );
    }
}
