//! The name of an interface's driver, by the ethtool ioctl: netlink does not carry it, and /sys shows the namespace
//! in which it was mounted.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_GDRVINFO` of `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 3;

/// `struct ethtool_drvinfo` of `linux/ethtool.h`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// A socket to ask with, bound to nothing; it stays in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct DriverQuery(UnixDatagram);

impl DriverQuery {
    /// Opens the socket in the current namespace.
    pub(super) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// The driver of an interface, or `None` if it has none that the kernel names (loopback), or does not exist.
    pub(super) fn driver(&self, interface: &str) -> Option<String> {
        let mut info = DriverInfo {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            rest: [0; 160],
        };
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut info).cast(),
            },
        };
        // One place is kept for the terminating zero.
        for (to, from) in request
            .ifr_name
            .iter_mut()
            .take(libc::IFNAMSIZ - 1)
            .zip(interface.bytes())
        {
            *to = from.cast_signed() as libc::c_char;
        }
        // SAFETY: `request` is an ifreq with a terminated name, whose data points to a live structure of the size that
        // ETHTOOL_GDRVINFO writes, asserted above.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result == -1 {
            return None;
        }
        let name = CStr::from_bytes_until_nul(&info.driver).ok()?.to_str().ok()?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}
