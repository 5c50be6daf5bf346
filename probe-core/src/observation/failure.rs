//! Why probes do not leave this host.

use std::{fmt, io};

/// Why a probe did not leave this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendFailure {
    /// The interface is deleted.
    Gone,
    /// The interface is down.
    Down,
    NoCarrier,
    /// This host has no usable address of the IP version.
    NoAddress,
    NoRoute,
    /// The next hop does not answer ARP or ND.
    NoNeighbour,
    /// The socket's buffer or the queue is full.
    NoBuffer,
    /// A firewall's output rule, or a prohibiting route.
    Forbidden,
    /// A foreign TC program before kstamp's ends the chain.
    Program,
    /// Others had detached kstamp's programs.
    Detached,
    /// Another error of the kernel.
    Errno(i32),
    Unknown,
}

impl SendFailure {
    /// The name in output.
    pub fn name(self) -> String {
        let name = match self {
            Self::Gone => "gone",
            Self::Down => "down",
            Self::NoCarrier => "no-carrier",
            Self::NoAddress => "no-address",
            Self::NoRoute => "no-route",
            Self::NoNeighbour => "no-neighbour",
            Self::NoBuffer => "no-buffer",
            Self::Forbidden => "forbidden",
            Self::Program => "program",
            Self::Detached => "detached",
            Self::Errno(errno) => return format!("errno-{errno}"),
            Self::Unknown => "unknown",
        };
        name.to_owned()
    }

    /// Whether it is a state of the interface, which is reported as an event of its own.
    pub fn is_of_interface(self) -> bool {
        matches!(self, Self::Gone | Self::Down | Self::NoCarrier | Self::Detached)
    }
}

/// In words.
impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the interface is gone",
            Self::Down => "the interface is down",
            Self::NoCarrier => "no carrier",
            Self::NoAddress => "no usable address",
            Self::NoRoute => "no route",
            Self::NoNeighbour => "the next hop does not answer ARP or ND",
            Self::NoBuffer => "the socket's buffer or the queue is full",
            Self::Forbidden => "forbidden (EPERM) by a firewall or a route",
            Self::Detached => "kstamp's programs were detached by others",
            Self::Program => "a TC program before kstamp's took it",
            Self::Errno(errno) => return write!(f, "{}", io::Error::from_raw_os_error(*errno)),
            Self::Unknown => "for an unknown reason",
        })
    }
}

/// From asm-generic/errno.h; the standard library has no kind for it.
const ENOBUFS: i32 = 105;

/// What the error of a socket means that did not send a probe.
impl From<&io::Error> for SendFailure {
    fn from(error: &io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => Self::Gone,
            (io::ErrorKind::NetworkDown, _) => Self::Down,
            (io::ErrorKind::AddrNotAvailable, _) => Self::NoAddress,
            (io::ErrorKind::NetworkUnreachable, _) => Self::NoRoute,
            (io::ErrorKind::HostUnreachable, _) => Self::NoNeighbour,
            (io::ErrorKind::WouldBlock, _) | (_, Some(ENOBUFS)) => Self::NoBuffer,
            (io::ErrorKind::PermissionDenied, _) => Self::Forbidden,
            (_, Some(errno)) => Self::Errno(errno),
            (_, None) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_socket_are_reasons_with_a_name_and_words() {
        let table = [
            (1, SendFailure::Forbidden, "forbidden", "firewall"),
            (13, SendFailure::Forbidden, "forbidden", "a route"),
            (99, SendFailure::NoAddress, "no-address", "no usable address"),
            (100, SendFailure::Down, "down", "down"),
            (101, SendFailure::NoRoute, "no-route", "no route"),
            (113, SendFailure::NoNeighbour, "no-neighbour", "ARP or ND"),
            (11, SendFailure::NoBuffer, "no-buffer", "full"),
            (105, SendFailure::NoBuffer, "no-buffer", "full"),
            (90, SendFailure::Errno(90), "errno-90", "too long"),
        ];
        for (errno, want, name, words) in table {
            let reason = SendFailure::from(&io::Error::from_raw_os_error(errno));
            assert_eq!((reason, reason.name().as_str()), (want, name), "errno {errno}");
            assert!(reason.to_string().contains(words), "errno {errno}: {reason}");
        }
        let gone = io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
        assert_eq!(SendFailure::from(&gone), SendFailure::Gone);
        assert_eq!(SendFailure::from(&io::Error::other("?")), SendFailure::Unknown);
    }
}
