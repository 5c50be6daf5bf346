//! A connected socket beside the sending socket. While whole batches go to one peer, the kernel looks up no route for each probe.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use socket2::{SockAddr, Socket};

use crate::udp::batch::{Datagram, MAX_BATCH, send_first};
use crate::udp::strays;

/// For fewer probes in a batch, the unconnected socket is as good.
const MIN_PROBES: usize = 8;

/// The connected socket, at the port of the sending socket.
///
/// Its route and source address are those of the time when it was connected, so it is closed at each [`Direct::close`], and
/// opened anew by the next batch.
#[derive(Debug)]
pub(crate) struct Direct {
    interface: String,
    /// The peer, and `None` if its probes leave by the sending socket until the next [`Direct::close`].
    connected: RefCell<Option<(SockAddr, Option<Socket>)>>,
}

impl Direct {
    pub(crate) fn new(interface: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            connected: RefCell::default(),
        }
    }

    /// Sends a batch that goes to one peer, in order. Returns the number of probes sent; the rest is left for `sender`. An error
    /// may be an ICMP message about an earlier probe.
    pub(crate) fn send(&self, sender: &Socket, probes: &[Datagram]) -> usize {
        let Some(peer) = only_peer(probes) else { return 0 };
        let mut connected = self.connected.borrow_mut();
        let (_, socket) = match connected.take() {
            Some(known) if known.0 == *peer => connected.insert(known),
            _ => connected.insert((peer.clone(), self.open(sender, peer).ok())),
        };
        let Some(open) = socket else { return 0 };
        let sent = send_first(open, probes.iter().map(|probe| (probe.packet(), None))).unwrap_or(0);
        if sent < probes.len().min(MAX_BATCH) {
            *socket = None;
        }
        sent
    }

    fn open(&self, sender: &Socket, peer: &SockAddr) -> io::Result<Socket> {
        let socket = strays::sharing_port(sender, Some(&self.interface))?;
        if peer.is_ipv6() {
            socket.set_unicast_hops_v6(sender.unicast_hops_v6()?)?;
        } else {
            socket.set_ttl_v4(sender.ttl_v4()?)?;
        }
        socket.connect(peer)?;
        Ok(socket)
    }

    /// Closes the socket. Hands over the packets that waited at it although kernel programs take the replies.
    pub(crate) fn close(&self, each: impl FnMut(&[u8], SocketAddr)) {
        if let Some((_, Some(socket))) = self.connected.take() {
            // An error is an ICMP message about an earlier probe.
            let _ = strays::take(&socket, each);
        }
    }
}

/// The peer to which all of them go, if they are enough.
fn only_peer(probes: &[Datagram]) -> Option<&SockAddr> {
    let peer = probes.get(MIN_PROBES - 1)?.to();
    let is_group = peer.as_socket().is_none_or(|to| to.ip().is_multicast());
    let is_only = !is_group && probes.iter().all(|probe| probe.to() == peer);
    is_only.then_some(peer)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

    use probe_common::ntp::ErrorEstimate;
    use probe_common::stamp;
    use socket2::{Domain, Protocol, Type};

    use super::*;

    const TTL: u32 = 77;
    const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    fn receiver(ip: IpAddr) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let at = socket.local_addr().unwrap();
        (socket, at)
    }

    fn sender(ip: IpAddr) -> (Socket, u16) {
        let any = match ip {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let sender = Socket::new(Domain::for_address(any), Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
        sender.bind_device(Some(b"lo")).unwrap();
        match ip {
            IpAddr::V4(_) => sender.set_ttl_v4(TTL).unwrap(),
            IpAddr::V6(_) => sender.set_unicast_hops_v6(TTL).unwrap(),
        }
        sender.bind(&any.into()).unwrap();
        let port = sender.local_addr().unwrap().as_socket().unwrap().port();
        (sender, port)
    }

    fn batch(number: usize, to: SocketAddr) -> Vec<Datagram> {
        let probe = |seq| Datagram::new(stamp::probe(seq as u32, ErrorEstimate(1), 7), to);
        (0..number).map(probe).collect()
    }

    /// The sequence numbers of the probes that arrived from `port`.
    fn arrived(receiver: &UdpSocket, port: u16) -> Vec<u32> {
        let mut packet = [0; stamp::BASE_LEN];
        let arrived = std::iter::from_fn(|| {
            let (_, from) = receiver.recv_from(&mut packet).ok()?;
            assert_eq!(from.port(), port);
            packet.first_chunk().copied().map(u32::from_be_bytes)
        });
        arrived.collect()
    }

    #[test]
    fn a_batch_to_one_peer_leaves_in_order_from_the_port_of_the_sender() {
        for ip in LOOPBACKS {
            let ((receiver, to), (sender, port)) = (receiver(ip), sender(ip));
            let direct = Direct::new("lo");
            for _ in 0..2 {
                assert_eq!(direct.send(&sender, &batch(MAX_BATCH, to)), MAX_BATCH);
                assert_eq!(arrived(&receiver, port), Vec::from_iter(0..MAX_BATCH as u32));
            }
            let hops = |socket: &Socket| match ip {
                IpAddr::V4(_) => socket.ttl_v4().unwrap(),
                IpAddr::V6(_) => socket.unicast_hops_v6().unwrap(),
            };
            let connected = |direct: &Direct| {
                let connected = direct.connected.borrow();
                let socket = connected.as_ref().and_then(|(_, socket)| socket.as_ref());
                hops(socket.unwrap())
            };
            assert_eq!(connected(&direct), TTL);
            direct.close(|_, _| panic!("nobody sent anything"));
            assert_eq!(direct.send(&sender, &batch(MIN_PROBES, to)), MIN_PROBES);
            assert_eq!(arrived(&receiver, port).len(), MIN_PROBES);
        }
    }

    #[test]
    fn small_and_mixed_batches_and_those_to_groups_are_left_for_the_sender() {
        for ip in LOOPBACKS {
            let ((_, to), (_, other), (sender, _)) = (receiver(ip), receiver(ip), sender(ip));
            let mut mixed = batch(20, to);
            mixed.push(batch(1, other).remove(0));
            let group: IpAddr = match ip {
                IpAddr::V4(_) => [239, 255, 255, 250].into(),
                IpAddr::V6(_) => Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x10).into(),
            };
            let to_group = batch(20, SocketAddr::new(group, to.port()));
            let direct = Direct::new("lo");
            for probes in [Vec::new(), batch(MIN_PROBES - 1, to), mixed, to_group] {
                assert_eq!(direct.send(&sender, &probes), 0);
                assert!(direct.connected.borrow().is_none());
            }
        }
    }

    #[test]
    fn packets_of_the_peer_are_handed_over_when_the_socket_is_closed() {
        for ip in LOOPBACKS {
            let ((receiver, to), (sender, port)) = (receiver(ip), sender(ip));
            let direct = Direct::new("lo");
            direct.send(&sender, &batch(MIN_PROBES, to));
            receiver.send_to(&[1], (ip, port)).unwrap();
            let mut taken = Vec::new();
            direct.close(|packet, from| taken.push((packet.to_vec(), from)));
            assert_eq!(taken, [(vec![1], to)]);
        }
    }

    #[test]
    fn after_an_error_all_probes_are_left_for_the_sender_until_the_socket_is_closed() {
        for ip in LOOPBACKS {
            let ((receiver, to), (sender, port)) = (receiver(ip), sender(ip));
            let direct = Direct::new("lo");
            drop(receiver);
            // On loopback the message that the port is closed comes before the call returns.
            assert_eq!(direct.send(&sender, &batch(20, to)), 1);
            assert_eq!(direct.send(&sender, &batch(20, to)), 0);
            direct.close(|_, _| ());
            let receiver = UdpSocket::bind(to).unwrap();
            receiver.set_nonblocking(true).unwrap();
            assert_eq!(direct.send(&sender, &batch(20, to)), 20);
            assert_eq!(arrived(&receiver, port).len(), 20);
        }
    }
}
