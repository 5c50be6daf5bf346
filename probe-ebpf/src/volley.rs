//! Volleys and trains: probes that the kernel sends, turns around and counts, without a process. An object of its own,
//! because a process that measures nothing else attaches it for seconds, in place of the agent's object.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[macro_use]
mod object_needs;

#[allow(dead_code, reason = "the reflector uses the rest")]
mod atomic;
#[path = "volley/claim.rs"]
mod claim;
#[path = "volley/count.rs"]
mod count;
#[allow(dead_code, reason = "the reflector uses the rest")]
mod hook;
#[path = "volley/launch.rs"]
mod launch;
#[path = "volley/maps.rs"]
mod maps;
#[path = "volley/stamp.rs"]
mod stamp;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use probe_common::volley::{RELAY, word};

use crate::claim::{Outcome, receive};
use crate::hook::{TcHook, XdpHook};

/// On the interface, makes each reply the next probe. In a test run, turns any frame into a probe. The frames of a test run
/// have another ingress interface, which packets from the network never have here.
#[xdp]
#[inline(always)]
fn kstamp_volley_xdp(context: XdpContext) -> u32 {
    let Some(settings) = maps::settings() else {
        return XDP_PASS;
    };
    // SAFETY: the kernel keeps the context valid while the program runs.
    let is_new = unsafe { (*context.ctx).ingress_ifindex } != settings.interface;
    let hook = XdpHook::new(context);
    let is_ball = !is_new || settings.flags & RELAY != 0;
    let now_ns = if !is_new {
        match receive(&hook, settings) {
            Outcome::Foreign => return XDP_PASS,
            Outcome::Consumed => return XDP_DROP,
            Outcome::Ball(now_ns) => now_ns,
        }
    } else if !is_ball || launch::take_off() {
        maps::now_ns()
    } else {
        return XDP_DROP;
    };
    let state = if is_ball { word::FLYING } else { word::LOOSE };
    if !launch::launch(&hook, settings, now_ns, state) {
        if is_ball {
            launch::land();
        }
        return XDP_DROP;
    }
    if is_new {
        // SAFETY: the helper takes integers; an interface that is gone makes the kernel drop the frame.
        unsafe { bpf_redirect(settings.interface, 0) as u32 }
    } else {
        XDP_TX
    }
}

/// Takes replies where another XDP program is attached.
#[classifier]
#[inline(always)]
fn kstamp_volley_ingress(context: TcContext) -> i32 {
    let Some(settings) = maps::settings() else {
        return TC_ACT_UNSPEC;
    };
    match receive(&TcHook::new(context), settings) {
        Outcome::Foreign => TC_ACT_UNSPEC,
        Outcome::Consumed => TC_ACT_SHOT,
        Outcome::Ball(_) => {
            launch::land();
            TC_ACT_SHOT
        }
    }
}

/// Stamps the probes that the socket of the process sends; the verdict is always left to the next program.
#[classifier]
#[inline(always)]
fn kstamp_volley_egress(context: TcContext) -> i32 {
    if let Some(settings) = maps::settings() {
        stamp::stamp(&TcHook::new(context), settings);
    }
    TC_ACT_UNSPEC
}

object_needs!();
