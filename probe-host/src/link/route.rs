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

impl Netlink {
    pub async fn route_to(&self, address: IpAddr) -> Result<Option<Route>, LinkError> {
        let mut request = RouteMessage::default();
        let (family, length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        request.header.address_family = family;
        request.header.destination_prefix_length = length;
        request
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(address)));
        let mut routes = pin!(self.handle.route().get(request).execute());
        match routes.try_next().await {
            Ok(route) => Ok(route.and_then(|route| route_from(&route))),
            Err(rtnetlink::Error::NetlinkError(error))
                if [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ESRCH].contains(&-error.raw_code()) =>
            {
                Ok(None)
            }
            Err(source) => Err(LinkError::Ask {
                what: format!("the route to {address}"),
                source,
            }),
        }
    }
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
