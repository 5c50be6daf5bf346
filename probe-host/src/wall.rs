//! From the wall clock's stamps to `CLOCK_MONOTONIC`, which nobody steps.

use crate::clock::{monotonic_ns, realtime_ns};

/// Readings of which the one in the shortest time is taken.
const TRIES: usize = 3;

/// How far `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`. Both are disciplined alike, so that changes only when
/// somebody sets the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallOffset {
    ahead_ns: i64,
    /// How far that may be off: half of the time that the reading took.
    uncertainty_ns: u64,
}

impl WallOffset {
    /// As it is now.
    pub fn now() -> Self {
        let readings: [Self; TRIES] = std::array::from_fn(|_| {
            let before_ns = monotonic_ns();
            let wall_ns = realtime_ns();
            Self::between(before_ns, wall_ns, monotonic_ns())
        });
        let best = readings.iter().min_by_key(|reading| reading.uncertainty_ns);
        best.copied().unwrap_or(readings[0])
    }

    fn between(before_ns: u64, wall_ns: u64, after_ns: u64) -> Self {
        let uncertainty_ns = after_ns.saturating_sub(before_ns).div_ceil(2);
        Self {
            ahead_ns: wall_ns.wrapping_sub(before_ns + uncertainty_ns).cast_signed(),
            uncertainty_ns,
        }
    }

    /// Takes a new reading where it is a better one, or where it shows that the clock was set.
    pub fn follow(&mut self, new: Self) {
        let was_set = self.ahead_ns.abs_diff(new.ahead_ns) > self.uncertainty_ns + new.uncertainty_ns;
        if was_set || new.uncertainty_ns < self.uncertainty_ns {
            *self = new;
        }
    }

    /// The monotonic time of a wall clock's stamp that was taken since the last time that the clock was set.
    pub fn monotonic_ns(&self, wall_ns: u64) -> u64 {
        wall_ns.saturating_add_signed(self.ahead_ns.saturating_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_now_is_now() {
        let offset = WallOffset::now();
        let (before_ns, wall_ns) = (monotonic_ns(), realtime_ns());
        let converted_ns = offset.monotonic_ns(wall_ns);
        // Half a second is far more than this thread is ever kept from running between two lines.
        assert!(
            converted_ns.abs_diff(before_ns) < 500_000_000,
            "{converted_ns} {before_ns}"
        );
    }

    #[test]
    fn better_readings_and_steps_are_taken_and_worse_ones_are_not() {
        let mut offset = WallOffset::between(1_000, 1_001_050, 1_100);
        assert_eq!(offset.monotonic_ns(1_001_050), 1_050);
        let worse = WallOffset::between(2_000, 1_002_200, 2_300);
        offset.follow(worse);
        assert_eq!(offset, WallOffset::between(1_000, 1_001_050, 1_100));
        let better = WallOffset::between(3_000, 1_003_030, 3_010);
        offset.follow(better);
        assert_eq!(offset, better);
        let stepped = WallOffset::between(4_000, 9_000_000, 4_400);
        offset.follow(stepped);
        assert_eq!(offset, stepped);
    }
}
