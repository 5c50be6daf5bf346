//! The difference between two methods, absolute and as a ratio.

use crate::stats::report::Summary;

/// One method compared with `kernel` in the same phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Versus {
    /// Difference of the medians: what the method adds to every round trip.
    pub bias_ns: i64,
    /// Ratio of the medians.
    pub bias_ratio: Option<f64>,
    /// Difference of the spreads, each p99 − p50.
    pub spread_ns: i64,
    /// Ratio of the spreads.
    pub spread_ratio: Option<f64>,
    /// Ratio of the 99th percentiles.
    pub p99_ratio: Option<f64>,
}

impl Versus {
    pub fn of(method: &Summary, kernel: &Summary) -> Self {
        let spread = |summary: &Summary| summary.p99 - summary.p50;
        Self {
            bias_ns: method.p50 - kernel.p50,
            bias_ratio: ratio(method.p50, kernel.p50),
            spread_ns: spread(method) - spread(kernel),
            spread_ratio: ratio(spread(method), spread(kernel)),
            p99_ratio: ratio(method.p99, kernel.p99),
        }
    }
}

/// `None` if it is meaningless: of zero, or of negative values.
pub fn ratio(part_ns: i64, of_ns: i64) -> Option<f64> {
    (part_ns >= 0 && of_ns > 0).then(|| part_ns as f64 / of_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(p50: i64, p99: i64) -> Summary {
        Summary {
            min: p50,
            mean: p50,
            p50,
            p90: p99,
            p99,
            p999: p99,
            max: p99,
            stddev: 0,
            count: 100,
        }
    }

    #[test]
    fn bias_and_spread_are_differences_and_ratios() {
        let versus = Versus::of(&summary(60_000, 900_000), &summary(6_000, 12_000));
        assert_eq!((versus.bias_ns, versus.spread_ns), (54_000, 834_000));
        assert_eq!((versus.bias_ratio, versus.spread_ratio), (Some(10.0), Some(140.0)));
        assert_eq!(versus.p99_ratio, Some(75.0));
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let versus = Versus::of(&summary(5, 9), &summary(0, 0));
        assert_eq!(
            (versus.bias_ratio, versus.spread_ratio, versus.p99_ratio),
            (None, None, None)
        );
        assert_eq!(ratio(-1, 5), None);
    }
}
