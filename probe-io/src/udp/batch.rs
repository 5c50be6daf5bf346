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
    pub(crate) packet: [u8; stamp::BASE_LEN],
    pub(crate) to: SockAddr,
}

impl Datagram {
    pub(crate) fn new(packet: [u8; stamp::BASE_LEN], to: SocketAddr) -> Self {
        Self { packet, to: to.into() }
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
