//! For tests of the accounting: XDP programs that join two interfaces, and drop, duplicate and reorder probes.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[macro_use]
mod object_needs;

#[allow(dead_code, reason = "this object uses one function of it")]
mod atomic;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, DevMap};
use aya_ebpf::programs::XdpContext;
use probe_common::frame::ETHERNET_LEN;
use probe_common::reflect::{V4_FRAME, V6_FRAME};

use crate::atomic::fetch_add;

/// `BPF_F_BROADCAST` of `linux/bpf.h`.
const BROADCAST: u64 = 1 << 3;

// Words of a direction.
const OUT: usize = 0;
const DETOUR: usize = 1;
const DROP_EVERY: usize = 2;
const COPY_EVERY: usize = 3;
const DETOUR_EVERY: usize = 4;
const SEEN: usize = 5;
const DROPPED: usize = 6;
const COPIED: usize = 7;

/// By direction: the interfaces where frames leave, directly and by the detour; of how many probes one is dropped, copied or
/// delayed (0: none); and the counts of probes that were seen, dropped and copied.
#[map]
static DIRECTIONS: Array<[u64; 8]> = Array::with_max_entries(2, 0);

/// The same interface twice.
#[map]
static TWICE_RIGHT: DevMap = DevMap::with_max_entries(2, 0);
#[map]
static TWICE_LEFT: DevMap = DevMap::with_max_entries(2, 0);

/// On the left interface.
#[xdp]
fn line_right(context: XdpContext) -> u32 {
    forward(&context, 0, &TWICE_RIGHT)
}

/// On the right interface.
#[xdp]
fn line_left(context: XdpContext) -> u32 {
    forward(&context, 1, &TWICE_LEFT)
}

/// At the end of the detour to the right.
#[xdp]
fn line_detour_right(_: XdpContext) -> u32 {
    leave(0)
}

/// At the end of the detour to the left.
#[xdp]
fn line_detour_left(_: XdpContext) -> u32 {
    leave(1)
}

#[inline(always)]
fn forward(context: &XdpContext, direction: u32, twice: &DevMap) -> u32 {
    let Some(words) = DIRECTIONS.get_ptr_mut(direction) else {
        return XDP_ABORTED;
    };
    if !is_probe(context) {
        return leave(direction);
    }
    // SAFETY: map values stay readable and writable for the program's run; counts are changed atomically.
    unsafe {
        let count = |word: usize| fetch_add((&raw mut (*words)[word]).cast(), 1);
        let number = count(SEEN);
        let is_one = |every: usize| (*words)[every] != 0 && number % (*words)[every] == (*words)[every] - 1;
        if is_one(DROP_EVERY) {
            count(DROPPED);
            return XDP_DROP;
        }
        if is_one(COPY_EVERY) {
            count(COPIED);
            return twice.redirect(0, BROADCAST).unwrap_or(XDP_ABORTED);
        }
        if is_one(DETOUR_EVERY) {
            return bpf_redirect((*words)[DETOUR] as u32, 0) as u32;
        }
        bpf_redirect((*words)[OUT] as u32, 0) as u32
    }
}

/// Decides by length and EtherType, because neighbour solicitations are as long as an IPv4 probe.
#[inline(always)]
fn is_probe(context: &XdpContext) -> bool {
    let (start, end) = (context.data(), context.data_end());
    if start + ETHERNET_LEN > end {
        return false;
    }
    // SAFETY: the bytes lie within the packet.
    let ethertype = unsafe { ((start + 12) as *const [u8; 2]).read() };
    match ethertype {
        [0x08, 0x00] => end - start == V4_FRAME,
        [0x86, 0xdd] => end - start == V6_FRAME,
        _ => false,
    }
}

#[inline(always)]
fn leave(direction: u32) -> u32 {
    match DIRECTIONS.get(direction) {
        // SAFETY: the helper takes integers; an interface that is gone makes the kernel drop the frame.
        Some(words) => unsafe { bpf_redirect(words[OUT] as u32, 0) as u32 },
        None => XDP_ABORTED,
    }
}

object_needs!();
