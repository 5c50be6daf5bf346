//! Membership of multicast groups, and the repetition of its report.
//!
//! The kernel reports a membership when it begins, and when a querier asks. Without a querier, a switch that snoops
//! forgets it, and sends the packets to the group elsewhere.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, Socket, Type};

/// Less than the shortest time after which Open vSwitch forgets a member: 15 s.
const REPEAT_NS: u64 = 10_000_000_000;

/// Decides when memberships are reported again.
#[derive(Debug)]
pub(crate) struct Repetition {
    due_ns: u64,
}

impl Repetition {
    /// At `now_ns` the kernel has reported the memberships.
    pub(crate) fn new(now_ns: u64) -> Self {
        Self {
            due_ns: now_ns.saturating_add(REPEAT_NS),
        }
    }

    /// Whether to report them now. `came_up`: the carrier is back, maybe that of another switch.
    pub(crate) fn is_due(&mut self, now_ns: u64, came_up: bool) -> bool {
        let is_due = came_up || now_ns >= self.due_ns;
        if is_due {
            *self = Self::new(now_ns);
        }
        is_due
    }
}

pub(crate) fn join(socket: &Socket, group: IpAddr, index: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(v4) => socket.join_multicast_v4_n(&v4, &InterfaceIndexOrAddress::Index(index)),
        IpAddr::V6(v6) => socket.join_multicast_v6(&v6, index),
    }
}

/// A socket that does nothing but stay a member of `group`.
pub(crate) fn member(group: IpAddr, index: u32) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(SocketAddr::new(group, 0));
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    join(&socket, group, index)?;
    Ok(socket.into())
}

/// A change of the source filter of one member.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Filter {
    Block,
    Unblock,
}

/// Blocks or unblocks an address that no host has. Once all members have blocked and unblocked it, the kernel reports
/// the group (a record `ALLOW_NEW_SOURCES` of IGMPv3 or MLDv2), and the membership has not been interrupted.
pub(crate) fn set_filter(socket: &Socket, group: IpAddr, index: u32, filter: Filter) -> io::Result<()> {
    // Addresses for documentation: RFC 5737 and RFC 3849.
    let (level, source) = match group {
        IpAddr::V4(_) => (libc::IPPROTO_IP, IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))),
        IpAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    };
    let option = match filter {
        Filter::Block => libc::MCAST_BLOCK_SOURCE,
        Filter::Unblock => libc::MCAST_UNBLOCK_SOURCE,
    };
    let storage = |address: IpAddr| {
        let address = SockAddr::from(SocketAddr::new(address, 0));
        // SAFETY: a `SockAddr` holds a whole sockaddr_storage.
        unsafe { address.as_ptr().cast::<libc::sockaddr_storage>().read() }
    };
    // SAFETY: all zeros are a valid group_source_req. They are also its padding.
    let mut request: libc::group_source_req = unsafe { zeroed() };
    request.gsr_interface = index;
    request.gsr_group = storage(group);
    request.gsr_source = storage(source);
    let length = size_of::<libc::group_source_req>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes at the address of `request`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const request).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn memberships_are_reported_again_and_again_and_when_the_carrier_is_back() {
        let mut repetition = Repetition::new(5 * S);
        let table = [
            (6, false, false),
            (14, false, false),
            (15, false, true),
            (16, false, false),
            (18, true, true),
            (25, false, false),
            (28, false, true),
            // Once, not once for each time that was missed.
            (99, false, true),
            (100, false, false),
        ];
        for (second, came_up, want) in table {
            assert_eq!(repetition.is_due(second * S, came_up), want, "{second}");
        }
    }
}
