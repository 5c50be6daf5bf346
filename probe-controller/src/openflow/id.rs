//! Identifiers of datapaths, ports and MAC addresses.

use std::fmt;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group: multicast or broadcast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A switch's datapath id; displayed as 16 hexadecimal digits, as `ovs-vsctl get bridge … datapath_id` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dpid(pub u64);

impl fmt::Display for Dpid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A port number of one switch (OpenFlow 1.3.5 §7.2.1, `ofp_port_no`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortNumber(pub u32);

impl PortNumber {
    /// The highest number of an existing port; larger numbers are reserved.
    pub const MAX: Self = Self(0xffff_ff00);
    /// Out of the ingress port.
    pub const IN_PORT: Self = Self(0xffff_fff8);
    /// All ports that the switch's own spanning tree allows, except the ingress port.
    pub const FLOOD: Self = Self(0xffff_fffb);
    /// All ports except the ingress port.
    pub const ALL: Self = Self(0xffff_fffc);
    /// The controller; also the ingress port of a packet-out.
    pub const CONTROLLER: Self = Self(0xffff_fffd);
    /// The local port of the bridge.
    pub const LOCAL: Self = Self(0xffff_fffe);
    /// Any port, or none.
    pub const ANY: Self = Self(0xffff_ffff);

    /// Whether it is an ordinary port: neither reserved nor zero.
    pub const fn is_ordinary(self) -> bool {
        self.0 != 0 && self.0 <= Self::MAX.0
    }
}

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IN_PORT => f.write_str("IN_PORT"),
            Self::FLOOD => f.write_str("FLOOD"),
            Self::ALL => f.write_str("ALL"),
            Self::CONTROLLER => f.write_str("CONTROLLER"),
            Self::LOCAL => f.write_str("LOCAL"),
            Self::ANY => f.write_str("ANY"),
            Self(number) => write!(f, "{number}"),
        }
    }
}
