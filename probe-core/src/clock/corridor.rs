//! The lines below every T2 − T1 and above every T3 − T4.

use crate::clock::minima::{MAX_INTERVALS, Minima, Point};

/// The kernel's limit (`MAXFREQ`, 500 ppm).
pub(super) const MAX_SKEW: f64 = 500e-6;

/// With fewer minima, a slope cannot be distinguished from noise, and the skew is taken as zero.
const MIN_MINIMA: usize = 8;

/// A corner of a hull: time relative to now, and value, both in nanoseconds.
type Corner = (f64, f64);

/// A vector of at most [`MAX_INTERVALS`] items that allocates nothing.
#[derive(Clone, Copy)]
struct Few<T> {
    items: [T; MAX_INTERVALS],
    len: usize,
}

impl<T: Copy + Default> Few<T> {
    /// Takes [`MAX_INTERVALS`] items at most.
    fn of(items: impl Iterator<Item = T>) -> Self {
        let mut few = Self {
            items: [T::default(); MAX_INTERVALS],
            len: 0,
        };
        for (place, item) in few.items.iter_mut().zip(items) {
            *place = item;
            few.len += 1;
        }
        few
    }

    fn get(&self) -> &[T] {
        &self.items[..self.len]
    }

    fn get_mut(&mut self) -> &mut [T] {
        &mut self.items[..self.len]
    }
}

pub(super) struct Corridor {
    /// The lower hull of the T2 − T1: every line is below.
    upper: Few<Corner>,
    /// The upper hull of the T3 − T4: every line is above.
    lower: Few<Corner>,
    minima: usize,
}

/// The middle line of the widest corridor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Middle {
    /// Value now.
    pub(super) offset_ns: f64,
    /// Seconds per second.
    pub(super) skew: f64,
    /// Distance now to the furthest line that fits.
    pub(super) bound_ns: f64,
    /// Width of the corridor.
    pub(super) width_ns: f64,
}

impl Middle {
    fn offset_at(&self, at_ns: u64, now_ns: u64) -> f64 {
        self.offset_ns + self.skew * (at_ns.wrapping_sub(now_ns) as i64 as f64)
    }

    /// The median distance of the minima above the smallest, in the direction where it is larger.
    pub(super) fn noise_ns(&self, minima: &Minima, now_ns: u64) -> f64 {
        let half = self.width_ns / 2.0;
        let above = |point: Point, sign: f64| point.value_ns - sign * self.offset_at(point.at_ns, now_ns) - half;
        let forward = median(Few::of(minima.forward().map(|point| above(point, 1.0))));
        let backward = median(Few::of(minima.backward().map(|point| above(point, -1.0))));
        forward.max(backward).max(0.0)
    }
}

impl Corridor {
    /// `None` without minima.
    pub(super) fn between(minima: &Minima, now_ns: u64) -> Option<Self> {
        // A reply that overtook another may be microseconds later.
        let corner = |point: Point| {
            (
                (point.at_ns.wrapping_sub(now_ns) as i64 as f64).min(0.0),
                point.value_ns,
            )
        };
        let upper = lower_hull(Few::of(minima.forward().map(corner)));
        // The upper hull of the negatives is the negative of the lower hull.
        let mut lower = lower_hull(Few::of(minima.backward().map(corner)));
        lower.get_mut().iter_mut().for_each(|(_, value)| *value = -*value);
        let minima = minima.forward().count();
        (minima > 0).then_some(Self { upper, lower, minima })
    }

    /// `None` if no straight line fits.
    pub(super) fn middle(&self) -> Option<Middle> {
        let width = |skew| self.highest(skew) - self.lowest(skew);
        let skew = if self.minima < MIN_MINIMA && width(0.0) >= 0.0 {
            0.0
        } else {
            self.widest()
        };
        let width_ns = width(skew);
        if width_ns < 0.0 {
            return None;
        }
        let offset_ns = f64::midpoint(self.highest(skew), self.lowest(skew));
        // All corners are in the past, so the steepest line is the highest now, and the flattest the lowest.
        let (flattest, steepest) = self.fitting(skew);
        Some(Middle {
            offset_ns,
            skew,
            bound_ns: (self.highest(steepest) - offset_ns).max(offset_ns - self.lowest(flattest)),
            width_ns,
        })
    }

    /// The slope at which the corridor is widest; the middle of several.
    ///
    /// The width is concave in the slope. It is linear as long as the corridor's lines touch the same two corners, and grows
    /// by the distance of these in time. A steeper line touches a later corner of the upper hull, or an earlier one of the
    /// lower hull.
    fn widest(&self) -> f64 {
        let (upper, lower) = (self.upper.get(), self.lower.get());
        let slope = |hull: &[Corner], left: usize| match hull.get(left..left + 2) {
            Some([from, to]) => (to.1 - from.1) / (to.0 - from.0),
            _ => f64::INFINITY,
        };
        let (mut above, mut below, mut from) = (0, lower.len() - 1, -MAX_SKEW);
        loop {
            let growth = lower[below].0 - upper[above].0;
            let next_above = slope(upper, above);
            let next_below = below.checked_sub(1).map_or(f64::INFINITY, |left| slope(lower, left));
            let to = next_above.min(next_below).clamp(from, MAX_SKEW);
            if growth <= 0.0 {
                return if growth == 0.0 { f64::midpoint(from, to) } else { from };
            }
            if to == MAX_SKEW {
                return to;
            }
            if next_above <= next_below {
                above += 1;
            } else {
                below -= 1;
            }
            from = to;
        }
    }

    /// The flattest and the steepest slope of a line that fits; one with the slope `skew` does.
    fn fitting(&self, skew: f64) -> (f64, f64) {
        let (mut flattest, mut steepest) = (-MAX_SKEW, MAX_SKEW);
        for above in self.upper.get() {
            for below in self.lower.get() {
                let (apart, room) = (above.0 - below.0, above.1 - below.1);
                if apart > 0.0 {
                    steepest = steepest.min(room / apart);
                } else if apart < 0.0 {
                    flattest = flattest.max(room / apart);
                }
            }
        }
        (flattest.min(skew), steepest.max(skew))
    }

    /// The highest value now of a line with this slope. Concave in the slope.
    fn highest(&self, slope: f64) -> f64 {
        let now = self.upper.get().iter().map(|(at, value)| value - slope * at);
        now.fold(f64::INFINITY, f64::min)
    }

    /// The lowest value now of a line with this slope. Convex in the slope.
    fn lowest(&self, slope: f64) -> f64 {
        let now = self.lower.get().iter().map(|(at, value)| value - slope * at);
        now.fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Andrew's monotone chain, from left to right.
fn lower_hull(mut points: Few<Corner>) -> Few<Corner> {
    points
        .get_mut()
        .sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    // Corners overwrite points that were already processed.
    let mut corners = 0;
    for looked_at in 0..points.len {
        let point = points.items[looked_at];
        while let [.., before, last] = points.items[..corners]
            && (last.0 - before.0) * (point.1 - before.1) <= (last.1 - before.1) * (point.0 - before.0)
        {
            corners -= 1;
        }
        points.items[corners] = point;
        corners += 1;
    }
    points.len = corners;
    points
}

fn median(mut values: Few<f64>) -> f64 {
    let values = values.get_mut();
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(values.len() / 2, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hulls of points at most ten minutes old, forward above backward but for `overlap`.
    fn corridor(points: &[(u32, i32, i32)], overlap_ns: f64) -> Corridor {
        let ns = |(at_ms, _, _): &(u32, i32, i32)| -f64::from(*at_ms) * 1e6;
        let upper = lower_hull(Few::of(points.iter().map(|point| (ns(point), f64::from(point.1)))));
        // The reply is received a little after the probe was sent.
        let negative = |point: &(u32, i32, i32)| (ns(point) + 250_000.0, overlap_ns - f64::from(point.2));
        let mut lower = lower_hull(Few::of(points.iter().map(negative)));
        lower.get_mut().iter_mut().for_each(|(_, value)| *value = -*value);
        Corridor {
            upper,
            lower,
            minima: points.len(),
        }
    }

    proptest! {
        #[test]
        fn no_other_line_has_a_wider_corridor_and_no_further_line_fits(
            mut points in prop::collection::vec((1_u32..600_000, 0_i32..400_000, -400_000_i32..0), MIN_MINIMA..40),
            overlap_ns in -50_000.0..300_000.0_f64,
        ) {
            points.sort_unstable_by_key(|point| point.0);
            points.dedup_by_key(|point| point.0);
            prop_assume!(points.len() >= MIN_MINIMA);
            let corridor = corridor(&points, -overlap_ns);
            let width = |slope| corridor.highest(slope) - corridor.lowest(slope);
            let widest = corridor.widest();
            let slopes = (-1_000..=1_000).map(|step| MAX_SKEW * f64::from(step) / 1_000.0);
            for slope in slopes.clone() {
                prop_assert!(width(slope) <= width(widest) + 0.01, "{} is wider than {}", slope, widest);
            }
            let Some(middle) = corridor.middle() else {
                prop_assert!(width(widest) < 0.0);
                return Ok(());
            };
            let (flattest, steepest) = corridor.fitting(middle.skew);
            for slope in slopes {
                let fits = (flattest..=steepest).contains(&slope);
                prop_assert!(if fits { width(slope) > -0.01 } else { width(slope) < 0.01 }, "{}", slope);
                if fits {
                    prop_assert!(corridor.highest(slope) - middle.offset_ns <= middle.bound_ns + 0.01);
                    prop_assert!(middle.offset_ns - corridor.lowest(slope) <= middle.bound_ns + 0.01);
                }
            }
        }
    }
}
