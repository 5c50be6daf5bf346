//! The ways of measuring that `kstamp compare` sets beside kstamp's own, done as well as each can be: probes that
//! processes send and processes answer, stamped by the process, or by the kernel for the process.

pub mod echo;
pub mod kernel;
pub mod load;
pub mod pacer;
pub mod priority;
pub mod private;
pub mod socket;
pub mod userspace;
pub mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// A blocking UDP socket on `interface` alone, on a port of the kernel's choice. TTL and hop limit are those of all
/// probes.
fn bound(interface: &str, v6: bool) -> io::Result<UdpSocket> {
    let (domain, any): (_, IpAddr) = if v6 {
        (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())
    } else {
        (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(crate::udp::sockets::UNICAST_TTL)?;
    } else {
        socket.set_ttl_v4(crate::udp::sockets::UNICAST_TTL)?;
    }
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    Ok(socket.into())
}

/// Ends what blocks in a receive call on `socket`, now and from now on: such a call returns no bytes, or an error.
fn end_reading(socket: &UdpSocket) {
    // The kernel says that an unconnected socket is not connected, and ends the reading all the same (`inet_shutdown`).
    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Read);
}
