//! The facts about an interface that a backend needs: addresses, sockets, clock and policy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use probe_common::abi::{DESTINATION_GROUP, DESTINATION_OWN, MAX_TEST_PORTS};
use probe_common::family::Family;
use probe_core::attach::AttachMode;
use probe_core::reflector::policy::{OwnAddress, Policy, Rates};
use probe_host::clock::ClockState;
use probe_host::link::{Address, Link};

/// Allowed prefixes and rate limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answering {
    /// Prefixes beside the interface's own.
    pub allow: Vec<IpNet>,
    /// Packets a second.
    pub rates: Rates,
}

/// Everything that the configuration of a backend depends on.
pub(crate) struct Facts<'a> {
    pub link: &'a Link,
    pub addresses: &'a [Address],
    /// The joined groups, one for each IP version in use.
    pub groups: &'a [IpAddr],
    pub test_port: u16,
    /// Ports on which probes arrive, too.
    pub other_ports: &'a [u16],
    /// Port from which IPv4 probes leave, 0 for none.
    pub sender_port_v4: u16,
    /// Port from which IPv6 probes leave, 0 for none.
    pub sender_port_v6: u16,
    /// So many ports after each of these are for cold probes.
    pub cold_ports: u16,
    pub clock: ClockState,
    /// Where probes are received.
    pub mode: AttachMode,
    pub answering: &'a Answering,
}

impl Facts<'_> {
    /// Ports on which probes arrive; 0 for none.
    pub fn test_ports(&self) -> [u16; MAX_TEST_PORTS] {
        let mut ports = [0; MAX_TEST_PORTS];
        let given = [&self.test_port].into_iter().chain(self.other_ports);
        ports.iter_mut().zip(given).for_each(|(port, given)| *port = *given);
        ports
    }

    /// The sources that are answered: those in the prefixes of the interface's usable addresses, and in the user's.
    pub fn policy(&self) -> Policy {
        let own = self.usable().filter_map(|address| {
            Some(OwnAddress {
                ip: address.ip,
                prefix: IpNet::new(address.prefix_of, address.prefix_len).ok()?,
                deprecated: address.deprecated,
            })
        });
        Policy::of_interface(&own.collect::<Vec<_>>(), self.answering.allow.iter().copied())
    }

    /// Own and group addresses with their kinds.
    pub fn destinations(&self) -> BTreeMap<IpAddr, u32> {
        let own = self.usable().map(|address| (address.ip, DESTINATION_OWN));
        own.chain(self.groups.iter().map(|&group| (group, DESTINATION_GROUP)))
            .collect()
    }

    /// Addresses of the IP versions in use that have passed duplicate address detection.
    pub fn usable(&self) -> impl Iterator<Item = &Address> {
        let in_use = |ip| self.groups.iter().any(|&group| Family::of(group) == Family::of(ip));
        self.addresses
            .iter()
            .filter(move |address| in_use(address.ip) && address.is_usable())
    }
}
