//! Rate limits.

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a packet costs
/// `interval_ns`, and the debt may not exceed `burst_ns`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Time in which one packet is earned; 0 for no limit.
    pub interval_ns: u64,
    /// Largest debt.
    pub burst_ns: u64,
}

impl Limit {
    pub const NONE: Self = Self {
        interval_ns: 0,
        burst_ns: 0,
    };

    /// Charges `packets` at `now_ns`. Takes and returns the debt as the time at which it will have been earned; `None` if
    /// it would become too large.
    ///
    /// A debt of more than twice `burst_ns` cannot come from packets, even if another CPU's clock is some nanoseconds
    /// ahead: the clock was set back, and the debt is forgiven.
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
    fn a_clock_that_is_set_starts_the_limit_again() {
        const HOUR_NS: u64 = 3_600_000_000_000;
        let limit = Limit {
            interval_ns: 1_000,
            burst_ns: 10_000,
        };
        for (earned_ns, now_ns, after_ns, what) in [
            (2 * HOUR_NS, HOUR_NS, Some(HOUR_NS + 1_000), "set back"),
            (HOUR_NS, 2 * HOUR_NS, Some(2 * HOUR_NS + 1_000), "set forward"),
            (u64::MAX, 0, Some(1_000), "before the epoch"),
            (HOUR_NS + 10_000, HOUR_NS - 5, None, "another CPU's clock is ahead"),
            (HOUR_NS + 20_000, HOUR_NS, None, "twice the burst may be a debt"),
            (
                HOUR_NS + 20_001,
                HOUR_NS,
                Some(HOUR_NS + 1_000),
                "more than that is none",
            ),
            (
                HOUR_NS + 9_000,
                HOUR_NS,
                Some(HOUR_NS + 10_000),
                "the last packet of a burst",
            ),
            (HOUR_NS + 9_001, HOUR_NS, None, "one too many"),
        ] {
            assert_eq!(limit.charge(earned_ns, now_ns, 1), after_ns, "{what}");
        }
    }
}
