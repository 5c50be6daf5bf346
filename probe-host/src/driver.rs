//! The name of an interface's driver, from the ethtool ioctl: netlink has no such attribute, and /sys belongs to the
//! namespace in which it was mounted.

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

/// An unbound socket for the ioctl, which stays in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct DriverQuery(UnixDatagram);

impl DriverQuery {
    pub(super) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// The driver of an interface; `None` without a driver (loopback) or without such an interface.
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
        // The last byte stays zero.
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
