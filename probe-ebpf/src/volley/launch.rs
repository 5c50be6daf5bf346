//! Launches probes: checks whether one may leave, and writes its frame.

use core::ptr;

use probe_common::checksum::Sum;
use probe_common::frame::{UDP_CHECKSUM, UDP_LEN};
use probe_common::reflect::{Frame, V4, V6};
use probe_common::stamp::{BASE_LEN, SEQUENCE, TIMESTAMP};
use probe_common::volley::{Control, Count, Settings, Slot, Template, word};

use crate::atomic::{compare_exchange, fetch_add};
use crate::count::count;
use crate::hook::{Hook as _, XdpHook};
use crate::maps::{CONTROL, TEMPLATE, TRIES, now_ns, slot, tally};

/// Writes a probe into the frame; `false` if none may leave.
#[inline(always)]
pub fn launch(hook: &XdpHook, settings: &Settings, now_ns: u64, state: u64) -> bool {
    let Some(control) = CONTROL.get_ptr_mut(0) else {
        return false;
    };
    next(control, now_ns).is_some_and(|sequence| write(hook, settings, sequence as u32, state))
}

/// Counts a ball that has landed.
#[inline(always)]
pub fn land() {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: map values stay writable for the program's run, and the number is only changed atomically.
        unsafe { fetch_add(&raw mut (*control).balls_in_flight, u64::MAX) };
    }
    if let Some(tally) = tally() {
        count(tally, Count::Landed);
    }
}

/// Counts one more ball in flight; `false` if there may be no more.
#[inline(always)]
pub fn take_off() -> bool {
    let Some(control) = CONTROL.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: as in `land`; the process writes whole words.
    unsafe {
        let allowed = ptr::read_volatile(&raw const (*control).balls);
        let balls_in_flight = fetch_add(&raw mut (*control).balls_in_flight, 1);
        if balls_in_flight < allowed {
            return true;
        }
        fetch_add(&raw mut (*control).balls_in_flight, u64::MAX);
    }
    false
}

/// The next sequence number; `None` if budget, rate or deadline forbid another probe.
#[inline(always)]
fn next(control: *mut Control, now_ns: u64) -> Option<u64> {
    // SAFETY: as in `take_off`.
    unsafe {
        let read = |word: *const u64| ptr::read_volatile(word);
        if now_ns >= read(&raw const (*control).deadline_ns) {
            return None;
        }
        let elapsed = now_ns.wrapping_sub(read(&raw const (*control).start_ns)) >> 10;
        let earned = elapsed.wrapping_mul(read(&raw const (*control).rate)) >> 32;
        let allowed = read(&raw const (*control).first)
            .wrapping_add(read(&raw const (*control).burst))
            .wrapping_add(earned);
        let end = read(&raw const (*control).limit).min(allowed);
        if read(&raw const (*control).next) >= end {
            return None;
        }
        // If another processor took the last number first, this number stays unused.
        let sequence = fetch_add(&raw mut (*control).next, 1);
        (sequence < end).then_some(sequence)
    }
}

/// Overwrites the frame with the probe `sequence`.
#[inline(always)]
fn write(hook: &XdpHook, settings: &Settings, sequence: u32, state: u64) -> bool {
    let (Some(slot), Some(template), Some(tally)) = (slot(settings, sequence), TEMPLATE.get(0), tally()) else {
        return false;
    };
    let fits = match settings.ip_version {
        4 => hook.change(|frame: &mut V4| fill(frame, settings, template, slot, sequence, state)),
        _ => hook.change(|frame: &mut V6| fill(frame, settings, template, slot, sequence, state)),
    };
    count(tally, if fits { Count::Sent } else { Count::Failed });
    fits
}

#[inline(always)]
fn fill<F: Frame>(frame: &mut F, settings: &Settings, template: &Template, slot: *mut Slot, sequence: u32, state: u64) {
    let bytes = frame.bytes_mut();
    let payload = F::UDP_AT + UDP_LEN;
    copy(template.frame.as_ptr(), bytes.as_mut_ptr(), payload + BASE_LEN);
    let wire_sequence = sequence.to_be_bytes();
    put(bytes, payload + SEQUENCE, wire_sequence);
    let t1 = settings.epoch.wire(now_ns());
    occupy(slot, word::of(sequence, state), t1.0);
    let t1 = t1.to_be_bytes();
    put(bytes, payload + TIMESTAMP, t1);
    let sum = Sum::of_kernel(template.sum as u32).long(wire_sequence).quad(t1);
    put(bytes, F::UDP_AT + UDP_CHECKSUM, sum.finish_udp());
}

/// Copies a frame word by word; the last two words may overlap. The compiler would copy unaligned memory byte by byte.
#[inline(always)]
fn copy(from: *const u8, to: *mut u8, length: usize) {
    const WORD: usize = size_of::<u64>();
    for word in 0..length.div_ceil(WORD) {
        let at = (word * WORD).min(length - WORD);
        // SAFETY: the template has room for the longest frame, both have `length` bytes, and packets do not lie in maps.
        unsafe {
            let bytes = from.add(at).cast::<u64>().read_unaligned();
            to.add(at).cast::<u64>().write_unaligned(bytes);
        }
    }
}

/// Enters a probe into its slot. A probe that still waits there is lost.
#[inline(always)]
pub fn occupy(slot: *mut Slot, new: u64, t1: u64) {
    // SAFETY: map values stay readable and writable for the program's run. A word is changed as a whole, and a reader that
    // sees the new word sees the new T1, or the old one, which fits no reply.
    unsafe {
        let mut before = ptr::read_volatile(&raw const (*slot).word);
        ptr::write_volatile(&raw mut (*slot).t1, t1);
        if !word::is_pending(before) {
            // Replies and the process change only the words of pending probes.
            ptr::write_volatile(&raw mut (*slot).word, new);
            return;
        }
        for _ in 0..TRIES {
            let found = compare_exchange(&raw mut (*slot).word, before, new);
            if found == before {
                break;
            }
            before = found;
        }
        if word::is_pending(before) {
            overrun(before);
        }
    }
}

#[inline(always)]
fn overrun(before: u64) {
    if let Some(tally) = tally() {
        count(tally, Count::Overrun);
    }
    if word::state(before) == word::FLYING {
        land();
    }
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], at: usize, chunk: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&chunk);
}
