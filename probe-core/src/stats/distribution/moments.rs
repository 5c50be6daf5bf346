//! Mean and standard deviation.

/// Running moments (Welford). Deviations are taken from the first sample: a one-way delay between clocks that
/// disagree by years would otherwise lose its nanoseconds in a 53-bit mantissa.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    /// Without a sample, all fields are 0.
    pub(super) count: u64,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) sum: i128,
    origin: i64,
    mean_from_origin: f64,
    squares: f64,
}

impl Moments {
    pub(super) fn record(&mut self, sample: i64) {
        if self.count == 0 {
            (self.min, self.max, self.origin) = (sample, sample, sample);
        }
        self.count += 1;
        self.min = self.min.min(sample);
        self.max = self.max.max(sample);
        self.sum += i128::from(sample);
        let value = (i128::from(sample) - i128::from(self.origin)) as f64;
        let delta = value - self.mean_from_origin;
        self.mean_from_origin += delta / self.count as f64;
        self.squares += delta * (value - self.mean_from_origin);
    }

    /// Chan, Golub and LeVeque: the moments of the union of two sets.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (own, theirs) = (self.count as f64, other.count as f64);
        let origins = (i128::from(other.origin) - i128::from(self.origin)) as f64;
        let delta = origins + other.mean_from_origin - self.mean_from_origin;
        let all = own + theirs;
        self.mean_from_origin += delta * theirs / all;
        self.squares += other.squares + delta * delta * own * theirs / all;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    pub(super) fn mean(&self) -> i64 {
        (self.sum / i128::from(self.count)) as i64
    }

    pub(super) fn stddev(&self) -> i64 {
        (self.squares / self.count as f64).sqrt().round() as i64
    }
}
