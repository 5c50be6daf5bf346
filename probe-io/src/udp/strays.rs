//! Packets that come where replies are expected, but from elsewhere, or although kernel programs take the replies.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use probe_common::authenticated;
use socket2::{Protocol, Socket, Type};

/// Room for packets that answer no probe; more are dropped.
pub(crate) const MAX_BYTES: usize = 65_536;

/// Packets that answer no probe and are looked at in one call.
const MAX_STRAYS: usize = 64;

/// Hands over packets that wait at a nonblocking socket, at most [`MAX_STRAYS`].
pub(crate) fn take(socket: &Socket, mut each: impl FnMut(&[u8], SocketAddr)) -> io::Result<()> {
    // No reason needs more than the base packet.
    let mut packet = [MaybeUninit::uninit(); authenticated::BASE_LEN];
    for _ in 0..MAX_STRAYS {
        let (length, from) = match socket.recv_from(&mut packet) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written the first `length` bytes.
        let bytes = unsafe { packet[..length].assume_init_ref() };
        if let Some(from) = from.as_socket() {
            each(bytes, from);
        }
    }
    Ok(())
}

/// A socket at the address and port of `connected`. It gets the packets that other hosts and ports send there.
pub(crate) fn beside(connected: &Socket) -> io::Result<Socket> {
    let at = connected.local_addr()?;
    let socket = Socket::new(at.domain(), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(MAX_BYTES)?;
    // Two sockets may share a port if both allow it, which is revoked before another process can follow.
    for shares in [true, false] {
        connected.set_reuse_address(shares)?;
        socket.set_reuse_address(shares)?;
        if shares {
            socket.bind(&at)?;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

    use socket2::Domain;

    use super::*;

    fn taken(socket: &Socket) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut taken = Vec::new();
        take(socket, |packet, from| taken.push((packet.to_vec(), from))).unwrap();
        taken
    }

    #[test]
    fn strays_are_taken_in_bounded_numbers() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.set_recv_buffer_size(MAX_BYTES).unwrap();
        let to = socket.local_addr().unwrap().as_socket().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..1_000 {
            sender.send_to(&[1; 200], to).unwrap();
        }
        let first = taken(&socket);
        assert_eq!(first.len(), MAX_STRAYS);
        assert!(first.iter().all(|(packet, _)| packet.len() == authenticated::BASE_LEN));
        let mut waiting = 0;
        while !taken(&socket).is_empty() {
            waiting += 1;
        }
        assert!(waiting < 10, "the kernel drops what does not fit");
    }

    #[test]
    fn packets_of_others_come_to_the_socket_for_strays_alone() {
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let [target, other] = [0; 2].map(|_| UdpSocket::bind((loopback, 0)).unwrap());
            let to = target.local_addr().unwrap();
            let connected =
                Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
            connected.connect(&to.into()).unwrap();
            let strays = beside(&connected).unwrap();
            let at = connected.local_addr().unwrap().as_socket().unwrap();
            target.send_to(&[1], at).unwrap();
            other.send_to(&[2], at).unwrap();
            assert_eq!(taken(&connected), [(vec![1], to)]);
            assert_eq!(taken(&strays), [(vec![2], other.local_addr().unwrap())]);
            let third = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP)).unwrap();
            third.set_reuse_address(true).unwrap();
            assert!(third.bind(&at.into()).is_err(), "nobody else shares the port");
        }
    }
}
