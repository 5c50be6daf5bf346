//! Which sources are answered, and how often, by the kernel programs and by userspace.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use probe_common::abi::Limit;
use probe_common::family::Family;

const S_NS: u64 = 1_000_000_000;

/// A burst is as large as the rate allows in this time.
const BURST_NS: u64 = S_NS / 4;
/// But at least so many packets, because a packet for userspace is charged as several.
const MIN_BURST: u64 = 16;

/// An address of the interface, with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnAddress {
    pub ip: IpAddr,
    /// On a point-to-point link, the prefix of the other end.
    pub prefix: IpNet,
    /// Answers only where no other address does (RFC 4862 §5.5.4).
    pub deprecated: bool,
}

/// How the sources in a prefix are treated, unless a longer one contains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// They are answered; their group probes from this address, and not at all if there is none.
    Answered(Option<IpAddr>),
    /// The network or broadcast address of an own prefix, which no host has.
    Nobody,
}

/// Why a source is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An own address: our own packet that came back, or a forged one.
    OwnAddress,
    Nobody,
    NotAllowed,
}

/// The sources that are answered, and from which address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    sources: BTreeMap<IpNet, Sources>,
    /// The prefix lengths of each IP version, longest first.
    lengths: [BTreeSet<Reverse<u8>>; 2],
    /// In order.
    own: Vec<IpAddr>,
}

impl Policy {
    /// The sources in these prefixes.
    pub fn new(allow: impl IntoIterator<Item = IpNet>) -> Self {
        Self::of_interface(&[], allow)
    }

    /// The sources in the prefixes of the interface's addresses, and in `allow`.
    pub fn of_interface(own: &[OwnAddress], allow: impl IntoIterator<Item = IpNet>) -> Self {
        let mut policy = Self {
            own: own.iter().map(|own| own.ip).collect(),
            ..Self::default()
        };
        policy.own.sort_unstable();
        policy.own.dedup();
        // Later entries replace earlier ones, so the first address of a prefix that is not deprecated remains.
        let rising = |deprecated| own.iter().rev().filter(move |own| own.deprecated == deprecated);
        for own in rising(true).chain(rising(false)) {
            policy.insert(own.prefix, Sources::Answered(Some(own.ip)));
        }
        // From the address of the longest own prefix around it, else from the first one of its scope.
        let by_preference = rising(true).chain(rising(false));
        let first: BTreeMap<_, _> = by_preference.map(|own| (scope(own.ip), own.ip)).collect();
        let allowed = allow
            .into_iter()
            .map(canonical)
            .map(|prefix| match policy.containing(prefix) {
                Some(sources) => (prefix, sources),
                None => (prefix, Sources::Answered(first.get(&scope(prefix.addr())).copied())),
            });
        for (prefix, sources) in allowed.collect::<Vec<_>>() {
            policy.insert(prefix, sources);
        }
        for own in own {
            for nobody in nobodies(own.prefix).into_iter().flatten() {
                policy.insert(nobody.into(), Sources::Nobody);
            }
        }
        policy
    }

    fn insert(&mut self, prefix: IpNet, sources: Sources) {
        let prefix = canonical(prefix);
        self.note_length(prefix);
        self.sources.insert(prefix, sources);
    }

    fn note_length(&mut self, prefix: IpNet) {
        self.lengths[usize::from(prefix.addr().is_ipv6())].insert(Reverse(prefix.prefix_len()));
    }

    /// How the sources in the longest prefix around `prefix` are treated.
    fn containing(&self, prefix: IpNet) -> Option<Sources> {
        let address = prefix.addr();
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        let mut around = lengths
            .range(Reverse(prefix.prefix_len())..)
            .filter_map(|length| IpNet::new(address, length.0).ok());
        around.find_map(|prefix| self.sources.get(&prefix.trunc()).copied())
    }

    /// The address from which the source's group probes are answered, if there is one; `Err` if it is not answered.
    pub fn check(&self, source: IpAddr) -> Result<Option<IpAddr>, Refusal> {
        let source = source.to_canonical();
        if self.is_own(source) {
            return Err(Refusal::OwnAddress);
        }
        match self.containing(source.into()) {
            Some(Sources::Answered(own)) => Ok(own.filter(|&own| scope(own) == scope(source))),
            Some(Sources::Nobody) => Err(Refusal::Nobody),
            None => Err(Refusal::NotAllowed),
        }
    }

    /// Whether probes of an IP version have a source address.
    pub fn has_address(&self, family: Family) -> bool {
        self.own.iter().any(|&own| Family::of(own) == family)
    }

    pub fn allows(&self, source: IpAddr) -> bool {
        self.check(source).is_ok()
    }

    /// All prefixes, without host bits and duplicates.
    pub fn entries(&self) -> impl Iterator<Item = (IpNet, Sources)> {
        self.sources.iter().map(|(&prefix, &sources)| (prefix, sources))
    }

    /// The prefixes that are answered.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let answered = |sources| matches!(sources, Sources::Answered(_));
        self.entries()
            .filter_map(move |(prefix, sources)| answered(sources).then_some(prefix))
    }

    /// The interface's own addresses.
    pub fn own(&self) -> &[IpAddr] {
        &self.own
    }

    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.binary_search(&address).is_ok()
    }
}

/// Addresses of one scope can answer one another: those of an IP version, link-local IPv6 addresses apart.
fn scope(address: IpAddr) -> (bool, bool) {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (address.is_ipv6(), link_local)
}

/// The network and the broadcast address of an IPv4 prefix; one of 31 or 32 bits has none (RFC 3021).
fn nobodies(prefix: IpNet) -> [Option<IpAddr>; 2] {
    match prefix {
        IpNet::V4(v4) if v4.prefix_len() < 31 => [Some(v4.network().into()), Some(v4.broadcast().into())],
        _ => [None; 2],
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

    /// The default volley limit of a host: a fifth of what it answers to each source.
    pub const DEFAULT_VOLLEY: u32 = 100_000;

    /// `wanted` probes per second of a `kstamp volley`, lowered to the rates that the host answers; 0: none.
    pub fn volley_limit(self, wanted: u32) -> u32 {
        let limits = [self.source, self.port].into_iter().filter(|&rate| rate > 0);
        limits.fold(wanted, u32::min)
    }
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

    fn own(ip: &str, length: u8, deprecated: bool) -> OwnAddress {
        let ip = ip.parse().unwrap();
        OwnAddress {
            ip,
            prefix: IpNet::new(ip, length).unwrap(),
            deprecated,
        }
    }

    #[test]
    fn a_source_is_answered_from_the_address_of_its_subnet() {
        let addresses = [
            own("10.1.1.9", 24, true),
            own("10.1.1.6", 24, false),
            own("10.1.1.7", 24, false),
            own("10.2.2.6", 24, false),
            own("10.3.3.6", 24, true),
            own("fd01::6", 64, false),
            own("fd02::6", 64, true),
            own("fe80::6", 64, false),
        ];
        let allow = [
            "10.2.0.0/16",
            "10.2.2.128/25",
            "192.0.2.0/24",
            "2001:db8::/32",
            "fe80::/10",
        ];
        let policy = Policy::of_interface(&addresses, allow.map(|prefix| prefix.parse().unwrap()));
        for (source, from) in [
            ("10.1.1.5", Some("10.1.1.6")),
            ("10.2.2.5", Some("10.2.2.6")),
            ("10.2.2.200", Some("10.2.2.6")),
            ("10.2.3.5", Some("10.1.1.6")),
            ("10.3.3.5", Some("10.3.3.6")),
            ("192.0.2.5", Some("10.1.1.6")),
            ("fd01::5", Some("fd01::6")),
            ("fd02::5", Some("fd02::6")),
            ("2001:db8::5", Some("fd01::6")),
            ("fe80::5", Some("fe80::6")),
            ("fe90::5", Some("fe80::6")),
        ] {
            let from = from.map(|from| from.parse().unwrap());
            assert_eq!(policy.check(source.parse().unwrap()), Ok(from), "{source}");
        }
        let all = Policy::of_interface(&[own("fd01::6", 64, false)], ["::/0".parse().unwrap()]);
        assert_eq!(all.check("fe80::5".parse().unwrap()), Ok(None), "of another scope");
    }

    #[test]
    fn nobody_has_an_own_address_or_a_subnets_network_or_broadcast_address() {
        let addresses = [
            own("10.1.1.6", 24, false),
            own("10.1.2.6", 30, false),
            own("10.1.3.6", 31, false),
            own("10.1.4.6", 32, false),
            own("fd01::6", 64, false),
        ];
        let policy = Policy::of_interface(
            &addresses,
            ["10.1.0.0/16".parse().unwrap(), "10.1.1.255/32".parse().unwrap()],
        );
        for (source, want) in [
            ("10.1.1.6", Some(Refusal::OwnAddress)),
            ("::ffff:10.1.1.6", Some(Refusal::OwnAddress)),
            ("10.1.1.0", Some(Refusal::Nobody)),
            ("10.1.1.255", Some(Refusal::Nobody)),
            ("10.1.1.254", None),
            ("10.1.2.4", Some(Refusal::Nobody)),
            ("10.1.2.7", Some(Refusal::Nobody)),
            ("10.1.2.5", None),
            ("10.1.3.7", None),
            ("10.1.4.7", None),
            ("10.1.0.0", None),
            ("10.2.0.1", Some(Refusal::NotAllowed)),
            ("fd01::6", Some(Refusal::OwnAddress)),
            ("fd01::", None),
            ("fd02::5", Some(Refusal::NotAllowed)),
        ] {
            assert_eq!(policy.check(source.parse().unwrap()).err(), want, "{source}");
        }
        let prefixes: Vec<_> = policy.prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(
            prefixes,
            [
                "10.1.0.0/16",
                "10.1.1.0/24",
                "10.1.2.4/30",
                "10.1.3.6/31",
                "10.1.4.6/32",
                "fd01::/64"
            ]
        );
    }

    #[test]
    fn one_prefix_however_it_is_written() {
        let all = policy(&["10.1.1.5/24", "10.1.1.0/24", "::ffff:10.1.1.9/120", "::/0"]);
        let prefixes: Vec<_> = all.prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(prefixes, ["10.1.1.0/24", "::/0"]);
        assert_eq!(canonical("::ffff:0:0/90".parse().unwrap()).to_string(), "::ffc0:0:0/90");
    }

    #[test]
    fn a_volley_is_answered_within_both_limits() {
        let table = [
            ((0, 0), 100_000, 100_000),
            ((2_000_000, 500_000), 100_000, 100_000),
            ((2_000_000, 500_000), 1_000_000, 500_000),
            ((20_000, 500_000), 100_000, 20_000),
            ((0, 7), 100_000, 7),
            ((7, 0), 100_000, 7),
            ((0, 0), 0, 0),
        ];
        for ((port, source), wanted, expected) in table {
            let rates = Rates { port, source, group: 1 };
            assert_eq!(rates.volley_limit(wanted), expected, "{rates:?}");
        }
        assert_eq!(
            Rates::DEFAULT.volley_limit(Rates::DEFAULT_VOLLEY),
            Rates::DEFAULT_VOLLEY
        );
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
