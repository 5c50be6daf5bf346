//! The session-reflector (RFC 8762 §4.3), stateful.

use aya_ebpf::bindings::BPF_NOEXIST;
use probe_common::abi::{Counter, DESTINATION_GROUP, ReflectorSession, ReflectorSessionKey, Settings};
use probe_common::checksum::Found;
use probe_common::frame::{Family, Udp};
use probe_common::ntp::NtpTime;
use probe_common::reflect::{Answer, BaseFrame, V4, V6, answer};
use probe_common::stamp::{BASE_LEN, MIN_PROBE_LEN};

use crate::clock;
use crate::count::count;
use crate::hook::Hook;
use crate::maps::{DESTINATIONS, REFLECTOR_SESSIONS};

/// Turns a probe into its reply. `Ok` means that it is to be transmitted.
#[inline(always)]
pub fn reflect<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Counter, Counter> {
    let receive_ns = clock::unix_ns(settings);
    if udp.source_port == settings.test_port {
        return Err(Counter::SourcePort);
    }
    match udp.payload_len() {
        // Bytes between the datagram's end and the IP packet's would be sent back unread, or might not even be there.
        Some(BASE_LEN) if udp.ip_payload_len == udp.udp_len => {}
        Some(MIN_PROBE_LEN..) => return Err(Counter::PassedUp),
        _ => return Err(Counter::Malformed),
    }
    match udp.family {
        Family::V4 => hook.edit(|frame: &mut V4| turn(frame, settings, receive_ns)),
        Family::V6 => hook.edit(|frame: &mut V6| turn(frame, settings, receive_ns)),
    }
}

#[inline(always)]
fn turn<F: BaseFrame>(frame: &mut F, settings: &Settings, receive_ns: u64) -> Result<Counter, Counter> {
    if !frame.source_is_answerable() || !frame.is_from_station() {
        return Err(Counter::BadSource);
    }
    let checksum = frame.checksum();
    if checksum == Found::Wrong || !frame.network_is_intact() {
        return Err(Counter::BadChecksum);
    }
    if frame.is_reply_shaped() {
        return Err(Counter::ReplyShaped);
    }
    let destination = frame.destination();
    // SAFETY: the loader replaces no entry while packets flow, it only adds and removes; the value is one word.
    let kind = unsafe { DESTINATIONS.get(destination) }
        .copied()
        .ok_or(Counter::NotForUs)?;
    let (own, counter) = if kind == DESTINATION_GROUP {
        let own = frame.own_address(settings).ok_or(Counter::NoOwnAddress)?;
        (own, Counter::ReflectedGroup)
    } else if frame.is_for_mac(settings.mac) {
        (destination, Counter::Reflected)
    } else {
        return Err(Counter::NotForUs);
    };
    let sequence = next_sequence(&ReflectorSessionKey {
        source: frame.source(),
        destination,
        source_port: frame.source_port(),
        ssid: frame.ssid(),
        reserved: 0,
    })?;
    let fields = Answer {
        mac: settings.mac,
        own: &own,
        sequence,
        receive: NtpTime::from_unix_ns(receive_ns),
        error: settings.error_estimate,
        partial: checksum == Found::Partial && settings.partial_checksums != 0,
    };
    answer(frame, &fields, || NtpTime::from_unix_ns(clock::unix_ns(settings)));
    Ok(counter)
}

/// The session's counter before this reply; a session that is not known begins at zero.
#[inline(always)]
fn next_sequence(key: &ReflectorSessionKey) -> Result<u32, Counter> {
    if let Some(sequence) = advance(key) {
        return Ok(sequence);
    }
    let first = ReflectorSession { replies: 1 };
    if REFLECTOR_SESSIONS.insert(key, first, u64::from(BPF_NOEXIST)).is_ok() {
        count(Counter::SessionStarted);
        return Ok(0);
    }
    // Another CPU was faster.
    advance(key).ok_or(Counter::ReflectFailed)
}

#[inline(always)]
fn advance(key: &ReflectorSessionKey) -> Option<u32> {
    let session = REFLECTOR_SESSIONS.get_ptr_mut(key)?;
    // SAFETY: map values stay readable and writable for the program's run, even if evicted.
    Some(unsafe { fetch_add(&raw mut (*session).replies, 1) } as u32)
}

/// Adds atomically and gives the value before. `core` has no such operation for this target.
///
/// # Safety
///
/// `value` must be valid and aligned, and touched by nothing but this function while programs run.
#[inline(always)]
unsafe fn fetch_add(value: *mut u64, addend: u64) -> u64 {
    let mut operand = addend;
    // SAFETY: the one instruction reads and writes `value`, which the caller vouches for.
    unsafe {
        core::arch::asm!(
            "{operand} = atomic_fetch_add((u64 *)({value} + 0), {operand})",
            value = in(reg) value,
            operand = inout(reg) operand,
        );
    }
    operand
}
