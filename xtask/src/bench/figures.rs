//! What a tool's round trips come to, by one rule for all tools, and how it is written.

use serde::Serialize;

/// Of one tool in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    /// Round trips.
    pub(super) count: usize,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) max_ns: u64,
}

impl Figures {
    /// By the nearest rank; `None` of nothing.
    pub(super) fn of(mut rtts_ns: Vec<u64>) -> Option<Self> {
        rtts_ns.sort_unstable();
        let rank = |percent: usize| {
            let rank = (rtts_ns.len() * percent).div_ceil(100);
            rtts_ns.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            count: rtts_ns.len(),
            p50_ns: rank(50)?,
            p99_ns: rank(99)?,
            max_ns: rank(100)?,
        })
    }
}

/// In microseconds, with three digits that count.
pub(super) fn microseconds(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    match us {
        ..10.0 => format!("{us:.2}"),
        ..100.0 => format!("{us:.1}"),
        _ => format!("{us:.0}"),
    }
}

/// `a / b` as a factor; a dash where there is none.
pub(super) fn ratio(a: f64, b: f64) -> String {
    let ratio = a / b;
    match ratio {
        _ if !ratio.is_finite() => "-".to_owned(),
        ..10.0 => format!("{ratio:.2}"),
        _ => format!("{ratio:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let figures = Figures::of((1..=200).rev().collect()).unwrap();
        assert_eq!((figures.p50_ns, figures.p99_ns, figures.max_ns), (100, 198, 200));
        assert_eq!(Figures::of(vec![7]).unwrap().p99_ns, 7);
        assert_eq!(Figures::of(Vec::new()), None);
    }

    #[test]
    fn figures_are_short_and_never_infinite() {
        assert_eq!(microseconds(1_234), "1.23");
        assert_eq!(microseconds(12_345), "12.3");
        assert_eq!(microseconds(1_234_567), "1235");
        assert_eq!(ratio(3.0, 2.0), "1.50");
        assert_eq!(ratio(50.0, 2.0), "25");
        assert_eq!(ratio(1.0, 0.0), "-");
    }
}
