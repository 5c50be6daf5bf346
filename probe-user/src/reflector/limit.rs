//! How often answers are given: token buckets, one for each source and one for all of them.

use std::net::IpAddr;

use super::lru::Lru;

/// Sources of which a bucket is kept.
const MAX_SOURCES: usize = 4096;
/// Answers per second to one source, and at once after a pause.
const SOURCE: Rate = Rate {
    per_second: 5_000,
    burst: 1_000,
};
/// Answers per second to all sources together, and at once after a pause.
const TOTAL: Rate = Rate {
    per_second: 20_000,
    burst: 4_000,
};

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u64,
    burst: u64,
}

/// Tokens are kept in nanoseconds, so that nothing is lost by rounding.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    saved_ns: u64,
    refilled_ns: u64,
}

impl Bucket {
    fn full(rate: Rate, now_ns: u64) -> Self {
        Self {
            saved_ns: rate.burst * rate.price_ns(),
            refilled_ns: now_ns,
        }
    }

    fn refill(&mut self, rate: Rate, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.refilled_ns);
        self.refilled_ns = self.refilled_ns.max(now_ns);
        self.saved_ns = self
            .saved_ns
            .saturating_add(elapsed_ns)
            .min(rate.burst * rate.price_ns());
    }

    fn affords(&self, rate: Rate) -> bool {
        self.saved_ns >= rate.price_ns()
    }

    fn pay(&mut self, rate: Rate) {
        self.saved_ns -= rate.price_ns();
    }
}

impl Rate {
    const fn price_ns(self) -> u64 {
        1_000_000_000 / self.per_second
    }
}

#[derive(Debug)]
pub(super) struct Limit {
    sources: Lru<IpAddr, Bucket>,
    total: Option<Bucket>,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            sources: Lru::new(MAX_SOURCES),
            total: None,
        }
    }
}

impl Limit {
    /// Whether one more answer may be given to `source` now; if so, it counts. A source that may not be answered takes
    /// nothing from the others.
    pub fn allows(&mut self, source: IpAddr, now_ns: u64) -> bool {
        let bucket = self.sources.get_or(source, || Bucket::full(SOURCE, now_ns));
        let total = self.total.get_or_insert_with(|| Bucket::full(TOTAL, now_ns));
        bucket.refill(SOURCE, now_ns);
        total.refill(TOTAL, now_ns);
        let allowed = bucket.affords(SOURCE) && total.affords(TOTAL);
        if allowed {
            bucket.pay(SOURCE);
            total.pay(TOTAL);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn source(last: u8) -> IpAddr {
        [10, 1, 1, last].into()
    }

    fn allowed(limit: &mut Limit, source: IpAddr, tries: usize, now_ns: u64) -> usize {
        (0..tries).filter(|_| limit.allows(source, now_ns)).count()
    }

    #[test]
    fn one_source_is_bounded_and_another_is_still_answered() {
        let mut limit = Limit::default();
        assert_eq!(allowed(&mut limit, source(5), 100_000, S), 1_000);
        assert_eq!(allowed(&mut limit, source(6), 100, S), 100);
        assert_eq!(allowed(&mut limit, source(5), 100_000, S + S / 10), 500);
        assert_eq!(
            allowed(&mut limit, source(5), 100_000, 100 * S),
            1_000,
            "no more is saved"
        );
    }

    #[test]
    fn all_sources_together_are_bounded() {
        let mut limit = Limit::default();
        let answered: usize = (0..100).map(|last| allowed(&mut limit, source(last), 1_000, 0)).sum();
        assert_eq!(answered, 4_000);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let mut limit = Limit::default();
        assert_eq!(allowed(&mut limit, source(5), 5_000, S), 1_000);
        assert_eq!(allowed(&mut limit, source(5), 5_000, S), 0);
        assert_eq!(allowed(&mut limit, source(5), 5_000, 0), 0);
        assert_eq!(allowed(&mut limit, source(5), 5_000, S), 0);
    }
}
