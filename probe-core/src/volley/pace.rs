//! When how many probes may leave.

use std::collections::VecDeque;

const NS_PER_S: u64 = 1_000_000_000;

/// Bursts that may be made up for after a pause of the process.
const MAX_BEHIND: u64 = 4;

/// Spends a rate in bursts.
#[derive(Debug)]
pub struct Pace {
    rate_per_s: u64,
    burst: u64,
    /// From here on the rate is earned.
    start_ns: u64,
    first: u64,
}

impl Pace {
    /// `first` is the first sequence number. A first burst may leave at once.
    pub fn new(rate_per_s: u64, burst: u32, start_ns: u64, first: u64) -> Self {
        Self {
            rate_per_s,
            burst: burst.into(),
            start_ns,
            first,
        }
    }

    /// The sequence number at which sending ends for now, given the next one. After a pause the rate counts from now on:
    /// what was missed is not made up for.
    pub fn limit(&mut self, now_ns: u64, next: u64) -> u64 {
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        // Whole seconds are settled, because the kernel's product of time and rate has 64 bits.
        let seconds = elapsed_ns / NS_PER_S;
        self.start_ns += seconds * NS_PER_S;
        self.first += seconds * self.rate_per_s;
        let earned = u128::from(elapsed_ns % NS_PER_S) * u128::from(self.rate_per_s) / u128::from(NS_PER_S);
        let earned = earned as u64;
        let limit = self.first + self.burst + earned;
        if limit > next + MAX_BEHIND * self.burst {
            self.start_ns = now_ns;
            self.first = next;
            return next + self.burst;
        }
        limit
    }

    /// The start of the rate, for the kernel: instant and sequence number.
    pub fn start(&self) -> (u64, u64) {
        (self.start_ns, self.first)
    }
}

/// The sequence numbers that were next at past instants: tells which probes have waited for how long.
#[derive(Debug)]
pub struct Ages {
    next_at: VecDeque<(u64, u64)>,
    /// All before it have been handed out.
    handed_out: u64,
}

impl Ages {
    pub fn new(first: u64) -> Self {
        Self {
            next_at: VecDeque::new(),
            handed_out: first,
        }
    }

    /// Notes that `next` is the next sequence number at `now_ns`.
    pub fn note(&mut self, now_ns: u64, next: u64) {
        self.next_at.push_back((now_ns, next));
    }

    /// The numbers that have not been handed out, and were given away at least `age_ns` before `now_ns`: from the first to
    /// before the second.
    pub fn older(&mut self, now_ns: u64, age_ns: u64) -> (u64, u64) {
        let from = self.handed_out;
        while let Some(&(at_ns, next)) = self.next_at.front()
            && at_ns.saturating_add(age_ns) <= now_ns
        {
            self.handed_out = next;
            self.next_at.pop_front();
        }
        (from, self.handed_out)
    }
}

/// How long a ball may be away before another one is thrown in its place. A reply after that counts all the same.
///
/// Four times the delay that all but one in a thousand replies keep to. If no reply has come since balls were last
/// replaced, the path stands still, and more balls would only queue there: then twice as long as before.
#[derive(Debug)]
pub struct Patience {
    by_delay_ns: u64,
    doubled: u32,
    received: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            by_delay_ns: 10_000_000,
            doubled: 0,
            received: 0,
        }
    }
}

impl Patience {
    const MIN_NS: u64 = 1_000_000;
    const MAX_NS: u64 = 200_000_000;

    pub fn ns(&self) -> u64 {
        (self.by_delay_ns << self.doubled).min(Self::MAX_NS)
    }

    /// Takes the 99.9th percentile of the round trips so far.
    pub fn observe(&mut self, p999_ns: i64) {
        self.by_delay_ns = (4 * p999_ns.unsigned_abs()).clamp(Self::MIN_NS, Self::MAX_NS);
    }

    /// Balls were replaced when `received` replies had come in all.
    pub fn replaced(&mut self, received: u64) {
        let stands_still = received == self.received;
        self.doubled = if stands_still { (self.doubled + 1).min(8) } else { 0 };
        self.received = received;
    }
}

#[cfg(test)]
mod tests;
