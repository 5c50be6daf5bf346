//! The IP versions in use, and the multicast group of each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use log::warn;
use probe_common::family::Family;
use probe_core::agent::config::Families;
use probe_io::port::PortConfig;

use crate::command::shared::args::FamilyArg;
use crate::command::shared::values::{ConfigError, wrong};

/// Where agents discover each other unless --group is given.
pub const DEFAULT_GROUPS: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(239, 255, 255, 250),
    Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x10),
);

/// One group for each family in use: the given or the default one.
pub fn groups(given: &[IpAddr], family: Option<FamilyArg>) -> Result<Vec<IpAddr>, ConfigError> {
    let families = match family {
        Some(FamilyArg::V4) => Families { v4: true, v6: false },
        Some(FamilyArg::V6) => Families { v4: false, v6: true },
        None if !given.is_empty() => families_of(given),
        Some(FamilyArg::Both) | None => Families { v4: true, v6: true },
    };
    if let Some(group) = given.iter().find(|group| !has(families, Family::of(**group))) {
        let name = Family::of(*group);
        return wrong(format!(
            "--group {group} is {name}, which --family leaves out; drop one of the two"
        ));
    }
    let (v4, v6) = DEFAULT_GROUPS;
    Ok([(Family::V4, v4.into()), (Family::V6, v6.into())]
        .into_iter()
        .filter(|(family, _)| has(families, *family))
        .map(|(family, default)| {
            given
                .iter()
                .copied()
                .find(|group| Family::of(*group) == family)
                .unwrap_or(default)
        })
        .collect())
}

/// Makes the groups of families that are not `present` wait for an address, unless none would be left.
pub fn limit(port: &mut PortConfig, present: Families) {
    let is_present = |group: &IpAddr| has(present, Family::of(*group));
    if port.groups.iter().any(is_present) {
        port.late = port.groups.extract_if(.., |group| !is_present(group)).collect();
    }
}

/// Warns of the families that wait for an address.
pub fn warn_of_late(port: &PortConfig) {
    for group in &port.late {
        let (interface, family) = (&port.interface, Family::of(*group));
        warn!("{interface} has no {family} address; {family} is taken up when it gets one");
    }
}

pub fn families_of(addresses: &[IpAddr]) -> Families {
    Families {
        v4: addresses.iter().any(IpAddr::is_ipv4),
        v6: addresses.iter().any(IpAddr::is_ipv6),
    }
}

pub fn has(families: Families, family: Family) -> bool {
    match family {
        Family::V4 => families.v4,
        Family::V6 => families.v6,
    }
}
