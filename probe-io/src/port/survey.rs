//! Checks of an interface before anything is opened or attached.

use std::net::IpAddr;

use probe_common::abi::MAX_ADDRESSES;
use probe_common::family::Family;
use probe_core::attach::AttachMode;
use probe_host::link::{Address, Link, Netlink, XdpMode};

use crate::backend::ebpf::attach::describe_program;
use crate::backend::ebpf::object::XDP;
use crate::port::error::PortError;
use crate::port::plan::{Choice, Device, Plan, plan};

/// The state of an interface, and how to receive on it.
pub(crate) struct Survey {
    pub(crate) link: Link,
    pub(crate) addresses: Vec<Address>,
    pub(crate) plan: Plan,
}

impl Survey {
    /// Reads the state of the interface `name`, which must be up. `own` are XDP programs that may be replaced.
    pub(crate) async fn of(netlink: &Netlink, name: &str, choice: Choice, own: &[u32]) -> Result<Self, PortError> {
        let link = netlink.link_by_name(name).await?;
        let link = link.ok_or_else(|| PortError::NoInterface(name.to_owned()))?;
        let refused = |refusal| PortError::Refused {
            interface: name.to_owned(),
            refusal,
        };
        if link.loopback {
            let refusal = "it leads to this host only, where there is nothing to measure";
            return Err(refused(refusal.to_owned()));
        }
        if !link.ethernet && choice != Choice::Only(AttachMode::Socket) {
            let refusal = "its packets have no Ethernet header, which the kernel programs need; use --engine socket";
            return Err(refused(refusal.to_owned()));
        }
        if !link.up {
            return Err(PortError::Down(name.to_owned()));
        }
        let peer = match link.peer_index {
            Some(index) => netlink.link_by_index(index).await?,
            None => None,
        };
        let native = |link: &Link| link.xdp.as_ref().is_some_and(|xdp| xdp.mode == XdpMode::Native);
        let foreign_xdp = link.xdp.as_ref().filter(|xdp| !own.contains(&xdp.program_id));
        let device = Device {
            kind: link.kind.clone(),
            foreign_xdp: foreign_xdp.map(|xdp| foreign(xdp.program_id)),
            peer_has_xdp: peer.as_ref().is_some_and(native),
        };
        Ok(Self {
            addresses: netlink.addresses(link.index).await?,
            plan: plan(choice, &device).map_err(refused)?,
            link,
        })
    }

    /// Each IP version that has a group needs an address, and all addresses must fit the maps.
    pub(crate) fn check_addresses(&self, groups: &[IpAddr]) -> Result<(), PortError> {
        self.check_number()?;
        let mut families = groups.iter().map(|&group| Family::of(group));
        match families.find(|&family| !self.addresses.iter().any(|address| Family::of(address.ip) == family)) {
            None => Ok(()),
            Some(family) => Err(self.no_address(family.to_string())),
        }
    }

    fn check_number(&self) -> Result<(), PortError> {
        let number = self.addresses.len();
        if number > MAX_ADDRESSES as usize {
            let interface = self.link.name.clone();
            return Err(PortError::TooManyAddresses { interface, number });
        }
        Ok(())
    }

    fn no_address(&self, family: String) -> PortError {
        PortError::NoAddress {
            interface: self.link.name.clone(),
            family,
        }
    }

    /// In words; refused without an address.
    pub(crate) fn describe(self) -> Result<String, PortError> {
        if self.addresses.is_empty() {
            return Err(self.no_address("IP".to_owned()));
        }
        self.check_number()?;
        let kind = self.link.kind.as_deref().unwrap_or("device");
        let because = self.plan.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let addresses = match self.addresses.len() {
            1 => "1 address".to_owned(),
            number => format!("{number} addresses"),
        };
        Ok(format!(
            "{} ({kind}) is up with {addresses}; to try {}{because}",
            self.link.name, self.plan.modes[0]
        ))
    }
}

/// In words; an agent of ours gets a hint with it.
fn foreign(program_id: u32) -> String {
    let program = describe_program(program_id);
    if program.contains(XDP) {
        format!("{program} of another kstamp")
    } else {
        program
    }
}
