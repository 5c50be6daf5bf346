//! The pace of sending, and the age of probes.

use std::collections::VecDeque;

use probe_common::ntp::NS_PER_S;

/// Bursts that are made up for after a pause of the process, at most.
const MAX_BEHIND: u64 = 4;

/// Turns a rate into bursts.
#[derive(Debug)]
pub struct Pace {
    rate_per_s: u64,
    burst: u64,
    /// The rate is earned from this time and sequence number on.
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

    /// The sequence number at which sending ends for now; `next` is the next one. After a long pause the rate starts again,
    /// and the missed probes are not made up for.
    pub fn limit(&mut self, now_ns: u64, next: u64) -> u64 {
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        // The start advances by whole seconds, because the kernel multiplies time and rate in 64 bits.
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

    /// Time and sequence number from which the rate is earned, for the kernel.
    pub fn start(&self) -> (u64, u64) {
        (self.start_ns, self.first)
    }
}

/// The age of probes, by the sequence numbers that were next at past times.
#[derive(Debug)]
pub struct Ages {
    next_at: VecDeque<(u64, u64)>,
    /// All numbers below have been handed out.
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

    /// Hands out the numbers of probes sent at least `age_ns` before `now_ns`, once: from the first to before the second.
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

/// Time after which another ball replaces one that has not come back: four times the 99.9th percentile of the round trips. A
/// reply after that time still counts.
///
/// The time doubles if no reply has come since balls were last replaced: the path stands still, and more balls would only
/// queue there.
#[derive(Debug)]
pub struct BallTimeout {
    by_delay_ns: u64,
    doubled: u32,
    received: u64,
}

impl Default for BallTimeout {
    fn default() -> Self {
        Self {
            by_delay_ns: 10_000_000,
            doubled: 0,
            received: 0,
        }
    }
}

impl BallTimeout {
    const MIN_NS: u64 = 1_000_000;
    const MAX_NS: u64 = 200_000_000;

    pub fn ns(&self) -> u64 {
        (self.by_delay_ns << self.doubled).min(Self::MAX_NS)
    }

    /// Takes the 99.9th percentile of the round trips so far.
    pub fn observe(&mut self, p999_ns: i64) {
        self.by_delay_ns = (4 * p999_ns.unsigned_abs()).clamp(Self::MIN_NS, Self::MAX_NS);
    }

    /// Notes that balls were replaced; `received` is the number of all replies so far.
    pub fn replaced(&mut self, received: u64) {
        let stands_still = received == self.received;
        self.doubled = if stands_still { (self.doubled + 1).min(8) } else { 0 };
        self.received = received;
    }
}

#[cfg(test)]
mod tests;
