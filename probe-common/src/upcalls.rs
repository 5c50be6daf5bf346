//! Upcalls of Open vSwitch's kernel datapath: probes that waited until ovs-vswitchd had decided what to do with them.

use crate::abi::Address;
use crate::hops::HopSettings;

/// Size of the ring buffer: 910 records.
pub const RECORDS_BYTES: u32 = 65_536;

/// Upcalls without an answer that are remembered. The oldest make room; every processor keeps 128 free entries to itself.
pub const MAX_WAITING: u32 = 4_096;

pub const COUNTERS: u32 = 1;
/// Counter: records lost because the ring buffer was full.
pub const LOST: u32 = 0;

/// One packet of a probe in one datapath.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// Tells the datapaths of a host apart: each network namespace has its own.
    pub datapath: u64,
    /// Of the session-sender.
    pub prober: Address,
    /// Of the session-reflector.
    pub reflector: Address,
    /// Sequence number of the probe, also in its reply.
    pub sequence: u32,
    /// Session identifier (RFC 8972 §3).
    pub ssid: u16,
    /// [`REPLY`](crate::hops::REPLY) or 0.
    pub flags: u8,
    pub reserved: u8,
}

const _: () = assert!(size_of::<Passage>() == 48 && align_of::<Passage>() == 8);

/// An upcall that was answered.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpcallRecord {
    /// When the datapath sent the packet up, `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// From then until the datapath executed the first action of the answer.
    pub wait_ns: u64,
    pub passage: Passage,
}

const _: () = assert!(size_of::<UpcallRecord>() == 64 && align_of::<UpcallRecord>() == 8);

/// The one entry of the settings of the programs.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpcallSettings {
    /// Which probes to look for.
    pub probes: HopSettings,
    /// Offset of `sk_buff.data`.
    pub data: u32,
    /// Offset of `sk_buff.len`.
    pub len: u32,
    /// Offset of `sk_buff.data_len`.
    pub data_len: u32,
}

const _: () = assert!(size_of::<UpcallSettings>() == 24 && align_of::<UpcallSettings>() == 4);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, made of integers, valid for any bytes, and without padding, which the sizes above show.
    unsafe impl aya::Pod for super::Passage {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::UpcallRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::UpcallSettings {}
}
