//! Routes: the interface by which a packet to an address would leave.

use std::net::IpAddr;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use crate::link::{LinkError, Netlink};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub interface: u32,
    /// The own address that packets leave with.
    pub source: Option<IpAddr>,
    pub is_local: bool,
}

/// Why an address is not that of another host that packets can reach. Each is displayed as a clause about the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefusal {
    #[error("is an address of this host, so that packets to it pass no interface; name the other end")]
    Own,
    #[error("is a broadcast address; give the address of one host")]
    Broadcast,
    #[error("has a blackhole route: this host drops packets to it; `ip route` lists the routes")]
    Blackhole,
    #[error("has a prohibit route: this host refuses packets to it; `ip route` lists the routes")]
    Prohibited,
    #[error("has an unreachable route: this host refuses packets to it; `ip route` lists the routes")]
    Unreachable,
}

impl Netlink {
    pub async fn route_to(&self, address: IpAddr) -> Result<Option<Route>, LinkError> {
        let route = self.ask_route(address, None).await?;
        Ok(route.ok().as_ref().and_then(route_from))
    }

    /// Why no packet to `address` leaves this host for another one, if the routing table says so; on this interface if it
    /// is given.
    pub async fn target_refusal(
        &self,
        address: IpAddr,
        interface: Option<u32>,
    ) -> Result<Option<TargetRefusal>, LinkError> {
        let route = self.ask_route(address, interface).await?;
        let refusal = refusal_in(&route);
        // A link-local address may be another host's on each link.
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if refusal.is_some() || interface.is_none() || is_link_local {
            return Ok(refusal);
        }
        let anywhere = refusal_in(&self.ask_route(address, None).await?);
        // From a socket that is bound to an interface, IPv4 takes an address without a route there for one on the link.
        let is_routed = route.is_ok_and(|route| has_gateway(&route));
        Ok(anywhere.filter(|refusal| *refusal == TargetRefusal::Own || !is_routed))
    }

    /// The route, or the error that the kernel's routing table has instead.
    async fn ask_route(&self, address: IpAddr, interface: Option<u32>) -> Result<Result<RouteMessage, i32>, LinkError> {
        const ROUTING: [i32; 5] = [
            libc::EINVAL,
            libc::EACCES,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::ESRCH,
        ];
        let mut routes = pin!(self.handle.route().get(request_to(address, interface)).execute());
        match routes.try_next().await {
            Ok(route) => Ok(route.ok_or(libc::ESRCH)),
            Err(rtnetlink::Error::NetlinkError(error)) if ROUTING.contains(&-error.raw_code()) => {
                Ok(Err(-error.raw_code()))
            }
            Err(source) => Err(LinkError::Ask {
                what: format!("the route to {address}"),
                source,
            }),
        }
    }
}

/// Asks for the route to `address`, by this interface if one is given.
pub(super) fn request_to(address: IpAddr, interface: Option<u32>) -> RouteMessage {
    let mut request = RouteMessage::default();
    (request.header.address_family, request.header.destination_prefix_length) = family(address);
    let destination = RouteAttribute::Destination(RouteAddress::from(address));
    request.attributes.push(destination);
    request.attributes.extend(interface.map(RouteAttribute::Oif));
    request
}

/// The family of an address, and its length in bits.
pub(super) fn family(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

fn refusal_in(route: &Result<RouteMessage, i32>) -> Option<TargetRefusal> {
    match route.as_ref().map(|message| message.header.kind) {
        Ok(RouteType::Local) => Some(TargetRefusal::Own),
        Ok(RouteType::Broadcast) => Some(TargetRefusal::Broadcast),
        Ok(RouteType::BlackHole) | Err(&libc::EINVAL) => Some(TargetRefusal::Blackhole),
        Ok(RouteType::Prohibit) | Err(&libc::EACCES) => Some(TargetRefusal::Prohibited),
        Ok(RouteType::Unreachable) | Err(&libc::EHOSTUNREACH) => Some(TargetRefusal::Unreachable),
        _ => None,
    }
}

fn has_gateway(route: &RouteMessage) -> bool {
    let is_gateway =
        |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
    route.attributes.iter().any(is_gateway)
}

fn route_from(message: &RouteMessage) -> Option<Route> {
    let interface = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let source = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    });
    let usable = matches!(message.header.kind, RouteType::Unicast | RouteType::Local);
    Some(Route {
        interface: interface.filter(|_| usable)?,
        source,
        is_local: message.header.kind == RouteType::Local,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_and_broadcast_addresses_are_not_other_hosts() {
        let netlink = Netlink::open().unwrap();
        for (address, refusal) in [
            ("127.0.0.1", TargetRefusal::Own),
            ("::1", TargetRefusal::Own),
            ("255.255.255.255", TargetRefusal::Broadcast),
        ] {
            let found = netlink.target_refusal(address.parse().unwrap(), None).await.unwrap();
            assert_eq!(found, Some(refusal), "{address}");
        }
    }

    #[tokio::test]
    async fn loopback_is_local() {
        let netlink = Netlink::open().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let route = netlink.route_to(address.parse().unwrap()).await.unwrap();
            let expected = Route {
                interface: 1,
                source: Some(address.parse().unwrap()),
                is_local: true,
            };
            assert_eq!(route, Some(expected), "{address}");
        }
    }
}
