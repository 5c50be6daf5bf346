//! How long a round trip and its parts ordinarily take, and which probes are outliers.

use std::collections::VecDeque;

use crate::direction::Direction;
use crate::hops::event::Excess;
use crate::hops::split::{PARTS, Split};
use crate::hops::stamp::{Part, Segment};
use crate::stats::report::OneWayClock;

/// Windows that are remembered.
const MAX_WINDOWS: usize = 15;

/// With fewer answered probes in them, no probe is an outlier by the distribution.
const MIN_PROBES: u64 = 10;

/// An outlier takes longer than the 99th percentile by this factor.
const FACTOR: u64 = 4;

/// The round trips of one window, and their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantiles {
    pub probes: u64,
    /// 99th percentile of the round trips.
    pub p99_ns: u64,
    /// Median of each part, and of the rest.
    pub medians_ns: [Option<u64>; PARTS + 1],
    /// Median of the underlay in each direction, if the window's clock backs it.
    pub underlay_ns: [Option<i64>; 2],
}

#[derive(Debug, Default)]
pub(super) struct Ordinary {
    windows: VecDeque<Quantiles>,
    medians_ns: [Option<u64>; PARTS + 1],
    underlay_ns: [Option<i64>; 2],
    threshold_ns: Option<u64>,
}

impl Ordinary {
    /// A window with answered probes has ended. One odd window changes little, because medians of windows count.
    pub fn note(&mut self, quantiles: Quantiles) {
        if self.windows.len() == MAX_WINDOWS {
            self.windows.pop_front();
        }
        self.windows.push_back(quantiles);
        let windows = &self.windows;
        self.medians_ns =
            std::array::from_fn(|place| median(windows.iter().filter_map(|window| window.medians_ns[place])));
        self.underlay_ns =
            std::array::from_fn(|place| median(windows.iter().filter_map(|window| window.underlay_ns[place])));
        let probes: u64 = windows.iter().map(|window| window.probes).sum();
        let p99_ns = median(windows.iter().map(|window| window.p99_ns));
        self.threshold_ns = p99_ns
            .filter(|_| probes >= MIN_PROBES)
            .map(|p99_ns| p99_ns.saturating_mul(FACTOR));
    }

    /// Four times the 99th percentile; `None` while too few probes are known.
    pub fn threshold_ns(&self) -> Option<u64> {
        self.threshold_ns
    }

    /// The part that exceeds its ordinary time by most; `None` if the rest exceeds its own by more. The underlay has a
    /// direction if `clock` backs it.
    pub fn largest(&self, split: &Split, clock: Option<OneWayClock>) -> Option<Excess> {
        let excess = |took_ns: u64, place: usize| took_ns.saturating_sub(self.medians_ns[place].unwrap_or(0));
        let parts = split.all().into_iter().enumerate();
        let known = parts.filter_map(|(place, (part, took_ns))| Some((place, part, took_ns?)));
        let (place, part, took_ns) = known.max_by_key(|&(place, _, took_ns)| excess(took_ns, place))?;
        if excess(took_ns, place) <= excess(split.rest_ns, PARTS) {
            return None;
        }
        let one_way = clock.filter(|_| part.segment == Segment::Underlay);
        let one_way = one_way.and_then(|clock| self.one_way(split, clock));
        Some(one_way.unwrap_or(Excess {
            part,
            took_ns,
            ordinary_ns: self.medians_ns[place],
        }))
    }

    /// The direction of the underlay that exceeds its ordinary time by more; `None` if the error of `clock` can explain the
    /// difference.
    fn one_way(&self, split: &Split, clock: OneWayClock) -> Option<Excess> {
        let took_ns = split.underlay_by(clock)?;
        let [Some(forward_ns), Some(backward_ns)] = self.underlay_ns else {
            return None;
        };
        let ordinary_ns = [forward_ns, backward_ns];
        let [forward, backward] = [0, 1].map(|at| i128::from(took_ns[at]) - i128::from(ordinary_ns[at]));
        // An error of the clock makes one direction longer and the other shorter, both now and in the ordinary times.
        let error = 4 * i128::from(clock.bound_ns().unwrap_or(0));
        if (forward - backward).abs() <= error {
            return None;
        }
        let direction = match forward > backward {
            true => Direction::Forward,
            false => Direction::Backward,
        };
        // A negative delay shows an error of the clock.
        let positive = |delays_ns: [i64; 2]| u64::try_from(delays_ns[direction as usize]).ok();
        Some(Excess {
            part: Part {
                segment: Segment::Underlay,
                direction: Some(direction),
            },
            took_ns: positive(took_ns)?,
            ordinary_ns: Some(positive(ordinary_ns)?),
        })
    }
}

fn median<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARD: Option<Direction> = Some(Direction::Forward);

    fn quantiles(probes: u64, p99_ns: u64, median_ns: u64) -> Quantiles {
        Quantiles {
            probes,
            p99_ns,
            medians_ns: [Some(median_ns); PARTS + 1],
            underlay_ns: [None; 2],
        }
    }

    #[test]
    fn the_threshold_follows_the_last_windows_and_one_odd_window_does_not_move_it() {
        let mut ordinary = Ordinary::default();
        for (window, want) in [
            (quantiles(9, 100, 50), None),
            (quantiles(1, 100, 50), Some(400)),
            (quantiles(1, 1_000_000, 50), Some(400)),
            (quantiles(1, 110, 50), Some(440)),
        ] {
            ordinary.note(window);
            assert_eq!(ordinary.threshold_ns(), want);
        }
        (0..MAX_WINDOWS).for_each(|_| ordinary.note(quantiles(1, 7, 3)));
        assert_eq!(ordinary.threshold_ns(), Some(28));
        assert_eq!(ordinary.windows.len(), MAX_WINDOWS);
        assert_eq!(ordinary.medians_ns, [Some(3); PARTS + 1]);
    }

    #[test]
    fn an_outlier_in_the_underlay_has_a_direction_if_the_clock_backs_it() {
        let bounded = |bound_ns| {
            Some(OneWayClock::Estimated {
                bound_ns,
                offset_ns: 0,
                skew_ppb: 0,
            })
        };
        let (same, backward) = (Some(OneWayClock::SameClock), Some(Direction::Backward));
        let ordinary = [Some(100), Some(300)];
        let directed = |direction, took_ns, ordinary_ns| Some((direction, took_ns, ordinary_ns));
        let neither = directed(None, 5_400, 400);
        let table = [
            (same, ordinary, [5_100, 300], directed(FORWARD, 5_100, 100)),
            (same, ordinary, [100, 5_300], directed(backward, 5_300, 300)),
            // The larger one by its excess, not by its duration.
            (same, ordinary, [2_650, 2_750], directed(FORWARD, 2_650, 100)),
            (same, ordinary, [2_600, 2_800], neither),
            (bounded(1_249), ordinary, [5_100, 300], directed(FORWARD, 5_100, 100)),
            (bounded(1_250), ordinary, [5_100, 300], neither),
            (None, ordinary, [5_100, 300], neither),
            (same, [None; 2], [5_100, 300], neither),
            (same, [Some(-1), Some(401)], [4_999, 401], neither),
            (
                bounded(1),
                [Some(-900), Some(1_300)],
                [-100, 5_500],
                directed(backward, 5_500, 1_300),
            ),
        ];
        for (clock, underlay_ns, took_ns, want) in table {
            let mut window = quantiles(10, 1_000, 0);
            window.medians_ns[4] = Some(400);
            let mut ordinary = Ordinary::default();
            ordinary.note(Quantiles { underlay_ns, ..window });
            let split = Split {
                elapsed_ns: 5_400,
                underlay_ns: Some(5_400),
                underlay_by_clocks_ns: Some(took_ns),
                underlay_estimated_ns: Some(took_ns),
                ..Split::default()
            };
            let largest = ordinary.largest(&split, clock).unwrap();
            assert_eq!(largest.part.segment, Segment::Underlay);
            let found = (largest.part.direction, largest.took_ns, largest.ordinary_ns.unwrap());
            assert_eq!(Some(found), want, "{clock:?} {underlay_ns:?} {took_ns:?}");
        }
    }
}
