//! The sockets of an agent: they keep port numbers and group memberships, and send; the kernel programs receive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};
use thiserror::Error;
use tokio::net::UdpSocket;

/// TTL and hop limit of unicast probes, as of replies.
pub(super) const UNICAST_TTL: u32 = 255;

/// Longest packet that userspace looks at.
const MAX_PACKET: usize = 2048;

/// A socket could not be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The test port is taken.
    #[error("UDP port {port} on {interface} is in use; another agent? Stop it, or give every agent another --port")]
    PortInUse {
        /// Which port.
        port: u16,
        /// Where.
        interface: String,
    },
    /// Anything else.
    #[error("{interface}: cannot {what}: {source}")]
    Other {
        /// Where.
        interface: String,
        /// What failed.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// One IP version's sockets on one interface.
pub struct Sockets {
    /// Bound to the test port and a member of the group: receives what the programs pass up.
    pub test: UdpSocket,
    /// Sends probes; its replies end in the kernel, and what does not is dropped unread.
    sender: Socket,
    /// Asks peers who they are.
    pub control: UdpSocket,
    /// Port of `sender`.
    pub sender_port: u16,
    index: u32,
}

impl Sockets {
    /// Opens them on `interface` of index `index` for the IP version of `group`, and joins `group`.
    pub fn open(interface: &str, index: u32, port: u16, group: IpAddr) -> Result<Self, SocketError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| SocketError::Other {
                interface: interface.to_owned(),
                what,
                source,
            }
        };
        let test = bound(interface, group, port).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SocketError::PortInUse {
                port,
                interface: interface.to_owned(),
            },
            _ => failed("bind the test port")(source),
        })?;
        join(&test, group, index).map_err(failed(&format!("join {group}")))?;
        let sender = bound(interface, group, 0).map_err(failed("open the sending socket"))?;
        prepare_sender(&sender, group, index).map_err(failed("set up the sending socket"))?;
        let control = bound(interface, group, 0).map_err(failed("open the control socket"))?;
        let sender_port = local_port(&sender).map_err(failed("read the sending socket's port"))?;
        Ok(Self {
            test: UdpSocket::from_std(test.into()).map_err(failed("watch the test port"))?,
            sender,
            control: UdpSocket::from_std(control.into()).map_err(failed("watch the control socket"))?,
            sender_port,
            index,
        })
    }

    /// Sends a probe.
    pub fn send_probe(&self, packet: &[u8], to: IpAddr, port: u16) -> io::Result<()> {
        self.sender.send_to(packet, &self.endpoint(to, port).into()).map(drop)
    }

    /// The sending socket once more, for a thread of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn clone_sender(&self) -> io::Result<Socket> {
        self.sender.try_clone()
    }

    /// `to`, reached through this interface.
    pub fn endpoint(&self, to: IpAddr, port: u16) -> SocketAddr {
        match to {
            IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, self.index).into(),
        }
    }
}

/// A nonblocking UDP socket of `family_of`'s IP version on `interface` alone.
fn bound(interface: &str, family_of: IpAddr, port: u16) -> io::Result<Socket> {
    let (domain, any): (_, IpAddr) = match family_of {
        IpAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddr::new(any, port).into())?;
    Ok(socket)
}

fn join(socket: &Socket, group: IpAddr, index: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(v4) => socket.join_multicast_v4_n(&v4, &InterfaceIndexOrAddress::Index(index)),
        IpAddr::V6(v6) => socket.join_multicast_v6(&v6, index),
    }
}

/// Group probes leave by this interface and are not looped back; nothing is ever queued for reading.
fn prepare_sender(socket: &Socket, family_of: IpAddr, index: u32) -> io::Result<()> {
    match family_of {
        IpAddr::V4(_) => {
            socket.set_multicast_loop_v4(false)?;
            socket.set_ttl_v4(UNICAST_TTL)?;
        }
        IpAddr::V6(_) => {
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(index)?;
            socket.set_unicast_hops_v6(UNICAST_TTL)?;
        }
    }
    let accept_no_bytes = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    socket.attach_filter(&[accept_no_bytes])
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address
        .map(|address| address.port())
        .ok_or_else(|| io::Error::other("the socket has no port"))
}

/// A packet that the programs passed up to a socket.
pub struct PassedUp {
    /// What was received.
    pub packet: Vec<u8>,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whether it came to the test port, as a question would, or to the control socket, as an answer would.
    pub to_test_port: bool,
}

impl Sockets {
    /// Waits for a packet that is not for the kernel programs. Cancel safe.
    pub async fn passed_up(&self) -> io::Result<PassedUp> {
        loop {
            let to_test_port = tokio::select! {
                ready = self.test.readable() => ready.map(|()| true)?,
                ready = self.control.readable() => ready.map(|()| false)?,
            };
            let socket = if to_test_port { &self.test } else { &self.control };
            let mut packet = vec![0; MAX_PACKET];
            match socket.try_recv_from(&mut packet) {
                Ok((length, from)) => {
                    packet.truncate(length);
                    return Ok(PassedUp {
                        packet,
                        from,
                        to_test_port,
                    });
                }
                // Readiness can be stale, and a datagram with a wrong checksum vanishes on reading.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
