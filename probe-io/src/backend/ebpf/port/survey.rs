//! What can be found out and refused before anything is opened or attached.

use probe_host::link::{Address, Link, Netlink, XdpMode};

use crate::backend::ebpf::object::XDP;
use crate::backend::ebpf::plan::{Choice, Device, Plan};
use crate::backend::ebpf::port::{PortConfig, PortError};
use crate::backend::ebpf::{attach, plan};

/// An interface as it was found, and how to receive on it.
pub(crate) struct Survey {
    pub(crate) link: Link,
    pub(crate) addresses: Vec<Address>,
    pub(crate) plan: Plan,
}

impl Survey {
    /// Looks at the interface `name`, which must be up.
    pub(crate) async fn of(netlink: &Netlink, name: &str, choice: Choice) -> Result<Self, PortError> {
        let link = netlink.link_by_name(name).await?;
        let link = link.ok_or_else(|| PortError::NoInterface(name.to_owned()))?;
        if link.loopback {
            return Err(PortError::Refused {
                interface: name.to_owned(),
                refusal: "it leads to this host only, where there is nothing to measure".to_owned(),
            });
        }
        if !link.up {
            return Err(PortError::Down(name.to_owned()));
        }
        let addresses = netlink.addresses(link.index).await?;
        let plan = make_plan(netlink, choice, &link).await?;
        Ok(Self { link, addresses, plan })
    }

    /// Each IP version in use needs an address.
    pub(crate) fn check_addresses(&self, config: &PortConfig) -> Result<(), PortError> {
        let lacks_address = |is_v4| !self.addresses.iter().any(|address| address.ip.is_ipv4() == is_v4);
        match config.groups.iter().find(|group| lacks_address(group.is_ipv4())) {
            None => Ok(()),
            Some(group) => Err(PortError::NoAddress {
                interface: config.interface.clone(),
                family: if group.is_ipv4() { "IPv4" } else { "IPv6" },
            }),
        }
    }

    /// In words.
    pub(crate) fn describe(self) -> String {
        let kind = self.link.kind.as_deref().unwrap_or("device");
        let because = self.plan.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!(
            "{} ({kind}) is up with {} addresses; to try {}{because}",
            self.link.name,
            self.addresses.len(),
            self.plan.modes[0]
        )
    }
}

async fn make_plan(netlink: &Netlink, choice: Choice, link: &Link) -> Result<Plan, PortError> {
    let peer = match link.peer_index {
        Some(index) => netlink.link_by_index(index).await?,
        None => None,
    };
    let native = |link: &Link| link.xdp.as_ref().is_some_and(|xdp| xdp.mode == XdpMode::Native);
    let device = Device {
        kind: link.kind.clone(),
        foreign_xdp: link.xdp.as_ref().map(|xdp| foreign(xdp.program_id)),
        peer_has_xdp: peer.as_ref().is_some_and(native),
    };
    plan::plan(choice, &device).map_err(|refusal| PortError::Refused {
        interface: link.name.clone(),
        refusal,
    })
}

/// In words; an agent of ours gets a hint with it.
fn foreign(program_id: u32) -> String {
    let program = attach::describe_program(program_id);
    if program.contains(XDP) {
        format!("{program} of another kstamp")
    } else {
        program
    }
}
