//! Which sources are answered, and how often: prefixes, and a token bucket for each source, its group probes, and the port.
//!
//! A bucket is one 64-bit word, updated by compare-and-exchange: no CPU waits for another, and none can spend twice. A packet
//! that loses the exchange four times in a row is refused, so that no source exceeds its rate. Each CPU charges the port
//! for a batch of packets at once, so that the port's rate may be wrong by a batch for each CPU. All times are
//! `CLOCK_MONOTONIC`.

use core::mem;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::maps::lpm_trie::Key;
use probe_common::abi::{
    ALLOWED_NOBODY, ALLOWED_V4, ALLOWED_V6, Address, Allowed, Charge, Counter, Limit, SLOT_IDLE_NS, Settings,
    SourceSlot, SourceState,
};

use crate::atomic::{compare_exchange, compiler_barrier, fetch_add};
use crate::maps::{ALLOWED, DESTINATIONS, PORT_EARNED, PORT_SHARE, SOURCE_SLOTS, SOURCES, count};
use crate::reply_plan::ReplyPlan;

/// Waking a process costs as much as this many replies. A flood would keep userspace from measuring.
const USERSPACE_COST: u64 = 8;

/// Attempts to update a bucket while other CPUs do.
const ATTEMPTS: u32 = 4;

/// Charges a packet to its source, which also says from which address its group probes are answered. `Err` says why the policy
/// refuses it.
///
/// A source has the slot at the place of its address, unless another one had it first: then its state is in an LRU map.
#[inline(always)]
pub fn admit(settings: &Settings, plan: &mut ReplyPlan, now_ns: u64) -> Result<(), Counter> {
    let slot = SOURCE_SLOTS
        .get_ptr_mut(plan.source.slot())
        .ok_or(Counter::RateSource)?;
    // SAFETY: map values stay readable and writable for the program's run. Another source may get the slot only if this one
    // was idle, and is charged this packet at worst.
    let state = unsafe {
        if (*slot).state.generation != settings.policy_generation || !(*slot).source.is(&plan.source) {
            let outcome = admit_elsewhere(settings, slot, plan, now_ns);
            if outcome != HAS_SLOT {
                return refusal(outcome);
            }
        }
        (*slot).seen_ns = now_ns;
        &mut (*slot).state
    };
    charge_source(settings, state, plan, now_ns)
}

// Outcomes of `admit_elsewhere`, besides the counters of refusals.
const ADMITTED: u32 = u32::MAX;
const HAS_SLOT: u32 = u32::MAX - 1;

#[inline(always)]
fn refusal(outcome: u32) -> Result<(), Counter> {
    if outcome == ADMITTED {
        return Ok(());
    }
    // SAFETY: all other outcomes are counters.
    Err(unsafe { mem::transmute::<u32, Counter>(outcome) })
}

/// Charges the packet of a source that is not known to be allowed, or does not have the slot. If it gets the slot, the packet is
/// left to be charged there.
///
/// A function of its own, so that the verifier does not follow it together with the common path.
#[inline(never)]
fn admit_elsewhere(settings: &Settings, slot: *mut SourceSlot, plan: &mut ReplyPlan, now_ns: u64) -> u32 {
    let outcome = match place(settings, slot, &plan.source, now_ns) {
        Ok(None) => return HAS_SLOT,
        Ok(Some(state)) => charge_source(settings, state, plan, now_ns),
        Err(counter) => Err(counter),
    };
    outcome.map_or_else(|counter| counter as u32, |()| ADMITTED)
}

/// The state of an allowed source in the LRU map; `None` if it has the slot.
#[inline(always)]
#[allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value it would be built on the stack byte by byte, which costs the verifier"
)]
fn place(
    settings: &Settings,
    slot: *mut SourceSlot,
    source: &Address,
    now_ns: u64,
) -> Result<Option<&'static mut SourceState>, Counter> {
    let known = SOURCES.get_ptr_mut(source);
    if let Some(state) = known {
        // SAFETY: map values stay readable and writable for the program's run, even if evicted.
        let state = unsafe { &mut *state };
        if state.generation == settings.policy_generation {
            return Ok(Some(state));
        }
    }
    let own = allowed(source)?.own;
    let own = if own.is_v6_link_local() == source.is_v6_link_local() {
        own
    } else {
        Address::NONE
    };
    let known = match known {
        Some(state) => state,
        None if take(slot, source, now_ns)? => {
            // SAFETY: as above; every CPU writes the same words.
            unsafe {
                (*slot).state.own = own;
                (*slot).state.generation = settings.policy_generation;
            }
            return Ok(None);
        }
        None => {
            if SOURCES.insert(source, &NEW, u64::from(BPF_NOEXIST)).is_ok() {
                count(Counter::SourceStarted);
            }
            // A flood of others can evict it at once.
            SOURCES.get_ptr_mut(source).ok_or(Counter::RateSource)?
        }
    };
    // SAFETY: as above.
    unsafe {
        (*known).own = own;
        (*known).generation = settings.policy_generation;
        Ok(Some(&mut *known))
    }
}

/// Whether the source has the slot. It gets a slot without an owner, or one whose owner is idle and has no debts. `Err` if
/// another CPU is giving it away.
#[inline(always)]
fn take(slot: *mut SourceSlot, source: &Address, now_ns: u64) -> Result<bool, Counter> {
    // SAFETY: as above; only the CPU that has replaced the owner's number writes the rest.
    unsafe {
        let owner = (&raw const (*slot).owner).read_volatile();
        if owner == SourceSlot::CHANGES {
            return Err(Counter::RateSource);
        }
        if owner != SourceSlot::FREE && (*slot).source.is(source) {
            return Ok(true);
        }
        let is_past = |time_ns: u64| now_ns.wrapping_sub(time_ns) as i64 > 0;
        let [unicast, group, userspace] = (*slot).state.earned_ns;
        let is_idle = is_past((*slot).seen_ns.wrapping_add(SLOT_IDLE_NS))
            && is_past(unicast)
            && is_past(group)
            && is_past(userspace);
        if owner != SourceSlot::FREE && !is_idle {
            return Ok(false);
        }
        if compare_exchange(&raw mut (*slot).owner, owner, SourceSlot::CHANGES) != owner {
            return Err(Counter::RateSource);
        }
        // The owner of before is not known any more.
        (&raw mut (*slot).state.generation).write_volatile(0);
        compiler_barrier();
        (*slot).source = *source;
        // Word by word: a loop over bytes would cost the verifier.
        for debt in 0..(*slot).state.earned_ns.len() {
            (&raw mut (*slot).state.earned_ns)
                .cast::<u64>()
                .add(debt)
                .write_volatile(0);
        }
        (&raw mut (*slot).state.refused).write_volatile(0);
        (*slot).seen_ns = now_ns;
        compiler_barrier();
        (&raw mut (*slot).owner).write_volatile(owner.wrapping_add(1));
    }
    count(Counter::SourceStarted);
    Ok(true)
}

/// Charges a packet to the state of its source.
#[inline(always)]
fn charge_source(
    settings: &Settings,
    state: &mut SourceState,
    plan: &mut ReplyPlan,
    now_ns: u64,
) -> Result<(), Counter> {
    let for_what = plan.charge();
    let Charge(index) = for_what;
    // Without branches, of which the verifier would follow each with all later code.
    let is_group = (index & Charge::GROUP.0) as usize;
    let packets = 1 + u64::from((index / Charge::USERSPACE.0) & 1) * (USERSPACE_COST - 1);
    // SAFETY: there are three debts, and two limits of sources, one behind the other.
    let (limit, earned_ns) = unsafe {
        (
            &*(&raw const settings.source_limit).add(is_group),
            (&raw mut state.earned_ns).cast::<u64>().add(index as usize),
        )
    };
    if plan.is(ReplyPlan::GROUP) {
        plan.own = state.own;
    }
    let refusal = if !charge(limit, earned_ns, now_ns, packets) {
        match for_what {
            Charge::GROUP => Counter::RateGroup,
            _ => Counter::RateSource,
        }
    } else if !charge_port(settings, now_ns, packets) {
        Counter::RatePort
    } else {
        return Ok(());
    };
    if for_what != Charge::USERSPACE {
        // SAFETY: the word is touched by nothing else.
        unsafe { fetch_add(&raw mut state.refused, 1) };
    }
    Err(refusal)
}

/// A source without debts, not known to be allowed.
static NEW: SourceState = SourceState {
    earned_ns: [0; 3],
    refused: 0,
    own: Address::NONE,
    generation: 0,
    reserved: 0,
};

/// How an allowed source is treated; `Err` says why it is not allowed.
#[inline(always)]
fn allowed(source: &Address) -> Result<&'static Allowed, Counter> {
    let family = if source.is_v4() { ALLOWED_V4 } else { ALLOWED_V6 };
    match look_up(source) {
        Some(allowed) if allowed.kind == family => {
            // SAFETY: the value is not read.
            if unsafe { DESTINATIONS.get(source) }.is_some() {
                return Err(Counter::OwnSource);
            }
            Ok(allowed)
        }
        Some(allowed) if allowed.kind == ALLOWED_NOBODY => Err(Counter::SubnetSource),
        _ => Err(Counter::NotAllowed),
    }
}

#[inline(always)]
pub fn is_allowed(source: &Address) -> bool {
    allowed(source).is_ok()
}

#[inline(always)]
fn look_up(source: &Address) -> Option<&'static Allowed> {
    /// The packed key, with its words aligned on the stack, as the verifier demands.
    #[repr(C, align(8))]
    struct Aligned {
        padding: u32,
        key: Key<[u64; 2]>,
    }
    let whole = Aligned {
        padding: 0,
        key: Key::new(u128::BITS, source.words()),
    };
    ALLOWED.get(&whole.key)
}

#[inline(always)]
fn charge(limit: &Limit, earned_ns: *mut u64, now_ns: u64, packets: u64) -> bool {
    if limit.interval_ns == 0 {
        return true;
    }
    for _ in 0..ATTEMPTS {
        // SAFETY: the callers' words lie in map values, which stay readable and writable for the program's run.
        let before = unsafe { earned_ns.read_volatile() };
        let Some(after) = limit.charge(before, now_ns, packets) else {
            return false;
        };
        // SAFETY: as above.
        if unsafe { compare_exchange(earned_ns, before, after) } == before {
            return true;
        }
    }
    false
}

/// Charges this CPU's share, and the port for another batch once that is used up.
#[inline(always)]
fn charge_port(settings: &Settings, now_ns: u64, packets: u64) -> bool {
    if settings.port_limit.interval_ns == 0 {
        return true;
    }
    let Some(share) = PORT_SHARE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry is this CPU's own, and the programs that write it do not interrupt one another.
    let mut left = unsafe { *share };
    if left < packets {
        let batch = u64::from(settings.port_batch).max(packets);
        if charge_batch(settings, now_ns, batch) == 0 {
            return false;
        }
        left = left.wrapping_add(batch);
    }
    // SAFETY: as above.
    unsafe { *share = left.wrapping_sub(packets) };
    true
}

/// Charges the port for a batch; 0 if it refuses. A function of its own, so that the code stands once for all
/// that is charged.
#[inline(never)]
fn charge_batch(settings: &Settings, now_ns: u64, packets: u64) -> u32 {
    let Some(earned_ns) = PORT_EARNED.get_ptr_mut(0) else {
        return 0;
    };
    charge(&settings.port_limit, earned_ns, now_ns, packets).into()
}
