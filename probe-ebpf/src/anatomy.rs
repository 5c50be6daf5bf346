//! The programs of `kstamp compare` that watch the probes of processes: each hook's time goes into the packet itself.
//!
//! They stand beside `main.rs`, in an object of their own, attached only while somebody compares. Only packets that
//! ask for it are written to, in bytes that are there for it, and no verdict changes.

#![no_std]
#![no_main]

use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;
use probe_common::abi::ABI_VERSION;
use probe_common::echo::{self, WatchSettings};
use probe_common::frame::{self, ETHERNET_LEN, Family, IPV4_LEN, IPV6_LEN, Source as _, UDP_LEN, Udp};
use probe_ebpf::clock;
use probe_ebpf::hook::{Hook as _, TcHook};

/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: usize = 6;

/// What the loader tells the programs; one entry.
#[map]
static WATCH: Array<WatchSettings> = Array::with_max_entries(1, 0);

/// Stamps watched probes and replies that leave.
#[classifier]
fn kstamp_watch_out(context: TcContext) -> i32 {
    let hook = TcHook::new(context);
    stamp(&hook, WatchSettings::on_egress);
    TcHook::PASS
}

/// Stamps watched probes and replies that arrive.
#[classifier]
fn kstamp_watch_in(context: TcContext) -> i32 {
    let hook = TcHook::new(context);
    stamp(&hook, WatchSettings::on_ingress);
    TcHook::PASS
}

/// `None` for packets that do not concern it.
#[inline(always)]
fn stamp(hook: &TcHook, place: impl FnOnce(&WatchSettings, &Udp) -> Option<(usize, u32)>) -> Option<()> {
    let udp = frame::udp(hook)?;
    let settings = WATCH.get(0)?;
    let (at, kind) = place(settings, &udp)?;
    if settings.abi_version != ABI_VERSION
        || udp.obstacle.is_some()
        || udp.payload_len() != Some(echo::LEN)
        || hook.untagged()
    {
        return None;
    }
    let udp_at = match udp.family {
        Family::V4 => ETHERNET_LEN + IPV4_LEN,
        Family::V6 => ETHERNET_LEN + IPV6_LEN,
    };
    let payload = udp_at + UDP_LEN;
    if u32::from_be(hook.load(payload + echo::KIND)?) != kind {
        return None;
    }
    hook.replace(payload + at, udp_at + UDP_CHECKSUM, clock::monotonic_ns());
    Some(())
}

probe_ebpf::object_needs!();
