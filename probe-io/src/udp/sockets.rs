//! UDP sockets: hold ports and group memberships, send probes, and receive packets that no kernel program takes.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::task::{Context, Poll, ready};

use probe_common::family::Family;
use probe_common::legacy;
use probe_core::engine::Engine;
use probe_host::link::{Address, Link};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::UdpSocket;

use crate::udp::batch::Datagram;
use crate::udp::membership::{Filter, join, set_filter};
use crate::udp::options::{UNICAST_TTL, enlarge_send_buffer, set_ttl};
use crate::udp::sending::SendingSockets;
use crate::udp::stamped::{Leaving, Received};
use crate::udp::strays;
use crate::udp::watched::WatchedSocket;

/// How often free ports in a row are looked for.
const MAX_TRIES: usize = 64;

/// Longest packet that userspace looks at: the payload of a jumbo frame.
pub const MAX_PACKET: usize = 9216;

#[derive(Debug, Error)]
pub enum SocketError {
    #[error("UDP port {port} on {interface} is in use; another agent? Stop it, or give every agent another --port")]
    PortInUse { port: u16, interface: String },
    #[error("UDP port {port} on {interface} is for root only; give every agent another --port, or run kstamp as root")]
    PortForbidden { port: u16, interface: String },
    #[error("cannot send to {to}: {source}")]
    Target { to: SocketAddr, source: io::Error },
    #[error("{interface}: cannot {what}: {source}")]
    Other {
        interface: String,
        what: String,
        source: io::Error,
    },
}

impl SocketError {
    fn of(interface: &str, what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let (interface, what) = (interface.to_owned(), what.to_owned());
        move |source| Self::Other {
            interface,
            what,
            source,
        }
    }
}

/// The sending socket.
enum ProbeSocket {
    /// Kernel programs take the replies.
    SendOnly(SendingSockets),
    /// It stamps what it sends, and receives the replies.
    Stamping(WatchedSocket),
}

/// Whether a test port can be bound on `interface`, for each IP version of `groups`.
pub(crate) fn check_port(interface: &str, port: u16, groups: &[IpAddr]) -> Result<(), SocketError> {
    groups
        .iter()
        .try_for_each(|&group| bound_test(interface, Family::of(group), port).map(drop))
}

fn bound_test(interface: &str, family: Family, port: u16) -> Result<Socket, SocketError> {
    bound(interface, family, port).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => SocketError::PortInUse {
            port,
            interface: interface.to_owned(),
        },
        io::ErrorKind::PermissionDenied => SocketError::PortForbidden {
            port,
            interface: interface.to_owned(),
        },
        _ => SocketError::of(interface, "bind the test port")(source),
    })
}

/// Bound to a test port and a member of the group: receives what the programs pass up.
pub struct TestSocket {
    pub port: u16,
    pub socket: WatchedSocket,
}

impl TestSocket {
    fn open(interface: &str, index: u32, port: u16, group: IpAddr) -> Result<Self, SocketError> {
        let failed = |what: &str| SocketError::of(interface, what);
        let family = Family::of(group);
        let socket = bound_test(interface, family, port)?;
        join(&socket, group, index).map_err(failed(&format!("join {group}")))?;
        set_ttl(&socket, family, UNICAST_TTL).map_err(failed("set up the test port"))?;
        let socket = WatchedSocket::new(socket).map_err(failed("stamp at the test port"))?;
        Ok(Self { port, socket })
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<PassedUp>> {
        let received = ready!(self.socket.poll_receive(MAX_PACKET, cx));
        Poll::Ready(received.map(|(packet, received)| PassedUp::TestPort {
            port: self.port,
            packet,
            received,
        }))
    }
}

/// The ports of the sockets of one IP version.
#[derive(Clone, Copy)]
pub(crate) struct Ports<'a> {
    pub test: &'a [u16],
    /// How many ports after the sender's are for cold probes.
    pub cold: u16,
}

/// One IP version's sockets on one interface.
pub struct Sockets {
    /// One for each test port, at least one.
    pub tests: Vec<TestSocket>,
    sender: ProbeSocket,
    /// Asks peers for their identity.
    pub control: UdpSocket,
    pub sender_port: u16,
    /// At the ports after `sender_port`, in order. Kernel programs take the replies.
    cold: Vec<Socket>,
    group: IpAddr,
    index: u32,
}

impl Sockets {
    /// Opens them on `interface` of index `index` for the IP version of `group`, and joins `group`.
    fn open(interface: &str, index: u32, ports: Ports<'_>, group: IpAddr, engine: Engine) -> Result<Self, SocketError> {
        let failed = |what: &str| SocketError::of(interface, what);
        let family = Family::of(group);
        let tests = ports.test.iter();
        let tests = tests.map(|&port| TestSocket::open(interface, index, port, group));
        let tests = tests.collect::<Result<_, _>>()?;
        let (sender, cold) = senders(interface, family, ports.cold).map_err(failed("open the sending socket"))?;
        prepare_sender(&sender, family, index, UNICAST_TTL).map_err(failed("set up the sending socket"))?;
        enlarge_send_buffer(&sender);
        let control = control_socket(interface, family)?;
        let sender_port = local_port(&sender).map_err(failed("read the sending socket's port"))?;
        let sender = match engine {
            Engine::Ebpf => {
                sender
                    .set_recv_buffer_size(strays::MAX_BYTES)
                    .map_err(failed("set up the sending socket"))?;
                ProbeSocket::SendOnly(SendingSockets::new(sender))
            }
            Engine::Socket => {
                ProbeSocket::Stamping(WatchedSocket::new(sender).map_err(failed("stamp at the sending socket"))?)
            }
        };
        Ok(Self {
            tests,
            sender,
            control,
            sender_port,
            cold,
            group,
            index,
        })
    }

    /// Makes the kernel report the membership of the group again.
    pub(crate) fn report_membership(&self) -> io::Result<()> {
        for filter in [Filter::Block, Filter::Unblock] {
            for test in &self.tests {
                test.socket
                    .with_socket(|socket| set_filter(socket, self.group, self.index, filter))?;
            }
        }
        Ok(())
    }

    /// Sends probes that kernel programs stamp. Calls `failed` with the index and the error of each
    /// that the kernel refused.
    pub(crate) fn send_probes(&self, probes: &[Datagram], mut failed: impl FnMut(usize, io::Error)) {
        match &self.sender {
            ProbeSocket::SendOnly(sender) => sender.send_all(probes, failed),
            ProbeSocket::Stamping(_) => {
                (0..probes.len()).for_each(|index| failed(index, io::ErrorKind::Unsupported.into()));
            }
        }
    }

    /// Sends a probe that kernel programs stamp, from the port that is next in turn.
    pub(crate) fn send_cold(&self, seq: u32, probe: &[u8], to: SocketAddr) -> io::Result<()> {
        let place = seq as usize % self.cold.len().max(1);
        let socket = self.cold.get(place).ok_or(io::ErrorKind::Unsupported)?;
        socket.send_to(probe, &to.into()).map(drop)
    }

    /// The sending socket, where it receives replies.
    pub fn replies(&self) -> Option<&WatchedSocket> {
        match &self.sender {
            ProbeSocket::SendOnly(_) => None,
            ProbeSocket::Stamping(socket) => Some(socket),
        }
    }

    /// Hands over packets that came to the sending socket although kernel programs take the replies. Call it twice a second:
    /// until then, a change of the route does not change the source address of many probes in a row to one peer.
    pub(crate) fn take_strays(&self, each: impl FnMut(&[u8], SocketAddr)) {
        if let ProbeSocket::SendOnly(sender) = &self.sender {
            sender.take_strays(each);
        }
    }

    /// Answers from the test port `port`, from `source` or else from the address that the route prefers, with `tos`. Returns
    /// the number of the stamp.
    pub fn answer(&self, port: u16, packet: &[u8], to: SocketAddr, source: Option<IpAddr>, tos: u8) -> io::Result<u32> {
        let test = self.tests.iter().find(|test| test.port == port);
        let test = test.ok_or(io::ErrorKind::NotFound)?;
        let leaving = Leaving {
            source,
            interface: self.index,
            tos,
        };
        test.socket.send_leaving(packet, to, leaving)
    }

    /// A second handle of the sending socket, for another thread. Fails for a stamping socket: two senders would mix up
    /// the numbers of its stamps.
    pub(crate) fn clone_sender(&self) -> io::Result<Socket> {
        match &self.sender {
            ProbeSocket::SendOnly(sender) => sender.try_clone(),
            ProbeSocket::Stamping(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The address from which the kernel sends probes to `to`: the socket that sends them is bound to none.
    pub(crate) fn source_of(&self, interface: &str, to: IpAddr) -> io::Result<IpAddr> {
        const DISCARD: u16 = 9;
        let socket = bound(interface, Family::of(to), 0)?;
        socket.connect(&self.endpoint(to, DISCARD).into())?;
        let source = socket.local_addr()?.as_socket();
        source
            .map(|source| source.ip())
            .ok_or_else(|| io::Error::other("the socket has no address"))
    }

    /// `to`, reached through this interface.
    pub fn endpoint(&self, to: IpAddr, port: u16) -> SocketAddr {
        endpoint(to, port, self.index)
    }
}

/// `to`, reached through the interface of index `index`.
pub fn endpoint(to: IpAddr, port: u16, index: u32) -> SocketAddr {
    match to {
        IpAddr::V4(v4) => SocketAddrV4::new(v4, port).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, index).into(),
    }
}

/// A socket on `interface` alone that asks peers for their identity.
pub fn control_socket(interface: &str, family: Family) -> Result<UdpSocket, SocketError> {
    let opened = bound(interface, family, 0).and_then(|socket| UdpSocket::from_std(socket.into()));
    opened.map_err(SocketError::of(interface, "open the control socket"))
}

/// A socket at a port that the kernel chooses, and sockets at the `cold` ports after it.
fn senders(interface: &str, family: Family, cold: u16) -> io::Result<(Socket, Vec<Socket>)> {
    let open = || {
        let sender = bound(interface, family, 0)?;
        let port = local_port(&sender)?;
        let cold = (1..=cold).map(|step| {
            let port = port.checked_add(step).ok_or(io::ErrorKind::AddrInUse)?;
            let socket = bound(interface, family, port)?;
            set_ttl(&socket, family, UNICAST_TTL)?;
            // Nothing is read here.
            socket.set_recv_buffer_size(0)?;
            Ok(socket)
        });
        let cold = cold.collect::<io::Result<Vec<_>>>()?;
        Ok((sender, cold))
    };
    let is_in_use = |opened: &io::Result<_>| {
        let error = opened.as_ref().err().map(io::Error::kind);
        error == Some(io::ErrorKind::AddrInUse)
    };
    // Other sockets may have some of the ports.
    let mut tries = std::iter::repeat_with(open).take(MAX_TRIES);
    let opened = tries.find(|opened| !is_in_use(opened));
    opened.unwrap_or_else(|| Err(io::ErrorKind::AddrInUse.into()))
}

/// A nonblocking UDP socket on `interface` alone.
pub(crate) fn bound(interface: &str, family: Family, port: u16) -> io::Result<Socket> {
    let (domain, any): (_, IpAddr) = match family {
        Family::V4 => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        Family::V6 => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddr::new(any, port).into())?;
    Ok(socket)
}

/// Group probes leave by this interface and are not looped back.
fn prepare_sender(socket: &Socket, family: Family, index: u32, ttl: u32) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_multicast_loop_v4(false)?,
        Family::V6 => {
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(index)?;
        }
    }
    set_ttl(socket, family, ttl)
}

pub(crate) fn local_port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address
        .map(|address| address.port())
        .ok_or_else(|| io::Error::other("the socket has no port"))
}

/// A socket on `interface` of index `index` that probes legacy agents. Its TTL is that of an ordinary host: kstamp's
/// programs answer ASCII probes with a higher one.
pub(crate) fn legacy_sender(interface: &str, index: u32, family: Family) -> Result<WatchedSocket, SocketError> {
    let open = || {
        let socket = bound(interface, family, 0)?;
        prepare_sender(&socket, family, index, legacy::PROBE_TTL.into())?;
        WatchedSocket::new(socket)
    };
    open().map_err(SocketError::of(interface, "open the socket for --legacy-peers"))
}

/// A packet for userspace.
#[derive(Debug)]
pub enum PassedUp {
    /// Received at the test port: a probe or an identity request.
    TestPort {
        port: u16,
        packet: Vec<u8>,
        received: Received,
    },
    /// Received at the control socket: an answer to an identity request.
    Control { packet: Vec<u8>, from: SocketAddr },
}

impl Sockets {
    /// Waits for a packet that is not for the kernel programs. Cancel safe; only one task can wait.
    pub(crate) async fn passed_up(&self) -> io::Result<PassedUp> {
        tokio::select! {
            received = poll_fn(|cx| self.poll_test_ports(cx)) => received,
            received = receive_from(&self.control) => {
                let (packet, from) = received?;
                Ok(PassedUp::Control { packet, from })
            }
        }
    }

    fn poll_test_ports(&self, cx: &mut Context<'_>) -> Poll<io::Result<PassedUp>> {
        let mut polls = self.tests.iter().map(|test| test.poll_receive(cx));
        polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
    }
}

async fn receive_from(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    loop {
        socket.readable().await?;
        let mut packet = vec![0; MAX_PACKET];
        match socket.try_recv_from(&mut packet) {
            Ok((length, from)) => {
                packet.truncate(length);
                return Ok((packet, from));
            }
            // Readiness can be stale, and a datagram with a wrong checksum vanishes on reading.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The sockets of the IP versions in use.
#[derive(Default)]
pub struct SocketPair {
    v4: Option<Sockets>,
    v6: Option<Sockets>,
}

impl SocketPair {
    pub fn of(&self, family: Family) -> Option<&Sockets> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// Makes the kernel report all memberships again.
    pub(crate) fn report_memberships(&self) -> io::Result<()> {
        self.v4.iter().chain(&self.v6).try_for_each(Sockets::report_membership)
    }

    /// Opens the missing sockets of each IP version that has a group and an address.
    pub(crate) fn open_missing(
        &mut self,
        link: &Link,
        addresses: &[Address],
        ports: Ports<'_>,
        groups: &[IpAddr],
        engine: Engine,
    ) -> Result<(), SocketError> {
        for &group in groups {
            let family = Family::of(group);
            let sockets = match family {
                Family::V4 => &mut self.v4,
                Family::V6 => &mut self.v6,
            };
            if sockets.is_none() && addresses.iter().any(|address| Family::of(address.ip) == family) {
                *sockets = Some(Sockets::open(&link.name, link.index, ports, group, engine)?);
            }
        }
        Ok(())
    }
}
