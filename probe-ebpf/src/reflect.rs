//! The stateful session-reflector (RFC 8762 §4.3): classifies a probe, charges it to its source, and turns its frame into
//! the reply.

use probe_common::abi::{Address, Counter, ReflectorSessionKey, Settings};
use probe_common::family::Family;
use probe_common::frame::Udp;
use probe_common::ntp::{ErrorEstimate, UnixTime};
use probe_common::reflect::{Frame, ReplyInputs, V4, V4_HEADERS, V6, V6_HEADERS, reply};
use probe_common::stamp::BASE_LEN;

use crate::classify::{addressed_to_us, classify};
use crate::clock::{self, Utc};
use crate::hook::Hook;
use crate::maps::count;
use crate::policy::admit;
use crate::reply_plan::ReplyPlan;
use crate::session::next_sequence;

/// Turns a probe into its reply. `Ok` means that the frame is to be transmitted. A probe that `may_be_taken` or the rules do
/// not let the programs answer is charged as well if it would reach userspace, and dropped if the policy refuses its source.
#[inline(always)]
pub fn reflect<H: Hook>(
    hook: &H,
    udp: &Udp,
    settings: &Settings,
    may_be_taken: Result<(), Counter>,
) -> Result<Counter, Counter> {
    let receive_ns = clock::monotonic_ns();
    let plan = match may_be_taken.and_then(|()| classify(hook, udp, settings)) {
        Ok(plan) => plan,
        Err(counter) => pass_up(hook, udp, settings, counter).ok_or(counter)?,
    };
    let mut plan = plan.hidden(settings);
    admit(settings, &mut plan, receive_ns)?;
    if plan.is(ReplyPlan::PASSED_UP) {
        return Err(plan.passed_up());
    }
    if plan.own == Address::NONE {
        return Err(Counter::NoOwnAddress);
    }
    if plan.is(ReplyPlan::LEGACY) {
        answer_legacy(hook, settings, &plan)
    } else {
        answer_test(hook, settings, &plan, receive_ns)
    }
}

/// Sends a legacy agent's probe back as it came.
#[inline(always)]
fn answer_legacy<H: Hook>(hook: &H, settings: &Settings, plan: &ReplyPlan) -> Result<Counter, Counter> {
    let partial = plan.is(ReplyPlan::PARTIAL);
    let changed = if plan.is(ReplyPlan::V6) {
        hook.change(
            #[inline(always)]
            |frame: &mut V6<V6_HEADERS>| frame.send_back(settings.mac, &plan.own, plan.sum, partial),
        )
    } else {
        hook.change(
            #[inline(always)]
            |frame: &mut V4<V4_HEADERS>| frame.send_back(settings.mac, &plan.own, plan.sum, partial),
        )
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
fn answer_test<H: Hook>(hook: &H, settings: &Settings, plan: &ReplyPlan, receive_ns: u64) -> Result<Counter, Counter> {
    let payload_at = if plan.is(ReplyPlan::V6) { V6_HEADERS } else { V4_HEADERS };
    let key = ReflectorSessionKey::new(plan.source, plan.destination, plan.session);
    let sequence = next_sequence(&key, receive_ns)?;
    let utc = Utc::of(settings);
    let received = UnixTime::from_unix_ns(utc.at(receive_ns));
    let inputs = ReplyInputs {
        mac: settings.mac,
        own: &plan.own,
        sequence,
        receive: received.to_ntp(),
        error: ErrorEstimate(settings.error_estimate),
        kept: plan.sum,
        partial: plan.is(ReplyPlan::PARTIAL),
    };
    let transmit = #[inline(always)]
    || received.moved_to(utc.at(clock::monotonic_ns())).to_ntp();
    let changed = if plan.is(ReplyPlan::V6) {
        hook.change(
            #[inline(always)]
            |frame: &mut V6| reply(frame, &inputs, transmit),
        )
    } else {
        hook.change(
            #[inline(always)]
            |frame: &mut V4| reply(frame, &inputs, transmit),
        )
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

/// The plan for a probe that is not answered for the reason `counter`; `None` if it is not charged: it would not reach
/// userspace, or another program of ours has charged it already.
#[inline(always)]
fn pass_up<H: Hook>(hook: &H, udp: &Udp, settings: &Settings, counter: Counter) -> Option<ReplyPlan> {
    if !counter.reaches_userspace() || hook.is_second(settings) {
        return None;
    }
    let source = match udp.family {
        Family::V4 => hook.view(
            #[inline(always)]
            |frame: &mut V4<V4_HEADERS>| source_of_ours(frame, settings),
        ),
        Family::V6 => hook.view(
            #[inline(always)]
            |frame: &mut V6<V6_HEADERS>| source_of_ours(frame, settings),
        ),
    };
    source.flatten().map(|source| ReplyPlan::pass_up(source, counter))
}

/// The source of a packet if it is for this host. Only the addresses are read, and no obstacle moves them.
#[inline(always)]
fn source_of_ours<F: Frame>(frame: &F, settings: &Settings) -> Option<Address> {
    addressed_to_us(frame, settings).is_ok().then(|| frame.source())
}
