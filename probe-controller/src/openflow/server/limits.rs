//! Limits on what a switch may cause: messages by a token bucket, log lines by a window.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use log::warn;

use crate::openflow::id::PortNumber;
use crate::openflow::server::event::Reason;

const NS_PER_S: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Bucket {
    per_s: u64,
    /// In billionths of a token.
    level: u64,
    filled_at_ns: u64,
}

impl Bucket {
    pub(super) fn new(per_s: u32, now_ns: u64) -> Self {
        let per_s = u64::from(per_s);
        Self {
            per_s,
            level: per_s * NS_PER_S,
            filled_at_ns: now_ns,
        }
    }

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

/// Part of the packet-ins of a switch that one port may take, so that a neighbour that floods leaves room for the others.
const PORT_SHARE: u32 = 4;
/// Ports with a bucket of their own; a switch that invents more starts afresh.
const MAX_PORTS: usize = 1_024;

/// Buckets of the ports of a switch, apart for each class of packet-ins.
#[derive(Debug)]
pub(super) struct PortBuckets {
    per_s: u32,
    buckets: HashMap<(bool, PortNumber), Bucket>,
}

impl PortBuckets {
    /// Shares of this rate of the whole switch.
    pub(super) fn new(per_s: u32) -> Self {
        Self {
            per_s: (per_s / PORT_SHARE).max(1),
            buckets: HashMap::new(),
        }
    }

    pub(super) fn take(&mut self, measuring: bool, port: PortNumber, now_ns: u64) -> bool {
        if self.buckets.len() >= MAX_PORTS && !self.buckets.contains_key(&(measuring, port)) {
            self.buckets.clear();
        }
        let fresh = || Bucket::new(self.per_s, now_ns);
        self.buckets.entry((measuring, port)).or_insert_with(fresh).take(now_ns)
    }
}

/// Log lines about refused connections per window.
const MAX_LINES: u32 = 50;
const WINDOW_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
struct Window {
    since_ns: u64,
    count: u32,
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    window: RefCell<Window>,
}

impl Refusals {
    /// Writes a line, or counts it if too many were written lately.
    pub(super) fn log(&self, address: SocketAddr, reason: &Reason, now_ns: u64) {
        let (held_back, write) = self.window.borrow_mut().count(now_ns);
        if held_back > 0 {
            warn!("{held_back} more connections were refused");
        }
        if write {
            warn!("{address}: refused: {reason}");
        }
    }
}

impl Window {
    /// The number of lines suppressed in the previous window, and whether to write this one.
    fn count(&mut self, now_ns: u64) -> (u32, bool) {
        let mut held_back = 0;
        if now_ns.saturating_sub(self.since_ns) >= WINDOW_NS {
            held_back = self.count.saturating_sub(MAX_LINES);
            *self = Self {
                since_ns: now_ns,
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        (held_back, self.count <= MAX_LINES)
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

    #[test]
    fn a_port_takes_its_share_and_no_more() {
        let mut ports = PortBuckets::new(100);
        let mut count = |measuring, port| {
            let taken = (0..1_000).filter(|_| ports.take(measuring, PortNumber(port), NS_PER_S));
            taken.count()
        };
        assert_eq!(
            [count(false, 1), count(false, 1), count(true, 1), count(false, 2)],
            [25, 0, 25, 25]
        );
        for port in 0..100_000 {
            ports.take(false, PortNumber(port), NS_PER_S);
            assert!(ports.buckets.len() <= MAX_PORTS);
        }
    }

    #[test]
    fn suppressed_lines_are_counted() {
        let mut window = Window::default();
        let start = WINDOW_NS;
        for _ in 0..MAX_LINES {
            assert_eq!(window.count(start), (0, true));
        }
        for _ in 0..7 {
            assert_eq!(window.count(start + 1), (0, false));
        }
        assert_eq!(window.count(start + WINDOW_NS), (7, true));
        assert_eq!(window.count(start + WINDOW_NS), (0, true));
    }
}
