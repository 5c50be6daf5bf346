//! The lines below every T2 − T1 and above every T3 − T4.

use crate::clock::minima::{MAX_INTERVALS, Minima, Point};

/// The kernel's limit (`MAXFREQ`, 500 ppm).
pub(super) const MAX_SKEW: f64 = 500e-6;

/// Bisection steps: they narrow 1000 ppm down to far less than 1 ppb.
const HALVINGS: u32 = 48;

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
        let corner = |point: Point| (point.at_ns.wrapping_sub(now_ns) as i64 as f64, point.value_ns);
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
            argmax(width, (-MAX_SKEW, MAX_SKEW))
        };
        let width_ns = width(skew);
        if width_ns < 0.0 {
            return None;
        }
        // The width is concave, so the slopes that fit are an interval.
        let steepest = boundary(|slope| width(slope) >= 0.0, skew, MAX_SKEW);
        let flattest = boundary(|slope| width(slope) >= 0.0, skew, -MAX_SKEW);
        let fitting = (flattest, steepest);
        let offset_ns = f64::midpoint(self.highest(skew), self.lowest(skew));
        let highest_ns = self.highest(argmax(|slope| self.highest(slope), fitting));
        let lowest_ns = self.lowest(argmax(|slope| -self.lowest(slope), fitting));
        Some(Middle {
            offset_ns,
            skew,
            bound_ns: (highest_ns - offset_ns).max(offset_ns - lowest_ns),
            width_ns,
        })
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

/// The argument at which a concave function is largest; the middle of a plateau.
fn argmax(value: impl Fn(f64) -> f64, (from, to): (f64, f64)) -> f64 {
    let mut low = from;
    let mut high = to;
    for _ in 0..2 * HALVINGS {
        let third = (high - low) / 3.0;
        let (left, right) = (low + third, high - third);
        let (at_left, at_right) = (value(left), value(right));
        if at_left <= at_right {
            low = left;
        }
        if at_left >= at_right {
            high = right;
        }
    }
    f64::midpoint(low, high)
}

/// The last slope from `from` towards `to` for which `holds` is true; it is true at `from`.
fn boundary(holds: impl Fn(f64) -> bool, from: f64, to: f64) -> f64 {
    if holds(to) {
        return to;
    }
    let (mut inside, mut outside) = (from, to);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(inside, outside);
        if holds(middle) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    inside
}

fn median(mut values: Few<f64>) -> f64 {
    let values = values.get_mut();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
