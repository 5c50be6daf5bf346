//! Replies: verified, and matched with a probe of this host at most once.

use core::mem::MaybeUninit;
use core::ptr;

use probe_common::checksum::Sum;
use probe_common::family::Family;
use probe_common::frame::{self, Udp, payload_at};
use probe_common::ntp::ErrorEstimate;
use probe_common::reflect::{BaseFrame, V4, V6};
use probe_common::stamp::{
    BASE_LEN, ERROR_ESTIMATE, RECEIVE_TIMESTAMP, SENDER_SEQUENCE, SENDER_TIMESTAMP, SEQUENCE, TIMESTAMP,
};
use probe_common::volley::{Count, Sample, Settings, Slot, Tally, word};

use crate::atomic::compare_exchange;
use crate::count::{Stamps, count, delays};
use crate::hook::Hook;
use crate::maps::{SAMPLES, TRIES, now_ns, slot, tally};

pub enum Outcome {
    /// Not a reply to a probe of this host: the packet passes.
    Foreign,
    /// A reply that becomes no probe: the packet is dropped.
    Consumed,
    /// A ball came back at this time. The reply becomes the next probe, or the ball lands.
    Ball(u64),
}

#[inline(always)]
pub fn receive<H: Hook>(hook: &H, settings: &Settings) -> Outcome {
    let Some(udp) = frame::udp(hook) else {
        return Outcome::Foreign;
    };
    if udp.source_port != settings.test_port || udp.destination_port != settings.source_port {
        return Outcome::Foreign;
    }
    let t4_ns = now_ns();
    let Some(tally) = tally() else {
        return Outcome::Foreign;
    };
    match take(hook, &udp, settings, tally, t4_ns) {
        Ok(outcome) => outcome,
        Err(reason) => {
            count(tally, reason);
            Outcome::Foreign
        }
    }
}

/// Everything is verified before the probe is claimed. `Err` is why the packet answers no probe.
#[inline(always)]
fn take<H: Hook>(hook: &H, udp: &Udp, settings: &Settings, tally: *mut Tally, t4_ns: u64) -> Result<Outcome, Count> {
    let is_whole = udp.payload_len() == Some(BASE_LEN) && udp.ip_payload_len == udp.udp_len;
    if !is_whole || udp.obstacle.is_some() || hook.untagged() {
        return Err(Count::Malformed);
    }
    let verified = match (udp.family, settings.ip_version) {
        (Family::V4, 4) => hook.view(|frame: &mut V4| verify(frame, settings)),
        (Family::V6, 6) => hook.view(|frame: &mut V6| verify(frame, settings)),
        _ => Some(Err(Count::NotFromPeer)),
    };
    verified.ok_or(Count::Malformed)??;
    let payload = payload_at(udp.family);
    let sequence = u32::from_be(hook.load(payload + SENDER_SEQUENCE).ok_or(Count::Malformed)?);
    let reflected = u32::from_be(hook.load(payload + SEQUENCE).ok_or(Count::Malformed)?);
    let t1_wire = u64::from_be(hook.load(payload + SENDER_TIMESTAMP).ok_or(Count::Malformed)?);
    let t2_wire = u64::from_be(hook.load(payload + RECEIVE_TIMESTAMP).ok_or(Count::Malformed)?);
    let t3_wire = u64::from_be(hook.load(payload + TIMESTAMP).ok_or(Count::Malformed)?);
    let error = ErrorEstimate(u16::from_be(
        hook.load(payload + ERROR_ESTIMATE).ok_or(Count::Malformed)?,
    ));
    let slot = slot(settings, sequence).ok_or(Count::Unknown)?;
    // SAFETY: map values stay readable for the program's run, and both words are read at once.
    let (before, t1) = unsafe {
        (
            ptr::read_volatile(&raw const (*slot).word),
            ptr::read_volatile(&raw const (*slot).t1),
        )
    };
    if word::sequence(before) != sequence {
        return Err(Count::Unknown);
    }
    // A slot that is overwritten while it is read has another sequence number or another T1.
    if t1 != t1_wire {
        return Err(Count::WrongT1);
    }
    let outcome = match claim(slot, before, sequence, reflected) {
        Claim::First { flying } if flying => Outcome::Ball(t4_ns),
        Claim::First { .. } => Outcome::Consumed,
        Claim::Again(reason) => {
            // The reply to a copy of a probe has a number of its own.
            if reason != Count::Unknown {
                note_newest(tally, sequence, reflected);
            }
            count(tally, reason);
            return Ok(Outcome::Consumed);
        }
    };
    if !note_newest(tally, sequence, reflected) {
        count(tally, Count::Reordered);
    }
    let epoch = &settings.epoch;
    let stamps = Stamps {
        t1_ns: epoch.mono(t1, false),
        t2_ns: epoch.mono(t2_wire, error.is_ptp()),
        t3_ns: epoch.mono(t3_wire, error.is_ptp()),
        t4_ns,
    };
    delays(tally, &stamps, settings);
    if settings.sample_every != 0 && sequence.is_multiple_of(settings.sample_every) {
        sample(
            tally,
            Sample {
                t1_mono_ns: stamps.t1_ns,
                t4_mono_ns: t4_ns,
                t2_wire,
                t3_wire,
                sequence,
                reflected,
                reflector_error: error.0,
                reserved: [0; 3],
            },
        );
    }
    // Last, so that a reply that is counted as received has its delay in the histogram.
    // SAFETY: no instruction at all; it keeps the compiler from moving the count.
    unsafe { core::arch::asm!("") };
    count(tally, Count::Received);
    Ok(outcome)
}

/// Addresses and checksums.
#[inline(always)]
fn verify<F: BaseFrame>(frame: &F, settings: &Settings) -> Result<(), Count> {
    if frame.source() != settings.peer || frame.destination() != settings.own {
        Err(Count::NotFromPeer)
    } else if !frame.is_intact(Sum::ZERO) {
        Err(Count::BadChecksum)
    } else {
        Ok(())
    }
}

enum Claim {
    /// The first reply to its probe; `flying`: it may become the next probe.
    First { flying: bool },
    /// Not the first reply, counted as this.
    Again(Count),
}

/// Marks the probe of a reply as answered. One compare-and-exchange decides which reply is the first.
#[inline(always)]
fn claim(slot: *mut Slot, mut before: u64, sequence: u32, reflected: u32) -> Claim {
    for _ in 0..TRIES {
        if !word::is_pending(before) {
            break;
        }
        // SAFETY: map values stay writable for the program's run, and the word is only changed atomically.
        let found = unsafe { compare_exchange(&raw mut (*slot).word, before, word::done(sequence, reflected)) };
        if found == before {
            return Claim::First {
                flying: word::state(before) == word::FLYING,
            };
        }
        before = found;
    }
    Claim::Again(if word::sequence(before) != sequence {
        Count::Unknown
    } else if word::state(before) != word::DONE {
        Count::Late
    } else if word::is_copy(before, reflected) {
        Count::CopiedBackward
    } else {
        Count::CopiedForward
    })
}

/// Notes the newest numbers, before the reply is counted: the reflector has answered at least as often as replies are counted.
/// Returns whether no newer probe was answered before.
#[inline(always)]
fn note_newest(tally: *mut Tally, sequence: u32, reflected: u32) -> bool {
    // SAFETY: the tally is this processor's own.
    let tally = unsafe { &mut *tally };
    let is_first = tally.has_newest == 0;
    tally.has_newest = 1;
    let is_newest = is_first || (sequence.wrapping_sub(tally.newest) as i32) >= 0;
    if is_newest {
        tally.newest = sequence;
    }
    if is_first || (reflected.wrapping_sub(tally.newest_reflected) as i32) > 0 {
        tally.newest_reflected = reflected;
    }
    is_newest
}

#[inline(always)]
fn sample(tally: *mut Tally, sample: Sample) {
    let Some(mut entry) = SAMPLES.reserve::<Sample>(0) else {
        count(tally, Count::SampleLost);
        return;
    };
    MaybeUninit::write(&mut entry, sample);
    entry.submit(0);
}
