//! Records that a tap passes to userspace: LLDP frames (IEEE 802.1AB) at a switch port, each with a stamp.

pub const ETHERTYPE: u16 = 0x88cc;

/// MAC address of the nearest bridge: LLDP frames go no further (IEEE 802.1AB §7.1).
pub const DESTINATION: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

/// Bytes of a frame that a record holds: enough for every LLDP frame that kstamp sends.
pub const SNAP: usize = 128;

/// Size of the ring buffer: 1,800 records.
pub const RECORDS_BYTES: u32 = 262_144;

/// [`Record::direction`]: the frame came in by the interface.
pub const INGRESS: u8 = 0;
/// [`Record::direction`]: the frame goes out by the interface.
pub const EGRESS: u8 = 1;

pub const COUNTERS: u32 = 2;
/// Counter: frames stamped and handed over to userspace.
pub const HANDED_OVER: u32 = 0;
/// Counter: stamps lost because the ring buffer was full or the frame could not be read.
pub const LOST: u32 = 1;

/// One stamped frame.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// When the program saw the frame, `CLOCK_MONOTONIC`.
    pub stamp_ns: u64,
    /// Index of the interface.
    pub interface: u32,
    /// Valid bytes of `frame`; those after them have no meaning.
    pub length: u16,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    pub reserved: u8,
    /// The first [`SNAP`] bytes of the frame, from its destination address on.
    pub frame: [u8; SNAP],
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(size_of::<Record>() == 144 && align_of::<Record>() == 8);
    assert!(offset_of!(Record, interface) == 8);
    assert!(offset_of!(Record, length) == 12);
    assert!(offset_of!(Record, direction) == 14);
    assert!(offset_of!(Record, frame) == 16);
    assert!(SNAP <= u16::MAX as usize);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, made of integers and a byte array, valid for any bytes, and without implicit padding, which
    // the assertions above show.
    unsafe impl aya::Pod for super::Record {}
}
