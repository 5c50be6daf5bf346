//! The two clocks: monotonic to measure with, UTC for timestamps on the wire.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_ktime_get_tai_ns};
use probe_common::abi::Settings;

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn monotonic_ns() -> u64 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// UTC since 1970, as TAI less the loader's offset: programs cannot read `CLOCK_REALTIME`.
#[inline(always)]
pub fn unix_ns(settings: &Settings) -> u64 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_tai_ns() }.wrapping_sub(settings.tai_offset_ns)
}
