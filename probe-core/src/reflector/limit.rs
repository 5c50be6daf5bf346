//! Rate limits with the same buckets as in the kernel programs: per source, per source for group probes, and for all
//! sources together.

use std::net::IpAddr;

use probe_common::abi::Limit;

use crate::lru::Lru;
use crate::reflector::policy::{Rates, limit};

const MAX_SOURCES: usize = 4096;

/// These keep a CPU half busy: a reply from userspace takes about ten microseconds, not a quarter of one. A rate of 0
/// removes these limits, too.
const USERSPACE: Rates = Rates {
    port: 50_000,
    source: 25_000,
    group: 20_000,
};

/// `rates`, limited to what userspace can sustain.
pub fn userspace_rates(rates: Rates) -> Rates {
    let bounded = |rate: u32, max: u32| if rate == 0 { 0 } else { rate.min(max) };
    Rates {
        port: bounded(rates.port, USERSPACE.port),
        source: bounded(rates.source, USERSPACE.source),
        group: bounded(rates.group, USERSPACE.group),
    }
}

#[derive(Debug)]
pub(super) struct Limiter {
    port: Limit,
    source: Limit,
    group: Limit,
    port_earned_ns: u64,
    sources: Lru<IpAddr, Earned>,
}

/// The times at which the tokens used by a source are earned back.
#[derive(Debug, Clone, Copy, Default)]
struct Earned {
    unicast_ns: u64,
    group_ns: u64,
}

impl Limiter {
    pub fn new(rates: Rates) -> Self {
        let rates = userspace_rates(rates);
        Self {
            port: limit(rates.port),
            source: limit(rates.source),
            group: limit(rates.group),
            port_earned_ns: 0,
            sources: Lru::new(MAX_SOURCES),
        }
    }

    /// Charges one reply to `source`, if its own and the common limit allow it. A refused source takes nothing from the
    /// others.
    pub fn allows(&mut self, source: IpAddr, by_group: bool, now_ns: u64) -> bool {
        let earned = self.sources.get_or(source, Earned::default);
        let (limit, own_ns) = if by_group {
            (self.group, &mut earned.group_ns)
        } else {
            (self.source, &mut earned.unicast_ns)
        };
        let own = limit.charge(*own_ns, now_ns, 1);
        let all = self.port.charge(self.port_earned_ns, now_ns, 1);
        match own.zip(all) {
            Some((own, all)) => {
                *own_ns = own;
                self.port_earned_ns = all;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// A quarter of a second of it passes at once.
    const RATES: Rates = Rates {
        port: 10_000,
        source: 1_000,
        group: 400,
    };

    fn source(last: u8) -> IpAddr {
        [10, 1, 1, last].into()
    }

    /// How many of 20,000 probes are answered.
    fn allowed(limiter: &mut Limiter, source: IpAddr, by_group: bool, now_ns: u64) -> usize {
        (0..20_000).filter(|_| limiter.allows(source, by_group, now_ns)).count()
    }

    #[test]
    fn one_source_is_bounded_and_another_is_still_answered() {
        let mut limiter = Limiter::new(RATES);
        assert_eq!(allowed(&mut limiter, source(5), false, S), 250);
        assert_eq!(allowed(&mut limiter, source(6), false, S), 250);
        assert_eq!(
            allowed(&mut limiter, source(5), true, S),
            100,
            "group probes have their own"
        );
        assert_eq!(allowed(&mut limiter, source(5), false, S + S / 10), 100);
        assert_eq!(
            allowed(&mut limiter, source(5), false, 100 * S),
            250,
            "no more is saved"
        );
    }

    #[test]
    fn all_sources_together_are_bounded() {
        let mut limiter = Limiter::new(RATES);
        // More probes than one source may send at once, from each of 100 sources.
        let probes = (0..100).flat_map(|last| [source(last); 300]);
        let answered = probes.filter(|&source| limiter.allows(source, false, S)).count();
        assert_eq!(answered, 2_500);
    }

    #[test]
    fn userspace_has_limits_of_its_own_unless_they_are_lifted() {
        let mut limiter = Limiter::new(Rates::DEFAULT);
        assert_eq!(allowed(&mut limiter, source(5), false, S), 25_000 / 4);
        let mut limiter = Limiter::new(Rates {
            port: 0,
            source: 0,
            group: 0,
        });
        assert_eq!(allowed(&mut limiter, source(5), false, S), 20_000);
    }
}
