//! Options of sockets that send probes.

use std::io;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;
use probe_common::family::Family;
use probe_common::stamp;
use socket2::Socket;

pub(crate) const UNICAST_TTL: u32 = stamp::TTL as u32;

pub(crate) fn set_ttl(socket: &Socket, family: Family, ttl: u32) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_ttl_v4(ttl),
        Family::V6 => socket.set_unicast_hops_v6(ttl),
    }
}

/// Probes that wait for ARP or ND take room in the buffer. With this size, those to 1,000 dead peers leave room for
/// others.
const SEND_BUFFER: usize = 16 << 20;

/// Without CAP_NET_ADMIN the buffer stays within net.core.wmem_max.
pub(crate) fn enlarge_send_buffer(socket: &Socket) {
    if setsockopt(socket, SndBufForce, &SEND_BUFFER).is_err() {
        // A smaller buffer does as long as few peers are dead.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
    }
}
