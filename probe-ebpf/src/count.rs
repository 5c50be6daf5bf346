//! Counting outcomes.

use probe_common::abi::Counter;

use crate::maps::COUNTS;

/// Adds one to `counter` on this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the entry is this CPU's own, and the programs that write it do not interrupt one another.
        unsafe { *value += 1 };
    }
}
