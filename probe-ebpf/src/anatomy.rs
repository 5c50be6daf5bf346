//! The programs of `kstamp compare` that watch the probes of processes: each hook writes its time into the packet.
//!
//! They are an object of their own, attached only while a comparison runs. They write only to packets that ask for it, in
//! bytes reserved for it, and change no verdict.

#![no_std]
#![no_main]

use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;
use probe_common::abi::ABI_VERSION;
use probe_common::compare::{self, WatchSettings};
use probe_common::frame::{self, Source as _, UDP_CHECKSUM, UDP_LEN, Udp, payload_at};
use probe_ebpf::atomic::compiler_barrier;
use probe_ebpf::clock;
use probe_ebpf::hook::{Hook as _, TcHook};

/// Written by the loader; one entry.
#[map]
static WATCH: Array<WatchSettings> = Array::with_max_entries(1, 0);

/// Stamps watched probes and replies that leave.
#[classifier]
fn kstamp_watch_out(context: TcContext) -> i32 {
    let hook = TcHook::new(context);
    stamp(&hook, |source, _| source, WatchSettings::on_egress);
    TcHook::PASS
}

/// Stamps watched probes and replies that arrive.
#[classifier]
fn kstamp_watch_in(context: TcContext) -> i32 {
    let hook = TcHook::new(context);
    stamp(&hook, |_, destination| destination, WatchSettings::on_ingress);
    TcHook::PASS
}

/// `None` for packets that are not stamped. `own_port` is that of the two ports that is this host's.
#[inline(always)]
fn stamp(
    hook: &TcHook,
    own_port: impl Fn(u16, u16) -> u16,
    place: impl FnOnce(&WatchSettings, &Udp) -> Option<(usize, u32)>,
) -> Option<()> {
    let settings = WATCH.get(0)?;
    if frame::is_foreign(hook, |source, destination| {
        settings.is_watched(own_port(source, destination))
    }) {
        return None;
    }
    // Values that were read so far are read again, so the verifier has one path to follow for all other frames.
    compiler_barrier();
    let udp = frame::udp(hook)?;
    let (at, kind) = place(settings, &udp)?;
    if settings.abi_version != ABI_VERSION
        || udp.obstacle.is_some()
        || udp.payload_len() != Some(compare::LEN)
        || hook.untagged()
    {
        return None;
    }
    let payload = payload_at(udp.family);
    if u32::from_be(hook.load(payload + compare::KIND)?) != kind {
        return None;
    }
    hook.replace(payload + at, payload - UDP_LEN + UDP_CHECKSUM, clock::monotonic_ns());
    Some(())
}

probe_ebpf::object_needs!();
