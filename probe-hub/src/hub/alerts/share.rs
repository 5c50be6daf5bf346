//! A token bucket for each host: a number of actions at once, and then one in each interval. Without I/O.

use std::collections::HashMap;

use crate::name::HostName;

/// The buckets of all hosts.
#[derive(Debug)]
pub struct Shares {
    /// Actions at once.
    burst: u64,
    /// Time in which one more is earned.
    interval_ns: u64,
    /// When a host's share is whole again. Hosts whose share is whole have no entry.
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

    /// Whether the host has one left.
    pub fn is_left(&self, host: &HostName, now_ns: u64) -> bool {
        let missing_ns = self.whole_ns(host, now_ns) - now_ns;
        missing_ns.saturating_add(self.interval_ns) <= self.burst.saturating_mul(self.interval_ns)
    }

    /// Drops the entries of hosts whose share is whole, and corrects the others if the clock was set back. Call it regularly.
    pub fn trim(&mut self, now_ns: u64) {
        let latest_ns = now_ns.saturating_add(self.burst.saturating_mul(self.interval_ns));
        self.whole_ns.retain(|_, whole_ns| {
            *whole_ns = latest_ns.min(*whole_ns);
            *whole_ns > now_ns
        });
    }

    /// When the host's share is whole again, at the earliest now.
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
