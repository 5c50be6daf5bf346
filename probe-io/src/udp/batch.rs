//! Sends many datagrams by one system call.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use probe_common::stamp;
use socket2::{SockAddr, Socket};

/// Maximum number of datagrams in one system call.
pub const MAX_BATCH: usize = 64;

/// A base probe and its destination.
#[derive(Debug)]
pub(crate) struct Datagram {
    packet: [u8; stamp::BASE_LEN],
    to: SockAddr,
}

impl Datagram {
    pub(crate) fn new(packet: [u8; stamp::BASE_LEN], to: SocketAddr) -> Self {
        Self { packet, to: to.into() }
    }
}

/// Sends all datagrams in order. Calls `failed` with the index and the error of each that the kernel refused.
pub(crate) fn send_all(socket: &Socket, datagrams: &[Datagram], mut failed: impl FnMut(usize, io::Error)) {
    let mut next = 0;
    while next < datagrams.len() {
        let left = datagrams[next..].iter();
        match send_first(socket, left.map(|datagram| (&datagram.packet, Some(&datagram.to)))) {
            Ok(sent) => next += sent,
            Err(error) => {
                failed(next, error);
                next += 1;
            }
        }
    }
}

/// Sends the first probes, at most [`MAX_BATCH`], and returns their number, at least 1. A connected socket needs no
/// destinations. The kernel stops before a datagram that it refuses, and returns the error only if that is the first
/// (net/socket.c, `__sys_sendmmsg`).
pub(crate) fn send_first<'a>(
    socket: &Socket,
    probes: impl Iterator<Item = (&'a [u8; stamp::BASE_LEN], Option<&'a SockAddr>)>,
) -> io::Result<usize> {
    // Most calls send one probe, so the rest is not written.
    let mut parts = [MaybeUninit::uninit(); MAX_BATCH];
    let mut headers = [MaybeUninit::uninit(); MAX_BATCH];
    let mut count = 0;
    for (((packet, to), part), header) in probes.zip(&mut parts).zip(&mut headers) {
        let part = part.write(libc::iovec {
            iov_base: packet.as_ptr().cast_mut().cast(),
            iov_len: packet.len(),
        });
        // SAFETY: zeroes are valid for it, because it consists of pointers and integers.
        let header: &mut libc::mmsghdr = header.write(unsafe { std::mem::zeroed() });
        if let Some(to) = to {
            header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = to.len();
        }
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers point to packets, addresses and parts that outlive the call, and the kernel only
    // reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr().cast(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

    use probe_common::ntp::ErrorEstimate;
    use socket2::{Domain, Protocol, Type};

    use super::*;

    /// Sends 3 × [`MAX_BATCH`] datagrams, those in `refused` to port 0, which the kernel refuses. Returns the numbers that
    /// arrived and the indices that failed.
    fn send(loopback: IpAddr, refused: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let receiver = UdpSocket::bind((loopback, 0)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let to = receiver.local_addr().unwrap();
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)).unwrap();
        let datagrams: Vec<_> = (0..3 * MAX_BATCH)
            .map(|index| {
                let port = if refused.contains(&index) { 0 } else { to.port() };
                let packet = stamp::probe(index as u32, ErrorEstimate(1), 7);
                Datagram::new(packet, SocketAddr::new(loopback, port))
            })
            .collect();
        let mut failed = Vec::new();
        send_all(&socket, &datagrams, |index, error| {
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            failed.push(index);
        });
        let mut packet = [0; 100];
        let arrived = std::iter::from_fn(|| {
            let length = receiver.recv(&mut packet).ok()?;
            assert_eq!(length, stamp::BASE_LEN);
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
}
