//! The target's address, and how packets reach it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use probe_common::family::Family;
use probe_host::link::{Link, Netlink, Route, TargetRefusal};
use tokio::net::lookup_host;

use crate::command::ping::config::PingConfig;

/// Looks up the target's address, of the IP version in --family.
pub async fn resolve(config: &PingConfig) -> Result<SocketAddr> {
    let target = config.target.as_str();
    let wanted = |address: &SocketAddr| config.family.is_none_or(|family| Family::of(address.ip()) == family);
    let found = lookup_host((target, config.port)).await;
    let found: Vec<SocketAddr> = match found {
        Ok(found) => found.map(canonical).collect(),
        Err(error) => bail!("cannot resolve {target}: {error}; give an address, or a name that resolves"),
    };
    let Some(to) = found.iter().copied().find(wanted) else {
        bail!("{target} has no address of this --family");
    };
    let ip = to.ip();
    if ip.is_multicast() || ip.is_unspecified() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast()) {
        bail!("{ip} is not the address of one host; `kstamp agent --group` probes multicast groups");
    }
    Ok(to)
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// How packets reach the target.
pub struct Path {
    pub link: Option<Link>,
    source: Option<IpAddr>,
    pub is_local: bool,
}

impl Path {
    pub async fn to(netlink: &Netlink, to: SocketAddr) -> Result<Self> {
        let scope = match to {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id()),
            _ => None,
        };
        // An own address can be probed: a reflector of any make may listen there.
        match netlink.target_refusal(to.ip(), scope).await? {
            None | Some(TargetRefusal::Own) => {}
            Some(refusal) => bail!("{} {refusal}", to.ip()),
        }
        let route = netlink.route_to(to.ip()).await?;
        let index = scope.or(route.map(|route: Route| route.interface));
        let link = match index {
            Some(index) => netlink.link_by_index(index).await?,
            None => bail!("there is no route to {}; see `ip route get {}`", to.ip(), to.ip()),
        };
        Ok(Self {
            link,
            source: route.and_then(|route| route.source),
            is_local: route.is_some_and(|route| route.is_local),
        })
    }

    pub fn interface(&self) -> Option<&str> {
        self.link.as_ref().map(|link| link.name.as_str())
    }

    pub fn index(&self) -> Option<u32> {
        self.link.as_ref().map(|link| link.index)
    }

    /// Lists the differences of `new`, in words.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let interface = new.interface().unwrap_or("no interface");
        if self.interface() != new.interface() {
            changes.push(format!("the route leaves by {interface} now"));
        } else if self.index() != new.index() {
            changes.push(format!("{interface} was created anew"));
        }
        if self.source != new.source
            && let Some(source) = new.source
        {
            changes.push(format!("its source address is {source} now"));
        }
        changes
    }
}
