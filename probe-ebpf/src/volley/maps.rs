//! The maps of a volley. The process maps `CONTROL`, `RING` and `TALLIES` into its memory.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use probe_common::reflect::V6_FRAME;
use probe_common::volley::{Control, SAMPLES_BYTES, Settings, Slot, Tally, Template, VERSION};

/// `BPF_F_MMAPABLE` of `linux/bpf.h`.
const MAPPABLE: u32 = 1 << 10;

/// Written by the loader; one entry.
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// The frame of a probe; one entry.
#[map]
pub static TEMPLATE: Array<Template> = Array::with_max_entries(1, 0);

/// The limits of sending; one entry.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, MAPPABLE);

/// The newest probes, at the low bits of their sequence numbers. The loader sets the number of slots.
#[map]
static RING: Array<Slot> = Array::with_max_entries(4096, MAPPABLE);

/// The counts of each processor. The loader sets the number of processors.
#[map]
static TALLIES: Array<Tally> = Array::with_max_entries(1, MAPPABLE);

/// Samples of replies.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(SAMPLES_BYTES, 0);

/// Buffer for a frame that TC cannot read in place.
#[map]
pub static SCRATCH: PerCpuArray<[u8; V6_FRAME]> = PerCpuArray::with_max_entries(1, 0);

/// `None` before the loader has written them, or if the loader has another version.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0).filter(|settings| settings.version == VERSION)
}

/// Attempts to change a slot's word. It changes at most twice meanwhile: flying to loose to lost or done.
pub const TRIES: u32 = 3;

#[inline(always)]
pub fn slot(settings: &Settings, sequence: u32) -> Option<*mut Slot> {
    RING.get_ptr_mut(sequence & settings.mask)
}

/// The tally of this processor.
#[inline(always)]
pub fn tally() -> Option<*mut Tally> {
    // SAFETY: the helper has no arguments and cannot fail.
    TALLIES.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })
}

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}
