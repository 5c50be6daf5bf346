//! Sockets that probe a single destination.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use probe_common::family::Family;
use socket2::{Domain, Protocol, Socket, Type};

use crate::udp::options::{UNICAST_TTL, set_ttl};
use crate::udp::sockets::{SocketError, local_port};
use crate::udp::strays;
use crate::udp::watched::WatchedSocket;

/// The destination of a single session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Address, port, and scope where the address needs one.
    pub to: SocketAddr,
    pub dscp: u8,
}

/// A socket that leaves routes to the kernel, and stamps what it sends and receives; and one for strays.
pub(crate) fn stamping_sender(target: &Target) -> Result<(WatchedSocket, Socket), SocketError> {
    let failed = |source| SocketError::Target { to: target.to, source };
    let socket = sender_to(target, None, None).map_err(failed)?;
    let strays = strays::beside(&socket).map_err(failed)?;
    Ok((WatchedSocket::new(socket).map_err(failed)?, strays))
}

/// A socket on `interface` alone whose replies are taken by programs, one for strays, and their port.
pub(crate) fn send_only(interface: &str, target: &Target) -> Result<(Socket, Socket, u16), SocketError> {
    let failed = |source| SocketError::Target { to: target.to, source };
    let socket = sender_to(target, Some(interface), None).map_err(failed)?;
    socket.set_recv_buffer_size(strays::MAX_BYTES).map_err(failed)?;
    let strays = strays::beside(&socket).map_err(failed)?;
    let port = local_port(&socket).map_err(failed)?;
    Ok((socket, strays, port))
}

/// Connected, so that it receives ICMP errors, and packets of `target` only. `port` is the source port; `None`: any.
pub(crate) fn sender_to(target: &Target, interface: Option<&str>, port: Option<u16>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(target.to),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    set_ttl(&socket, Family::of(target.to.ip()), UNICAST_TTL)?;
    let tos = u32::from(target.dscp) << 2;
    match target.to {
        SocketAddr::V4(_) => socket.set_tos_v4(tos)?,
        SocketAddr::V6(_) => socket.set_tclass_v6(tos)?,
    }
    if let Some(port) = port {
        let any = match target.to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, port).into())?;
    }
    socket.connect(&target.to.into())?;
    Ok(socket)
}

/// Whether an ICMP error says that nothing listens at the destination. The error is taken, so that no later call fails.
pub(crate) fn was_refused(socket: &Socket) -> bool {
    let error = socket.take_error().ok().flatten();
    error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
