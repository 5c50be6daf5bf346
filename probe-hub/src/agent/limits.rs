//! The limits that this host sets to assignments, also to signed ones.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::message::assignment::{Assignment, Target};
use crate::message::event::What;
use crate::name::PortName;

/// An address that is not probed, and why: "it is …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedTarget {
    pub port: PortName,
    pub address: IpAddr,
    pub why: String,
}

impl From<RefusedTarget> for What {
    fn from(RefusedTarget { port, address, why }: RefusedTarget) -> Self {
        Self::Refused {
            peer: port,
            address,
            why,
        }
    }
}

/// Takes the targets out that are beyond `max_peers`, outside of `allow` (if that is not empty), or no addresses of hosts.
pub fn limit(assignment: &mut Assignment, allow: &[IpNet], max_peers: usize) -> Vec<RefusedTarget> {
    let mut refused = Vec::new();
    let mut refuse = |port: &PortName, address, why: String| {
        let port = port.clone();
        refused.push(RefusedTarget { port, address, why });
    };
    for Target { port, addresses } in &mut assignment.targets {
        addresses.retain(|&address| match reason(address, allow) {
            Some(why) => {
                refuse(port, address, why.to_owned());
                false
            }
            None => true,
        });
    }
    for Target { port, addresses } in assignment.targets.drain(max_peers.min(assignment.targets.len())..) {
        for address in addresses {
            refuse(
                &port,
                address,
                format!("it is beyond the {max_peers} peers that this host probes"),
            );
        }
    }
    assignment.targets.retain(|target| !target.addresses.is_empty());
    refused
}

fn reason(address: IpAddr, allow: &[IpNet]) -> Option<&'static str> {
    let is_broadcast = address == IpAddr::from([255; 4]);
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_broadcast {
        Some("it is no address of a host")
    } else if !allow.is_empty() && !allow.iter().any(|prefix| prefix.contains(&address)) {
        Some("it is outside of the prefixes that this host may probe")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_in_allowed_prefixes_are_probed_and_not_too_many() {
        let target = |port: &str, addresses: &[&str]| Target {
            port: port.parse().unwrap(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let targets = vec![
            target(
                "a/p",
                &["10.1.0.2", "127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"],
            ),
            target("b/p", &["192.0.2.1", "2001:db8::1", "::1", "::", "ff02::1"]),
            target("c/p", &["10.2.0.2"]),
            target("d/p", &["10.1.0.4"]),
        ];
        let prefix = |prefix: &str| prefix.parse::<IpNet>().unwrap();
        let left = |allow: &[IpNet], max_peers| {
            let mut assignment = Assignment {
                port: "h/p".parse().unwrap(),
                generation: 1,
                targets: targets.clone(),
                probers: Vec::new(),
            };
            let refused = limit(&mut assignment, allow, max_peers);
            let left: Vec<_> = assignment
                .targets
                .into_iter()
                .flat_map(|target| target.addresses)
                .collect();
            assert_eq!(left.len() + refused.len(), 12);
            left.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            left(&[], 9),
            ["10.1.0.2", "192.0.2.1", "2001:db8::1", "10.2.0.2", "10.1.0.4"]
        );
        assert_eq!(left(&[prefix("10.0.0.0/8")], 9), ["10.1.0.2", "10.2.0.2", "10.1.0.4"]);
        assert_eq!(
            left(&[prefix("10.1.0.0/16"), prefix("2001:db8::/32")], 9),
            ["10.1.0.2", "2001:db8::1", "10.1.0.4"]
        );
        assert_eq!(left(&[], 2), ["10.1.0.2", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(left(&[], 0), [""; 0]);
    }
}
