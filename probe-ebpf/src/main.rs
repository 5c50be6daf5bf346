//! The entry points that `kstamp` loads.

#![no_std]
#![no_main]

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use probe_ebpf::hook::{TcHook, XdpHook};
use probe_ebpf::{egress, receive};

// The bodies of programs are inlined into what the kernel calls: a call between them costs every packet 6 ns.

/// Receives at XDP, native or generic: reflects probes, collects replies.
#[xdp]
#[inline(always)]
fn kstamp_xdp(context: XdpContext) -> u32 {
    receive::receive(&mut XdpHook::new(context))
}

/// Does the same at TC ingress, where an XDP program cannot be attached.
#[classifier]
#[inline(always)]
fn kstamp_ingress(context: TcContext) -> i32 {
    receive::receive(&mut TcHook::new(context))
}

/// Stamps this host's probes at TC egress.
#[classifier]
#[inline(always)]
fn kstamp_egress(context: TcContext) -> i32 {
    egress::stamp(&TcHook::new(context))
}

probe_ebpf::object_needs!();
