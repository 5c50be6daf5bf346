//! The observers of `kstamp agent --hops`: stamp probes and replies as they pass a device, and change nothing. They are an
//! object of their own, because they are attached to other devices than the measured one, and to many. It does not use
//! the library, which would bring its maps.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[macro_use]
mod object_needs;
mod softirq;

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_RB_NO_WAKEUP, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use probe_common::abi::Address;
use probe_common::frame::tunnel::{Cursor, Miss};
use probe_common::frame::{ETHERNET_LEN, Word};
use probe_common::hops::{
    COUNTERS, EGRESS, HopSettings, LOST, LateHopRecord, MAX_ADDRESSES, MAX_PACKET_LEN, MIN_WAIT_NS, RECORDS_BYTES,
};

/// Written by the loader; one entry.
#[map]
static HOP_SETTINGS: Array<HopSettings> = Array::with_max_entries(1, 0);

/// The addresses of this host's measured interfaces; the values have no meaning.
#[map]
static HOP_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(MAX_ADDRESSES, 0);

/// The one of them that was found last, of each IP version: this spares most packets a search.
#[map]
static HOP_RECENT: Array<Address> = Array::with_max_entries(2, 0);

#[map]
static HOP_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// By `LOST`.
#[map]
static HOP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Room for a packet whose bytes cannot be read in place.
#[map]
static HOP_PACKET: PerCpuArray<[u8; MAX_PACKET_LEN]> = PerCpuArray::with_max_entries(1, 0);

/// Stamps what leaves by a device.
#[classifier]
fn kstamp_hops_out(context: TcContext) -> i32 {
    observe(&context, EGRESS);
    TC_ACT_UNSPEC
}

/// Stamps what comes in by a device.
#[classifier]
fn kstamp_hops_in(context: TcContext) -> i32 {
    observe(&context, 0);
    TC_ACT_UNSPEC
}

/// `None` for packets that are not recorded.
#[inline(always)]
fn observe(context: &TcContext, direction: u8) -> Option<()> {
    // The length alone excludes most of the bytes that others move.
    let length = context.len() as usize;
    if length > MAX_PACKET_LEN {
        return None;
    }
    let settings = HOP_SETTINGS.get(0)?;
    let linear = Linear {
        at: context.data(),
        end: context.data_end(),
    };
    let mut record = match settings.find(linear) {
        Ok(record) => record,
        Err(Miss::Short) if linear.end - linear.at < length => settings.find(Copied::new(context, length)?).ok()?,
        Err(_) => return None,
    };
    if !is_own(record.prober, record.reflector) {
        return None;
    }
    record.flags |= direction;
    // SAFETY: the kernel keeps the context valid while the program runs.
    record.interface = unsafe { (*context.skb.skb).ifindex };
    // SAFETY: the helper has no arguments and cannot fail.
    record.stamp_ns = unsafe { bpf_ktime_get_ns() };
    if direction == 0 {
        let waited_ns = softirq::waited_ns();
        if waited_ns >= MIN_WAIT_NS {
            return write(LateHopRecord { record, waited_ns });
        }
    }
    write(record)
}

/// `None` if the ring buffer has no room: then the record is counted as lost.
#[inline(always)]
fn write<T: 'static>(record: T) -> Option<()> {
    let Some(mut entry) = HOP_RECORDS.reserve::<T>(0) else {
        // SAFETY: the entry is this CPU's own, and a program does not interrupt itself.
        unsafe { *HOP_COUNTS.get_ptr_mut(LOST)? += 1 };
        return None;
    };
    MaybeUninit::write(&mut entry, record);
    // The agent looks at its own pace.
    entry.submit(BPF_RB_NO_WAKEUP.into());
    Some(())
}

/// Whether one of two addresses is this host's. By value: a record whose parts have addresses lies in memory, from where the
/// processor reads it in other sizes than it was written, which takes time.
#[inline(always)]
fn is_own(prober: Address, reflector: Address) -> bool {
    let Some(recent) = HOP_RECENT.get_ptr_mut(prober.is_v4().into()) else {
        return false;
    };
    // SAFETY: map values stay readable and writable for the program's run. Half an address of another CPU makes no more
    // than a record that userspace discards.
    let latest = unsafe { recent.read_volatile() };
    if latest == prober || latest == reflector {
        return true;
    }
    for address in [prober, reflector] {
        if HOP_ADDRESSES.get_ptr(address).is_some() {
            // SAFETY: as above.
            unsafe { recent.write_volatile(address) };
            return true;
        }
    }
    false
}

/// The linear part of a packet, read in place.
#[derive(Clone, Copy)]
struct Linear {
    at: usize,
    end: usize,
}

impl Cursor for Linear {
    #[inline(always)]
    fn read<W: Word>(self, offset: usize) -> Result<W, Miss> {
        let start = self.at + offset;
        if start + size_of::<W>() > self.end {
            return Err(Miss::Short);
        }
        // SAFETY: the bytes lie within the packet, and any bytes are a valid word.
        Ok(unsafe { (start as *const W).read_unaligned() })
    }

    #[inline(always)]
    fn skip(self, length: usize) -> Self {
        // The verifier ties the comparison with the end to one register: the compiler may not compute it a second time.
        Self {
            at: opaque(self.at + length),
            ..self
        }
    }
}

/// A packet in `HOP_PACKET`.
#[derive(Clone, Copy)]
struct Copied {
    packet: *const u8,
    at: usize,
    end: usize,
}

impl Copied {
    /// `length` is that of the packet, at most `MAX_PACKET_LEN`.
    #[inline(always)]
    fn new(context: &TcContext, length: usize) -> Option<Self> {
        // Before Linux 6.8 the verifier concludes neither "at least 1" from "not 0", nor two bounds from one comparison.
        let length = opaque(length);
        if length < ETHERNET_LEN {
            return None;
        }
        let packet = HOP_PACKET.get_ptr_mut(0)?.cast::<u8>();
        // SAFETY: there is room for so many bytes, and the helper checks that the packet has them.
        let status = unsafe { bpf_skb_load_bytes(context.skb.skb.cast(), 0, packet.cast(), length as u32) };
        (status == 0).then_some(Self {
            packet,
            at: 0,
            end: length,
        })
    }
}

impl Cursor for Copied {
    #[inline(always)]
    fn read<W: Word>(self, offset: usize) -> Result<W, Miss> {
        let start = opaque(self.at + offset);
        // The first comparison is for the verifier.
        if start > MAX_PACKET_LEN - size_of::<W>() || start + size_of::<W>() > self.end {
            return Err(Miss::Short);
        }
        // SAFETY: the bytes were copied, and any bytes are a valid word.
        Ok(unsafe { self.packet.add(start).cast::<W>().read_unaligned() })
    }

    #[inline(always)]
    fn skip(self, length: usize) -> Self {
        Self {
            at: self.at + length,
            ..self
        }
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
