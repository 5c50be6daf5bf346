//! Where packets are received or stamped on an interface.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttachMode {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack, after the driver has made a socket buffer.
    XdpGeneric,
    /// TCX, or a clsact qdisc below Linux 6.6.
    Tc,
    /// No program: a socket sends and receives.
    Socket,
}

impl AttachMode {
    pub const ALL: [Self; 4] = [Self::XdpNative, Self::XdpGeneric, Self::Tc, Self::Socket];

    /// The name in output, on the command line and in the identity that peers exchange.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
            Self::Socket => "socket",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A peer may write anything: an unknown name is an error.
impl FromStr for AttachMode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or(())
    }
}

impl Serialize for AttachMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_one_name_in_every_form() {
        for (mode, name) in [
            (AttachMode::XdpNative, "xdp-native"),
            (AttachMode::XdpGeneric, "xdp-generic"),
            (AttachMode::Tc, "tc"),
            (AttachMode::Socket, "socket"),
        ] {
            assert_eq!(mode.to_string(), name);
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).ok(), Some(name.into()));
        }
        assert_eq!("XDP".parse::<AttachMode>(), Err(()));
        assert_eq!(format!("{:<6}|", AttachMode::Tc), "tc    |");
    }
}
