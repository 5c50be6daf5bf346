//! The minimum filter: the smallest T2 − T1 and T4 − T3 in each of a number of equal intervals.

use std::collections::VecDeque;

use crate::observation::Reply;

/// When there are more, intervals are merged in pairs.
pub(super) const MAX_INTERVALS: usize = 64;

/// The first length of an interval, 2^26 ns = 67 ms.
const FIRST_BITS: u32 = 26;

/// The last length of an interval, 2^32 ns = 4.3 s: beyond 4½ minutes no clock is a straight line.
const LAST_BITS: u32 = 32;

#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Monotonic.
    pub(super) at_ns: u64,
    /// Minus [`Minima::base_ns`] forward, plus it backward.
    pub(super) value_ns: f64,
}

impl Point {
    fn min(self, other: Point) -> Point {
        if other.value_ns < self.value_ns { other } else { self }
    }
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    number: u64,
    forward: Point,
    backward: Point,
}

/// Oldest first.
#[derive(Debug)]
pub(super) struct Minima {
    intervals: VecDeque<Interval>,
    bits: u32,
    /// The first offset seen: differences from it keep their nanoseconds in a floating-point number.
    base_ns: Option<i64>,
}

impl Default for Minima {
    fn default() -> Self {
        Self {
            intervals: VecDeque::new(),
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
        let (forward_ns, backward_ns) = (reply.forward_mono_ns(), reply.backward_mono_ns());
        let base_ns = *self.base_ns.get_or_insert(forward_ns);
        let interval = Interval {
            number: reply.sent_mono_ns >> self.bits,
            forward: Point {
                at_ns: reply.sent_mono_ns,
                value_ns: forward_ns.wrapping_sub(base_ns) as f64,
            },
            backward: Point {
                at_ns: reply.received_mono_ns,
                value_ns: backward_ns.wrapping_add(base_ns) as f64,
            },
        };
        match self.intervals.back_mut() {
            // An overtaken reply belongs to an earlier interval, which does not matter: its points have their own times.
            Some(newest) if interval.number <= newest.number => newest.join(interval),
            _ => {
                // Room for one more than there ever are. Otherwise the queue would double.
                if self.intervals.len() == MAX_INTERVALS {
                    self.intervals.reserve_exact(1);
                }
                self.intervals.push_back(interval);
            }
        }
        if self.intervals.len() > MAX_INTERVALS {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        if self.bits == LAST_BITS {
            self.intervals.pop_front();
            return;
        }
        self.bits += 1;
        for mut interval in std::mem::take(&mut self.intervals) {
            interval.number >>= 1;
            match self
                .intervals
                .back_mut()
                .filter(|newest| newest.number == interval.number)
            {
                Some(newest) => newest.join(interval),
                None => self.intervals.push_back(interval),
            }
        }
    }

    pub(super) fn span_ns(&self) -> u64 {
        let ends = self.intervals.back().zip(self.intervals.front());
        ends.map_or(0, |(last, first)| {
            last.forward.at_ns.saturating_sub(first.forward.at_ns)
        })
    }

    pub(super) fn drop_older_half(&mut self) {
        self.intervals.drain(..self.intervals.len().div_ceil(2));
    }

    pub(super) fn forward(&self) -> impl Iterator<Item = Point> {
        self.intervals.iter().map(|interval| interval.forward)
    }

    pub(super) fn backward(&self) -> impl Iterator<Item = Point> {
        self.intervals.iter().map(|interval| interval.backward)
    }
}

impl Interval {
    fn join(&mut self, other: Self) {
        self.forward = self.forward.min(other.forward);
        self.backward = self.backward.min(other.backward);
    }
}
