//! Everything that crosses the kernel boundary: settings, map keys and values, ring records, counters.
//!
//! Only plain integers and byte arrays cross, padding is spelled out, and the layout of each type is asserted below.

mod address;
mod counters;
mod limit;
mod maps;

pub use crate::abi::address::Address;
pub use crate::abi::counters::{COUNTER_MEANINGS, COUNTER_NAMES, COUNTERS, Counter};
pub use crate::abi::limit::Limit;
pub use crate::abi::maps::*;
use crate::family::Family;
use crate::frame::Udp;

/// Version of this module's layouts and meanings. The loader writes it into [`Settings`]; a program that was built
/// with another one touches no packet.
pub const ABI_VERSION: u32 = 6;

/// Ports that cold probes use in turn.
pub const COLD_PORTS: u16 = 64;

/// Longest payload of a padded probe that the kernel programs answer: that of an IPv4 datagram with an MTU of 9,000 bytes.
pub const MAX_PADDED_LEN: usize = 8972;

/// The one entry of the `SETTINGS` array.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// [`ABI_VERSION`] of the loader.
    pub abi_version: u32,
    /// Index of the interface, to which the TC reflector redirects.
    pub interface: u32,
    /// UTC − `CLOCK_MONOTONIC`, modulo 2⁶⁴. Slewing changes both clocks alike, so the offset changes only when UTC is set.
    pub unix_offset_ns: u64,
    /// Ports on which probes arrive, host order; 0 for none. This host's probes go to the first.
    pub test_ports: [u16; MAX_TEST_PORTS],
    /// Port from which this host sends IPv4 probes, host order; 0 for none.
    pub sender_port_v4: u16,
    /// Port from which this host sends IPv6 probes, host order; 0 for none.
    pub sender_port_v6: u16,
    /// Error estimate for replies (RFC 8762 §4.2.1), host order.
    pub error_estimate: u16,
    /// So many ports after each sender port are of this host's sender, too: those of cold probes.
    pub cold_ports: u16,
    /// The interface's MAC address.
    pub mac: [u8; 6],
    /// 1 where frames reach the receive program with checksums left to the device (XDP generic, TC) and may leave so.
    pub partial_checksums: u8,
    /// 1 where TC ingress runs behind generic XDP: it then handles the packets that XDP was not shown, and counts no
    /// refusals.
    pub ingress_is_second: u8,
    /// The own IPv4 address to which most probes come; [`Address::NONE`] for none.
    pub own_v4: Address,
    /// The own IPv6 address to which most probes come; [`Address::NONE`] for none.
    pub own_v6: Address,
    /// Changes whenever `ALLOWED` or an own address does, so that each [`SourceState`] is looked up there again.
    pub policy_generation: u32,
    /// Packets that a CPU takes from the port's bucket at once, at least 1.
    pub port_batch: u32,
    /// [`MAX_REPLIES`], except in benchmarks.
    pub max_replies: u32,
    /// Length of each session's ring in `IN_FLIGHT`, a power of two, less one.
    pub ring_mask: u32,
    /// Unicast probes of each source.
    pub source_limit: Limit,
    /// Group probes of each source.
    pub group_limit: Limit,
    /// Probes of all sources together.
    pub port_limit: Limit,
}

/// Whether a port, which is not 0, is one of these. Unused places are 0.
#[inline(always)]
pub fn is_one_of(port: u16, ports: [u16; 4]) -> bool {
    port != 0 && equal_places(port, ports) != 0
}

/// Whether one of two ports may be one of these: also if it is 0, but at half the cost of asking about each.
#[inline(always)]
pub fn may_be_one_of(one: u16, other: u16, ports: [u16; 4]) -> bool {
    equal_places(one, ports) | equal_places(other, ports) != 0
}

/// Not 0 if one of `ports` is `port`.
#[inline(always)]
fn equal_places(port: u16, ports: [u16; 4]) -> u64 {
    // One comparison instead of four: subtracting 1 from a lane that is zero sets the highest bit of the lane.
    const ONES: u64 = 0x0001_0001_0001_0001;
    let [a, b, c, d] = ports.map(u64::from);
    let differences = (a | b << 16 | c << 32 | d << 48) ^ u64::from(port).wrapping_mul(ONES);
    differences.wrapping_sub(ONES) & !differences & (ONES << 15)
}

impl Settings {
    /// Whether a datagram is a probe to this host's reflector, by its port. Before the loader has set one, none is.
    #[inline(always)]
    pub fn is_probe(&self, udp: &Udp) -> bool {
        self.is_test_port(udp.destination_port)
    }

    /// Whether a datagram with these ports may be a probe to this host's reflector, or a reply to its sender.
    #[inline(always)]
    pub fn may_receive(&self, source_port: u16, destination_port: u16) -> bool {
        source_port == self.test_ports[0] || self.is_test_port(destination_port)
    }

    /// Whether probes arrive on `port`.
    #[inline(always)]
    pub fn is_test_port(&self, port: u16) -> bool {
        is_one_of(port, self.test_ports)
    }

    /// Whether a datagram is a reflector's reply to this host's sender, by its ports.
    #[inline(always)]
    pub fn is_reply(&self, udp: &Udp) -> bool {
        udp.source_port == self.test_ports[0] && self.is_sender_port(udp.family, udp.destination_port)
    }

    /// Whether a datagram is a probe that this host's sender sends, by its ports.
    #[inline(always)]
    pub fn is_own_probe(&self, udp: &Udp) -> bool {
        udp.destination_port == self.test_ports[0] && self.is_sender_port(udp.family, udp.source_port)
    }

    #[inline(always)]
    fn is_sender_port(&self, family: Family, port: u16) -> bool {
        let sender_port = match family {
            Family::V4 => self.sender_port_v4,
            Family::V6 => self.sender_port_v6,
        };
        sender_port != 0 && port.wrapping_sub(sender_port) <= self.cold_ports
    }

    /// The own address of an IP version to which most probes come; [`Address::NONE`] for none.
    #[inline(always)]
    pub fn first_own(&self, family: Family) -> Address {
        match family {
            Family::V4 => self.own_v4,
            Family::V6 => self.own_v6,
        }
    }
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    use crate::frame::{IPV4_LEN, UDP_LEN};

    assert!(size_of::<Address>() == 16 && align_of::<Address>() == 8);

    assert!(size_of::<Settings>() == 136 && align_of::<Settings>() == 8);
    assert!(offset_of!(Settings, unix_offset_ns) == 8);
    assert!(offset_of!(Settings, test_ports) == 16);
    assert!(offset_of!(Settings, mac) == 32);
    assert!(offset_of!(Settings, own_v4) == 40);
    assert!(offset_of!(Settings, policy_generation) == 72);
    assert!(offset_of!(Settings, ring_mask) == 84);
    assert!(offset_of!(Settings, source_limit) == 88);
    assert!(offset_of!(Settings, port_limit) == 120);
    assert!(size_of::<Limit>() == 16 && offset_of!(Limit, burst_ns) == 8);

    assert!(size_of::<Allowed>() == 24 && align_of::<Allowed>() == 8);
    assert!(offset_of!(Allowed, kind) == 16 && offset_of!(Allowed, reserved) == 20);

    assert!(size_of::<SourceState>() == 56 && align_of::<SourceState>() == 8);
    assert!(offset_of!(SourceState, refused) == 24);
    assert!(offset_of!(SourceState, own) == 32);
    assert!(offset_of!(SourceState, generation) == 48);
    assert!(size_of::<SourceSlot>() == 88 && offset_of!(SourceSlot, source) == 8);
    assert!(offset_of!(SourceSlot, seen_ns) == 24 && offset_of!(SourceSlot, state) == 32);

    assert!(size_of::<ProbeKey>() == 8 && align_of::<ProbeKey>() == 4);
    assert!(size_of::<InFlight>() == 40 && align_of::<InFlight>() == 8);
    assert!(offset_of!(InFlight, destination) == 16);
    assert!(offset_of!(InFlight, reserved) == 36);
    assert!(size_of::<SessionRing>() == 8);
    assert!(size_of::<InFlightRecord>() == 48 && offset_of!(InFlightRecord, sent) == 8);

    assert!(size_of::<ReflectorSessionKey>() == 40 && align_of::<ReflectorSessionKey>() == 8);
    assert!(offset_of!(ReflectorSessionKey, source_port) == 32);
    assert!(offset_of!(ReflectorSessionKey, reserved) == 38);
    assert!(size_of::<ReflectorSession>() == 8);
    assert!(size_of::<SessionSlot>() == 64 && offset_of!(SessionSlot, seen_ns) == 48);
    assert!(SLOTS.is_power_of_two());

    assert!(size_of::<MissedKey>() == 24 && align_of::<MissedKey>() == 8);
    assert!(offset_of!(MissedKey, probe) == 16);

    assert!(size_of::<Sample>() == 80 && align_of::<Sample>() == 8);
    assert!(offset_of!(Sample, source) == 48);
    assert!(offset_of!(Sample, seq) == 64);
    assert!(offset_of!(Sample, reserved) == 76);

    assert!(Counter::AbiMismatch as u32 + 1 == COUNTERS);

    assert!(IPV4_LEN + UDP_LEN + MAX_PADDED_LEN == 9000);
};

#[cfg(feature = "user")]
mod pod {
    //! aya copies these types to and from the kernel byte by byte.

    use super::*;

    macro_rules! pod {
        ($($record:ty),+) => {$(
            // SAFETY: `repr(C)`, made of integers and byte arrays, valid for any bytes, and without implicit padding, as
            // the assertions above on sizes and offsets show.
            unsafe impl aya::Pod for $record {}
        )+};
    }

    pod!(
        Address,
        Allowed,
        InFlight,
        InFlightRecord,
        ProbeKey,
        MissedKey,
        ReflectorSession,
        ReflectorSessionKey,
        Sample,
        SessionRing,
        SessionSlot,
        Settings,
        SourceSlot,
        SourceState
    );
}

#[cfg(test)]
mod tests;
