//! When the next export is due.

use std::time::Duration;

use probe_hub::spread::spread;

/// Shortest and longest time between two exports that succeed.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time between two attempts while the receiver asks for nothing else.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A receiver that asks for more time than this is asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// In a row.
    failures: u32,
}

impl Pace {
    /// Metrics change once in `report`.
    pub(super) fn new(report: Duration) -> Self {
        Self {
            interval: report.clamp(MIN_INTERVAL, MAX_INTERVAL),
            failures: 0,
        }
    }

    /// The wait before the first export. Agents that start together do not send together.
    pub(super) fn first(&self) -> Duration {
        spread(self.interval)
    }

    /// The wait after an export that took `took`.
    pub(super) fn succeeded(&mut self, took: Duration) -> Duration {
        self.failures = 0;
        self.interval.saturating_sub(took).max(MIN_INTERVAL / 10)
    }

    /// The wait after one that failed: twice as long each time, or what the receiver asked for.
    pub(super) fn failed(&mut self, retry_after: Option<Duration>) -> Duration {
        let backoff = MIN_INTERVAL * 2u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        spread(backoff.min(MAX_BACKOFF)).max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn exports_keep_pace_with_reports_within_bounds() {
        for (report, want) in [(S / 10, S), (10 * S, 10 * S), (3600 * S, 30 * S)] {
            let mut pace = Pace::new(report);
            let first = pace.first();
            assert!(want / 2 <= first && first <= want, "{report:?}: {first:?}");
            assert_eq!(pace.succeeded(want / 4), want * 3 / 4, "{report:?}");
            assert_eq!(pace.succeeded(2 * want), S / 10, "{report:?}");
        }
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely() {
        let mut pace = Pace::new(10 * S);
        for want in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = pace.failed(None);
            assert!(want * S / 2 <= wait && wait <= want * S, "{want}: {wait:?}");
        }
        assert_eq!(pace.failed(Some(120 * S)), 120 * S);
        assert_eq!(pace.failed(Some(3600 * S)), MAX_RETRY_AFTER);
        assert!(pace.failed(Some(S)) >= 30 * S, "no sooner than the backoff");
        pace.succeeded(S);
        assert!(pace.failed(None) <= S);
        pace.failures = u32::MAX - 1;
        assert!(pace.failed(None) <= MAX_BACKOFF);
    }
}
