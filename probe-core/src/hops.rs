//! Hop stamps: where in its round trip a probe spent its time, and where it was lost.
//!
//! Each host stamps probes and replies at its devices. The prober's agent joins its own half with the reflector's.

use std::net::IpAddr;

use crate::direction::Direction;

/// Devices of one host that are observed.
pub const MAX_HOOKS: usize = 16;

/// Index of a device in the list of a host's hooks; below [`MAX_HOOKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookId(pub u8);

/// What a device is to the packets that pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A leg between the port and the tunnel or NIC: the other end of a veth pair, a bridge.
    Leg,
    /// A tunnel device: it has inner frames before encapsulation and after decapsulation.
    Tunnel,
    /// The NIC or bond: the last device before the underlay.
    Nic,
}

/// A device at which packets are stamped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// At most 15 bytes.
    pub device: String,
    pub role: Role,
}

/// One probe or reply at one hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopStamp {
    pub hook: HookId,
    /// The packet left by the device; else it came in by it.
    pub egress: bool,
    /// Forward for a probe, backward for a reply.
    pub direction: Direction,
    pub prober: IpAddr,
    pub reflector: IpAddr,
    pub ssid: u16,
    /// Of the probe, also in its reply.
    pub seq: u32,
    /// `CLOCK_MONOTONIC` of this host.
    pub mono_ns: u64,
}

/// A probe or reply that waited in Open vSwitch's kernel datapath until ovs-vswitchd had decided what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcall {
    /// Forward for a probe, backward for a reply.
    pub direction: Direction,
    pub prober: IpAddr,
    pub reflector: IpAddr,
    pub ssid: u16,
    /// Of the probe, also in its reply.
    pub seq: u32,
    /// When the datapath sent it up, `CLOCK_MONOTONIC` of this host.
    pub mono_ns: u64,
    /// From then until the datapath began to carry out the answer.
    pub wait_ns: u64,
}

/// A part of the path in one direction, from one stamp to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// From the prober's port to its tunnel device, or to its NIC where no tunnel device was seen.
    OwnSwitch,
    /// From the tunnel device to the NIC.
    OwnEncapsulation,
    /// Between the NICs of both hosts.
    Underlay,
    FarEncapsulation,
    FarSwitch,
    /// Residence: T3 − T2.
    Reflector,
}
