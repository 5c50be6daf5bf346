//! The receiving half of the session-sender: stamps a reply to a probe of ours and passes it to userspace.

use core::mem::MaybeUninit;

use probe_common::abi::{Address, Counter, InFlight, MAX_REPLIES, MissedKey, ProbeKey, Sample, Settings};
use probe_common::checksum::Sum;
use probe_common::family::Family;
use probe_common::frame::{Udp, V4_SOURCE, V6_SOURCE, payload_at};
use probe_common::reflect::{BaseFrame as _, Frame as _, V4, V4_HEADERS, V6, V6_HEADERS};
use probe_common::stamp::{
    BASE_LEN, ERROR_ESTIMATE, MIN_REPLY_LEN, RECEIVE_TIMESTAMP, SENDER_SEQUENCE, SENDER_TIMESTAMP, SEQUENCE, SSID,
    TIMESTAMP,
};

use crate::atomic::compiler_barrier;
use crate::clock::{self, Utc};
use crate::hook::Hook;
use crate::maps::{DESTINATIONS, IN_FLIGHT, MISSED, REPLIES, SAMPLES, SESSION_RINGS, SESSIONS_BY_PEER};
use crate::{payload, policy};

/// Takes T4 and passes on the reply if a probe is waiting for it. `Ok` means that the packet is to be consumed.
#[inline(always)]
pub fn collect<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Counter, Counter> {
    let t4_mono_ns = clock::monotonic_ns();
    let t4_unix_ns = Utc::of(settings).at(t4_mono_ns);
    if udp.payload_len().is_none_or(|length| length < MIN_REPLY_LEN) {
        return Err(Counter::ReplyMalformed);
    }
    check(hook, udp)?;
    let reply = Reply::at(hook, udp.family).ok_or(Counter::ReplyMalformed)?;
    let source = reply.source;
    let probe = ProbeKey {
        seq: reply.sender_sequence,
        ssid: session_of(&reply).ok_or(Counter::Unmatched)?,
        reserved: 0,
    };
    let (record, sent) = in_flight(&probe, settings).ok_or(Counter::Unmatched)?;
    if !sent.is_answered_by(&source, reply.sender_timestamp) {
        return Err(Counter::Unmatched);
    }
    if sent.destination.is_multicast() && !may_be_a_peer(&source, udp.family) {
        return Err(Counter::ReplyNotAllowed);
    }
    let replies = sent.replies;
    if replies >= settings.max_replies && !is_wanted(&sent, &MissedKey { source, probe }) {
        return Ok(Counter::DuplicateDropped);
    }
    // SAFETY: map values stay writable for the program's run.
    unsafe { (*record).replies = replies.wrapping_add(1) };
    let sample = Sample {
        t1_mono_ns: sent.t1_mono_ns,
        t4_mono_ns,
        t1_wire: reply.sender_timestamp,
        t2_wire: reply.receive_timestamp,
        t3_wire: reply.timestamp,
        t4_unix_ns,
        source,
        seq: probe.seq,
        reflector_seq: reply.sequence,
        ssid: probe.ssid,
        reflector_error: reply.error_estimate,
        reserved: 0,
    };
    let Some(mut entry) = SAMPLES.reserve::<Sample>(0) else {
        // If this fails as well, the probe counts as lost, but RingFull is counted.
        let _ = MISSED.insert(MissedKey { source, probe }, t4_mono_ns, 0);
        return Ok(Counter::RingFull);
    };
    MaybeUninit::write(&mut entry, sample);
    entry.submit(0);
    Ok(Counter::Collected)
}

/// The record of a probe, and a copy of it.
#[inline(always)]
fn in_flight(probe: &ProbeKey, settings: &Settings) -> Option<(*mut InFlight, InFlight)> {
    let ring = SESSION_RINGS.get(probe.ssid.into())?;
    let (index, id) = ring.record(probe.seq, settings.ring_mask)?;
    let record = IN_FLIGHT.get_ptr_mut(index)?;
    // SAFETY: map values stay readable for the program's run.
    let (before, sent, after) = unsafe {
        let before = (&raw const (*record).id).read_volatile();
        compiler_barrier();
        let sent = (*record).sent;
        compiler_barrier();
        (before, sent, (&raw const (*record).id).read_volatile())
    };
    // Meanwhile another CPU may overwrite the record for a later probe. It sets the identifier to 0 first. If this CPU sees
    // its writes in another order, the copy has a T1 that is not the reply's, and the reply is unmatched.
    // SAFETY: as above.
    (before == id && after == id).then(|| (unsafe { &raw mut (*record).sent }, sent))
}

/// Whether one more reply to a probe with [`MAX_REPLIES`] of them is passed on: to a group probe, other hosts may still answer.
#[inline(always)]
fn is_wanted(sent: &InFlight, replier: &MissedKey) -> bool {
    if !sent.has_room_for_others() {
        return false;
    }
    let Some(replies) = REPLIES.get_ptr_mut(replier) else {
        return REPLIES.insert(replier, 1, 0).is_ok();
    };
    // SAFETY: as above.
    unsafe {
        *replies += 1;
        *replies <= MAX_REPLIES
    }
}

/// The checksums of a reply must be right: the packet is consumed before the stack would check them.
#[inline(always)]
fn check<H: Hook>(hook: &H, udp: &Udp) -> Result<(), Counter> {
    let length = udp.payload_len().ok_or(Counter::ReplyMalformed)?;
    let intact = match (length, udp.family) {
        (BASE_LEN, Family::V4) => hook.view(|frame: &mut V4| frame.is_intact(Sum::ZERO)),
        (BASE_LEN, Family::V6) => hook.view(|frame: &mut V6| frame.is_intact(Sum::ZERO)),
        _ => {
            let sum = payload::whole(hook, payload_at(udp.family), length).ok_or(Counter::ReplyMalformed)?;
            match udp.family {
                Family::V4 => hook.view(|frame: &mut V4<V4_HEADERS>| frame.is_intact_with(sum)),
                Family::V6 => hook.view(|frame: &mut V6<V6_HEADERS>| frame.is_intact_with(sum)),
            }
        }
    };
    match intact {
        Some(true) => Ok(()),
        Some(false) => Err(Counter::ReplyBadChecksum),
        None => Err(Counter::ReplyMalformed),
    }
}

/// Anybody can answer a group probe, but only a host that is answered or probed already is probed in return.
#[inline(always)]
fn may_be_a_peer(source: &Address, family: Family) -> bool {
    // SAFETY: the values are not read.
    let (is_own, is_probed) = unsafe {
        (
            DESTINATIONS.get(source).is_some(),
            SESSIONS_BY_PEER.get(source).is_some(),
        )
    };
    source.is_answerable(family) && !is_own && (is_probed || policy::is_allowed(source))
}

/// The session of a reply. A reflector without RFC 8972 leaves the identifier zero; a host that is probed at its own
/// address has only one session.
#[inline(always)]
fn session_of(reply: &Reply) -> Option<u16> {
    if reply.ssid != 0 {
        return Some(reply.ssid);
    }
    // SAFETY: the loader only adds entries, and the value is one word.
    unsafe { SESSIONS_BY_PEER.get(reply.source) }.map(|&ssid| ssid as u16)
}

/// The fields of a reply that are used, in host order.
struct Reply {
    source: Address,
    sequence: u32,
    timestamp: u64,
    error_estimate: u16,
    ssid: u16,
    receive_timestamp: u64,
    sender_sequence: u32,
    sender_timestamp: u64,
}

impl Reply {
    /// `None` if the frame is too short.
    #[inline(always)]
    fn at<H: Hook>(hook: &H, family: Family) -> Option<Self> {
        let source = match family {
            Family::V4 => Address::from_v4_word(hook.load(V4_SOURCE)?),
            Family::V6 => Address::from_words(hook.load(V6_SOURCE)?, hook.load(V6_SOURCE + 8)?),
        };
        let payload = payload_at(family);
        Some(Self {
            source,
            sequence: u32::from_be(hook.load(payload + SEQUENCE)?),
            timestamp: u64::from_be(hook.load(payload + TIMESTAMP)?),
            error_estimate: u16::from_be(hook.load(payload + ERROR_ESTIMATE)?),
            ssid: u16::from_be(hook.load(payload + SSID)?),
            receive_timestamp: u64::from_be(hook.load(payload + RECEIVE_TIMESTAMP)?),
            sender_sequence: u32::from_be(hook.load(payload + SENDER_SEQUENCE)?),
            sender_timestamp: u64::from_be(hook.load(payload + SENDER_TIMESTAMP)?),
        })
    }
}
