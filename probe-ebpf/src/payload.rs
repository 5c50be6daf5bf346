//! Payloads of variable length: padding behind a base packet, and the probes of legacy agents.

use core::ptr;

use aya_ebpf::helpers::bpf_csum_diff;
use probe_common::abi::MAX_PADDED_LEN;
use probe_common::checksum::Sum;
use probe_common::legacy::{MAX_LEN, ZERO_DIGITS, are_digits};
use probe_common::stamp::BASE_LEN;
use probe_common::tlv::{self, HEADER_LEN};

use crate::hook::Hook;
use crate::maps::{CHUNK, CHUNK_LEN};
use crate::reply_plan::ReplyPlan;

/// Chunks in the longest payload.
const CHUNKS: usize = MAX_PADDED_LEN.div_ceil(CHUNK_LEN);

/// What follows a base packet.
#[derive(Clone, Copy)]
pub struct Trailer {
    /// Its sum in the probe.
    pub request: Sum,
    /// Its sum in the reply.
    pub reply: Sum,
    /// Those of the [`ReplyPlan`].
    pub flags: u32,
}

impl Trailer {
    pub const NOTHING: Self = Self {
        request: Sum::ZERO,
        reply: Sum::ZERO,
        flags: 0,
    };
}

/// The trailer of a payload of `length` bytes at `at`, if it is nothing but padding: zeros (RFC 8762 §4.2.1), or one
/// Extra Padding TLV (RFC 8972 §4.1).
#[inline(always)]
pub fn padding<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Trailer> {
    if length > MAX_PADDED_LEN {
        return None;
    }
    let (behind, behind_len) = (at + BASE_LEN, length - BASE_LEN);
    let header = match behind_len {
        HEADER_LEN.. => hook.load::<u32>(behind)?.to_ne_bytes(),
        _ => [0; HEADER_LEN],
    };
    let is_tlv = tlv::is_padding(header, behind_len);
    if !is_tlv && header != [0; HEADER_LEN] {
        return None;
    }
    let request = sum(hook, behind, behind_len)?;
    if is_tlv {
        Some(Trailer {
            request,
            reply: tlv::clear_flags(request, header),
            flags: ReplyPlan::PADDED | ReplyPlan::CLEARS_FLAGS,
        })
    } else {
        request.is_zero().then_some(Trailer {
            flags: ReplyPlan::PADDED,
            ..Trailer::NOTHING
        })
    }
}

/// The sum of a payload of `length` bytes at `at`, at most [`MAX_LEN`], if all are ASCII digits.
#[inline(always)]
pub fn digits<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Sum> {
    const WORDS: usize = MAX_LEN.div_ceil(8);
    let chunk = CHUNK.get_ptr_mut(0)?.cast::<[u64; WORDS]>();
    // SAFETY: the chunk is longer, and this CPU's own while the program runs.
    unsafe { chunk.write([ZERO_DIGITS; WORDS]) };
    if !copy(hook, at, chunk.cast(), length) {
        return None;
    }
    // SAFETY: as above.
    let words = unsafe { chunk.read() };
    if !words.into_iter().all(are_digits) {
        return None;
    }
    sum(hook, at, length)
}

/// The sum of a payload of `length` bytes at `at`, whatever it is; `None` if it is too long.
#[inline(always)]
pub fn whole<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Sum> {
    if length > MAX_PADDED_LEN {
        return None;
    }
    sum(hook, at, length)
}

/// The sum of `length` bytes at `at`, an odd last byte with a zero after it.
#[inline(always)]
fn sum<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Sum> {
    let chunk = CHUNK.get_ptr_mut(0)?.cast::<u32>();
    let (mut at, mut left, mut seed) = (at, length, 0);
    // The verifier must see a bound on the repetitions.
    let mut index = opaque(0);
    while left >= CHUNK_LEN && index < CHUNKS {
        index += 1;
        if !hook.copy(at, chunk.cast(), CHUNK_LEN) {
            return None;
        }
        seed = add(chunk, CHUNK_LEN, seed)?;
        at += CHUNK_LEN;
        left -= CHUNK_LEN;
    }
    let left = left & (CHUNK_LEN - 1);
    if left > 0 {
        // SAFETY: the last word that the bytes reach is within the chunk.
        unsafe { chunk.add(left / 4).write(0) };
        if !copy(hook, at, chunk.cast(), left) {
            return None;
        }
        seed = add(chunk, (left + 3) & !3, seed)?;
    }
    Some(Sum::of_kernel(seed))
}

/// Copies `length` bytes, at least 1 and less than a chunk.
#[inline(always)]
fn copy<H: Hook>(hook: &H, at: usize, chunk: *mut u8, length: usize) -> bool {
    // The verifier must see both bounds; before Linux 6.8 it does not conclude "at least 1" from "not 0".
    let length = (opaque(length - 1) & (CHUNK_LEN - 1)) + 1;
    hook.copy(at, chunk, length)
}

/// The same number, but unknown to the compiler, so that it keeps checks that it would remove as superfluous.
#[inline(always)]
fn opaque(number: usize) -> usize {
    let mut number = number;
    // With no instruction here, two lines of the line info would have the same offset, which the kernel refuses (`Invalid
    // line_info`).
    // SAFETY: the one instruction copies the register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number) };
    number
}

#[inline(always)]
fn add(chunk: *mut u32, length: usize, seed: u32) -> Option<u32> {
    // SAFETY: the chunk has `length` bytes, a multiple of 4.
    let sum = unsafe { bpf_csum_diff(ptr::null_mut(), 0, chunk, length as u32, seed) };
    u32::try_from(sum).ok()
}
