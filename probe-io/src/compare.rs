//! The methods that `kstamp compare` measures beside kstamp's own, each as good as possible: processes send and
//! answer probes, stamped by the process, or by the kernel for the process.

mod gate;
pub mod load;
pub mod pacer;
pub mod priority;
pub mod private;
pub mod responder;
pub mod socket;
pub mod userspace;
pub mod watch;

use std::io;
use std::net::{Shutdown, UdpSocket};

use probe_common::family::Family;
use socket2::SockRef;

use crate::udp::{options, sockets};

/// A blocking UDP socket on `interface` alone, on a port of the kernel's choice. TTL and hop limit are those of all
/// probes.
fn bound(interface: &str, family: Family) -> io::Result<UdpSocket> {
    let socket = sockets::bound(interface, family, 0)?;
    socket.set_nonblocking(false)?;
    options::set_ttl(&socket, family, options::UNICAST_TTL)?;
    Ok(socket.into())
}

/// Makes all receive calls on `socket` return at once, with no bytes or an error.
fn end_reading(socket: &UdpSocket) {
    // For an unconnected socket the kernel returns ENOTCONN, but still ends the reading (`inet_shutdown`).
    let _ = SockRef::from(socket).shutdown(Shutdown::Read);
}
