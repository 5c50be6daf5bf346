//! The lines that pass below every T2 − T1 and above every T3 − T4.

use crate::clock::MAX_SKEW;
use crate::clock::minima::{Minima, Point};

/// Halvings of an interval of slopes: 1000 ppm come down to far less than 1 ppb.
const HALVINGS: u32 = 48;

/// Minima from which on a slope is told from what is only noise; with fewer, the clocks are taken to run alike.
const LEAST_MINIMA: usize = 8;

/// A corner of a hull: nanoseconds from when it is asked for, and the value there.
type Corner = (f64, f64);

/// Both hulls.
pub(super) struct Corridor {
    /// Lower hull of the T2 − T1: no line is above.
    upper: Vec<Corner>,
    /// Upper hull of the T3 − T4: no line is below.
    lower: Vec<Corner>,
    minima: usize,
}

/// The line in the middle of the widest corridor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Middle {
    /// When it is asked for.
    pub(super) offset_ns: f64,
    /// Seconds per second.
    pub(super) skew: f64,
    /// How far, now, the furthest possible line is away.
    pub(super) bound_ns: f64,
    /// Of the corridor.
    pub(super) width_ns: f64,
}

impl Middle {
    /// The line at another time.
    pub(super) fn offset_at(&self, at_ns: u64, now_ns: u64) -> f64 {
        self.offset_ns + self.skew * (at_ns.wrapping_sub(now_ns) as i64 as f64)
    }
}

impl Corridor {
    /// Between the minima; `None` if there are none.
    pub(super) fn between(minima: &Minima, now_ns: u64) -> Option<Corridor> {
        let corner = |point: Point, sign: f64| {
            let since_ns = point.at_ns.wrapping_sub(now_ns) as i64;
            (since_ns as f64, sign * point.value_ns)
        };
        let upper = lower_hull(minima.forward().map(|point| corner(point, 1.0)).collect());
        // The upper hull of the negatives is the negative of the lower hull.
        let lower = lower_hull(minima.backward().map(|point| corner(point, 1.0)).collect());
        let lower: Vec<Corner> = lower.into_iter().map(|(at, value)| (at, -value)).collect();
        let minima = minima.forward().count();
        (minima > 0).then_some(Corridor { upper, lower, minima })
    }

    /// The middle line; `None` if no straight line passes.
    pub(super) fn middle(&self) -> Option<Middle> {
        let width = |skew| self.highest(skew) - self.lowest(skew);
        let skew = if self.minima < LEAST_MINIMA && width(0.0) >= 0.0 {
            0.0
        } else {
            argmax(width, (-MAX_SKEW, MAX_SKEW))
        };
        let width_ns = width(skew);
        if width_ns < 0.0 {
            return None;
        }
        // The slopes that pass at all are an interval, as the width is concave.
        let steepest = boundary(|slope| width(slope) >= 0.0, skew, MAX_SKEW);
        let flattest = boundary(|slope| width(slope) >= 0.0, skew, -MAX_SKEW);
        let passing = (flattest, steepest);
        let offset_ns = f64::midpoint(self.highest(skew), self.lowest(skew));
        let highest_ns = self.highest(argmax(|slope| self.highest(slope), passing));
        let lowest_ns = self.lowest(argmax(|slope| -self.lowest(slope), passing));
        Some(Middle {
            offset_ns,
            skew,
            bound_ns: (highest_ns - offset_ns).max(offset_ns - lowest_ns),
            width_ns,
        })
    }

    /// The highest value now of a line with this slope: concave in the slope.
    fn highest(&self, slope: f64) -> f64 {
        let now = self.upper.iter().map(|(at, value)| value - slope * at);
        now.fold(f64::INFINITY, f64::min)
    }

    /// The lowest value now of a line with this slope: convex in the slope.
    fn lowest(&self, slope: f64) -> f64 {
        let now = self.lower.iter().map(|(at, value)| value - slope * at);
        now.fold(f64::NEG_INFINITY, f64::max)
    }
}

/// The lower convex hull, from left to right (Andrew's monotone chain).
fn lower_hull(mut points: Vec<Corner>) -> Vec<Corner> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut hull: Vec<Corner> = Vec::new();
    for point in points {
        while let [.., before, last] = *hull
            && (last.0 - before.0) * (point.1 - before.1) <= (last.1 - before.1) * (point.0 - before.0)
        {
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

/// Where a concave function of the slope is the largest; the middle, where it is so over a range.
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

/// The furthest from `from`, where `holds`, towards `to` that it still holds.
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
