//! Atomic operations, which `core` does not have for this target.

/// Adds atomically and returns the value before.
///
/// # Safety
///
/// `value` must be valid and aligned, and touched by nothing but atomic operations while programs run.
#[inline(always)]
pub unsafe fn fetch_add(value: *mut u64, addend: u64) -> u64 {
    let mut operand = addend;
    // SAFETY: the one instruction reads and writes `value`, which the caller vouches for.
    unsafe {
        core::arch::asm!(
            "{operand} = atomic_fetch_add((u64 *)({value} + 0), {operand})",
            value = in(reg) value,
            operand = inout(reg) operand,
        );
    }
    operand
}

/// Replaces `before` by `after` atomically. Returns the value found, which is not `before` if another CPU was faster.
///
/// # Safety
///
/// As of [`fetch_add`].
#[inline(always)]
pub unsafe fn compare_exchange(value: *mut u64, before: u64, after: u64) -> u64 {
    let found;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({value} + 0, r0, {after})",
            value = in(reg) value,
            after = in(reg) after,
            inout("r0") before => found,
        );
    }
    found
}

/// Prevents the compiler from moving reads and writes of memory across this call.
#[inline(always)]
pub fn compiler_barrier() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("") };
}
