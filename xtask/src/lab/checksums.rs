//! Disables checksum offload of a veth: a switch with userspace datapath would forward frames with partial checksums.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, Result};

use crate::lab::namespace;

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Disables transmit checksum offload of `interface` in `namespace`.
pub(crate) fn disable_offload(namespace: &str, interface: &str) -> Result<()> {
    namespace::within(namespace, || {
        let socket = UnixDatagram::unbound().context("cannot open a socket")?;
        let mut value = Value {
            command: ETHTOOL_STXCSUM,
            data: 0,
        };
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut value).cast(),
            },
        };
        // The last byte stays zero.
        let name = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (to, from) in name.zip(interface.bytes()) {
            *to = from.cast_signed() as libc::c_char;
        }
        // SAFETY: `request` is an ifreq with a terminated name, whose data points to the live structure that
        // ETHTOOL_STXCSUM reads.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return Err(error).with_context(|| format!("cannot disable checksum offload of {interface}"));
        }
        Ok(())
    })
}
