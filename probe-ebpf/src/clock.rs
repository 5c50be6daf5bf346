//! The clock: monotonic to measure with, and UTC for timestamps on the wire.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use probe_common::abi::Settings;

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn monotonic_ns() -> u64 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// UTC as an offset from `CLOCK_MONOTONIC` that the loader writes: programs cannot read UTC.
///
/// The offset is read from the settings once for each packet, so the difference of two stamps of a packet is that on the
/// monotonic clock, even if UTC is set in between.
#[derive(Clone, Copy)]
pub struct Utc {
    offset_ns: u64,
}

impl Utc {
    #[inline(always)]
    pub fn of(settings: &Settings) -> Self {
        // Volatile, so that the compiler does not read it again for a later stamp.
        // SAFETY: a reference can be read.
        let offset_ns = unsafe { (&raw const settings.unix_offset_ns).read_volatile() };
        Self { offset_ns }
    }

    /// Nanoseconds since 1970 at a time of the monotonic clock.
    #[inline(always)]
    pub fn at(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.wrapping_add(self.offset_ns)
    }
}
