//! How a peer's wall clock runs against this host's monotonic clock, told from the stamps of round trips alone.
//!
//! With θ(t) the peer's wall clock less our monotonic clock, a probe says θ ≤ T2 − T1 and its reply θ ≥ T3 − T4, T1
//! and T4 monotonic, as no delay is negative. The least of many T2 − T1 and of many T4 − T3 (the minimum filter) come
//! nearest. Taking θ for a straight line over the last minutes, every line between the lower hull of the T2 − T1 and
//! the upper hull of the T3 − T4 may be the true one. Chosen is the slope at which the corridor between both hulls is
//! the widest, and its middle, which is right if the least delays are the same both ways. How far the furthest
//! possible line is away is the bound; where the clock is steady and both ways reach their least delay it is half of
//! the least round-trip delay. (Lower hulls for skew: Moon, Skelly and Towsley, INFOCOM 1999.)
//!
//! A change of the path moves the middle by at most half of what it moves the round trip by. What moves it further,
//! repeatedly, is a step of the peer's clock: the fit begins anew.

use corridor::Corridor;
use minima::Minima;

use crate::observation::Reply;

mod corridor;
mod minima;
#[cfg(test)]
mod tests;

/// No clock that works is off its frequency by more: the kernel's limit (`MAXFREQ`, 500 ppm).
const MAX_SKEW: f64 = 500e-6;

/// Samples before an estimate is used: before, one odd delay is all there is.
const WARM_UP: u64 = 8;

/// The estimate is made anew after this, or sooner: after a part of the time that was watched.
const REFRESH_NS: u64 = 500_000_000;
const REFRESH_PART: u64 = 8;

/// A step is not told from the noise if it is smaller.
const LEAST_STEP_NS: f64 = 1_000_000.0;

/// Samples in a row that a step takes to be believed.
const WITNESSES: u32 = 3;

/// What is known of a peer's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// When it will be made anew, monotonic: the bound holds until then.
    at_ns: u64,
    /// The peer's wall clock less our monotonic clock, at `at_ns`.
    offset_ns: i64,
    /// How much it gains on ours: seconds per second.
    skew: f64,
    /// Bound on the error of `offset_ns`, for a clock that runs evenly.
    bound_ns: u64,
    /// Least round-trip delay on which it rests.
    rtt_min_ns: f64,
    /// How far above the least a typical minimum is.
    noise_ns: f64,
}

impl Estimate {
    /// The peer's wall clock less our monotonic clock at `at_ns`, monotonic.
    pub fn offset_ns(&self, at_ns: u64) -> i64 {
        self.offset_ns.saturating_add((self.skew * self.since_ns(at_ns)) as i64)
    }

    /// How much the peer's clock gains on ours, in parts per billion.
    pub fn skew_ppb(&self) -> i64 {
        (self.skew * 1e9).round() as i64
    }

    /// Bound on the error of a one-way delay.
    pub fn bound_ns(&self) -> u64 {
        self.bound_ns
    }

    /// One-way delay to the peer.
    pub fn forward_ns(&self, reply: &Reply) -> i64 {
        forward(reply).wrapping_sub(self.offset_ns(reply.sent_mono_ns))
    }

    /// One-way delay from the peer.
    pub fn backward_ns(&self, reply: &Reply) -> i64 {
        backward(reply).wrapping_add(self.offset_ns(reply.received_mono_ns))
    }

    /// How far the middle of a round trip is from the estimate, and how far it may be.
    fn deviation_ns(&self, reply: &Reply) -> (f64, f64) {
        let (there, back) = (self.forward_ns(reply) as f64, self.backward_ns(reply) as f64);
        let since_ns = self.since_ns(reply.received_mono_ns).abs();
        let allowed = (there + back - self.rtt_min_ns).abs() / 2.0 + self.noise_ns + MAX_SKEW * since_ns;
        ((there - back) / 2.0, allowed + LEAST_STEP_NS)
    }

    fn since_ns(&self, at_ns: u64) -> f64 {
        at_ns.wrapping_sub(self.at_ns) as i64 as f64
    }
}

/// T2 − T1, T1 monotonic.
fn forward(reply: &Reply) -> i64 {
    reply.t2_ns.wrapping_sub(reply.sent_mono_ns) as i64
}

/// T4 − T3, T4 monotonic.
fn backward(reply: &Reply) -> i64 {
    reply.received_mono_ns.wrapping_sub(reply.t3_ns) as i64
}

/// Watches one peer's clock. Its memory does not grow.
#[derive(Debug, Default)]
pub struct ClockFit {
    minima: Minima,
    samples: u64,
    estimate: Option<Estimate>,
    /// Deviations in a row of one sign that no path explains: how many, and the smallest.
    suspects: Option<(u32, f64)>,
}

impl ClockFit {
    /// The estimate to be used for `reply`: none yet, or none as the clock seems to have stepped.
    pub fn estimate_for(&self, reply: &Reply) -> Option<Estimate> {
        let is_even = |estimate: &Estimate| {
            let (deviation, allowed) = estimate.deviation_ns(reply);
            deviation.abs() <= allowed
        };
        self.estimate.filter(is_even)
    }

    /// Takes a reply in time. Says by how much the peer's clock was stepped, if it was.
    pub fn observe(&mut self, reply: &Reply) -> Option<i64> {
        reply.rtt_ns()?;
        let mut step = None;
        if let Some(estimate) = self.estimate {
            let (deviation, allowed) = estimate.deviation_ns(reply);
            if deviation.abs() > allowed {
                step = Some(self.suspect(deviation)?);
                *self = Self::default();
            }
        }
        self.suspects = None;
        self.samples += 1;
        self.minima.add(reply);
        let now_ns = reply.received_mono_ns;
        let is_due = self.estimate.is_none_or(|estimate| now_ns >= estimate.at_ns);
        if self.samples >= WARM_UP && is_due {
            self.estimate = self.fit(now_ns);
        }
        step
    }

    /// One more deviation; the step, once it is believed.
    fn suspect(&mut self, deviation: f64) -> Option<i64> {
        let before = self
            .suspects
            .filter(|(_, smallest)| smallest.signum() == deviation.signum());
        let (count, smallest) = before.unwrap_or((0, deviation));
        let smallest = if deviation.abs() < smallest.abs() {
            deviation
        } else {
            smallest
        };
        self.suspects = Some((count + 1, smallest));
        (count + 1 >= WITNESSES).then_some(smallest as i64)
    }

    /// A line through the minima; those that no straight line allows, the oldest first, are given up.
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
                    noise_ns: self.minima.noise_ns(at_ns, &middle),
                });
            }
            self.minima.give_up_oldest();
        }
    }
}
