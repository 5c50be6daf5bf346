//! The socket that sends the probes of one IP version, and a second one for many in a row to one peer.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use probe_common::family::Family;
use socket2::{Protocol, SockAddr, Socket, Type};

use crate::udp::batch::{Datagram, MAX_BATCH, send_first};
use crate::udp::options::{UNICAST_TTL, enlarge_send_buffer, set_ttl};
use crate::udp::strays;

/// Minimum number of datagrams in a row to one peer for the connected socket.
const MIN_TO_ONE_PEER: usize = 8;

/// Sends probes whose replies kernel programs take. Packets that come up answer no probe.
pub(crate) struct SendingSockets {
    socket: Socket,
    /// It looks up no route for each datagram. Its source address is fixed when it is connected.
    connected: RefCell<Option<Connected>>,
}

/// The first peer that got many in a row.
struct Connected {
    peer: SockAddr,
    /// `None` if it cannot be connected.
    socket: Option<Socket>,
}

impl SendingSockets {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            connected: RefCell::default(),
        }
    }

    /// Sends all datagrams in order. Calls `failed` with the index and the error of each that the kernel refused.
    pub(crate) fn send_all(&self, datagrams: &[Datagram], mut failed: impl FnMut(usize, io::Error)) {
        let mut next = 0;
        while next < datagrams.len() {
            let left = &datagrams[next..];
            let each = left.iter().map(|datagram| (&datagram.packet, Some(&datagram.to)));
            match self
                .send_to_one_peer(left)
                .map_or_else(|| send_first(&self.socket, each), Ok)
            {
                Ok(sent) => next += sent,
                Err(error) => {
                    failed(next, error);
                    next += 1;
                }
            }
        }
    }

    /// Sends the first datagrams by the connected socket, if they are many in a row to one peer, and returns their number.
    /// `None` also if that fails: the error may be an ICMP error of an earlier datagram.
    fn send_to_one_peer(&self, datagrams: &[Datagram]) -> Option<usize> {
        let to = &datagrams.first()?.to;
        let row = datagrams
            .iter()
            .take(MAX_BATCH)
            .take_while(|datagram| datagram.to == *to);
        if row.clone().count() < MIN_TO_ONE_PEER || !may_be_connected(to) {
            return None;
        }
        let mut connected = self.connected.borrow_mut();
        let connected = connected.get_or_insert_with(|| Connected {
            peer: to.clone(),
            socket: connect(&self.socket, to).ok(),
        });
        // To connect a socket takes longer than it saves if peers take turns.
        let socket = connected.socket.as_ref().filter(|_| connected.peer == *to)?;
        send_first(socket, row.map(|datagram| (&datagram.packet, None))).ok()
    }

    /// Hands over packets that came up although kernel programs take the replies. Then closes the connected socket, so that
    /// the next one gets the source address of then.
    pub(crate) fn take_strays(&self, mut each: impl FnMut(&[u8], SocketAddr)) {
        let connected = self.connected.take().and_then(|connected| connected.socket);
        for socket in [Some(&self.socket), connected.as_ref()].into_iter().flatten() {
            // An error is an ICMP message about an earlier packet, which hides those that wait, or the interface is gone: the poll
            // of the port says so.
            let _ = strays::take(socket, &mut each).or_else(|_| strays::take(socket, &mut each));
        }
    }

    pub(crate) fn try_clone(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }
}

/// Not for IPv6: the kernel takes the flow label from the random flow hash of a connected socket, before the egress program
/// clears it (`ip6_make_flowlabel`, include/net/ipv6.h).
fn may_be_connected(to: &SockAddr) -> bool {
    to.as_socket_ipv4()
        .is_some_and(|to| !to.ip().is_multicast() && !to.ip().is_broadcast())
}

/// A socket at the port and on the device of `sender`, connected to `peer`. A packet of the peer comes to it, all others come to
/// `sender`.
fn connect(sender: &Socket, peer: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(peer.domain(), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(sender.device()?.as_deref())?;
    // Two sockets of a user may share a port if both allow it, which is revoked before another process can follow.
    sender.set_reuse_port(true)?;
    let shared = socket
        .set_reuse_port(true)
        .and_then(|()| socket.bind(&sender.local_addr()?));
    sender.set_reuse_port(false)?;
    shared?;
    socket.set_reuse_port(false)?;
    set_ttl(&socket, Family::V4, UNICAST_TTL)?;
    socket.set_recv_buffer_size(strays::MAX_BYTES)?;
    enlarge_send_buffer(&socket);
    socket.connect(peer)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::thread;
    use std::time::{Duration, Instant};

    use probe_common::ntp::ErrorEstimate;
    use probe_common::stamp;
    use socket2::Domain;

    use super::*;

    fn sender(loopback: IpAddr) -> (SendingSockets, SocketAddr) {
        let at = SocketAddr::new(loopback, 0);
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
        socket.bind(&at.into()).unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        (SendingSockets::new(socket), at)
    }

    /// As many probes, with numbers from 0 on.
    fn datagrams(number: usize, to: impl Fn(usize) -> SocketAddr) -> Vec<Datagram> {
        let datagram = |index| Datagram::new(stamp::probe(index as u32, ErrorEstimate(1), 7), to(index));
        (0..number).map(datagram).collect()
    }

    fn await_packet(socket: &Socket) {
        let end = Instant::now() + Duration::from_secs(10);
        while socket.peek(&mut [MaybeUninit::uninit()]).is_err() {
            assert!(Instant::now() < end);
            thread::yield_now();
        }
    }

    fn is_connected(sender: &SendingSockets) -> bool {
        let connected = sender.connected.borrow();
        connected.as_ref().is_some_and(|connected| connected.socket.is_some())
    }

    /// Sends 3 × [`MAX_BATCH`] datagrams, those in `refused` to where the kernel refuses to send. Returns the numbers that
    /// arrived and the indices that failed.
    fn send(loopback: IpAddr, refused: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let receiver = UdpSocket::bind((loopback, 0)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let to = receiver.local_addr().unwrap();
        let (sender, at) = sender(loopback);
        let (nowhere, reason) = match loopback {
            IpAddr::V4(_) => (SocketAddr::from((Ipv4Addr::BROADCAST, 9)), libc::EACCES),
            IpAddr::V6(_) => (SocketAddr::new(loopback, 0), libc::EINVAL),
        };
        let datagrams = datagrams(
            3 * MAX_BATCH,
            |index| if refused.contains(&index) { nowhere } else { to },
        );
        let mut failed = Vec::new();
        sender.send_all(&datagrams, |index, error| {
            assert_eq!(error.raw_os_error(), Some(reason));
            failed.push(index);
        });
        let mut packet = [0; 100];
        let arrived = std::iter::from_fn(|| {
            let (length, from) = receiver.recv_from(&mut packet).ok()?;
            assert_eq!((length, from), (stamp::BASE_LEN, at));
            let (sequence, rest) = packet[..length].split_first_chunk().unwrap();
            assert!(rest.ends_with(&stamp::probe(0, ErrorEstimate(1), 7)[4..]));
            Some(u32::from_be_bytes(*sequence) as usize)
        });
        (arrived.collect(), failed)
    }

    #[test]
    fn each_refused_datagram_is_named_and_all_others_leave_in_order() {
        let last = 3 * MAX_BATCH - 1;
        let cases: [&[usize]; 6] = [
            &[],
            &[0],
            &[last],
            &[0, 1, 2, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, last],
            &[5, 70, 71, 130],
            &Vec::from_iter(0..=last),
        ];
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            for refused in cases {
                let (arrived, failed) = send(loopback, refused);
                assert_eq!(failed, refused);
                let want: Vec<_> = (0..=last).filter(|index| !refused.contains(index)).collect();
                assert_eq!(arrived, want);
            }
        }
    }

    #[test]
    fn many_in_a_row_to_one_ipv4_peer_leave_by_a_connected_socket() {
        let v4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = |_| SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        let group = |_| SocketAddr::from((Ipv4Addr::new(239, 255, 255, 250), 9));
        for (datagrams, wanted) in [
            (datagrams(MIN_TO_ONE_PEER, |_| v4(9)), true),
            (datagrams(MIN_TO_ONE_PEER - 1, |_| v4(9)), false),
            (datagrams(MAX_BATCH, |index| v4(9 + index as u16 % 2)), false),
            (datagrams(MIN_TO_ONE_PEER, v6), false),
            (datagrams(MIN_TO_ONE_PEER, group), false),
        ] {
            let is_v4 = datagrams[0].to.is_ipv4();
            let loopback = if is_v4 {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            };
            let (sender, _) = sender(loopback);
            sender.send_all(&datagrams, |_, _| {});
            assert_eq!(is_connected(&sender), wanted, "{datagrams:?}");
            sender.take_strays(|_, _| {});
            assert!(!is_connected(&sender));
        }
    }

    #[test]
    fn no_socket_is_connected_for_each_turn_of_peers() {
        let peers = [0; 2].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let (sender, _) = sender(Ipv4Addr::LOCALHOST.into());
        for peer in peers.iter().cycle().take(4) {
            let to = peer.local_addr().unwrap();
            sender.send_all(&datagrams(MIN_TO_ONE_PEER, |_| to), |_, _| unreachable!());
            let connected = sender.connected.borrow();
            let first = connected.as_ref().and_then(|connected| connected.peer.as_socket());
            assert_eq!(first, peers[0].local_addr().ok());
        }
        for peer in peers {
            peer.set_nonblocking(true).unwrap();
            let arrived = std::iter::from_fn(|| peer.recv(&mut [0; 100]).ok());
            assert_eq!(arrived.count(), 2 * MIN_TO_ONE_PEER);
        }
    }

    #[test]
    fn an_icmp_error_fails_no_later_datagram() {
        let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let (sender, _) = sender(Ipv4Addr::LOCALHOST.into());
        for _ in 0..3 {
            sender.send_all(&datagrams(MAX_BATCH, |_| closed), |index, error| {
                panic!("{index} failed: {error}");
            });
            assert!(is_connected(&sender));
        }
    }

    #[test]
    fn strays_of_the_peer_and_of_others_are_taken_and_nobody_else_gets_the_port() {
        let [peer, other] = [0; 2].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let to = peer.local_addr().unwrap();
        let (sender, at) = sender(Ipv4Addr::LOCALHOST.into());
        for round in 0..2 {
            sender.send_all(&datagrams(MIN_TO_ONE_PEER, |_| to), |_, _| unreachable!());
            assert!(is_connected(&sender));
            for socket in [&peer, &other] {
                socket.send_to(&[round], at).unwrap();
            }
            await_packet(&sender.socket);
            await_packet(sender.connected.borrow().as_ref().unwrap().socket.as_ref().unwrap());
            let mut taken = Vec::new();
            sender.take_strays(|packet, from| taken.push((packet.to_vec(), from)));
            taken.sort();
            let mut wanted = [to, other.local_addr().unwrap()].map(|from| (vec![round], from));
            wanted.sort();
            assert_eq!(taken, wanted);
            let third = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
            third.set_reuse_address(true).unwrap();
            third.set_reuse_port(true).unwrap();
            assert!(third.bind(&at.into()).is_err());
        }
    }
}
