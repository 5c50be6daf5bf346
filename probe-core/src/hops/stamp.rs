//! What a stamp is, and where it was taken.

use std::net::IpAddr;

use crate::direction::Direction;

/// Devices of one host that are observed.
pub const MAX_HOOKS: usize = 16;

/// Index of a device in the list of a host's hooks; below [`MAX_HOOKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookId(pub u8);

/// What a device is to the packets that pass it. In the order in which a probe passes them on its way out.
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
    /// How late the processor may have received it there: from the raise of its NET_RX softirq until it ran; 0 for short waits.
    pub softirq_ns: u64,
}

/// One stamp of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub hook: HookId,
    /// The packet left by the device; else it came in by it.
    pub egress: bool,
    /// Forward for the probe, backward for the reply.
    pub direction: Direction,
    /// Of this host: `CLOCK_MONOTONIC`. Of the reflector: its UTC, as T2 and T3.
    pub at_ns: u64,
}

/// Bits of a place beside the hook.
const EGRESS: u8 = 1 << 4;
const BACKWARD: u8 = 1 << 5;
const HOOK: u8 = EGRESS - 1;
const _: () = assert!(MAX_HOOKS - 1 == HOOK as usize);

impl Mark {
    /// Hook, egress and direction in one byte, as they are kept and sent; `None` if there can be no such hook.
    pub(super) fn place(&self) -> Option<u8> {
        let egress = if self.egress { EGRESS } else { 0 };
        let backward = match self.direction {
            Direction::Forward => 0,
            Direction::Backward => BACKWARD,
        };
        (self.hook.0 <= HOOK).then_some(self.hook.0 | egress | backward)
    }

    /// `None` if there is no such place.
    pub(super) fn at(place: u8, at_ns: u64) -> Option<Self> {
        (place & !(HOOK | EGRESS | BACKWARD) == 0).then_some(Self {
            hook: HookId(place & HOOK),
            egress: place & EGRESS != 0,
            direction: match place & BACKWARD {
                0 => Direction::Forward,
                _ => Direction::Backward,
            },
            at_ns,
        })
    }
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

/// A part of the path, in one direction: from one stamp to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Between the prober's port and its tunnel device, or its NIC where no tunnel device sees the probes.
    OwnSwitch,
    /// Between the tunnel device and the NIC.
    OwnEncapsulation,
    /// Between the outermost devices of both hosts that see the probes: their NICs.
    Underlay,
    FarEncapsulation,
    FarSwitch,
    /// Residence: T3 − T2.
    Reflector,
}

impl Segment {
    /// In the order in which a probe passes them.
    pub const ALL: [Self; 6] = [
        Self::OwnSwitch,
        Self::OwnEncapsulation,
        Self::Underlay,
        Self::FarEncapsulation,
        Self::FarSwitch,
        Self::Reflector,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnSwitch => "own_switch",
            Self::OwnEncapsulation => "own_encapsulation",
            Self::Underlay => "underlay",
            Self::FarEncapsulation => "far_encapsulation",
            Self::FarSwitch => "far_switch",
            Self::Reflector => "reflector",
        }
    }
}

/// A segment in one direction, or in both together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    pub segment: Segment,
    /// `None` for the reflector, which is passed once, and for the round trip over the underlay.
    pub direction: Option<Direction>,
}
