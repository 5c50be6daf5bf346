//! What lies behind a base packet's bytes, or in place of them: padding, and the older agents' numbers.

use core::ptr;

use aya_ebpf::helpers::bpf_csum_diff;
use probe_common::abi::{MAX_ECHO_LEN, MAX_PADDED_LEN};
use probe_common::checksum::Sum;
use probe_common::stamp::{BASE_LEN, EXTRA_PADDING, TLV_HEADER_LEN, TLV_UNRECOGNISED};

use crate::hook::Hook;
use crate::judge::Task;
use crate::maps::CHUNK;

/// Bytes that are summed at once: what `bpf_csum_diff` takes before Linux 6.13.
pub const CHUNK_LEN: usize = 512;

/// Chunks in the longest payload.
const CHUNKS: usize = MAX_PADDED_LEN.div_ceil(CHUNK_LEN);

/// Sums of what is beyond a base packet, as it came and as it goes back.
#[derive(Clone, Copy)]
pub struct Beyond {
    /// In the probe.
    pub request: Sum,
    /// In its reply.
    pub reply: Sum,
    /// Flags of the [`Task`].
    pub flags: u32,
}

impl Beyond {
    /// Of a base packet.
    pub const NOTHING: Self = Self {
        request: Sum::ZERO,
        reply: Sum::ZERO,
        flags: 0,
    };
}

/// What is beyond the base packet in a payload of `length` bytes at `at`, if that is only padding: zeroes (RFC 8762
/// §4.2.1), or one Extra Padding TLV (RFC 8972 §4.1) of which a sender has set no flag but U, which the reply clears.
#[inline(always)]
pub fn padding<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Beyond> {
    if length > MAX_PADDED_LEN {
        return None;
    }
    let (behind, behind_len) = (at + BASE_LEN, length - BASE_LEN);
    let header = match behind_len {
        TLV_HEADER_LEN.. => hook.load::<u32>(behind)?.to_ne_bytes(),
        _ => [0; 4],
    };
    let [flags, kind, length @ ..] = header;
    let is_tlv = kind == EXTRA_PADDING
        && flags & !TLV_UNRECOGNISED == 0
        && u16::from_be_bytes(length) as usize + TLV_HEADER_LEN == behind_len;
    if !is_tlv && header != [0; 4] {
        return None;
    }
    let request = sum(hook, behind, behind_len)?;
    if is_tlv {
        // One's complement: what is added is the complement of the flags.
        let reply = request.word([!flags, 0xff]);
        Some(Beyond {
            request,
            reply,
            flags: Task::PADDED | Task::CLEARS_FLAGS,
        })
    } else {
        request.is_zero().then_some(Beyond {
            flags: Task::PADDED,
            ..Beyond::NOTHING
        })
    }
}

/// What a payload of `length` bytes at `at` adds up to, at most 20 (`MAX_ECHO_LEN`), if all are ASCII digits.
#[inline(always)]
pub fn digits<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Sum> {
    let chunk = CHUNK.get_ptr_mut(0)?.cast::<[u64; ECHO_WORDS]>();
    // SAFETY: the chunk is longer, and this CPU's own while the program runs.
    unsafe { chunk.write([ZERO_DIGITS; ECHO_WORDS]) };
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

/// Eight times the digit 0.
const ZERO_DIGITS: u64 = u64::from_ne_bytes([b'0'; 8]);

/// Words that hold the longest number.
const ECHO_WORDS: usize = MAX_ECHO_LEN.div_ceil(8);

/// Whether each byte of a word is an ASCII digit: its upper half is 3, and stays 3 when 6 is added.
#[inline(always)]
fn are_digits(word: u64) -> bool {
    const UPPER: u64 = u64::from_ne_bytes([0xf0; 8]);
    const SIX: u64 = u64::from_ne_bytes([6; 8]);
    // No carry from byte to byte: those whose upper half is 3 are less than 0x40.
    word & UPPER == ZERO_DIGITS && word.wrapping_add(SIX) & UPPER == ZERO_DIGITS
}

/// What `length` bytes at `at` add up to, an odd last byte with a zero behind it.
#[inline(always)]
fn sum<H: Hook>(hook: &H, at: usize, length: usize) -> Option<Sum> {
    let chunk = CHUNK.get_ptr_mut(0)?.cast::<u32>();
    let (mut at, mut left, mut seed) = (at, length, 0);
    // The verifier must see how often this is repeated.
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
        // SAFETY: the last word that the bytes reach lies within the chunk.
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
    // The verifier must see both bounds: before Linux 6.8 it does not take what is not 0 for at least 1.
    let length = (opaque(length - 1) & (CHUNK_LEN - 1)) + 1;
    hook.copy(at, chunk, length)
}

/// `number`, of which the compiler then knows nothing, so that it keeps what it would take for superfluous.
#[inline(always)]
fn opaque(number: usize) -> usize {
    let mut number = number;
    // Without any instruction, the line of this one and that of the next would have the same offset, which the kernel
    // refuses (`Invalid line_info`).
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
