//! The reply counters of the sessions that are reflected.
//!
//! A session has the slot at the place of its key, unless another one had it first: then it is in an LRU map. It moves there
//! only when it has been idle and another one begins in its slot.

use aya_ebpf::bindings::BPF_NOEXIST;
use probe_common::abi::{Counter, ReflectorSession, ReflectorSessionKey, SLOT_IDLE_NS, SessionSlot};

use crate::atomic::{compare_exchange, compiler_barrier, fetch_add};
use crate::maps::{REFLECTOR_SESSIONS, SESSION_SLOTS, count};

/// The sequence number of the session's next reply; a session that is not known begins at zero.
#[inline(always)]
pub fn next_sequence(key: &ReflectorSessionKey, now_ns: u64) -> Result<u32, Counter> {
    let slot = SESSION_SLOTS.get_ptr_mut(key.slot()).ok_or(Counter::ReflectFailed)?;
    // SAFETY: map values stay readable and writable for the program's run.
    unsafe {
        let mut owner = (&raw const (*slot).count).read_volatile() / SessionSlot::OWNER;
        if owner == 0 || !(*slot).key.is(key) {
            let sequence = next_elsewhere(slot, key, now_ns);
            if sequence != HAS_SLOT {
                return u32::try_from(sequence).map_err(|_| Counter::ReflectFailed);
            }
            owner = (&raw const (*slot).count).read_volatile() / SessionSlot::OWNER;
        }
        (*slot).seen_ns = now_ns;
        let before = fetch_add(&raw mut (*slot).count, 1);
        if before / SessionSlot::OWNER != owner {
            // The session was idle, and another CPU has given its slot away since the key was compared.
            return Err(Counter::ReflectFailed);
        }
        Ok(before as u32)
    }
}

// Outcomes of `next_elsewhere`, besides sequence numbers.
const NO_PLACE: u64 = u64::MAX;
const HAS_SLOT: u64 = u64::MAX - 1;

/// The same for a session that does not have the slot. If it gets the slot, it is left to be counted there.
///
/// A function of its own, so that the verifier does not follow it together with the common path.
#[inline(never)]
fn next_elsewhere(slot: *mut SessionSlot, key: &ReflectorSessionKey, now_ns: u64) -> u64 {
    if let Some(sequence) = advance(key) {
        return sequence;
    }
    // SAFETY: as above; only the CPU that has replaced the count writes the rest.
    unsafe {
        let before = (&raw const (*slot).count).read_volatile();
        let is_idle = now_ns.wrapping_sub((*slot).seen_ns) as i64 > SLOT_IDLE_NS as i64;
        let may_go = before == SessionSlot::FREE || before >= SessionSlot::OWNER && is_idle;
        if may_go && compare_exchange(&raw mut (*slot).count, before, SessionSlot::CHANGES) == before {
            if before != SessionSlot::FREE {
                let replies = before % SessionSlot::OWNER;
                let owner = &(*slot).key;
                let _ = REFLECTOR_SESSIONS.insert(owner, ReflectorSession { replies }, 0);
            }
            (*slot).key = *key;
            (*slot).seen_ns = now_ns;
            compiler_barrier();
            let owner = (before / SessionSlot::OWNER + 1) * SessionSlot::OWNER;
            (&raw mut (*slot).count).write_volatile(owner);
            count(Counter::SessionStarted);
            return HAS_SLOT;
        }
    }
    // If another CPU gives the slot to this very session, the number 0 is in both places, and is sent twice.
    let first = ReflectorSession { replies: 0 };
    if REFLECTOR_SESSIONS.insert(key, first, u64::from(BPF_NOEXIST)).is_ok() {
        count(Counter::SessionStarted);
    }
    advance(key).unwrap_or(NO_PLACE)
}

#[inline(always)]
fn advance(key: &ReflectorSessionKey) -> Option<u64> {
    let session = REFLECTOR_SESSIONS.get_ptr_mut(key)?;
    // SAFETY: map values stay readable and writable for the program's run, even if evicted.
    Some(unsafe { fetch_add(&raw mut (*session).replies, 1) } & u64::from(u32::MAX))
}
