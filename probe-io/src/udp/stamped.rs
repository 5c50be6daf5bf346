//! A UDP socket whose packets the kernel stamps in software, `SO_TIMESTAMPING` (Documentation/networking/timestamping.rst).
//!
//! All stamps are `CLOCK_REALTIME` nanoseconds since 1970. A received packet is stamped where the driver hands it to the
//! stack, a sent one where the stack hands it to the driver. Some drivers do not stamp sent packets. The first received
//! packets have no stamp, because the kernel enables receive stamping in the background.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::cmsg_space;
use nix::sys::socket::sockopt::{
    IpRecvTos, Ipv4PacketInfo, Ipv4RecvTtl, Ipv6RecvHopLimit, Ipv6RecvPacketInfo, Ipv6RecvTClass, Timestamping,
};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, recvmsg, sendmsg, setsockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket};

/// `SO_EE_ORIGIN_TIMESTAMPING` (include/uapi/linux/errqueue.h): this entry of the error queue is a stamp.
const ORIGIN_TIMESTAMPING: u8 = 4;

/// A UDP socket with kernel stamps in both directions.
#[derive(Debug)]
pub struct StampedSocket {
    socket: Socket,
    /// Packets handed to the kernel, which numbers their stamps by the same count.
    sent: u32,
    control: Vec<u8>,
}

/// Metadata of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Length of the payload in bytes, cut to the buffer.
    pub len: usize,
    pub from: SocketAddr,
    /// Destination: an address of this host, or a group.
    pub to: Option<IpAddr>,
    /// When the stack received it.
    pub stamp_ns: Option<u64>,
    /// TTL or hop limit with which it arrived.
    pub ttl: Option<u8>,
    /// Type of service or traffic class with which it arrived: DSCP in the upper six bits, ECN in the lower two.
    pub tos: Option<u8>,
}

/// How a packet is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// One of this host's addresses; `None` for the one that the route prefers.
    pub source: Option<IpAddr>,
    /// Index of the outgoing interface.
    pub interface: u32,
    /// Type of service or traffic class.
    pub tos: u8,
}

/// The stamp of a packet that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentStamp {
    /// What [`StampedSocket::send`] returned for it.
    pub id: u32,
    /// Time of the handover to the driver.
    pub stamp_ns: u64,
}

impl StampedSocket {
    /// Asks the kernel to stamp what `socket`, a UDP socket that has sent nothing yet, sends and receives.
    pub fn new(socket: Socket) -> io::Result<Self> {
        let flags = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
            | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
        setsockopt(&socket, Timestamping, &flags)?;
        if socket.domain()? == Domain::IPV4 {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
            setsockopt(&socket, Ipv4RecvTtl, &true)?;
            setsockopt(&socket, IpRecvTos, &true)?;
        } else {
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, Ipv6RecvTClass, &true)?;
        }
        Ok(Self {
            socket,
            sent: 0,
            control: cmsg_space!([u8; 256]),
        })
    }

    /// The socket itself, to set options and to read its address. Sending on it directly would confuse the stamps.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends `packet`. Returns the number that its stamp will carry. The kernel numbers no packet that it refused
    /// (net/ipv4/ip_output.c, since 6.8 in every case).
    pub fn send(&mut self, packet: &[u8], to: SocketAddr) -> io::Result<u32> {
        self.socket.send_to(packet, &to.into())?;
        let id = self.sent;
        self.sent = self.sent.wrapping_add(1);
        Ok(id)
    }

    /// As [`StampedSocket::send`], by the interface and from the address of `leaving`, and with its type of service.
    pub fn send_leaving(&mut self, packet: &[u8], to: SocketAddr, leaving: Leaving) -> io::Result<u32> {
        let parts = [IoSlice::new(packet)];
        let fd = self.socket.as_raw_fd();
        let address = SockaddrStorage::from(to);
        match to {
            SocketAddr::V4(_) => {
                let source = match leaving.source {
                    Some(IpAddr::V4(source)) => source,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                let info = libc::in_pktinfo {
                    ipi_ifindex: leaving.interface.cast_signed(),
                    ipi_spec_dst: libc::in_addr {
                        s_addr: source.to_bits().to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [
                    ControlMessage::Ipv4PacketInfo(&info),
                    ControlMessage::Ipv4Tos(&leaving.tos),
                ];
                sendmsg(fd, &parts, &control, MsgFlags::empty(), Some(&address))?;
            }
            SocketAddr::V6(_) => {
                let source = match leaving.source {
                    Some(IpAddr::V6(source)) => source,
                    _ => Ipv6Addr::UNSPECIFIED,
                };
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: source.octets(),
                    },
                    ipi6_ifindex: leaving.interface,
                };
                let class = i32::from(leaving.tos);
                let control = [
                    ControlMessage::Ipv6PacketInfo(&info),
                    ControlMessage::Ipv6TClass(&class),
                ];
                sendmsg(fd, &parts, &control, MsgFlags::empty(), Some(&address))?;
            }
        }
        let id = self.sent;
        self.sent = self.sent.wrapping_add(1);
        Ok(id)
    }

    /// Receives a packet into `buffer`; blocks if the socket does.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.control),
            MsgFlags::empty(),
        )?;
        let from = message.address.as_ref().and_then(socket_address);
        let mut received = Received {
            len: message.bytes,
            from: from.ok_or_else(|| io::Error::other("a datagram without a source address"))?,
            to: None,
            stamp_ns: None,
            ttl: None,
            tos: None,
        };
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmTimestampsns(stamps) => received.stamp_ns = nanoseconds(stamps.system),
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    received.to = Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    received.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                ControlMessageOwned::Ipv4Ttl(ttl) => received.ttl = u8::try_from(ttl).ok(),
                ControlMessageOwned::Ipv6HopLimit(limit) => received.ttl = u8::try_from(limit).ok(),
                ControlMessageOwned::Ipv4Tos(tos) => received.tos = Some(tos),
                ControlMessageOwned::Ipv6TClass(class) => received.tos = u8::try_from(class).ok(),
                _ => {}
            }
        }
        Ok(received)
    }

    /// Takes the next stamp of a sent packet, if there is one. Never blocks. Drops other entries of the error queue.
    pub fn sent_stamp(&mut self) -> io::Result<Option<SentStamp>> {
        loop {
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let message =
                match recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut [], Some(&mut self.control), flags) {
                    Ok(message) => message,
                    Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
            let mut id = None;
            let mut stamp_ns = None;
            for part in message.cmsgs()? {
                match part {
                    ControlMessageOwned::ScmTimestampsns(stamps) => stamp_ns = nanoseconds(stamps.system),
                    ControlMessageOwned::Ipv4RecvErr(error, _) if error.ee_origin == ORIGIN_TIMESTAMPING => {
                        id = Some(error.ee_data);
                    }
                    ControlMessageOwned::Ipv6RecvErr(error, _) if error.ee_origin == ORIGIN_TIMESTAMPING => {
                        id = Some(error.ee_data);
                    }
                    _ => {}
                }
            }
            if let Some((id, stamp_ns)) = id.zip(stamp_ns) {
                return Ok(Some(SentStamp { id, stamp_ns }));
            }
        }
    }
}

impl AsFd for StampedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address of a UDP socket; `None` for any other.
pub fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&address| SocketAddr::V4(address.into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|&address| SocketAddr::V6(address.into())))
}

/// `None` for the zero that stands for no stamp.
fn nanoseconds(stamp: TimeSpec) -> Option<u64> {
    let seconds = u64::try_from(stamp.tv_sec()).ok()?;
    let nanoseconds = u64::try_from(stamp.tv_nsec()).ok()?;
    let stamp_ns = seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)?;
    (stamp_ns > 0).then_some(stamp_ns)
}

#[cfg(test)]
mod tests;
