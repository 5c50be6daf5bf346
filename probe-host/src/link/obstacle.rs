//! Obstacles that keep packets to an address from leaving.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteVia};

use crate::link::RUNNING;
use crate::link::request::request;
use crate::link::route::{family, request_to};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The interface is deleted.
    Gone,
    /// The interface is down.
    Down,
    NoCarrier,
    NoRoute,
    /// By a route.
    Prohibited,
    /// The next hop has not answered ARP or ND.
    NoNeighbour,
}

/// Why packets to `to` do not leave by the interface of index `index`, or by that of the route; `None` if nothing is
/// known. Takes some tens of microseconds: at most three requests.
pub fn obstacle(index: Option<u32>, to: IpAddr) -> io::Result<Option<Obstacle>> {
    if let Some(obstacle) = index.map(of_link).transpose()?.flatten() {
        return Ok(Some(obstacle));
    }
    if to.is_multicast() {
        return Ok(None);
    }
    let (interface, next_hop) = match next_hop(index, to) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => return Ok(Some(without_route(&error))),
    };
    if index.is_none()
        && let Some(obstacle) = of_link(interface)?
    {
        return Ok(Some(obstacle));
    }
    let state = neighbour(interface, next_hop)?.map(|neighbour| neighbour.header.state);
    if !matches!(state, Some(NeighbourState::Incomplete | NeighbourState::Failed)) {
        return Ok(None);
    }
    // From a socket of one interface, IPv4 takes an address without a route to be on the link.
    let routed = match to {
        IpAddr::V4(_) => route(index, to, RouteFlags::FibMatch).map(drop),
        IpAddr::V6(_) => Ok(()),
    };
    Ok(Some(routed.map_or_else(
        |error| without_route(&error),
        |()| Obstacle::NoNeighbour,
    )))
}

fn without_route(error: &io::Error) -> Obstacle {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Obstacle::Prohibited,
        _ => Obstacle::NoRoute,
    }
}

fn of_link(index: u32) -> io::Result<Option<Obstacle>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let answers = match request(RouteNetlinkMessage::GetLink(message), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(Some(Obstacle::Gone)),
        answers => answers?,
    };
    let flags = answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link.header.flags),
        _ => None,
    });
    Ok(flags.and_then(|flags| {
        if !flags.contains(LinkFlags::Up) {
            Some(Obstacle::Down)
        } else if !flags.contains(RUNNING) {
            Some(Obstacle::NoCarrier)
        } else {
            None
        }
    }))
}

fn route(index: Option<u32>, to: IpAddr, flags: RouteFlags) -> io::Result<Option<RouteMessage>> {
    let mut message = request_to(to, index);
    message.header.flags = flags;
    let answers = request(RouteNetlinkMessage::GetRoute(message), 0)?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    }))
}

/// Interface and address of the next hop; the error says why there is no route.
fn next_hop(index: Option<u32>, to: IpAddr) -> io::Result<Option<(u32, IpAddr)>> {
    let Some(route) = route(index, to, RouteFlags::empty())? else {
        return Ok(None);
    };
    let (mut interface, mut next_hop) = (index, to);
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                next_hop = v4.into();
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                next_hop = v6.into();
            }
            _ => {}
        }
    }
    Ok(interface.map(|interface| (interface, next_hop)))
}

/// MAC address of the next hop to `to` by the interface of index `index`; `None` while the neighbour table has none.
pub fn next_hop_mac(index: u32, to: IpAddr) -> io::Result<Option<[u8; 6]>> {
    let Some((interface, next_hop)) = next_hop(Some(index), to)? else {
        return Ok(None);
    };
    let attributes = neighbour(interface, next_hop)?.map(|neighbour| neighbour.attributes);
    Ok(attributes.into_iter().flatten().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.try_into().ok(),
        _ => None,
    }))
}

/// An entry of the neighbour table; `None` without one.
fn neighbour(interface: u32, address: IpAddr) -> io::Result<Option<NeighbourMessage>> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address).0;
    message.header.ifindex = interface;
    let address = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message.attributes.push(NeighbourAttribute::Destination(address));
    let answers = match request(RouteNetlinkMessage::GetNeighbour(message), 0) {
        // The device has no neighbours.
        Err(error) if error.raw_os_error().is_some() => return Ok(None),
        answers => answers?,
    };
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_in_the_way_to_this_host_and_a_missing_interface_is_named() {
        for address in ["127.0.0.1", "::1"] {
            assert_eq!(obstacle(None, address.parse().unwrap()).unwrap(), None, "{address}");
        }
        let missing = obstacle(Some(0x7fff_fff0), "127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(missing, Some(Obstacle::Gone));
    }
}
