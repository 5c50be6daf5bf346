//! How many of something each host may cause: a number at once, and then one in each interval. Without I/O.

use std::collections::HashMap;

use crate::name::HostName;

/// The shares of all hosts.
#[derive(Debug)]
pub struct Shares {
    /// At once.
    burst: u64,
    /// Time until one more.
    interval_ns: u64,
    /// When a host's share is whole again. Those whose share is whole are left out.
    whole_ns: HashMap<HostName, u64>,
}

impl Shares {
    pub fn new(burst: u64, interval_ns: u64) -> Self {
        Self {
            burst,
            interval_ns,
            whole_ns: HashMap::new(),
        }
    }

    /// Takes one of the host's share, if there is one left.
    pub fn take(&mut self, host: &HostName, now_ns: u64) -> bool {
        if !self.is_left(host, now_ns) {
            return false;
        }
        let whole_ns = self.whole_ns(host, now_ns).saturating_add(self.interval_ns);
        self.whole_ns.insert(host.clone(), whole_ns);
        true
    }

    pub fn is_left(&self, host: &HostName, now_ns: u64) -> bool {
        let missing_ns = self.whole_ns(host, now_ns) - now_ns;
        missing_ns.saturating_add(self.interval_ns) <= self.burst.saturating_mul(self.interval_ns)
    }

    /// Forgets hosts whose share is whole. To be called now and then, also because the clock may be set back.
    pub fn trim(&mut self, now_ns: u64) {
        let latest_ns = now_ns.saturating_add(self.burst.saturating_mul(self.interval_ns));
        self.whole_ns.retain(|_, whole_ns| {
            *whole_ns = latest_ns.min(*whole_ns);
            *whole_ns > now_ns
        });
    }

    /// Not before now.
    fn whole_ns(&self, host: &HostName, now_ns: u64) -> u64 {
        self.whole_ns.get(host).copied().unwrap_or_default().max(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn each_host_has_a_number_at_once_and_then_one_in_each_interval() {
        let mut shares = Shares::new(3, 10 * S);
        let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
        let mut take = |host, number: usize, now_s: u64| {
            shares.trim(now_s * S);
            (0..number).filter(|_| shares.take(host, now_s * S)).count()
        };
        assert_eq!(take(&a, 9, 1000), 3);
        assert_eq!(take(&b, 1, 1000), 1);
        assert_eq!([take(&a, 9, 1009), take(&a, 9, 1010), take(&a, 9, 1029)], [0, 1, 1]);
        assert_eq!(take(&a, 9, 5000), 3);
        // The clock was set back.
        assert_eq!([take(&a, 9, 100), take(&a, 9, 110)], [0, 1]);
        shares.trim(140 * S);
        assert!(shares.whole_ns.is_empty());
    }
}
