//! The sending half of the session-sender: writes T1 into the probe and into its in-flight record.

use aya_log_ebpf::debug;
use probe_common::abi::{ABI_VERSION, Address, Counter, Settings};
use probe_common::family::Family;
use probe_common::frame::{self, Source, UDP_CHECKSUM, UDP_LEN, Udp, V4_DESTINATION, V6_DESTINATION, payload_at};
use probe_common::ntp::NtpTime;
use probe_common::stamp::{BASE_LEN, SEQUENCE, SSID, TIMESTAMP};

use crate::atomic::compiler_barrier;
use crate::clock::{self, Utc};
use crate::hook::{Hook, TcHook};
use crate::maps::{IN_FLIGHT, SESSION_RINGS, SETTINGS, count};

/// Stamps a probe of this host; the verdict is always left to the next program.
#[inline(always)]
pub fn stamp(hook: &TcHook) -> i32 {
    if let Some(counter) = try_stamp(hook) {
        count(counter);
        debug!(hook.context(), "egress: counter {}", counter as u32);
    }
    TcHook::PASS
}

/// `None` for packets that do not concern kstamp.
#[inline(always)]
fn try_stamp(hook: &TcHook) -> Option<Counter> {
    let settings = SETTINGS.get(0)?;
    if frame::is_foreign(hook, |_, destination| destination == settings.test_ports[0]) {
        return None;
    }
    // As in `receive`.
    compiler_barrier();
    let udp = frame::udp(hook)?;
    if !settings.is_own_probe(&udp) {
        return None;
    }
    if settings.abi_version != ABI_VERSION {
        return Some(Counter::AbiMismatch);
    }
    // A base packet, whatever follows it.
    let is_short = udp.payload_len().is_none_or(|length| length < BASE_LEN);
    if is_short || udp.obstacle.is_some() || hook.untagged() {
        return Some(Counter::EgressForeign);
    }
    hook.clear_flow_hash();
    Some(if remember_and_write(hook, &udp, settings).is_some() {
        Counter::EgressStamped
    } else {
        Counter::EgressFailed
    })
}

#[inline(always)]
fn remember_and_write(hook: &TcHook, udp: &Udp, settings: &Settings) -> Option<()> {
    let destination = match udp.family {
        Family::V4 => Address::from_v4_word(hook.load(V4_DESTINATION)?),
        Family::V6 => Address::from_words(hook.load(V6_DESTINATION)?, hook.load(V6_DESTINATION + 8)?),
    };
    let payload = payload_at(udp.family);
    let ssid = u16::from_be(hook.load(payload + SSID)?);
    let seq = u32::from_be(hook.load(payload + SEQUENCE)?);
    let (index, id) = SESSION_RINGS.get(ssid.into())?.record(seq, settings.ring_mask)?;
    let record = IN_FLIGHT.get_ptr_mut(index)?;
    // The record is prepared before the clock is read, so the preparation is not measured. From here on, no reply matches
    // the earlier probe in this place: the identifier is 0, and then another one.
    // SAFETY: map values stay writable for the program's run.
    unsafe {
        (&raw mut (*record).id).write_volatile(0);
        compiler_barrier();
        (*record).sent.destination = destination;
        (*record).sent.replies = 0;
    }
    let utc = Utc::of(settings);
    let t1_mono_ns = clock::monotonic_ns();
    let t1 = NtpTime::from_unix_ns(utc.at(t1_mono_ns));
    // SAFETY: as above.
    unsafe {
        (*record).sent.t1_mono_ns = t1_mono_ns;
        (*record).sent.t1_wire = t1.0;
        compiler_barrier();
        (&raw mut (*record).id).write_volatile(id);
    }
    hook.replace(payload + TIMESTAMP, payload - UDP_LEN + UDP_CHECKSUM, t1.0.to_be())
        .then_some(())
}
