//! What the programs are told: derived from the interface, its addresses, the sockets and the clock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use probe_common::abi::{ABI_VERSION, Address, DESTINATION_GROUP, DESTINATION_OWN, Settings};
use probe_common::ntp::ErrorEstimate;
use probe_core::reflector::policy::{Policy, limit};
use probe_host::clock::ClockState;
use probe_host::link;
use probe_host::link::Link;

use crate::backend::ebpf::plan::ReceiveMode;
use crate::backend::ebpf::port::Answering;

/// Everything that the settings depend on.
pub struct Facts<'a> {
    /// The interface.
    pub link: &'a Link,
    /// Its addresses.
    pub addresses: &'a [link::Address],
    /// The joined groups.
    pub groups: &'a [IpAddr],
    /// Port on which probes arrive.
    pub test_port: u16,
    /// Port from which IPv4 probes leave, 0 for none.
    pub sender_port_v4: u16,
    /// Port from which IPv6 probes leave, 0 for none.
    pub sender_port_v6: u16,
    /// This host's clock.
    pub clock: ClockState,
    /// Where the receive program runs.
    pub mode: ReceiveMode,
    /// Who is answered beside the interface's own prefixes, and how often.
    pub answering: &'a Answering,
}

/// The error estimate that goes with `clock`.
pub fn error_estimate(clock: &ClockState) -> ErrorEstimate {
    ErrorEstimate::new(clock.synchronised, clock.error_ns)
}

impl Facts<'_> {
    /// The settings record; `policy_generation` changes whenever [`Facts::policy`] does.
    pub fn settings(&self, policy_generation: u32) -> Settings {
        let rates = self.answering.rates;
        // An address whose preferred lifetime is over answers only if there is no other (RFC 4862 §5.5.4).
        let own = |wanted: fn(IpAddr) -> bool| {
            let found = self.usable().filter(|address| wanted(address.ip));
            let preferred = found.min_by_key(|address| address.deprecated);
            preferred.map_or(Address::NONE, |address| Address::from(address.ip))
        };
        Settings {
            abi_version: ABI_VERSION,
            interface: self.link.index,
            tai_offset_ns: self.clock.tai_offset_ns(),
            test_port: self.test_port,
            sender_port_v4: self.sender_port_v4,
            sender_port_v6: self.sender_port_v6,
            error_estimate: error_estimate(&self.clock).0,
            mac: self.link.mac,
            // Native XDP sees frames from which the socket buffer, and with it what was left to the device, is gone.
            partial_checksums: u8::from(self.mode != ReceiveMode::XdpNative),
            ingress_is_second: u8::from(self.mode == ReceiveMode::XdpGeneric),
            own_v4: own(|ip| ip.is_ipv4()),
            own_v6: own(|ip| matches!(ip, IpAddr::V6(v6) if !v6.is_unicast_link_local())),
            own_v6_link_local: own(|ip| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())),
            policy_generation,
            port_batch: port_batch(rates.port),
            source_limit: limit(rates.source),
            group_limit: limit(rates.group),
            port_limit: limit(rates.port),
        }
    }

    /// Whose sources are answered: the prefixes of the interface's usable addresses, and what the user allows.
    pub fn policy(&self) -> Policy {
        let own = self
            .usable()
            .filter_map(|address| IpNet::new(address.prefix_of, address.prefix_len).ok());
        Policy::new(own.chain(self.answering.allow.iter().copied()))
    }

    /// Own and group addresses with their kinds.
    pub fn destinations(&self) -> BTreeMap<IpAddr, u32> {
        let own = self.usable().map(|address| (address.ip, DESTINATION_OWN));
        own.chain(self.groups.iter().map(|&group| (group, DESTINATION_GROUP)))
            .collect()
    }

    /// Addresses of the IP versions in use that are beyond duplicate address detection.
    fn usable(&self) -> impl Iterator<Item = &link::Address> {
        let in_use = |ip: IpAddr| self.groups.iter().any(|group| group.is_ipv4() == ip.is_ipv4());
        self.addresses
            .iter()
            .filter(move |address| in_use(address.ip) && !address.tentative && !address.duplicate)
    }
}

/// What a CPU takes from the port's bucket at once: a millisecond's worth, so that it can be wrong by no more.
fn port_batch(rate: u32) -> u32 {
    const MOST: u32 = 64;
    (rate / 1_000).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use probe_core::reflector::policy::Rates;
    use probe_host::link::Scope;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

    fn link() -> Link {
        Link {
            index: 7,
            name: "port1".to_owned(),
            up: true,
            loopback: false,
            running: true,
            mac: MAC,
            mtu: 1450,
            kind: None,
            driver: None,
            xdp: None,
            peer_index: None,
            tx_dropped: 0,
            tx_errors: 0,
            rx_dropped: 0,
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

    fn told(addresses: &[link::Address], groups: &[&str]) -> (Settings, BTreeMap<IpAddr, u32>) {
        let groups: Vec<IpAddr> = groups.iter().map(|group| group.parse().unwrap()).collect();
        let facts = Facts {
            link: &link(),
            addresses,
            groups: &groups,
            test_port: 1910,
            sender_port_v4: 40_000,
            sender_port_v6: 0,
            clock: ClockState {
                synchronised: true,
                error_ns: 1_000,
                tai_offset_s: 37,
            },
            mode: ReceiveMode::XdpGeneric,
            answering: &Answering {
                allow: vec![],
                rates: Rates::DEFAULT,
            },
        };
        (facts.settings(9), facts.destinations())
    }

    fn ip(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn everything_that_the_programs_must_know() {
        let addresses = [
            address("10.1.1.5"),
            address("10.1.1.7"),
            address("fd01::5"),
            address("fe80::5"),
        ];
        let (settings, destinations) = told(&addresses, &["239.255.255.250", "ff0e::10"]);
        assert_eq!(
            (settings.abi_version, settings.interface, settings.mac),
            (ABI_VERSION, 7, MAC)
        );
        assert_eq!(
            (settings.test_port, settings.sender_port_v4, settings.sender_port_v6),
            (1910, 40_000, 0)
        );
        assert_eq!(settings.tai_offset_ns, 37_000_000_000);
        assert!(ErrorEstimate(settings.error_estimate).synchronised());
        assert_eq!((settings.partial_checksums, settings.ingress_is_second), (1, 1));
        assert_eq!((settings.own_v4, settings.own_v6), (ip("10.1.1.5"), ip("fd01::5")));
        assert_eq!(settings.own_v6_link_local, ip("fe80::5"));
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
    fn the_interfaces_own_prefixes_are_answered_and_what_is_allowed_beside_them() {
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
            sender_port_v4: 0,
            sender_port_v6: 0,
            clock: ClockState {
                synchronised: false,
                error_ns: 0,
                tai_offset_s: 0,
            },
            mode: ReceiveMode::Tc,
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
        let settings = facts.settings(3);
        assert_eq!((settings.policy_generation, settings.port_batch), (3, 2));
        assert_eq!(
            (settings.port_limit.interval_ns, settings.group_limit.interval_ns),
            (500_000, 100_000_000)
        );
        assert_eq!(settings.source_limit, probe_common::abi::Limit::NONE);
    }

    #[test]
    fn an_ip_version_that_is_not_in_use_has_no_addresses() {
        let (settings, destinations) = told(&[address("10.1.1.5"), address("fd01::5")], &["239.255.255.250"]);
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
        let (settings, destinations) = told(&[tentative, duplicate, deprecated], &["ff0e::10"]);
        assert_eq!(settings.own_v6, ip("fd01::3"));
        assert_eq!(destinations.len(), 2);
        let (settings, _) = told(&[deprecated, address("fd01::4")], &["ff0e::10"]);
        assert_eq!(settings.own_v6, ip("fd01::4"));
    }
}
