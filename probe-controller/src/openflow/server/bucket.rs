//! A token bucket: a rate, and a burst of one second's worth.

const NS_PER_S: u64 = 1_000_000_000;

/// How much may still come.
#[derive(Debug)]
pub(super) struct Bucket {
    per_s: u64,
    /// In billionths of a token.
    level: u64,
    filled_at_ns: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(per_s: u32, now_ns: u64) -> Self {
        let per_s = u64::from(per_s);
        Self {
            per_s,
            level: per_s * NS_PER_S,
            filled_at_ns: now_ns,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let since = now_ns.saturating_sub(self.filled_at_ns).min(NS_PER_S);
        self.level = (self.level + since * self.per_s).min(self.per_s * NS_PER_S);
        self.filled_at_ns = self.filled_at_ns.max(now_ns);
        let taken = self.level >= NS_PER_S;
        if taken {
            self.level -= NS_PER_S;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_then_the_rate() {
        let mut bucket = Bucket::new(10, 5);
        assert_eq!((0..100).filter(|_| bucket.take(5)).count(), 10);
        assert!(!bucket.take(5 + NS_PER_S / 10 - 1));
        assert!(bucket.take(5 + NS_PER_S / 10));
        assert!(!bucket.take(5 + NS_PER_S / 10));
        let later = 100 * NS_PER_S;
        assert_eq!(
            (0..100).filter(|_| bucket.take(later)).count(),
            10,
            "no more than a second is saved up"
        );
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1, NS_PER_S);
        assert!(bucket.take(NS_PER_S));
        assert!(!bucket.take(0));
        assert!(!bucket.take(NS_PER_S));
        assert!(bucket.take(2 * NS_PER_S));
    }
}
