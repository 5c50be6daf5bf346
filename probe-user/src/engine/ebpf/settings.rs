//! What the programs are told: derived from the interface, its addresses, the sockets and the clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use probe_common::abi::{ABI_VERSION, Address, DESTINATION_GROUP, DESTINATION_OWN, Settings};
use probe_common::ntp::ErrorEstimate;

use super::plan::ReceiveMode;
use crate::host::clock::ClockState;
use crate::host::link::{self, Link};

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
}

/// The error estimate that goes with `clock`.
pub fn error_estimate(clock: &ClockState) -> ErrorEstimate {
    ErrorEstimate::new(clock.synchronised, clock.error_ns)
}

impl Facts<'_> {
    /// The settings record.
    pub fn settings(&self) -> Settings {
        let own = |wanted: fn(IpAddr) -> bool| {
            let found = self.usable().find(|&ip| wanted(ip));
            found.map_or(Address::NONE, Address::from)
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
        }
    }

    /// Own and group addresses with their kinds.
    pub fn destinations(&self) -> BTreeMap<IpAddr, u32> {
        let own = self.usable().map(|ip| (ip, DESTINATION_OWN));
        own.chain(self.groups.iter().map(|&group| (group, DESTINATION_GROUP)))
            .collect()
    }

    /// Addresses of the IP versions in use that are beyond duplicate address detection.
    fn usable(&self) -> impl Iterator<Item = IpAddr> {
        let in_use = |ip: &IpAddr| self.groups.iter().any(|group| group.is_ipv4() == ip.is_ipv4());
        let settled = self
            .addresses
            .iter()
            .filter(|address| !address.tentative)
            .map(|address| address.ip);
        settled
            .filter(in_use)
            .filter(|ip| *ip != IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}
