//! Programs that only benchmarks load, to measure those of `main.rs`.
//!
//! A test run repeats a program on the packet that the program itself has changed, so that a reflector would see its
//! own reply the second time. Hence pairs of programs: one only makes the packet a fresh probe again, the other does the
//! same and then runs the measured function. The difference is the cost.
//!
//! Two programs reflect here, and one in `main.rs`. The compiler inlines large code only if one program calls it, so all functions
//! and closures on the path of a probe are inlined by force.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_ktime_get_tai_ns};
use aya_ebpf::macros::{classifier, map, raw_tracepoint, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{RawTracePointContext, TcContext, XdpContext};
use probe_common::frame::{ETHERNET_LEN, IPV4_LEN, UDP_LEN};
use probe_common::reflect::{V4_FRAME, V6_FRAME};
use probe_common::stamp::{SEQUENCE, SSID};
use probe_ebpf::hook::{TcHook, XdpHook};
use probe_ebpf::{egress, receive};

/// The probe that [`put_back`] puts back; an IPv4 frame fills the front.
#[map]
static ORIGINAL: Array<[u8; V6_FRAME]> = Array::with_max_entries(1, 0);

/// The cost of running any XDP program.
#[xdp]
fn empty_xdp(_: XdpContext) -> u32 {
    XDP_PASS
}

/// The cost of running any TC program.
#[classifier]
fn empty_tc(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The cost of running any program at a raw tracepoint.
#[raw_tracepoint]
fn empty_raw_tracepoint(_: RawTracePointContext) -> i32 {
    0
}

/// One reading of `CLOCK_MONOTONIC`.
#[xdp]
fn clock_monotonic(_: XdpContext) -> u32 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() };
    XDP_PASS
}

/// Two readings of `CLOCK_MONOTONIC`, as a reflection has.
#[xdp]
fn clock_twice(_: XdpContext) -> u32 {
    // SAFETY: as above.
    unsafe {
        bpf_ktime_get_ns();
        bpf_ktime_get_ns();
    }
    XDP_PASS
}

/// One reading of `CLOCK_TAI`.
#[xdp]
fn clock_tai(_: XdpContext) -> u32 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_tai_ns() };
    XDP_PASS
}

/// Makes the packet a fresh probe of its IP version.
#[xdp]
fn restore(context: XdpContext) -> u32 {
    if put_back(&context) { XDP_PASS } else { XDP_ABORTED }
}

/// Makes the packet a fresh probe, and reflects it.
#[xdp]
#[inline(always)]
fn restore_and_receive(context: XdpContext) -> u32 {
    if put_back(&context) {
        receive::receive(&mut XdpHook::new(context))
    } else {
        XDP_ABORTED
    }
}

/// Makes the packet a fresh IPv4 probe of the next of many sessions.
#[xdp]
fn restore_next(context: XdpContext) -> u32 {
    if turn() && put_back(&context) {
        XDP_PASS
    } else {
        XDP_ABORTED
    }
}

/// Makes the packet a fresh IPv4 probe of the next of many sessions, and reflects it.
#[xdp]
#[inline(always)]
fn restore_next_and_receive(context: XdpContext) -> u32 {
    if turn() && put_back(&context) {
        receive::receive(&mut XdpHook::new(context))
    } else {
        XDP_ABORTED
    }
}

/// Moves the original probe to the next session. The probe has no checksum to update.
#[inline(always)]
fn turn() -> bool {
    const SESSIONS: u16 = 1024;
    let Some(original) = ORIGINAL.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry is long enough, and bench programs run one at a time.
    unsafe {
        let ssid = original
            .cast::<u8>()
            .add(ETHERNET_LEN + IPV4_LEN + UDP_LEN + SSID)
            .cast::<u16>();
        let next = (u16::from_be(ssid.read_unaligned()) + 1) % SESSIONS;
        ssid.write_unaligned(next.to_be());
    }
    forget_what_memory_holds();
    true
}

/// Makes the packet the sender's next IPv4 probe.
#[classifier]
fn next(context: TcContext) -> i32 {
    if advance(&context) { TC_ACT_UNSPEC } else { TC_ACT_SHOT }
}

/// Makes the packet the sender's next IPv4 probe, and stamps it.
#[classifier]
#[inline(always)]
fn next_and_stamp(context: TcContext) -> i32 {
    if advance(&context) {
        egress::stamp(&TcHook::new(context))
    } else {
        TC_ACT_SHOT
    }
}

/// Frames hold exactly a base probe, so that the length gives the IP version.
#[inline(always)]
fn put_back(context: &XdpContext) -> bool {
    let restored = restored::<V6_FRAME>(context) || restored::<V4_FRAME>(context);
    forget_what_memory_holds();
    restored
}

#[inline(always)]
fn restored<const LENGTH: usize>(context: &XdpContext) -> bool {
    let Some(original) = ORIGINAL.get_ptr(0) else {
        return false;
    };
    let packet = context.data();
    if packet + LENGTH > context.data_end() {
        return false;
    }
    // SAFETY: both have `LENGTH` bytes, a byte array needs no alignment, and packets do not lie in maps.
    unsafe {
        original
            .cast::<[u8; LENGTH]>()
            .copy_to_nonoverlapping(packet as *mut [u8; LENGTH], 1)
    };
    true
}

#[inline(always)]
fn advance(context: &TcContext) -> bool {
    let sequence = context.data() + ETHERNET_LEN + IPV4_LEN + UDP_LEN + SEQUENCE;
    if sequence + size_of::<u32>() > context.data_end() {
        return false;
    }
    let sequence = sequence as *mut u32;
    // SAFETY: the bytes lie within the packet, and any bytes are a valid word.
    unsafe { sequence.write_unaligned(u32::from_be(sequence.read_unaligned()).wrapping_add(1).to_be()) };
    forget_what_memory_holds();
    true
}

/// Keeps the compiler from passing the bytes just written on to the measured code, which must read the packet.
#[inline(always)]
fn forget_what_memory_holds() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("") };
}

probe_ebpf::object_needs!();
