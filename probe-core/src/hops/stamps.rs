//! The stamps of one probe and its reply at one host, in a fixed size.

/// Stamps of one probe and its reply at one host.
pub const MAX_STAMPS: usize = 12;

/// The first stamp of each hook and direction. Times are of `CLOCK_MONOTONIC`, or of the reflector's UTC if it gave them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamps {
    at_ns: [u64; MAX_STAMPS],
    /// Hook and bits.
    place: [u8; MAX_STAMPS],
    count: u8,
    /// A stamp had no room.
    is_cut: bool,
    /// The sum of the waits in upcalls, forward and backward.
    upcall_ns: [u32; 2],
}
