//! Waits that differ, so that those who begin together do not go on together.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Between half of the time and all of it.
pub fn spread(time: Duration) -> Duration {
    by(time, RandomState::new().hash_one(()))
}

/// As [`spread`], with the random number.
pub(crate) fn by(time: Duration, random: u64) -> Duration {
    time.mul_f64(0.5 + random as f64 / u64::MAX as f64 / 2.0)
}
