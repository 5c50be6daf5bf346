//! Decides which probes a responder answers, how often, and until when.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use probe_core::reflector::policy::Policy;
use probe_host::clock::monotonic_ns;

/// Maximum answers of a thread per second, and in one burst.
const MAX_PER_SECOND: u64 = 20_000;

/// Pause after an error of the socket, whose interface may have gone.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The sources that are answered, as by the programs.
#[derive(Debug, Default)]
pub(crate) struct Allowed(RwLock<Arc<Policy>>);

impl Allowed {
    pub(crate) fn set(&self, policy: Arc<Policy>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    fn contains(&self, source: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).allows(source)
    }
}

/// The gate of one thread.
#[derive(Debug)]
pub(crate) struct Gate {
    allowed: Arc<Allowed>,
    ended: Arc<AtomicBool>,
    credit: Credit,
}

impl Gate {
    pub(crate) fn new(allowed: &Arc<Allowed>, ended: &Arc<AtomicBool>) -> Self {
        Self {
            allowed: Arc::clone(allowed),
            ended: Arc::clone(ended),
            credit: Credit::new(monotonic_ns()),
        }
    }

    /// Whether the responder still runs.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Whether to answer a probe from `source`.
    #[inline]
    pub(crate) fn lets_in(&mut self, source: IpAddr) -> bool {
        self.allowed.contains(source) && self.credit.spend(monotonic_ns)
    }

    /// Pauses after an error, unless the responder has ended.
    pub(crate) fn rest(&self) {
        if self.is_open() {
            thread::sleep(ERROR_PAUSE);
        }
    }
}

/// A bound on answers that reads no clock while there is credit.
#[derive(Debug)]
struct Credit {
    left: u64,
    since_ns: u64,
}

impl Credit {
    fn new(now_ns: u64) -> Self {
        Self {
            left: MAX_PER_SECOND,
            since_ns: now_ns,
        }
    }

    /// Whether one more answer may be given.
    #[inline]
    fn spend(&mut self, now_ns: impl FnOnce() -> u64) -> bool {
        if self.left == 0 {
            let now_ns = now_ns();
            let earned = u128::from(now_ns.saturating_sub(self.since_ns)) * u128::from(MAX_PER_SECOND) / 1_000_000_000;
            if earned == 0 {
                return false;
            }
            self.left = u64::try_from(earned).unwrap_or(u64::MAX).min(MAX_PER_SECOND);
            self.since_ns = now_ns;
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_and_the_clock_is_read_only_when_credit_is_out() {
        let mut credit = Credit::new(0);
        for _ in 0..MAX_PER_SECOND {
            assert!(credit.spend(|| panic!("there is credit")));
        }
        assert!(!credit.spend(|| 0));
        assert!(!credit.spend(|| 49_999));
        assert!(credit.spend(|| 100_000));
        assert!(credit.spend(|| panic!("two were earned")));
        assert!(!credit.spend(|| 100_000));
    }
}
