//! The settings of the programs: derived from the interface, its addresses, the sockets and the clock.

use std::net::IpAddr;

use probe_common::abi::{ABI_VERSION, Address, MAX_REPLIES, Settings};
use probe_core::attach::AttachMode;
use probe_core::reflector::policy::limit;
use probe_core::rings::Rings;

use crate::backend::facts::Facts;
use crate::clock::error_estimate;

/// The settings record; `policy_generation` changes whenever [`Facts::policy`] does.
pub(crate) fn settings(facts: &Facts<'_>, policy_generation: u32, rings: Rings, unix_offset_ns: u64) -> Settings {
    let rates = facts.answering.rates;
    // Most probes come to an address that is not deprecated.
    let first_own = |wanted: fn(IpAddr) -> bool| {
        let found = facts.usable().filter(|address| wanted(address.ip));
        let preferred = found.min_by_key(|address| address.deprecated);
        preferred.map_or(Address::NONE, |address| Address::from(address.ip))
    };
    Settings {
        abi_version: ABI_VERSION,
        interface: facts.link.index,
        unix_offset_ns,
        test_ports: facts.test_ports(),
        sender_port_v4: facts.sender_port_v4,
        sender_port_v6: facts.sender_port_v6,
        error_estimate: error_estimate(&facts.clock).0,
        cold_ports: facts.cold_ports,
        mac: facts.link.mac,
        // Native XDP has no socket buffer, so checksums left to the device are lost.
        partial_checksums: u8::from(facts.mode != AttachMode::XdpNative),
        ingress_is_second: u8::from(facts.mode == AttachMode::XdpGeneric),
        own_v4: first_own(|ip| ip.is_ipv4()),
        own_v6: first_own(|ip| matches!(ip, IpAddr::V6(v6) if !v6.is_unicast_link_local())),
        policy_generation,
        port_batch: port_batch(rates.port),
        max_replies: MAX_REPLIES,
        ring_mask: rings.mask(),
        source_limit: limit(rates.source),
        group_limit: limit(rates.group),
        port_limit: limit(rates.port),
    }
}

/// The share that a CPU takes from the port's bucket at once: one millisecond, which bounds the error.
fn port_batch(rate: u32) -> u32 {
    const MAX_BATCH: u32 = 64;
    (rate / 1_000).clamp(1, MAX_BATCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use probe_common::abi::{DESTINATION_GROUP, DESTINATION_OWN, Limit};
    use probe_common::ntp::ErrorEstimate;
    use probe_core::reflector::policy::Rates;
    use probe_host::clock::ClockState;
    use probe_host::link;
    use probe_host::link::{Link, Scope};

    use super::*;
    use crate::backend::facts::Answering;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

    fn link() -> Link {
        Link {
            index: 7,
            mac: MAC,
            ..Link::default()
        }
    }

    fn address(ip: &str) -> link::Address {
        link::Address {
            ip: ip.parse().unwrap(),
            prefix_of: ip.parse().unwrap(),
            prefix_len: 24,
            scope: Scope::Global,
            tentative: false,
            duplicate: false,
            deprecated: false,
        }
    }

    fn derived(addresses: &[link::Address], groups: &[&str]) -> (Settings, BTreeMap<IpAddr, u32>) {
        let groups: Vec<IpAddr> = groups.iter().map(|group| group.parse().unwrap()).collect();
        let facts = Facts {
            link: &link(),
            addresses,
            groups: &groups,
            test_port: 1910,
            other_ports: &[862],
            sender_port_v4: 40_000,
            sender_port_v6: 0,
            cold_ports: 64,
            clock: ClockState {
                synchronised: true,
                error_ns: 1_000,
                tai_offset_s: 37,
            },
            mode: AttachMode::XdpGeneric,
            answering: &Answering {
                allow: vec![],
                rates: Rates::DEFAULT,
            },
        };
        (settings(&facts, 9, Rings::ONE, 37), facts.destinations())
    }

    fn ip(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn settings_have_all_facts() {
        let addresses = [
            address("10.1.1.5"),
            address("10.1.1.7"),
            address("fd01::5"),
            address("fe80::5"),
        ];
        let (settings, destinations) = derived(&addresses, &["239.255.255.250", "ff0e::10"]);
        assert_eq!(
            (settings.abi_version, settings.interface, settings.mac),
            (ABI_VERSION, 7, MAC)
        );
        assert_eq!(
            (settings.test_ports, settings.sender_port_v4, settings.sender_port_v6),
            ([1910, 862, 0, 0], 40_000, 0)
        );
        assert_eq!((settings.unix_offset_ns, settings.cold_ports), (37, 64));
        assert_eq!(settings.ring_mask, Rings::ONE.mask());
        assert!(ErrorEstimate(settings.error_estimate).synchronised());
        assert_eq!((settings.partial_checksums, settings.ingress_is_second), (1, 1));
        assert_eq!((settings.own_v4, settings.own_v6), (ip("10.1.1.5"), ip("fd01::5")));
        let kinds: Vec<u32> = destinations.into_values().collect();
        assert_eq!(
            kinds,
            [
                DESTINATION_OWN,
                DESTINATION_OWN,
                DESTINATION_GROUP,
                DESTINATION_OWN,
                DESTINATION_OWN,
                DESTINATION_GROUP
            ]
        );
    }

    #[test]
    fn own_and_allowed_prefixes_are_answered() {
        let point_to_point = link::Address {
            prefix_of: "192.0.2.7".parse().unwrap(),
            prefix_len: 32,
            ..address("192.0.2.1")
        };
        let tentative = link::Address {
            tentative: true,
            ..address("10.8.8.8")
        };
        let groups = ["239.255.255.250".parse().unwrap()];
        let facts = Facts {
            link: &link(),
            addresses: &[address("10.1.1.5"), point_to_point, tentative, address("fd01::5")],
            groups: &groups,
            test_port: 1910,
            other_ports: &[],
            sender_port_v4: 0,
            sender_port_v6: 0,
            cold_ports: 0,
            clock: ClockState {
                synchronised: false,
                error_ns: 0,
                tai_offset_s: 0,
            },
            mode: AttachMode::Tc,
            answering: &Answering {
                allow: vec!["10.7.0.0/16".parse().unwrap()],
                rates: Rates {
                    port: 2_000,
                    source: 0,
                    group: 10,
                },
            },
        };
        let prefixes: Vec<_> = facts.policy().prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(prefixes, ["10.1.1.0/24", "10.7.0.0/16", "192.0.2.7/32"]);
        let settings = settings(&facts, 3, Rings::NONE, 0);
        assert_eq!((settings.policy_generation, settings.port_batch), (3, 2));
        assert_eq!(settings.ring_mask, Rings::NONE.mask());
        assert_eq!(
            (settings.port_limit.interval_ns, settings.group_limit.interval_ns),
            (500_000, 100_000_000)
        );
        assert_eq!(settings.source_limit, Limit::NONE);
    }

    #[test]
    fn an_unused_ip_version_has_no_addresses() {
        let (settings, destinations) = derived(&[address("10.1.1.5"), address("fd01::5")], &["239.255.255.250"]);
        assert_eq!(settings.own_v6, Address::NONE);
        assert_eq!(destinations.len(), 2);
    }

    #[test]
    fn unsettled_addresses_wait_and_deprecated_ones_answer_last() {
        let tentative = link::Address {
            tentative: true,
            ..address("fd01::1")
        };
        let duplicate = link::Address {
            duplicate: true,
            ..address("fd01::2")
        };
        let deprecated = link::Address {
            deprecated: true,
            ..address("fd01::3")
        };
        let (settings, destinations) = derived(&[tentative, duplicate, deprecated], &["ff0e::10"]);
        assert_eq!(settings.own_v6, ip("fd01::3"));
        assert_eq!(destinations.len(), 2);
        let (settings, _) = derived(&[deprecated, address("fd01::4")], &["ff0e::10"]);
        assert_eq!(settings.own_v6, ip("fd01::4"));
    }
}
