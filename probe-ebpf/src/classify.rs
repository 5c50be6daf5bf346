//! Whether a probe is to be answered, and how.

use probe_common::abi::{Address, Counter, DESTINATION_GROUP, DESTINATION_OWN, Settings};
use probe_common::checksum::{State, Sum};
use probe_common::family::Family;
use probe_common::frame::{Udp, payload_at};
use probe_common::legacy;
use probe_common::reflect::{BaseFrame, Frame, V4, V4_HEADERS, V6, V6_HEADERS};
use probe_common::stamp::{BASE_LEN, MIN_PROBE_LEN};

use crate::hook::Hook;
use crate::maps::DESTINATIONS;
use crate::payload::{self, Trailer};
use crate::reply_plan::ReplyPlan;

#[derive(Clone, Copy)]
enum Payload {
    /// A base packet and what follows it.
    Test(Trailer),
    /// A legacy agent's probe, with its sum.
    Legacy(Sum),
}

/// The plan of the reply; `Err` is the outcome of a probe that is not answered.
#[inline(always)]
pub fn classify<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<ReplyPlan, Counter> {
    let classified = match (payload(hook, udp)?, udp.family) {
        (Payload::Test(trailer), Family::V4) => hook.view(
            #[inline(always)]
            |frame: &mut V4| classify_test(frame, udp, settings, trailer),
        ),
        (Payload::Test(trailer), Family::V6) => hook.view(
            #[inline(always)]
            |frame: &mut V6| classify_test(frame, udp, settings, trailer),
        ),
        (Payload::Legacy(sum), Family::V4) => hook.view(
            #[inline(always)]
            |frame: &mut V4<V4_HEADERS>| classify_legacy(frame, udp, settings, sum),
        ),
        (Payload::Legacy(sum), Family::V6) => hook.view(
            #[inline(always)]
            |frame: &mut V6<V6_HEADERS>| classify_legacy(frame, udp, settings, sum),
        ),
    };
    classified.ok_or(Counter::Malformed)?
}

#[inline(always)]
fn payload<H: Hook>(hook: &H, udp: &Udp) -> Result<Payload, Counter> {
    if udp.source_port == 0 {
        return Err(Counter::SourcePort);
    }
    let at = payload_at(udp.family);
    // Bytes between the datagram's end and the IP packet's would be sent back unread, or might not even be there.
    let is_whole = udp.ip_payload_len == udp.udp_len;
    match udp.payload_len() {
        Some(BASE_LEN) if is_whole => Ok(Payload::Test(Trailer::NOTHING)),
        Some(length @ 1..=legacy::MAX_LEN) if is_whole => match payload::digits(hook, at, length) {
            Some(sum) => Ok(Payload::Legacy(sum)),
            None if length < MIN_PROBE_LEN => Err(Counter::Malformed),
            None => Err(Counter::PassedUp),
        },
        Some(length) if is_whole && length > BASE_LEN => {
            let trailer = payload::padding(hook, at, length).ok_or(Counter::PassedUp)?;
            Ok(Payload::Test(trailer))
        }
        Some(MIN_PROBE_LEN..) => Err(Counter::PassedUp),
        _ => Err(Counter::Malformed),
    }
}

#[inline(always)]
fn classify_test<F: BaseFrame>(
    frame: &F,
    udp: &Udp,
    settings: &Settings,
    trailer: Trailer,
) -> Result<ReplyPlan, Counter> {
    let (fields, zeros) = frame.sums();
    // Nothing is a reply without a receive timestamp.
    let is_reply = !zeros.is_zero() && frame.is_reply_shaped(settings.is_test_port(udp.source_port));
    let checksum = frame.checksum_over(fields.plus(zeros).plus(trailer.request));
    let plan = classify_frame(frame, settings, checksum, is_reply.then_some(Counter::ReplyShaped))?;
    Ok(ReplyPlan {
        sum: frame.kept(fields, trailer.reply),
        session: frame.session(zeros.is_zero()),
        flags: plan.flags | trailer.flags,
        ..plan
    })
}

#[inline(always)]
fn classify_legacy<F: Frame>(frame: &F, udp: &Udp, settings: &Settings, sum: Sum) -> Result<ReplyPlan, Counter> {
    let may_loop = legacy::may_loop(udp.source_port, frame.ttl()) || settings.is_test_port(udp.source_port);
    let may_loop = may_loop.then_some(Counter::LegacyLoop);
    let plan = classify_frame(frame, settings, frame.checksum_over(sum), may_loop)?;
    Ok(ReplyPlan {
        sum,
        flags: plan.flags | ReplyPlan::LEGACY,
        ..plan
    })
}

/// The rules for all kinds of probes. `may_loop` is the outcome if the probe may be a reply itself.
#[inline(always)]
fn classify_frame<F: Frame>(
    frame: &F,
    settings: &Settings,
    checksum: State,
    may_loop: Option<Counter>,
) -> Result<ReplyPlan, Counter> {
    if !frame.source_is_answerable() {
        return Err(Counter::BadSource);
    }
    if checksum == State::Wrong || !frame.network_is_intact() {
        return Err(Counter::BadChecksum);
    }
    if let Some(counter) = may_loop {
        return Err(counter);
    }
    let group = addressed_to_us(frame, settings)?;
    let partial = checksum == State::Partial && settings.partial_checksums != 0;
    Ok(ReplyPlan {
        source: frame.source(),
        destination: frame.destination(),
        own: frame.destination(),
        sum: Sum::ZERO,
        session: 0,
        flags: bit(group, ReplyPlan::GROUP)
            | bit(partial, ReplyPlan::PARTIAL)
            | bit(F::FAMILY == Family::V6, ReplyPlan::V6),
    })
}

#[inline(always)]
fn bit(is: bool, flag: u32) -> u32 {
    if is { flag } else { 0 }
}

/// Whether the probe came by a group; `Err` if it is not for this host.
#[inline(always)]
pub fn addressed_to_us<F: Frame>(frame: &F, settings: &Settings) -> Result<bool, Counter> {
    if kind_of(&frame.destination(), settings.first_own(F::FAMILY))? == DESTINATION_GROUP {
        Ok(true)
    } else if frame.is_for_mac(settings.mac) {
        Ok(false)
    } else {
        Err(Counter::NotForUs)
    }
}

/// `first_own` is the destination of most probes, and needs no look at the map.
#[inline(always)]
fn kind_of(destination: &Address, first_own: Address) -> Result<u32, Counter> {
    if *destination == first_own && first_own != Address::NONE {
        return Ok(DESTINATION_OWN);
    }
    // SAFETY: the loader replaces no entry while packets flow, it only adds and removes; the value is one word.
    unsafe { DESTINATIONS.get(destination) }
        .copied()
        .ok_or(Counter::NotForUs)
}
