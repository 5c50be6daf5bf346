//! The tap: stamps LLDP frames as they pass a switch port, and changes nothing. An object of its own, since it is
//! attached to other interfaces than the prober's, and to many; and without the library, whose maps it has no use for.

#![no_std]
#![no_main]

#[macro_use]
mod object_needs;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use probe_common::frame::ETHERNET_LEN;
use probe_common::tap::{
    COUNTERS, DESTINATION, EGRESS, ETHERTYPE, HANDED_OVER, INGRESS, LOST, RECORDS_BYTES, Record, SNAP,
};

/// Stamped frames, on their way to userspace.
#[map]
static TAP_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// What became of the frames: `HANDED_OVER`, `LOST`.
#[map]
static TAP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Stamps what comes in by the interface.
#[classifier]
fn kstamp_tap_ingress(context: TcContext) -> i32 {
    observe(context, INGRESS)
}

/// Stamps what goes out by the interface.
#[classifier]
fn kstamp_tap_egress(context: TcContext) -> i32 {
    observe(context, EGRESS)
}

/// An observer: the verdict is always that of whoever comes next.
#[inline(always)]
fn observe(context: TcContext, direction: u8) -> i32 {
    if is_lldp(&context) {
        // SAFETY: the helper has no arguments and cannot fail.
        let stamp_ns = unsafe { bpf_ktime_get_ns() };
        count(if hand_over(&context, direction, stamp_ns).is_some() {
            HANDED_OVER
        } else {
            LOST
        });
    }
    TC_ACT_UNSPEC
}

/// By destination and EtherType of an untagged frame, which lie in the linear part of any packet. Whether it is
/// kstamp's own is found out where it is read.
#[inline(always)]
fn is_lldp(context: &TcContext) -> bool {
    let start = context.data();
    if start + ETHERNET_LEN > context.data_end() {
        return false;
    }
    // SAFETY: the bytes lie within the packet, and any bytes are a valid array.
    let (destination, ethertype) = unsafe {
        (
            (start as *const [u8; 6]).read(),
            ((start + 12) as *const [u8; 2]).read(),
        )
    };
    u16::from_be_bytes(ethertype) == ETHERTYPE && destination == DESTINATION
}

/// Writes the record; `None` where there is no room for it or the frame cannot be read.
#[inline(always)]
fn hand_over(context: &TcContext, direction: u8, stamp_ns: u64) -> Option<()> {
    const { assert!(SNAP.is_power_of_two()) }
    // A frame has a header, so this takes nothing away. The verifier wants to see both bounds in the very register that
    // the helper gets, and does not take what is not 0 for at least 1 before Linux 6.8.
    let last = core::hint::black_box(context.len().min(SNAP as u32).wrapping_sub(1));
    let length = (last & (SNAP as u32 - 1)) + 1;
    let mut entry = TAP_RECORDS.reserve::<Record>(0)?;
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is as large as a `Record` and ours alone until it is submitted; each field is written once.
    let status = unsafe {
        (&raw mut (*record).stamp_ns).write(stamp_ns);
        (&raw mut (*record).interface).write((*context.skb.skb).ifindex);
        (&raw mut (*record).length).write(length as u16);
        (&raw mut (*record).direction).write(direction);
        (&raw mut (*record).reserved).write(0);
        bpf_skb_load_bytes(context.as_ptr().cast(), 0, (&raw mut (*record).frame).cast(), length)
    };
    if status != 0 {
        entry.discard(0);
        return None;
    }
    entry.submit(0);
    Some(())
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(value) = TAP_COUNTS.get_ptr_mut(counter) {
        // SAFETY: the entry is this CPU's own, and a program does not interrupt itself.
        unsafe { *value += 1 };
    }
}

object_needs!();
