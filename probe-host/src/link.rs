//! Network interfaces and their addresses, read by netlink.

mod changes;
mod obstacle;
pub mod request;
mod route;
mod xdp_features;

use std::net::IpAddr;
use std::pin::pin;
use std::{fmt, io};

use futures_util::TryStreamExt as _;
use rtnetlink::LinkGetRequest;
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
    XdpAttached as KernelXdp,
};

use crate::driver::DriverQuery;
pub use crate::link::changes::{Changes, Notices};
pub use crate::link::obstacle::{Obstacle, next_hop_mac, obstacle};
pub use crate::link::route::{Route, TargetRefusal};
pub use crate::link::xdp_features::{XdpFeatures, xdp_features};

/// An interface could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    #[error("cannot ask the kernel for {what}: {source}")]
    Ask { what: String, source: rtnetlink::Error },
}

/// Why a name is no interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("an interface name cannot be empty")]
    Empty,
    #[error("'{0}' is too long for an interface name, which has at most 15 bytes")]
    TooLong(String),
    /// A character that no name may have, or a name with a meaning in paths.
    #[error("'{0}' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed")]
    Invalid(String),
}

/// Checks an interface name by the rules of the kernel (`dev_valid_name`).
pub fn check_name(name: &str) -> Result<(), NameError> {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.len() >= libc::IFNAMSIZ {
        Err(NameError::TooLong(name.to_owned()))
    } else if name == "." || name == ".." || name.contains(forbidden) {
        Err(NameError::Invalid(name.to_owned()))
    } else {
        Ok(())
    }
}

/// Without one of these, packets are dropped before the driver.
const RUNNING: LinkFlags = LinkFlags::Up.union(LinkFlags::LowerUp).union(LinkFlags::Running);

/// The state of one interface when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// A deleted interface that comes back has another index.
    pub index: u32,
    pub name: String,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// Up, with a carrier (`IFF_LOWER_UP`), and with queues that the kernel has activated since (`IFF_RUNNING`).
    pub running: bool,
    /// Packets have an Ethernet header (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// Zero without a MAC address of six bytes.
    pub mac: [u8; 6],
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Kind of a virtual interface: `veth`, `tun`, `openvswitch`, `bridge`, `vxlan`, `vlan` …
    pub kind: Option<String>,
    pub driver: Option<String>,
    pub xdp: Option<XdpAttached>,
    /// All attached XDP programs, in whichever mode.
    pub xdp_ids: Vec<u32>,
    /// Index of the other end of a veth pair, if that is in the same namespace.
    pub peer_index: Option<u32>,
    /// The other end of a veth pair, if that is in another namespace.
    pub peer_elsewhere: Option<Elsewhere>,
    /// Packets dropped at egress since the interface was created.
    pub tx_dropped: u64,
    /// Errors at egress since the interface was created.
    pub tx_errors: u64,
    /// Packets dropped at ingress since the interface was created.
    pub rx_dropped: u64,
}

/// An interface in another network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// Of the namespace, as this namespace numbers it.
    namespace: i32,
    index: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpAttached {
    /// Of several programs, the mode of the one that sees packets first.
    pub mode: XdpMode,
    /// The id that `bpftool prog` shows.
    pub program_id: u32,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack, after the driver.
    Generic,
    /// In the network card.
    Offload,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface's own address, on a point-to-point link too.
    pub ip: IpAddr,
    pub prefix_len: u8,
    /// The address that the prefix belongs to: on a point-to-point link the other end's.
    pub prefix_of: IpAddr,
    pub scope: Scope,
    /// Duplicate address detection has not ended, so the address cannot be used yet.
    pub tentative: bool,
    /// Duplicate address detection found another owner, so the address cannot be used.
    pub duplicate: bool,
    /// The preferred lifetime has ended, so new sessions should use another address.
    pub deprecated: bool,
}

impl Address {
    /// Whether it has passed duplicate address detection.
    pub fn is_usable(&self) -> bool {
        !self.tentative && !self.duplicate
    }
}

/// Where an address is valid (rtnetlink's scopes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// Within a site, or a user-defined scope between site and universe.
    Site,
    /// On the link.
    Link,
    /// In this host only.
    Host,
}

/// A connection to the kernel's routing tables of one network namespace.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    drivers: DriverQuery,
}

impl Netlink {
    /// Opens a connection in the current network namespace, served by a task of the current tokio runtime.
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            drivers: DriverQuery::open().map_err(LinkError::Open)?,
        })
    }

    /// The interface of that name, if there is one. Takes some tens of microseconds: one request and one ioctl.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, LinkError> {
        check_name(name)?;
        self.link(self.handle.link().get().match_name(name), || {
            format!("interface {name}")
        })
        .await
    }

    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, LinkError> {
        self.link(self.handle.link().get().match_index(index), || {
            format!("interface {index}")
        })
        .await
    }

    /// The other end of a veth pair. In another namespace it takes `CAP_NET_ADMIN` there.
    pub async fn peer_of(&self, link: &Link) -> Result<Option<Link>, LinkError> {
        if let Some(index) = link.peer_index {
            return self.link_by_index(index).await;
        }
        let Some(Elsewhere { namespace, index }) = link.peer_elsewhere else {
            return Ok(None);
        };
        let mut request = self.handle.link().get().match_index(index);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(LinkAttribute::IfNetnsId(namespace));
        self.link(request, || format!("the other end of {}", link.name)).await
    }

    async fn link(&self, request: LinkGetRequest, what: impl FnOnce() -> String) -> Result<Option<Link>, LinkError> {
        let mut links = pin!(request.execute());
        match links.try_next().await {
            Ok(message) => Ok(message.map(|message| self.link_from(message))),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => Ok(None),
            Err(source) => Err(LinkError::Ask { what: what(), source }),
        }
    }

    fn link_from(&self, message: LinkMessage) -> Link {
        let link = link_from(message);
        Link {
            driver: self.drivers.driver(&link.name),
            ..link
        }
    }

    /// The addresses of the interface with that index; empty without such an interface.
    pub async fn addresses(&self, index: u32) -> Result<Vec<Address>, LinkError> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await
            .map_err(|source| LinkError::Ask {
                what: format!("the addresses of interface {index}"),
                source,
            })?;
        Ok(messages.iter().filter_map(address_from).collect())
    }
}

/// All interfaces of the current network namespace, without their drivers and counters. For callers that cannot await.
pub fn links() -> io::Result<Vec<Link>> {
    let mut message = LinkMessage::default();
    let without_counters = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    message.attributes.push(without_counters);
    let answers = request::request(RouteNetlinkMessage::GetLink(message), NLM_F_DUMP)?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(link_from(message)),
            _ => None,
        })
        .collect())
}

fn link_from(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        loopback: flags.contains(LinkFlags::Loopback),
        running: flags.contains(RUNNING),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        ..Link::default()
    };
    let mut other_end = None;
    let mut namespace = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(index) => other_end = Some(index),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(id),
            LinkAttribute::Xdp(attributes) => {
                link.xdp = xdp_from(&attributes);
                link.xdp_ids = attributes.iter().filter_map(xdp_id).collect();
            }
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Stats64(stats) => {
                link.tx_dropped = stats.tx_dropped;
                link.tx_errors = stats.tx_errors;
                link.rx_dropped = stats.rx_dropped;
            }
            _ => {}
        }
    }
    // For other kinds, IFLA_LINK is the device below, not the other end.
    let is_veth = link.kind.as_deref() == Some(InfoKind::Veth.to_string().as_str());
    let other_end = other_end.filter(|_| is_veth);
    link.peer_index = other_end.filter(|_| namespace.is_none());
    link.peer_elsewhere = namespace.and_then(|namespace| other_end.map(|index| Elsewhere { namespace, index }));
    link
}

fn xdp_id(attribute: &LinkXdp) -> Option<u32> {
    match *attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(id),
        _ => None,
    }
}

fn xdp_from(attributes: &[LinkXdp]) -> Option<XdpAttached> {
    let (mut attached, mut only, mut native, mut offload) = (KernelXdp::None, None, None, None);
    for attribute in attributes {
        match *attribute {
            LinkXdp::Attached(mode) => attached = mode,
            LinkXdp::ProgId(id) => only = Some(id),
            LinkXdp::DrvProgId(id) => native = Some(id),
            LinkXdp::HwProgId(id) => offload = Some(id),
            _ => {}
        }
    }
    let (mode, program_id) = match attached {
        KernelXdp::Driver => (XdpMode::Native, only?),
        KernelXdp::SocketBuffer => (XdpMode::Generic, only?),
        KernelXdp::Hardware => (XdpMode::Offload, only?),
        // Two or three programs: the kernel reports no common id, and at least one program is not generic.
        KernelXdp::Multiple => match offload {
            Some(id) => (XdpMode::Offload, id),
            None => (XdpMode::Native, native?),
        },
        _ => return None,
    };
    Some(XdpAttached { mode, program_id })
}

fn address_from(message: &AddressMessage) -> Option<Address> {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut address, mut local) = (None, None);
    for attribute in &message.attributes {
        match *attribute {
            AddressAttribute::Address(ip) => address = Some(ip),
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    Some(Address {
        // On a point-to-point link IFA_ADDRESS is the other end.
        ip: local.or(address)?,
        prefix_of: address.or(local)?,
        prefix_len: message.header.prefix_len,
        scope: match message.header.scope {
            AddressScope::Universe => Scope::Global,
            AddressScope::Link => Scope::Link,
            AddressScope::Host | AddressScope::Nowhere => Scope::Host,
            _ => Scope::Site,
        },
        tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
    })
}

#[cfg(test)]
mod tests;
