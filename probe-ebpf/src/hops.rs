//! The observers of `kstamp agent --hops`: stamp probes and replies as they pass a device, and change nothing. They are an
//! object of their own, because they are attached to other devices than the measured one, and to many. It does not use
//! the library, which would bring its maps.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[macro_use]
mod object_needs;

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use probe_common::abi::Address;
use probe_common::frame::{self, Source, Word};
use probe_common::hops::{
    COUNTERS, EGRESS, HANDED_OVER, HopRecord, HopSettings, LOST, MAX_ADDRESSES, MAX_FRAME_LEN, RECORDS_BYTES,
};

/// Written by the loader; one entry.
#[map]
static HOP_SETTINGS: Array<HopSettings> = Array::with_max_entries(1, 0);

/// The addresses of this host's measured interfaces; the values have no meaning.
#[map]
static HOP_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(MAX_ADDRESSES, 0);

#[map]
static HOP_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// By `HANDED_OVER` and `LOST`.
#[map]
static HOP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// As much of a frame as is read of it.
const COPY_LEN: usize = 128;

#[map]
static HOP_COPY: PerCpuArray<[u8; COPY_LEN]> = PerCpuArray::with_max_entries(1, 0);

/// Stamps what leaves by a device.
#[classifier]
fn kstamp_hops_out(context: TcContext) -> i32 {
    observe(&Packet(context), EGRESS);
    TC_ACT_UNSPEC
}

/// Stamps what comes in by a device.
#[classifier]
fn kstamp_hops_in(context: TcContext) -> i32 {
    observe(&Packet(context), 0);
    TC_ACT_UNSPEC
}

/// `None` for packets that are not recorded.
#[inline(always)]
fn observe(packet: &Packet, direction: u8) -> Option<()> {
    // The length alone tells most of the bytes that others move.
    if packet.0.len() as usize > MAX_FRAME_LEN {
        return None;
    }
    let settings = HOP_SETTINGS.get(0)?;
    if frame::is_foreign(packet, |source, destination| !settings.is_foreign(source, destination)) {
        return None;
    }
    let place = settings.locate(packet)?;
    let found = settings.read(&packet.copy(place.at)?, place)?;
    if !is_own(&found.prober) && !is_own(&found.reflector) {
        return None;
    }
    // SAFETY: the helper has no arguments and cannot fail.
    let stamp_ns = unsafe { bpf_ktime_get_ns() };
    let record = HopRecord {
        stamp_ns,
        // SAFETY: the kernel keeps the context valid while the program runs.
        interface: unsafe { (*packet.0.skb.skb).ifindex },
        flags: found.flags | direction,
        ..found
    };
    count(match HOP_RECORDS.reserve::<HopRecord>(0) {
        Some(mut entry) => {
            MaybeUninit::write(&mut entry, record);
            // The agent looks at its own pace.
            entry.submit(BPF_RB_NO_WAKEUP.into());
            HANDED_OVER
        }
        None => LOST,
    });
    Some(())
}

#[inline(always)]
fn is_own(address: &Address) -> bool {
    HOP_ADDRESSES.get_ptr(address).is_some()
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(value) = HOP_COUNTS.get_ptr_mut(counter) {
        // SAFETY: the entry is this CPU's own, and a program does not interrupt itself.
        unsafe { *value += 1 };
    }
}

/// Bytes in the linear part are read in place, others through a helper.
struct Packet(TcContext);

impl Source for Packet {
    #[inline(always)]
    fn load<W: Word>(&self, offset: usize) -> Option<W> {
        self.peek(offset).or_else(|| self.fetch(offset))
    }

    #[inline(always)]
    fn peek<W: Word>(&self, offset: usize) -> Option<W> {
        let start = self.0.data() + offset;
        // SAFETY: the bytes lie within the linear part of the packet, and any bytes are a valid word.
        (start + size_of::<W>() <= self.0.data_end()).then(|| unsafe { (start as *const W).read_unaligned() })
    }

    #[inline(always)]
    fn load_behind<W: Word>(&self, offset: usize) -> Option<W> {
        self.peek_behind(offset).or_else(|| self.fetch(offset))
    }

    #[inline(always)]
    fn peek_behind<W: Word>(&self, offset: usize) -> Option<W> {
        // The verifier must see the bound in the register that is added to the start, and the comparison with the end in
        // the one that is read from: the compiler may not compute either of them again.
        let offset = opaque(offset);
        if offset > MAX_FRAME_LEN {
            return None;
        }
        let start = opaque(self.0.data() + offset);
        // SAFETY: as above.
        (start + size_of::<W>() <= self.0.data_end()).then(|| unsafe { (start as *const W).read_unaligned() })
    }
}

impl Packet {
    #[inline(always)]
    fn fetch<W: Word>(&self, offset: usize) -> Option<W> {
        let mut word = W::ZERO;
        let length = size_of::<W>() as u32;
        // SAFETY: `word` has the given length, and the helper checks the offset against the packet.
        let status =
            unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, (&raw mut word).cast(), length) };
        (status == 0).then_some(word)
    }

    /// Copies what is at `at`.
    #[inline(always)]
    fn copy(&self, at: usize) -> Option<Copied> {
        let bytes: *mut u8 = HOP_COPY.get_ptr_mut(0)?.cast();
        let length = (self.0.len() as usize).wrapping_sub(at).min(COPY_LEN);
        let length = opaque(length);
        if length == 0 || length > COPY_LEN {
            return None;
        }
        // SAFETY: there is room for `COPY_LEN` bytes, and the helper checks the offset against the packet.
        let status = unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), at as u32, bytes.cast(), length as u32) };
        (status == 0).then_some(Copied { bytes, length })
    }
}

/// A frame in `HOP_COPY`, at offsets that the verifier knows.
struct Copied {
    bytes: *const u8,
    length: usize,
}

impl Source for Copied {
    #[inline(always)]
    fn load<W: Word>(&self, offset: usize) -> Option<W> {
        let is_there = offset + size_of::<W>() <= self.length;
        // SAFETY: the bytes were copied, and any bytes are a valid word.
        is_there.then(|| unsafe { self.bytes.add(offset).cast::<W>().read_unaligned() })
    }

    #[inline(always)]
    fn load_behind<W: Word>(&self, offset: usize) -> Option<W> {
        let offset = opaque(offset);
        if offset > COPY_LEN - size_of::<W>() {
            return None;
        }
        self.load(offset)
    }
}

/// The same value, of which the compiler knows nothing.
#[inline(always)]
fn opaque(value: usize) -> usize {
    let mut value = value;
    // SAFETY: copies a register to itself. Without an instruction the kernel would refuse the line numbers of the object.
    unsafe { asm!("{value} = {value}", value = inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}

object_needs!();
