//! The tap: stamps LLDP frames as they pass a switch port, and changes nothing. It is an object of its own, because it is
//! attached to other interfaces than the measured one, and to many. It does not use the library, which would bring its
//! maps.

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

#[map]
static TAP_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// By `HANDED_OVER` and `LOST`.
#[map]
static TAP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Stamps frames that come in.
#[classifier]
fn kstamp_tap_ingress(context: TcContext) -> i32 {
    observe(context, INGRESS)
}

/// Stamps frames that go out.
#[classifier]
fn kstamp_tap_egress(context: TcContext) -> i32 {
    observe(context, EGRESS)
}

/// The verdict is always left to the next program.
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

/// By destination and EtherType of an untagged frame, which are in the linear part of any packet. Userspace finds out
/// whether the frame is kstamp's own.
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

/// Writes the record; `None` if there is no room for it or the frame cannot be read.
#[inline(always)]
fn hand_over(context: &TcContext, direction: u8, stamp_ns: u64) -> Option<()> {
    const { assert!(SNAP.is_power_of_two()) }
    // A frame is never empty, so this changes nothing. The verifier must see both bounds in the register that the helper
    // gets, and before Linux 6.8 it does not conclude "at least 1" from "not 0".
    let last = core::hint::black_box(context.len().min(SNAP as u32).wrapping_sub(1));
    let length = (last & (SNAP as u32 - 1)) + 1;
    let mut entry = TAP_RECORDS.reserve::<Record>(0)?;
    let record = entry.as_mut_ptr();
    // SAFETY: the entry has the size of a `Record` and is ours alone until it is submitted; each field is written once.
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
