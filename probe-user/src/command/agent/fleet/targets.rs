//! Which addresses of an assignment this port probes and answers.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use probe_common::abi::{Address, MAX_ADDED_PREFIXES};
use probe_common::family::Family;
use probe_core::reflector::policy::Policy;
use probe_host::link::TargetRefusal;
use probe_hub::agent::RefusedTarget;
use probe_hub::message::assignment::{Assignment, Target};
use probe_hub::name::PortName;

/// The addresses to probe, and the targets that have none for this port. A target is probed at its first address of each IP
/// version that is in use here and can be reached.
pub fn choose(
    targets: &[Target],
    policy: &Policy,
    unreachable: &[(IpAddr, TargetRefusal)],
) -> (Vec<(IpAddr, PortName)>, Vec<RefusedTarget>) {
    let (mut chosen, mut refused) = (Vec::new(), Vec::new());
    let mut owners: HashMap<IpAddr, &PortName> = HashMap::new();
    for target in targets {
        let mut reasons = Vec::new();
        let mut families = Vec::new();
        for &address in &target.addresses {
            let family = Family::of(address);
            match (refusal(address, policy, unreachable), owners.get(&address)) {
                (Some(why), _) => reasons.push((address, why)),
                (None, Some(owner)) => reasons.push((address, format!("it is an address of {owner}, too"))),
                (None, None) if families.contains(&family) => {}
                (None, None) => {
                    families.push(family);
                    owners.insert(address, &target.port);
                    chosen.push((address, target.port.clone()));
                }
            }
        }
        if families.is_empty() {
            refused.extend(reasons.into_iter().map(|(address, why)| RefusedTarget {
                port: target.port.clone(),
                address,
                why,
            }));
        }
    }
    (chosen, refused)
}

fn refusal(address: IpAddr, policy: &Policy, unreachable: &[(IpAddr, TargetRefusal)]) -> Option<String> {
    let family = Family::of(address);
    if policy.is_own(address) {
        Some("it is an address of this port itself".to_owned())
    } else if !Address::from(address).is_answerable(family) {
        Some("it is not the address of a host".to_owned())
    } else if !policy.has_address(family) {
        Some(format!("it is {family}, and this port has no such address"))
    } else {
        let found = unreachable.iter().find(|(other, _)| *other == address);
        found.map(|(_, refusal)| format!("it {refusal}"))
    }
}

/// The sources to answer beside `configured` prefixes: each address of each prober, as far as there is room.
pub fn probers(assignment: &Assignment, configured: usize) -> Vec<IpNet> {
    let addresses = assignment.probers.iter().flat_map(|prober| &prober.addresses);
    let hosts = addresses.filter(|&&address| Address::from(address).is_answerable(Family::of(address)));
    let room = (MAX_ADDED_PREFIXES as usize).saturating_sub(configured);
    hosts.map(|&address| address.into()).take(room).collect()
}

#[cfg(test)]
mod tests {
    use probe_core::reflector::policy::OwnAddress;

    use super::*;

    fn policy(own: &[&str]) -> Policy {
        let own = own.iter().map(|text| {
            let net: IpNet = text.parse().unwrap();
            OwnAddress {
                ip: net.addr(),
                prefix: net.trunc(),
                deprecated: false,
            }
        });
        Policy::of_interface(&own.collect::<Vec<_>>(), [])
    }

    fn target(port: &str, addresses: &str) -> Target {
        Target {
            port: port.parse().unwrap(),
            addresses: addresses
                .split_whitespace()
                .map(|address| address.parse().unwrap())
                .collect(),
        }
    }

    #[test]
    fn a_target_is_probed_at_one_address_of_each_version_in_use_here() {
        type Case<'a> = (&'a [&'a str], &'a str, &'a str, &'a str);
        const V4: &[&str] = &["10.1.0.5/24"];
        const BOTH: &[&str] = &["10.1.0.5/24", "fd01::5/64"];
        const BLACKHOLE: &str = "it has a blackhole route: this host drops packets to it; `ip route` lists the routes";
        let unreachable = [("10.8.0.1".parse().unwrap(), TargetRefusal::Blackhole)];
        let table: [Case<'_>; 12] = [
            (BOTH, "10.2.0.7 10.2.0.8 fd02::7", "10.2.0.7 fd02::7", ""),
            (V4, "fd02::7 10.2.0.7", "10.2.0.7", ""),
            (V4, "fd02::7", "", "it is IPv6, and this port has no such address"),
            (&[], "10.2.0.7", "", "it is IPv4, and this port has no such address"),
            (BOTH, "10.1.0.5 10.2.0.7", "10.2.0.7", ""),
            (BOTH, "10.1.0.5", "", "it is an address of this port itself"),
            (BOTH, "224.0.0.1", "", "it is not the address of a host"),
            (BOTH, "127.0.0.1", "", "it is not the address of a host"),
            (BOTH, "::", "", "it is not the address of a host"),
            (BOTH, "10.9.0.1", "", "it is an address of first/p, too"),
            (BOTH, "10.8.0.1 10.2.0.7", "10.2.0.7", ""),
            (BOTH, "10.8.0.1", "", BLACKHOLE),
        ];
        for (own, addresses, probed, why) in table {
            let targets = [target("first/p", "10.9.0.1"), target("h/p", addresses)];
            let (chosen, refused) = choose(&targets, &policy(own), &unreachable);
            let of_it = chosen.iter().filter(|(_, port)| port.to_string() == "h/p");
            let of_it: Vec<_> = of_it.map(|(address, _)| address.to_string()).collect();
            assert_eq!(of_it.join(" "), probed, "{addresses}");
            let reasons: Vec<_> = refused
                .iter()
                .filter(|refused| refused.port.to_string() == "h/p")
                .collect();
            assert_eq!(reasons.first().map_or("", |refused| &refused.why), why, "{addresses}");
        }
    }

    #[test]
    fn exactly_the_addresses_of_the_probers_are_answered() {
        let assignment = Assignment {
            port: "h/p".parse().unwrap(),
            generation: 1,
            targets: vec![target("a/p", "10.2.0.7")],
            probers: vec![target("b/p", "10.3.0.7 fd03::7"), target("c/p", "224.0.0.1 0.0.0.0")],
        };
        let texts = |configured| -> Vec<String> {
            let answered = probers(&assignment, configured);
            answered.iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(0), ["10.3.0.7/32", "fd03::7/128"]);
        assert_eq!(texts(MAX_ADDED_PREFIXES as usize - 1), ["10.3.0.7/32"]);
        assert!(texts(MAX_ADDED_PREFIXES as usize + 1).is_empty());
    }
}
