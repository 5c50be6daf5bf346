//! Which sources are answered, and how often: prefixes, and a token bucket for each source, its group probes, and the port.
//!
//! A bucket is one 64-bit word, updated by compare-and-exchange: no CPU waits for another, and none can spend twice. A packet
//! that loses the exchange four times in a row is refused, so that no source exceeds its rate. Each CPU charges the port
//! for a batch of packets at once, so that the port's rate may be wrong by a batch for each CPU. All times are
//! `CLOCK_MONOTONIC`.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::maps::lpm_trie::Key;
use probe_common::abi::{
    ALLOWED_NOBODY, ALLOWED_V4, ALLOWED_V6, Address, Allowed, Counter, Limit, Settings, SourceState,
};

use crate::atomic::{compare_exchange, fetch_add};
use crate::maps::{ALLOWED, DESTINATIONS, PORT_EARNED, PORT_SHARE, SOURCES, count};

/// What a source is charged for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// A reply to a unicast probe.
    Unicast,
    /// A reply to a group probe.
    Group,
    /// Waking up a process.
    Userspace,
}

/// Waking a process costs as much as this many replies. A flood would keep userspace from measuring.
const USERSPACE_COST: u64 = 8;

/// Attempts to update a bucket while other CPUs do.
const ATTEMPTS: u32 = 4;

/// Charges `source`. `Err` says why the policy refuses it.
#[inline(always)]
pub fn admit(
    settings: &Settings,
    source: &Address,
    for_what: Charge,
    now_ns: u64,
) -> Result<*mut SourceState, Counter> {
    let state = match known(settings, source) {
        Some(state) => state,
        None => {
            let allowed = allowed(source)?;
            // A flood of others can evict it at once.
            introduce(source, allowed, settings.policy_generation).ok_or(Counter::RateSource)?
        }
    };
    // SAFETY: map values stay readable and writable for the program's run, even if evicted.
    let (unicast, group, userspace, refused) = unsafe {
        (
            &raw mut (*state).unicast_earned_ns,
            &raw mut (*state).group_earned_ns,
            &raw mut (*state).passed_up_earned_ns,
            &raw mut (*state).refused,
        )
    };
    let (earned_ns, limit, packets, refusal) = match for_what {
        Charge::Unicast => (unicast, &settings.source_limit, 1, Counter::RateSource),
        Charge::Group => (group, &settings.group_limit, 1, Counter::RateGroup),
        Charge::Userspace => (userspace, &settings.source_limit, USERSPACE_COST, Counter::RateSource),
    };
    let refusal = if !charge(limit, earned_ns, now_ns, packets) {
        refusal
    } else if !charge_port(settings, now_ns, packets) {
        Counter::RatePort
    } else {
        return Ok(state);
    };
    if for_what != Charge::Userspace {
        // SAFETY: as above; the word is touched by nothing else.
        unsafe { fetch_add(refused, 1) };
    }
    Err(refusal)
}

/// The state of a source that the current prefixes are known to allow.
#[inline(always)]
fn known(settings: &Settings, source: &Address) -> Option<*mut SourceState> {
    let state = SOURCES.get_ptr_mut(source)?;
    // SAFETY: as above; a source that another CPU is introducing is looked up once more than needed.
    (unsafe { (*state).generation } == settings.policy_generation).then_some(state)
}

/// A source without debts, not known to be allowed.
static NEW: SourceState = SourceState {
    unicast_earned_ns: 0,
    group_earned_ns: 0,
    passed_up_earned_ns: 0,
    refused: 0,
    own: Address::NONE,
    generation: 0,
    reserved: 0,
};

/// Adds an allowed source.
#[inline(always)]
#[allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value it would be built on the stack byte by byte, which costs the verifier"
)]
fn introduce(source: &Address, allowed: &Allowed, generation: u32) -> Option<*mut SourceState> {
    if SOURCES.insert(source, &NEW, u64::from(BPF_NOEXIST)).is_ok() {
        count(Counter::SourceStarted);
    }
    let state = SOURCES.get_ptr_mut(source)?;
    let own = if allowed.own.is_v6_link_local() == source.is_v6_link_local() {
        allowed.own
    } else {
        Address::NONE
    };
    // SAFETY: as above; every CPU writes the same words.
    unsafe {
        (*state).own = own;
        (*state).generation = generation;
    }
    Some(state)
}

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
        let Some(earned_ns) = PORT_EARNED.get_ptr_mut(0) else {
            return false;
        };
        if !charge(&settings.port_limit, earned_ns, now_ns, batch) {
            return false;
        }
        left = left.wrapping_add(batch);
    }
    // SAFETY: as above.
    unsafe { *share = left.wrapping_sub(packets) };
    true
}
