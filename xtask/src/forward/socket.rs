//! A packet socket on one interface: whole frames in and out, with what the kernel knows beside them.
//!
//! `PACKET_VNET_HDR` carries checksums that are still to be filled in and segments that are still to be cut across;
//! `PACKET_AUXDATA` carries the VLAN tag, which the kernel takes out of the frame.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    net::if_::if_nametoindex,
    time::{ClockId, clock_gettime},
};

use super::line::now;

/// The longest frame with its header in front: a segment of 64 KiB still to be cut, and room for headers.
const LONGEST: usize = 66_000;

/// The length of `struct virtio_net_hdr`, which stands before each frame.
const HEADER: usize = 10;

/// Where a VLAN tag goes in a frame: after the two MAC addresses.
const TAG_AT: usize = HEADER + 12;

/// A frame, its `virtio_net_hdr` in front.
pub(crate) type Frame = Box<[u8]>;

/// An interface whose frames are read and written.
#[derive(Debug)]
pub(crate) struct Port {
    fd: OwnedFd,
}

impl Port {
    /// Opens the interface called `name`: all frames that come in by it, none that go out.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let index = if_nametoindex(name).with_context(|| format!("no interface {name} in this namespace"))?;
        let index = libc::c_int::try_from(index).context("interface index out of range")?;
        // SAFETY: a plain system call; the result is checked before it is used.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot open a packet socket (root is needed)");
        }
        // SAFETY: the descriptor was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let port = Self { fd };
        for option in [
            libc::PACKET_VNET_HDR,
            libc::PACKET_IGNORE_OUTGOING,
            libc::PACKET_AUXDATA,
        ] {
            port.set(libc::SOL_PACKET, option, &1)
                .context("cannot set an option of a packet socket")?;
        }
        port.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1)
            .context("no receive timestamps")?;
        // At most the system's limit; the queue is ours.
        port.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16 << 20))
            .context("cannot set the receive buffer")?;
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut promiscuous: libc::packet_mreq = unsafe { mem::zeroed() };
        promiscuous.mr_ifindex = index;
        promiscuous.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
        port.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)
            .context("cannot listen to all frames")?;
        port.bind(index).with_context(|| format!("cannot bind to {name}"))?;
        Ok(port)
    }

    /// Waits for a frame; when it came, on the monotonic clock, and the frame.
    pub(crate) fn receive(&self) -> io::Result<(Duration, Frame)> {
        let mut buffer = [0_u8; LONGEST];
        let mut control = [0_u64; 32];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: the message describes buffers that are alive and as long as it says.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        if length < TAG_AT || length > buffer.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let beside = Beside::read(&message);
        let frame = beside
            .tag
            .map_or_else(|| buffer[..length].into(), |tag| insert_tag(&buffer[..length], tag));
        Ok((beside.stamp.map_or_else(now, on_monotonic_clock), frame))
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer is alive and as long as it says.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: the value is alive and as long as the call is told.
        let done = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, ptr::from_ref(value).cast(), length) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// From here on, frames come in: of this interface only.
    fn bind(&self, index: libc::c_int) -> io::Result<()> {
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        let length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is alive and as long as the call is told.
        let done = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// What the kernel says beside a frame.
#[derive(Default)]
struct Beside {
    /// When it came, on the wall clock.
    stamp: Option<Duration>,
    /// Its VLAN tag: protocol and control information.
    tag: Option<[u8; 4]>,
}

impl Beside {
    fn read(message: &libc::msghdr) -> Self {
        let mut beside = Self::default();
        // SAFETY: the kernel filled the control buffer; the macros stay inside its length, and each payload is read
        // unaligned, as the type that its level and type name.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while let Some(one) = header.as_ref() {
                let data = libc::CMSG_DATA(header);
                match (one.cmsg_level, one.cmsg_type) {
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let stamp = data.cast::<libc::timespec>().read_unaligned();
                        beside.stamp = Some(nix::sys::time::TimeSpec::from(stamp).into());
                    }
                    (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                        let about = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                        if about.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                            let [a, b] = about.tp_vlan_tpid.to_be_bytes();
                            let [c, d] = about.tp_vlan_tci.to_be_bytes();
                            beside.tag = Some([a, b, c, d]);
                        }
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
        beside
    }
}

/// The same moment on the monotonic clock.
fn on_monotonic_clock(stamp: Duration) -> Duration {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME)
        .map(Duration::from)
        .unwrap_or(stamp);
    now().saturating_sub(wall.saturating_sub(stamp))
}

/// Puts a VLAN tag back, and moves the places that the header names behind it.
fn insert_tag(frame: &[u8], tag: [u8; 4]) -> Frame {
    let mut tagged = [&frame[..TAG_AT], &tag, &frame[TAG_AT..]].concat();
    // hdr_len and csum_start, in the machine's own order.
    for field in [2..4, 6..8] {
        let old = u16::from_ne_bytes([tagged[field.start], tagged[field.start + 1]]);
        if old != 0 {
            tagged[field].copy_from_slice(&old.saturating_add(4).to_ne_bytes());
        }
    }
    tagged.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_behind_the_addresses_and_moves_the_checksum() {
        let mut frame = vec![0_u8; HEADER + 14];
        frame[6..8].copy_from_slice(&34_u16.to_ne_bytes());
        frame[HEADER + 12..].copy_from_slice(&[0x08, 0x00]);
        let tagged = insert_tag(&frame, [0x81, 0x00, 0x00, 0x2a]);
        assert_eq!(&tagged[HEADER + 12..], [0x81, 0x00, 0x00, 0x2a, 0x08, 0x00]);
        assert_eq!(tagged[6..8], 38_u16.to_ne_bytes());
        assert_eq!(tagged[2..4], [0, 0]);
    }
}
