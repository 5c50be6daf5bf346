//! Estimates offset and skew of a peer's wall clock against this host's monotonic clock, from round trips alone.
//!
//! Let θ(t) be the peer's wall clock minus our monotonic clock. No delay is negative, so a probe shows θ ≤ T2 − T1 and
//! its reply θ ≥ T3 − T4, with T1 and T4 monotonic. The smallest T2 − T1 and T4 − T3 (the minimum filter) come closest
//! to θ. If θ is a straight line over the last minutes, it lies between the lower hull of the T2 − T1 and the upper hull
//! of the T3 − T4. We choose the slope at which the corridor between the hulls is widest, and the line in its middle,
//! which is right if the smallest delays are equal in both directions. The bound is the distance to the furthest line
//! that still fits. With a steady clock whose minima are reached in both directions, that is half of the smallest
//! round-trip delay. (Lower hulls for skew: Moon, Skelly and Towsley, INFOCOM 1999.)
//!
//! A path change moves the middle by at most half of what it adds to the round trip. A larger move that persists is a
//! step of the peer's clock, and the fit starts over.

use crate::clock::corridor::{Corridor, MAX_SKEW};
use crate::clock::minima::Minima;
use crate::observation::Reply;

mod corridor;
mod minima;
#[cfg(test)]
mod tests;

/// With fewer samples, one odd delay would decide.
const MIN_SAMPLES: u64 = 8;

/// The estimate is refreshed after this, or sooner: after a fraction of the observed time.
const REFRESH_NS: u64 = 500_000_000;
const REFRESH_PART: u64 = 8;

/// A smaller step cannot be distinguished from noise.
const MIN_STEP_NS: f64 = 1_000_000.0;

/// A step is accepted after so many deviations in a row.
const MIN_DEVIATIONS: u32 = 3;

/// An estimate of a peer's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Time of the next refresh, monotonic: the bound holds until then.
    at_ns: u64,
    /// θ at `at_ns`.
    offset_ns: i64,
    /// The peer's clock gains so many seconds per second on ours.
    skew: f64,
    /// Bound on the error of `offset_ns`, for a clock of constant rate.
    bound_ns: u64,
    /// The smallest round-trip delay among the minima.
    rtt_min_ns: f64,
    /// How far a typical minimum is above the smallest.
    noise_ns: f64,
}

impl Estimate {
    /// The peer's wall clock minus our monotonic clock at `at_ns`, monotonic.
    pub fn offset_ns(&self, at_ns: u64) -> i64 {
        self.offset_ns.saturating_add((self.skew * self.since_ns(at_ns)) as i64)
    }

    /// The peer's clock gains so many parts per billion on ours.
    pub fn skew_ppb(&self) -> i64 {
        (self.skew * 1e9).round() as i64
    }

    /// Bound on the error of a one-way delay.
    pub fn bound_ns(&self) -> u64 {
        self.bound_ns
    }

    pub fn forward_ns(&self, reply: &Reply) -> i64 {
        reply.forward_mono_ns().wrapping_sub(self.offset_ns(reply.sent_mono_ns))
    }

    pub fn backward_ns(&self, reply: &Reply) -> i64 {
        reply
            .backward_mono_ns()
            .wrapping_add(self.offset_ns(reply.received_mono_ns))
    }

    /// The distance of the middle of a round trip from the estimate, and the largest that a path can explain.
    fn deviation_ns(&self, reply: &Reply) -> (f64, f64) {
        let (forward, backward) = (self.forward_ns(reply) as f64, self.backward_ns(reply) as f64);
        let since_ns = self.since_ns(reply.received_mono_ns).abs();
        let allowed = (forward + backward - self.rtt_min_ns).abs() / 2.0 + self.noise_ns + MAX_SKEW * since_ns;
        ((forward - backward) / 2.0, allowed + MIN_STEP_NS)
    }

    fn since_ns(&self, at_ns: u64) -> f64 {
        at_ns.wrapping_sub(self.at_ns) as i64 as f64
    }
}

/// Follows one peer's clock, in bounded memory.
#[derive(Debug, Default)]
pub struct ClockFit {
    minima: Minima,
    samples: u64,
    estimate: Option<Estimate>,
    /// Deviations in a row, all of one sign, that no path explains: their number, and the smallest.
    deviations: Option<(u32, f64)>,
}

impl ClockFit {
    /// The estimate to use for `reply`; `None` too early, or if the clock seems to have stepped.
    pub fn estimate_for(&self, reply: &Reply) -> Option<Estimate> {
        let fits = |estimate: &Estimate| {
            let (deviation, allowed) = estimate.deviation_ns(reply);
            deviation.abs() <= allowed
        };
        self.estimate.filter(fits)
    }

    /// Feeds a reply in time. Returns the step of the peer's clock, once one is accepted.
    pub fn observe(&mut self, reply: &Reply) -> Option<i64> {
        reply.rtt_ns()?;
        let mut step = None;
        if let Some(estimate) = self.estimate {
            let (deviation, allowed) = estimate.deviation_ns(reply);
            if deviation.abs() > allowed {
                step = Some(self.count_deviation(deviation)?);
                *self = Self::default();
            }
        }
        self.deviations = None;
        self.samples += 1;
        self.minima.add(reply);
        let now_ns = reply.received_mono_ns;
        let is_due = self.estimate.is_none_or(|estimate| now_ns >= estimate.at_ns);
        if self.samples >= MIN_SAMPLES && is_due {
            self.estimate = self.fit(now_ns);
        }
        step
    }

    fn count_deviation(&mut self, deviation: f64) -> Option<i64> {
        let before = self
            .deviations
            .filter(|(_, smallest)| smallest.signum() == deviation.signum());
        let (count, smallest) = before.unwrap_or((0, deviation));
        let smallest = if deviation.abs() < smallest.abs() {
            deviation
        } else {
            smallest
        };
        self.deviations = Some((count + 1, smallest));
        (count + 1 >= MIN_DEVIATIONS).then_some(smallest as i64)
    }

    /// Fits a line to the minima. If no straight line fits, the oldest minima are dropped.
    fn fit(&mut self, now_ns: u64) -> Option<Estimate> {
        loop {
            let at_ns = now_ns + REFRESH_NS.min(self.minima.span_ns() / REFRESH_PART);
            let corridor = Corridor::between(&self.minima, at_ns)?;
            if let Some(middle) = corridor.middle() {
                return Some(Estimate {
                    at_ns,
                    offset_ns: self.minima.base_ns().wrapping_add(middle.offset_ns as i64),
                    skew: middle.skew,
                    bound_ns: middle.bound_ns.ceil() as u64,
                    rtt_min_ns: middle.width_ns,
                    noise_ns: middle.noise_ns(&self.minima, at_ns),
                });
            }
            self.minima.drop_older_half();
        }
    }
}
