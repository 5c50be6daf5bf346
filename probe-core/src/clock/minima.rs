//! The minimum filter: the least T2 − T1 and T4 − T3 of each of a number of equal times.

use std::collections::VecDeque;

use crate::clock::corridor::Middle;
use crate::clock::{backward, forward};
use crate::observation::Reply;

/// Times kept; when there are more, two become one.
const TIMES: usize = 64;

/// The first length of a time, 2^26 ns = 67 ms.
const FIRST_BITS: u32 = 26;

/// The last length of a time, 2^32 ns = 4.3 s: beyond 4½ minutes no clock is a straight line.
const LAST_BITS: u32 = 32;

/// One value, and when it was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Monotonic.
    pub(super) at_ns: u64,
    /// Less [`Minima::base_ns`], or plus it on the way back.
    pub(super) value_ns: f64,
}

impl Point {
    fn least(self, other: Point) -> Point {
        if other.value_ns < self.value_ns { other } else { self }
    }
}

#[derive(Debug, Clone, Copy)]
struct Time {
    number: u64,
    forward: Point,
    backward: Point,
}

/// The least values of each time, oldest first.
#[derive(Debug)]
pub(super) struct Minima {
    times: VecDeque<Time>,
    bits: u32,
    /// The first offset seen: differences from it are small enough for a floating-point number.
    base_ns: Option<i64>,
}

impl Default for Minima {
    fn default() -> Self {
        Self {
            times: VecDeque::new(),
            bits: FIRST_BITS,
            base_ns: None,
        }
    }
}

impl Minima {
    pub(super) fn base_ns(&self) -> i64 {
        self.base_ns.unwrap_or_default()
    }

    pub(super) fn add(&mut self, reply: &Reply) {
        let (there, back) = (forward(reply), backward(reply));
        let base_ns = *self.base_ns.get_or_insert(there);
        let time = Time {
            number: reply.sent_mono_ns >> self.bits,
            forward: Point {
                at_ns: reply.sent_mono_ns,
                value_ns: there.wrapping_sub(base_ns) as f64,
            },
            backward: Point {
                at_ns: reply.received_mono_ns,
                value_ns: back.wrapping_add(base_ns) as f64,
            },
        };
        match self.times.back_mut() {
            // A reply that was overtaken belongs to an earlier time, which is no matter: its points keep their own.
            Some(newest) if time.number <= newest.number => newest.join(time),
            _ => self.times.push_back(time),
        }
        if self.times.len() > TIMES {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        if self.bits == LAST_BITS {
            self.times.pop_front();
            return;
        }
        self.bits += 1;
        for mut time in std::mem::take(&mut self.times) {
            time.number >>= 1;
            match self.times.back_mut().filter(|newest| newest.number == time.number) {
                Some(newest) => newest.join(time),
                None => self.times.push_back(time),
            }
        }
    }

    /// From the first to the last.
    pub(super) fn span_ns(&self) -> u64 {
        let ends = self.times.back().zip(self.times.front());
        ends.map_or(0, |(last, first)| {
            last.forward.at_ns.saturating_sub(first.forward.at_ns)
        })
    }

    /// Gives up the older half.
    pub(super) fn give_up_oldest(&mut self) {
        self.times.drain(..self.times.len().div_ceil(2));
    }

    pub(super) fn forward(&self) -> impl Iterator<Item = Point> {
        self.times.iter().map(|time| time.forward)
    }

    pub(super) fn backward(&self) -> impl Iterator<Item = Point> {
        self.times.iter().map(|time| time.backward)
    }

    /// How far above the least a typical minimum is: the median, on the way where that is more.
    pub(super) fn noise_ns(&self, now_ns: u64, middle: &Middle) -> f64 {
        let half = middle.width_ns / 2.0;
        let above = |point: Point, sign: f64| point.value_ns - sign * middle.offset_at(point.at_ns, now_ns) - half;
        let there = median(self.forward().map(|point| above(point, 1.0)).collect());
        let back = median(self.backward().map(|point| above(point, -1.0)).collect());
        there.max(back).max(0.0)
    }
}

impl Time {
    fn join(&mut self, other: Time) {
        self.forward = self.forward.least(other.forward);
        self.backward = self.backward.least(other.backward);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
