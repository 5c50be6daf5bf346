//! Programs that only tests load: `BPF_PROG_TEST_RUN` cannot set up a VLAN tag outside the frame, nor a packet for programs
//! that get its address.

#![no_std]
#![no_main]

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_vlan_push};
use aya_ebpf::macros::{classifier, map, raw_tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::{RawTracePointContext, TcContext};
use probe_ebpf::hook::TcHook;
use probe_ebpf::{egress, receive};

/// Kernel memory that a test fills. It begins with its own address.
#[map]
static MEMORY: Array<[u64; 64]> = Array::with_max_entries(1, 0);

/// Writes the address of the memory.
#[raw_tracepoint]
fn find_memory(_: RawTracePointContext) -> i32 {
    if let Some(memory) = MEMORY.get_ptr_mut(0) {
        // SAFETY: the entry is there for as long as the map.
        unsafe { (*memory)[0] = memory as u64 };
    }
    0
}

/// Keeps the processor from receiving packets for a millisecond or more: packets leave with softirqs disabled.
#[classifier]
fn hog(_: TcContext) -> i32 {
    for _ in 0..50_000 {
        // SAFETY: the helper has no arguments and cannot fail.
        unsafe { bpf_ktime_get_ns() };
    }
    TC_ACT_UNSPEC
}

/// Receives the packet as if a device had taken a VLAN tag out of it.
#[classifier]
fn tagged_ingress(context: TcContext) -> i32 {
    if tag(&context) {
        receive::receive(&mut TcHook::new(context))
    } else {
        TC_ACT_SHOT
    }
}

/// Sends the packet as if a device were to put a VLAN tag into it.
#[classifier]
fn tagged_egress(context: TcContext) -> i32 {
    if tag(&context) {
        egress::stamp(&TcHook::new(context))
    } else {
        TC_ACT_SHOT
    }
}

/// The kernel keeps a first tag beside the frame (`skb_vlan_push`).
#[inline(always)]
fn tag(context: &TcContext) -> bool {
    const ETHERTYPE_8021Q: u16 = 0x8100;
    // SAFETY: the kernel keeps the context valid while the program runs; packet pointers are read again after this.
    unsafe { bpf_skb_vlan_push(context.skb.skb, ETHERTYPE_8021Q.to_be(), 42) == 0 }
}

probe_ebpf::object_needs!();
