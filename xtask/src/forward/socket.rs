//! A packet socket on one interface: whole frames in and out, with the kernel's metadata.
//!
//! `PACKET_VNET_HDR` carries partial checksums and segmentation across; `PACKET_AUXDATA` has the VLAN tag, which the
//! kernel removes from the frame.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;
use std::{io, mem, ptr};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};

use crate::timing::now;

/// A GSO segment of 64 KiB with headers.
const MAX_FRAME_LEN: usize = 66_000;

/// The length of `struct virtio_net_hdr`.
const HEADER_LEN: usize = 10;

/// Offset of the VLAN tag: after the two MAC addresses.
const TAG_OFFSET: usize = HEADER_LEN + 12;

/// A frame after its `virtio_net_hdr`.
pub(crate) type Frame = Box<[u8]>;

#[derive(Debug)]
pub(crate) struct Port {
    fd: OwnedFd,
}

impl Port {
    /// Opens interface `name` for the frames that it receives, not those that it sends.
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
        port.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16 << 20))
            .context("cannot set the receive buffer")?;
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut promiscuous: libc::packet_mreq = unsafe { mem::zeroed() };
        promiscuous.mr_ifindex = index;
        promiscuous.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
        port.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)
            .context("cannot receive all frames")?;
        port.bind(index).with_context(|| format!("cannot bind to {name}"))?;
        Ok(port)
    }

    /// Waits for a frame, and returns its arrival on the monotonic clock and the frame.
    pub(crate) fn receive(&self) -> io::Result<(Duration, Frame)> {
        let mut buffer = [0_u8; MAX_FRAME_LEN];
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
        // SAFETY: the message describes buffers that are alive and as long as stated.
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        if length < TAG_OFFSET || length > buffer.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let metadata = Metadata::read(&message);
        let frame = metadata
            .tag
            .map_or_else(|| buffer[..length].into(), |tag| insert_tag(&buffer[..length], tag));
        Ok((metadata.stamp.map_or_else(now, on_monotonic_clock), frame))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer is alive and as long as stated.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: the value is alive and as long as stated.
        let done = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, ptr::from_ref(value).cast(), length) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Starts receiving frames, from this interface only.
    fn bind(&self, index: libc::c_int) -> io::Result<()> {
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        let length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is alive and as long as stated.
        let done = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// The kernel's metadata of a frame.
#[derive(Default)]
struct Metadata {
    /// Arrival on the wall clock.
    stamp: Option<Duration>,
    /// VLAN protocol and control information.
    tag: Option<[u8; 4]>,
}

impl Metadata {
    fn read(message: &libc::msghdr) -> Self {
        let mut metadata = Self::default();
        // SAFETY: the kernel filled the control buffer; the macros stay inside its length, and each payload is read
        // unaligned, as the type that its level and type name.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while let Some(one) = header.as_ref() {
                let data = libc::CMSG_DATA(header);
                match (one.cmsg_level, one.cmsg_type) {
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let stamp = data.cast::<libc::timespec>().read_unaligned();
                        metadata.stamp = Some(nix::sys::time::TimeSpec::from(stamp).into());
                    }
                    (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                        let about = data.cast::<libc::tpacket_auxdata>().read_unaligned();
                        if about.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                            let [a, b] = about.tp_vlan_tpid.to_be_bytes();
                            let [c, d] = about.tp_vlan_tci.to_be_bytes();
                            metadata.tag = Some([a, b, c, d]);
                        }
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
        metadata
    }
}

/// Converts a time of the wall clock to the monotonic clock.
fn on_monotonic_clock(stamp: Duration) -> Duration {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME)
        .map(Duration::from)
        .unwrap_or(stamp);
    now().saturating_sub(wall.saturating_sub(stamp))
}

/// Inserts a VLAN tag and moves the offsets in the `virtio_net_hdr` behind it.
fn insert_tag(frame: &[u8], tag: [u8; 4]) -> Frame {
    let mut tagged = [&frame[..TAG_OFFSET], &tag, &frame[TAG_OFFSET..]].concat();
    // hdr_len and csum_start, in native byte order.
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
    fn vlan_tag_is_inserted_after_the_addresses_and_moves_csum_start() {
        let mut frame = vec![0_u8; HEADER_LEN + 14];
        frame[6..8].copy_from_slice(&34_u16.to_ne_bytes());
        frame[HEADER_LEN + 12..].copy_from_slice(&[0x08, 0x00]);
        let tagged = insert_tag(&frame, [0x81, 0x00, 0x00, 0x2a]);
        assert_eq!(&tagged[HEADER_LEN + 12..], [0x81, 0x00, 0x00, 0x2a, 0x08, 0x00]);
        assert_eq!(tagged[6..8], 38_u16.to_ne_bytes());
        assert_eq!(tagged[2..4], [0, 0]);
    }
}
