//! Hop stamps: what observing programs at the devices of a host record of the probes that pass them.
//!
//! An observer changes neither packets nor verdicts. A probe is recognised at each hook by its addresses, session
//! identifier and sequence number, whether it lies bare in the frame or inside VXLAN (RFC 7348) or Geneve (RFC 8926).

use crate::abi::{ABI_VERSION, Address, is_one_of, may_be_one_of};
use crate::frame::tunnel::{Cursor, Datagram, HEADER_LEN, MAX_HEADERS_LEN, MAX_OPTIONS_LEN, Miss, Protocol, Tunnel};
use crate::stamp::{BASE_LEN, MIN_REPLY_LEN, SENDER_SEQUENCE, SEQUENCE, SSID};

/// Size of the ring buffer: 4,096 records.
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

pub const COUNTERS: u32 = 1;
/// Counter: records lost because the ring buffer was full.
pub const LOST: u32 = 0;

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

/// One probe or reply that the processor received late from a device.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateHopRecord {
    pub record: HopRecord,
    /// From the raise of the processor's NET_RX softirq until it ran; at least [`MIN_WAIT_NS`].
    pub waited_ns: u64,
}

const _: () = assert!(size_of::<LateHopRecord>() == 64 && align_of::<LateHopRecord>() == 8);

/// Shorter waits for the processor are not recorded.
pub const MIN_WAIT_NS: u64 = 50_000;

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

/// Longest packet in which a probe or reply is looked for.
pub const MAX_PACKET_LEN: usize = 2 * MAX_HEADERS_LEN + HEADER_LEN + MAX_OPTIONS_LEN + BASE_LEN;

impl HopSettings {
    /// Finds a unicast base probe or base reply, bare or in a tunnel. The record has no stamp and no interface yet.
    #[inline(always)]
    pub fn find(&self, frame: impl Cursor) -> Result<HopRecord, Miss> {
        let outer = Datagram::find(frame)?;
        let (datagram, network, flags) = match outer.tunnel() {
            Ok(Tunnel {
                protocol,
                network,
                frame,
            }) => {
                let flags = match protocol {
                    Protocol::Vxlan => VXLAN,
                    Protocol::Geneve => GENEVE,
                };
                (Datagram::find(frame)?, network, flags)
            }
            Err(Miss::Foreign) => (outer, 0, 0),
            Err(Miss::Short) => return Err(Miss::Short),
        };
        let (source_port, destination_port) = (datagram.source_port, datagram.destination_port);
        if !may_be_one_of(source_port, destination_port, self.test_ports) {
            return Err(Miss::Foreign);
        }
        let is_reply = is_one_of(source_port, self.test_ports);
        if is_reply == is_one_of(destination_port, self.test_ports) {
            return Err(Miss::Foreign);
        }
        let length = datagram.payload_len()?;
        if length > BASE_LEN || length < if is_reply { MIN_REPLY_LEN } else { BASE_LEN } {
            return Err(Miss::Foreign);
        }
        let (source, destination) = datagram.addresses()?;
        let (prober, reflector, sequence_at, kind) = match is_reply {
            true => (destination, source, SENDER_SEQUENCE, REPLY),
            false => (source, destination, SEQUENCE, 0),
        };
        if self.abi_version != ABI_VERSION || reflector.is_multicast() {
            return Err(Miss::Foreign);
        }
        let payload = datagram.payload();
        Ok(HopRecord {
            stamp_ns: 0,
            prober,
            reflector,
            interface: 0,
            sequence: u32::from_be(payload.read(sequence_at)?),
            network,
            ssid: u16::from_be(payload.read(SSID)?),
            flags: flags | kind,
            reserved: 0,
        })
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, made of integers, valid for any bytes, and without padding, which the sizes above show.
    unsafe impl aya::Pod for super::HopRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::LateHopRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::HopSettings {}
}
