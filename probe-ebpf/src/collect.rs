//! The session-sender's receiving half: a reply to a probe of ours is stamped and handed to userspace.

use core::mem::MaybeUninit;

use probe_common::abi::{Address, Counter, InFlightKey, MissedKey, Sample, Settings};
use probe_common::checksum::Sum;
use probe_common::frame::{ETHERNET_LEN, Family, IPV4_LEN, IPV6_LEN, UDP_LEN, Udp};
use probe_common::reflect::{BaseFrame as _, V4, V6};
use probe_common::stamp::{
    BASE_LEN, ERROR_ESTIMATE, MIN_REPLY_LEN, RECEIVE_TIMESTAMP, SENDER_SEQUENCE, SENDER_TIMESTAMP, SEQUENCE, SSID,
    TIMESTAMP,
};

use crate::clock;
use crate::hook::Hook;
use crate::maps::{IN_FLIGHT, MISSED, SAMPLES, SESSIONS_BY_PEER};

/// Takes T4 and a reply that a probe in flight is waiting for. `Ok` means that the packet has served its purpose.
#[inline(always)]
pub fn collect<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Counter, Counter> {
    let t4_mono_ns = clock::monotonic_ns();
    let t4_unix_ns = clock::unix_ns(settings);
    if udp.payload_len().is_none_or(|length| length < MIN_REPLY_LEN) {
        return Err(Counter::ReplyMalformed);
    }
    check(hook, udp)?;
    let reply = Reply::at(hook, udp.family).ok_or(Counter::ReplyMalformed)?;
    let source = reply.source;
    let probe = InFlightKey {
        seq: reply.sender_sequence,
        ssid: session_of(&reply).ok_or(Counter::Unmatched)?,
        reserved: 0,
    };
    // SAFETY: an entry that is evicted and reused while it is read has another T1, and is refused for it.
    let sent = unsafe { IN_FLIGHT.get(probe) }.ok_or(Counter::Unmatched)?;
    // A probe to a group may be answered by anyone, one to a host by that host.
    let asked = sent.destination == source || sent.destination.is_multicast();
    if sent.t1_wire != reply.sender_timestamp || !asked {
        return Err(Counter::Unmatched);
    }
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
        // Should this fail as well, the probe is counted as lost; RingFull tells.
        let _ = MISSED.insert(MissedKey { source, probe }, t4_mono_ns, 0);
        return Ok(Counter::RingFull);
    };
    MaybeUninit::write(&mut entry, sample);
    entry.submit(0);
    Ok(Counter::Collected)
}

/// The checksums of a base reply must be right: the packet is consumed before the stack would look. Replies of other
/// lengths are believed, as their in-flight record still has to match.
#[inline(always)]
fn check<H: Hook>(hook: &H, udp: &Udp) -> Result<(), Counter> {
    if udp.payload_len() != Some(BASE_LEN) || udp.ip_payload_len != udp.udp_len {
        return Ok(());
    }
    let intact = match udp.family {
        Family::V4 => hook.view(|frame: &mut V4| frame.is_intact(Sum::ZERO)),
        Family::V6 => hook.view(|frame: &mut V6| frame.is_intact(Sum::ZERO)),
    };
    match intact {
        Some(true) => Ok(()),
        Some(false) => Err(Counter::ReplyBadChecksum),
        None => Err(Counter::ReplyMalformed),
    }
}

/// The session that a reply says it belongs to. A reflector without RFC 8972 leaves its identifier zero; what is probed
/// at that host's own address has but one session.
#[inline(always)]
fn session_of(reply: &Reply) -> Option<u16> {
    if reply.ssid != 0 {
        return Some(reply.ssid);
    }
    // SAFETY: the loader only adds entries, and the value is one word.
    unsafe { SESSIONS_BY_PEER.get(reply.source) }.map(|&ssid| ssid as u16)
}

/// The fields of a reply that matter, in host order.
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
    /// Reads a reply behind headers of the usual lengths; `None` where the frame is shorter.
    #[inline(always)]
    fn at<H: Hook>(hook: &H, family: Family) -> Option<Self> {
        let (source, payload) = match family {
            Family::V4 => {
                let source = Address::from_v4_word(hook.load(ETHERNET_LEN + 12)?);
                (source, ETHERNET_LEN + IPV4_LEN + UDP_LEN)
            }
            Family::V6 => {
                let source = Address::from_words(hook.load(ETHERNET_LEN + 8)?, hook.load(ETHERNET_LEN + 16)?);
                (source, ETHERNET_LEN + IPV6_LEN + UDP_LEN)
            }
        };
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
