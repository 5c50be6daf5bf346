//! By which interface a packet to an address would leave.

use std::net::IpAddr;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use crate::link::{LinkError, Netlink};

/// The way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the interface by which packets leave.
    pub interface: u32,
    /// The address is one of this host.
    pub is_local: bool,
}

impl Netlink {
    /// The way to `address` as of now; `None` if there is none.
    ///
    /// # Errors
    /// [`LinkError::Ask`] if the kernel does not answer.
    pub async fn route_to(&self, address: IpAddr) -> Result<Option<Route>, LinkError> {
        let mut question = RouteMessage::default();
        let (family, length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = length;
        question
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(address)));
        let mut routes = pin!(self.handle.route().get(question).execute());
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
    let usable = matches!(message.header.kind, RouteType::Unicast | RouteType::Local);
    Some(Route {
        interface: interface.filter(|_| usable)?,
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
                is_local: true,
            };
            assert_eq!(route, Some(expected), "{address}");
        }
    }
}
