//! Settings of a network device that `ethtool` would change.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use super::in_namespace;

/// `ETHTOOL_STXCSUM` and `ETHTOOL_SGRO` of `linux/ethtool.h`.
pub const STXCSUM: u32 = 0x17;
pub const SGRO: u32 = 0x2c;

/// Sets one of the above to `value`.
pub fn set(namespace: &str, interface: &str, command: u32, value: u32) {
    /// `SIOCETHTOOL` of `linux/sockios.h`, and `struct ethtool_value` of `linux/ethtool.h`.
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let set = || {
        let mut setting = [command, value];
        in_namespace(namespace);
        let socket = UnixDatagram::unbound().unwrap();
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut setting).cast(),
            },
        };
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from.cast_signed() as libc::c_char;
        }
        // SAFETY: `request` is an ifreq whose data points to the live values that the command reads.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        assert_eq!(result, 0, "{interface}: {}", std::io::Error::last_os_error());
    };
    // A thread of its own, so that this one stays in its namespace.
    std::thread::scope(|scope| scope.spawn(set).join().unwrap());
}
