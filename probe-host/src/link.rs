//! Network interfaces and their addresses, asked of the kernel by netlink.

mod route;

use std::net::IpAddr;
use std::pin::pin;
use std::{fmt, io};

use futures_util::TryStreamExt as _;
use rtnetlink::LinkGetRequest;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached as KernelXdp,
};

use crate::driver::DriverQuery;
pub use crate::link::route::Route;

/// Why an interface could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No interface can have that name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused the question.
    #[error("cannot ask the kernel for {what}: {source}")]
    Ask {
        /// What was asked for.
        what: String,
        /// What it said.
        #[source]
        source: rtnetlink::Error,
    },
}

/// Why no interface can have a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("an interface name cannot be empty")]
    Empty,
    /// More than 15 bytes.
    #[error("'{0}' is too long for an interface name, which has at most 15 bytes")]
    TooLong(String),
    /// A character that the kernel takes in no name, or a name with a meaning in paths.
    #[error("'{0}' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed")]
    Invalid(String),
}

/// Refuses what the kernel takes as a name of no interface (`dev_valid_name`).
///
/// # Errors
/// What is wrong with the name.
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

/// One interface, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index; a deleted interface that comes back has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// It is set up (`IFF_UP`).
    pub up: bool,
    /// It leads to this host only (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// It is up and has a carrier (`IFF_LOWER_UP`).
    pub running: bool,
    /// Its MAC address; zeroes where it has none of six bytes.
    pub mac: [u8; 6],
    /// The largest IP packet that it takes, in bytes.
    pub mtu: u32,
    /// What it is, if it is virtual: `veth`, `tun`, `openvswitch`, `bridge`, `vxlan`, `vlan` …
    pub kind: Option<String>,
    /// Its driver, where the kernel names one.
    pub driver: Option<String>,
    /// The XDP program on it.
    pub xdp: Option<XdpAttached>,
    /// Index of the other end of a veth pair, if that is in the same namespace.
    pub peer_index: Option<u32>,
    /// Packets dropped on the way out, since the interface was made.
    pub tx_dropped: u64,
    /// Errors on the way out, since the interface was made.
    pub tx_errors: u64,
    /// Packets dropped on the way in, since the interface was made.
    pub rx_dropped: u64,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpAttached {
    /// Where it runs; the one that sees packets first, if there are several.
    pub mode: XdpMode,
    /// Its id, as `bpftool prog` shows it.
    pub program_id: u32,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack, on a packet that the driver has handed over.
    Generic,
    /// On the card.
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

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface's own address, on a point-to-point link too.
    pub ip: IpAddr,
    /// Length of its prefix.
    pub prefix_len: u8,
    /// What the prefix is of: the address, or on a point-to-point link the other end's.
    pub prefix_of: IpAddr,
    /// How far it is valid.
    pub scope: Scope,
    /// Duplicate address detection has not ended: it cannot be used yet.
    pub tentative: bool,
    /// Duplicate address detection found another owner: it cannot be used.
    pub duplicate: bool,
    /// Its preferred lifetime has ended: no new sessions should use it.
    pub deprecated: bool,
}

/// How far an address is valid (rtnetlink's scopes).
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
    /// Opens a connection in the current network namespace, served by a task of the current tokio runtime that ends
    /// when the connection is dropped.
    ///
    /// # Errors
    /// [`LinkError::Open`].
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            drivers: DriverQuery::open().map_err(LinkError::Open)?,
        })
    }

    /// The interface of that name, or `None` if there is none. It costs one request and one ioctl, some tens of
    /// microseconds.
    ///
    /// # Errors
    /// [`LinkError::Name`] if no interface can have that name, [`LinkError::Ask`] if the kernel does not answer.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, LinkError> {
        check_name(name)?;
        self.link(self.handle.link().get().match_name(name), || {
            format!("interface {name}")
        })
        .await
    }

    /// The interface with that index, or `None` if there is none.
    ///
    /// # Errors
    /// [`LinkError::Ask`] if the kernel does not answer.
    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, LinkError> {
        self.link(self.handle.link().get().match_index(index), || {
            format!("interface {index}")
        })
        .await
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

    /// The addresses of the interface with that index; none if there is no such interface.
    ///
    /// # Errors
    /// [`LinkError::Ask`] if the kernel does not answer.
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

fn link_from(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: flags.contains(LinkFlags::Up),
        loopback: flags.contains(LinkFlags::Loopback),
        running: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mac: [0; 6],
        mtu: 0,
        kind: None,
        driver: None,
        xdp: None,
        peer_index: None,
        tx_dropped: 0,
        tx_errors: 0,
        rx_dropped: 0,
    };
    let mut other_end = None;
    let mut other_end_elsewhere = false;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(index) => other_end = Some(index),
            LinkAttribute::LinkNetNsId(_) => other_end_elsewhere = true,
            LinkAttribute::Xdp(attributes) => link.xdp = xdp_from(&attributes),
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
    // Of other kinds, IFLA_LINK is the device below, not the device opposite.
    let is_veth = link.kind.as_deref() == Some(InfoKind::Veth.to_string().as_str());
    link.peer_index = other_end.filter(|_| is_veth && !other_end_elsewhere);
    link
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
        // Two or three at once: the kernel then gives no common id, and one of them is not generic.
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
