//! Which sources are answered, and how often, by the kernel programs and by userspace.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use probe_common::abi::Limit;

const S_NS: u64 = 1_000_000_000;

/// A burst is as large as the rate allows in this time.
const BURST_NS: u64 = S_NS / 4;
/// But at least so many packets, because a packet for userspace is charged as several.
const MIN_BURST: u64 = 16;

/// The prefixes of the sources that are answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    prefixes: BTreeSet<IpNet>,
}

impl Policy {
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let prefixes = prefixes.into_iter().map(canonical).collect();
        Self { prefixes }
    }

    pub fn allows(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.prefixes.iter().any(|prefix| prefix.contains(&source))
    }

    /// Without host bits and duplicates.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.prefixes.iter().copied()
    }
}

/// Clears host bits, and converts an IPv4-mapped IPv6 prefix to IPv4 (RFC 4291 §2.5.5.2).
pub fn canonical(prefix: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let prefix = prefix.trunc();
    match (prefix.addr().to_canonical(), prefix.prefix_len().checked_sub(MAPPED)) {
        (IpAddr::V4(v4), Some(length)) => IpNet::new(v4.into(), length).unwrap_or(prefix).trunc(),
        _ => prefix,
    }
}

/// Replies per second; 0: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// All sources together.
    pub port: u32,
    /// Each source.
    pub source: u32,
    /// Each source, for its group probes.
    pub group: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Rates {
    /// More than agents send: with an interval of 100 µs, 10,000 probes a second to each peer and as many to the group; a
    /// host that does nothing else sends a few 100,000. Less than would occupy a CPU, at about 230 ns per reply. Lower for
    /// groups, where each member answers a forged probe.
    pub const DEFAULT: Self = Self {
        port: 2_000_000,
        source: 500_000,
        group: 50_000,
    };

    /// One packet per 100 ns.
    pub const MAX: u32 = 10_000_000;
}

/// The token bucket for a rate in packets per second; 0: unlimited.
pub fn limit(rate: u32) -> Limit {
    match S_NS.checked_div(u64::from(rate)) {
        Some(interval_ns) => Limit {
            interval_ns,
            burst_ns: BURST_NS.max(MIN_BURST * interval_ns),
        },
        None => Limit::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(prefixes: &[&str]) -> Policy {
        Policy::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()))
    }

    #[test]
    fn sources_within_the_prefixes_and_no_others() {
        let policy = policy(&["10.1.1.5/24", "fd01::5/64", "fe80::5/64", "192.0.2.1/32"]);
        let table = [
            ("10.1.1.0", true),
            ("10.1.1.255", true),
            ("10.1.2.0", false),
            ("10.1.0.255", false),
            ("::ffff:10.1.1.7", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("fd01::ffff", true),
            ("fd01:0:0:1::5", false),
            ("fe80::1", true),
            ("::1", false),
        ];
        for (source, allowed) in table {
            assert_eq!(policy.allows(source.parse().unwrap()), allowed, "{source}");
        }
    }

    #[test]
    fn all_of_one_ip_version_is_nothing_of_the_other() {
        let (v4, v6) = (policy(&["0.0.0.0/0"]), policy(&["::/0"]));
        let (a, b) = ("8.8.8.8".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(v4.allows(a) && !v4.allows(b));
        assert!(!v6.allows(a) && v6.allows(b));
        assert!(!Policy::default().allows(a));
    }

    #[test]
    fn one_prefix_however_it_is_written() {
        let all = policy(&["10.1.1.5/24", "10.1.1.0/24", "::ffff:10.1.1.9/120", "::/0"]);
        let prefixes: Vec<_> = all.prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(prefixes, ["10.1.1.0/24", "::/0"]);
        assert_eq!(canonical("::ffff:0:0/90".parse().unwrap()).to_string(), "::ffc0:0:0/90");
    }

    #[test]
    fn a_limit_earns_its_rate() {
        assert_eq!(limit(0), Limit::NONE);
        for rate in [1, 10, 1_000, 20_000, Rates::MAX] {
            let limit = limit(rate);
            assert_eq!(limit.interval_ns * u64::from(rate), S_NS);
            assert!(limit.charge(0, S_NS, 16).is_some(), "{rate} a second");
        }
        assert_eq!(limit(50_000).burst_ns / limit(50_000).interval_ns, 12_500);
    }

    /// See [`Rates::DEFAULT`].
    #[test]
    fn the_defaults_are_beyond_the_fastest_agent_even_if_it_catches_up() {
        for rate in [Rates::DEFAULT.source, Rates::DEFAULT.group] {
            let limit = limit(rate);
            let (mut earned_ns, mut now_ns) = (0, S_NS);
            for burst in 0..100 {
                // Held up for 100 ms, then all at once.
                now_ns += 100_000_000;
                for _ in 0..1_000 {
                    earned_ns = limit
                        .charge(earned_ns, now_ns, 1)
                        .unwrap_or_else(|| panic!("{rate} a second, burst {burst}"));
                }
            }
        }
    }
}
