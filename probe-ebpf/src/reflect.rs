//! The stateful session-reflector (RFC 8762 §4.3): classifies a probe, charges it to its source, and turns its frame into
//! the reply.

use aya_ebpf::bindings::BPF_NOEXIST;
use probe_common::abi::{Address, Counter, ReflectorSession, ReflectorSessionKey, Settings};
use probe_common::family::Family;
use probe_common::frame::{UDP_LEN, Udp};
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::reflect::{Frame, ReplyInputs, V4, V4_HEADERS, V6, V6_HEADERS, reply};
use probe_common::stamp::{BASE_LEN, SSID};

use crate::atomic::fetch_add;
use crate::classify::{addressed_to_us, classify};
use crate::clock::{self, Utc};
use crate::hook::Hook;
use crate::maps::{REFLECTOR_SESSIONS, count};
use crate::policy::{Charge, admit};
use crate::reply_plan::ReplyPlan;

/// Turns a probe into its reply. `Ok` means that the frame is to be transmitted.
#[inline(always)]
pub fn reflect<H: Hook>(hook: &H, udp: &Udp, settings: &Settings) -> Result<Counter, Counter> {
    let receive_ns = clock::monotonic_ns();
    let plan = classify(hook, udp, settings)?;
    let charge = if plan.is(ReplyPlan::GROUP) {
        Charge::Group
    } else {
        Charge::Unicast
    };
    let state = admit(settings, &plan.source, charge, receive_ns)?;
    let own = if plan.is(ReplyPlan::GROUP) {
        // SAFETY: map values stay readable for the program's run; a torn address would be an own one replaced just now.
        unsafe { (*state).own }
    } else {
        plan.destination
    };
    if own == Address::NONE {
        return Err(Counter::NoOwnAddress);
    }
    if plan.is(ReplyPlan::LEGACY) {
        answer_legacy(hook, settings, &plan, &own)
    } else {
        answer_test(hook, settings, &plan, &own, receive_ns)
    }
}

/// Sends a legacy agent's probe back as it came.
#[inline(always)]
fn answer_legacy<H: Hook>(hook: &H, settings: &Settings, plan: &ReplyPlan, own: &Address) -> Result<Counter, Counter> {
    let partial = plan.is(ReplyPlan::PARTIAL);
    let changed = if plan.is(ReplyPlan::V6) {
        hook.change(|frame: &mut V6<V6_HEADERS>| frame.send_back(settings.mac, own, plan.sum, partial))
    } else {
        hook.change(|frame: &mut V4<V4_HEADERS>| frame.send_back(settings.mac, own, plan.sum, partial))
    };
    if !changed {
        return Err(Counter::ReflectFailed);
    }
    Ok(if plan.is(ReplyPlan::GROUP) {
        Counter::LegacyReflectedGroup
    } else {
        Counter::LegacyReflected
    })
}

#[inline(always)]
fn answer_test<H: Hook>(
    hook: &H,
    settings: &Settings,
    plan: &ReplyPlan,
    own: &Address,
    receive_ns: u64,
) -> Result<Counter, Counter> {
    let payload_at = if plan.is(ReplyPlan::V6) { V6_HEADERS } else { V4_HEADERS };
    let udp_at = payload_at - UDP_LEN;
    let ssid = if plan.is(ReplyPlan::NO_SSID) {
        Some(0)
    } else {
        hook.load(payload_at + SSID)
    };
    let sequence = next_sequence(&ReflectorSessionKey {
        source: plan.source,
        destination: plan.destination,
        source_port: hook.load(udp_at).ok_or(Counter::ReflectFailed)?,
        destination_port: hook.load(udp_at + 2).ok_or(Counter::ReflectFailed)?,
        ssid: ssid.ok_or(Counter::ReflectFailed)?,
        reserved: 0,
    })?;
    let utc = Utc::of(settings);
    let inputs = ReplyInputs {
        mac: settings.mac,
        own,
        sequence,
        receive: NtpTime::from_unix_ns(utc.at(receive_ns)),
        error: ErrorEstimate(settings.error_estimate),
        trailer: plan.sum,
        partial: plan.is(ReplyPlan::PARTIAL),
    };
    let transmit = || NtpTime::from_unix_ns(utc.at(clock::monotonic_ns()));
    let changed = if plan.is(ReplyPlan::V6) {
        hook.change(|frame: &mut V6| reply(frame, &inputs, transmit))
    } else {
        hook.change(|frame: &mut V4| reply(frame, &inputs, transmit))
    };
    if !changed || plan.is(ReplyPlan::CLEARS_FLAGS) && !hook.store(payload_at + BASE_LEN, 0) {
        return Err(Counter::ReflectFailed);
    }
    if plan.is(ReplyPlan::PADDED) {
        count(Counter::Padded);
    }
    Ok(if plan.is(ReplyPlan::GROUP) {
        Counter::ReflectedGroup
    } else {
        Counter::Reflected
    })
}

/// The outcome of a probe that was not answered for the reason `counter`. If it would reach userspace, it is charged to
/// its source, and dropped if the policy refuses the source.
#[inline(always)]
pub fn pass_up<H: Hook>(hook: &H, udp: &Udp, settings: &Settings, counter: Counter) -> Counter {
    // Another program of ours has charged it already.
    if !counter.reaches_userspace() || hook.is_second(settings) {
        return counter;
    }
    let source = match udp.family {
        Family::V4 => hook.view(|frame: &mut V4<V4_HEADERS>| source_of_ours(frame, settings)),
        Family::V6 => hook.view(|frame: &mut V6<V6_HEADERS>| source_of_ours(frame, settings)),
    };
    let Some(Some(source)) = source else {
        return counter;
    };
    let admitted = admit(settings, &source, Charge::Userspace, clock::monotonic_ns());
    admitted.err().unwrap_or(counter)
}

/// The source of a packet if it is for this host. Only the addresses are read, and no obstacle moves them.
#[inline(always)]
fn source_of_ours<F: Frame>(frame: &F, settings: &Settings) -> Option<Address> {
    addressed_to_us(frame, settings).is_ok().then(|| frame.source())
}

/// The sequence number of the session's next reply; a session that is not known begins at zero.
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
