//! Hop stamps: what observing programs at the devices of a host record of the probes that pass them.
//!
//! An observer changes neither packets nor verdicts. A probe is recognised at each hook by its addresses, session
//! identifier and sequence number, whether it lies bare in the frame or inside VXLAN (RFC 7348) or Geneve (RFC 8926).

use crate::abi::{ABI_VERSION, Address, is_one_of};
use crate::family::Family;
use crate::frame::tunnel::{HEADER_LEN, Inner, MAX_OPTIONS_LEN, Protocol, tunnel};
use crate::frame::{self, IPV6_LEN, Source, UDP_LEN, Udp};
use crate::stamp::{BASE_LEN, MIN_REPLY_LEN, SENDER_SEQUENCE, SEQUENCE, SSID};

/// Size of the ring buffer: 4,600 records.
pub const RECORDS_BYTES: u32 = 262_144;

/// Addresses of this host that observers can look for.
pub const MAX_ADDRESSES: u32 = 64;

/// Test ports that observers can look for.
pub const MAX_PORTS: usize = 4;

/// [`HopRecord::flags`]: the packet left by the device (TC egress); else it came in by it.
pub const EGRESS: u8 = 1;
/// [`HopRecord::flags`]: the packet is the reply; else it is the probe.
pub const REPLY: u8 = 1 << 1;
/// [`HopRecord::flags`]: the packet lay inside VXLAN.
pub const VXLAN: u8 = 1 << 2;
/// [`HopRecord::flags`]: the packet lay inside Geneve.
pub const GENEVE: u8 = 1 << 3;

pub const COUNTERS: u32 = 2;
/// Counter: records handed over to userspace.
pub const HANDED_OVER: u32 = 0;
/// Counter: records lost because the ring buffer was full.
pub const LOST: u32 = 1;

/// One probe or reply at one hook.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopRecord {
    /// When the program saw the packet, `CLOCK_MONOTONIC`.
    pub stamp_ns: u64,
    /// Of the session-sender.
    pub prober: Address,
    /// Of the session-reflector.
    pub reflector: Address,
    /// Index of the device, in its network namespace.
    pub interface: u32,
    /// Sequence number of the probe, also in its reply.
    pub sequence: u32,
    /// VXLAN or Geneve network identifier; 0 for a bare packet.
    pub network: u32,
    /// Session identifier (RFC 8972 §3).
    pub ssid: u16,
    /// [`EGRESS`], [`REPLY`], [`VXLAN`], [`GENEVE`].
    pub flags: u8,
    pub reserved: u8,
}

const _: () = assert!(size_of::<HopRecord>() == 56 && align_of::<HopRecord>() == 8);

/// The one entry of the settings of the observers.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopSettings {
    /// [`ABI_VERSION`](crate::abi::ABI_VERSION) of the loader.
    pub abi_version: u32,
    /// Test ports, host order; 0 for none.
    pub test_ports: [u16; MAX_PORTS],
}

const _: () = assert!(size_of::<HopSettings>() == 12 && align_of::<HopSettings>() == 4);

/// Longest headers of a probe or reply: two VLAN tags, and IPv6 without extension headers.
const MAX_HEADERS_LEN: usize = frame::ETHERNET_LEN + 8 + IPV6_LEN + UDP_LEN;
/// Longest frame in which a probe or reply is looked for.
pub const MAX_FRAME_LEN: usize = 2 * MAX_HEADERS_LEN + HEADER_LEN + MAX_OPTIONS_LEN + BASE_LEN;

/// Where in a packet the frame is that may hold a probe or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Offset of the frame.
    pub at: usize,
    /// As in [`HopRecord`].
    pub network: u32,
    /// [`VXLAN`] or [`GENEVE`] if the frame lies in a tunnel.
    pub flags: u8,
}

impl HopSettings {
    /// Whether nothing is to be found in a packet with these ports.
    #[inline(always)]
    pub fn is_foreign(&self, source_port: u16, destination_port: u16) -> bool {
        !self.is_test(source_port, destination_port) && Protocol::of_port(destination_port).is_none()
    }

    /// Looks for the frame of a probe or reply, by ports alone.
    #[inline(always)]
    pub fn locate<S: Source + ?Sized>(&self, packet: &S) -> Option<Place> {
        if self.abi_version != ABI_VERSION {
            return None;
        }
        let udp = frame::udp(packet)?;
        if self.is_test(udp.source_port, udp.destination_port) {
            return Some(Place {
                at: 0,
                network: 0,
                flags: 0,
            });
        }
        let tunnel = tunnel(packet, &udp)?;
        let inner = Inner {
            frame: packet,
            at: tunnel.inner_at,
        };
        if frame::is_foreign(&inner, |source, destination| self.is_test(source, destination)) {
            return None;
        }
        Some(Place {
            at: tunnel.inner_at,
            network: tunnel.network,
            flags: match tunnel.protocol {
                Protocol::Vxlan => VXLAN,
                Protocol::Geneve => GENEVE,
            },
        })
    }

    /// Reads a unicast base probe or base reply from the frame at `place`. The record has no stamp and no interface yet.
    #[inline(always)]
    pub fn read<S: Source + ?Sized>(&self, frame: &S, place: Place) -> Option<HopRecord> {
        let udp = frame::udp(frame)?;
        if !self.is_test(udp.source_port, udp.destination_port) {
            return None;
        }
        let is_reply = is_one_of(udp.source_port, self.test_ports);
        // That also leaves out fragments, which are shorter than their UDP header says.
        let length = udp.payload_len()?;
        if length > BASE_LEN || length < if is_reply { MIN_REPLY_LEN } else { BASE_LEN } {
            return None;
        }
        let (source, destination) = addresses(frame, &udp)?;
        let (prober, reflector, sequence_at, kind) = match is_reply {
            true => (destination, source, SENDER_SEQUENCE, REPLY),
            false => (source, destination, SEQUENCE, 0),
        };
        if reflector.is_multicast() {
            return None;
        }
        Some(HopRecord {
            stamp_ns: 0,
            prober,
            reflector,
            interface: 0,
            sequence: u32::from_be(frame.load_behind(udp.payload_at + sequence_at)?),
            network: place.network,
            ssid: u16::from_be(frame.load_behind(udp.payload_at + SSID)?),
            flags: place.flags | kind,
            reserved: 0,
        })
    }

    /// Whether one port, and only one, is a test port.
    #[inline(always)]
    fn is_test(&self, source_port: u16, destination_port: u16) -> bool {
        is_one_of(source_port, self.test_ports) != is_one_of(destination_port, self.test_ports)
    }
}

/// Source and destination of a datagram.
#[inline(always)]
fn addresses<S: Source + ?Sized>(frame: &S, udp: &Udp) -> Option<(Address, Address)> {
    let at = udp.network_at;
    let v4 = |at| Some(Address::from_v4_word(frame.load_behind(at)?));
    let v6 = |at| Some(Address::from_words(frame.load_behind(at)?, frame.load_behind(at + 8)?));
    match udp.family {
        Family::V4 => Some((v4(at + 12)?, v4(at + 16)?)),
        Family::V6 => Some((v6(at + 8)?, v6(at + 24)?)),
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, made of integers, valid for any bytes, and without padding, which the sizes above show.
    unsafe impl aya::Pod for super::HopRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::HopSettings {}
}
