//! Raw tracepoints of Open vSwitch's kernel datapath: which probes and replies wait for ovs-vswitchd, and how long. They
//! are an object of their own, because the kernel refuses them where it refuses tracing. It does not use the library,
//! which would bring its maps.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[allow(dead_code, reason = "the other programs use the rest")]
mod atomic;
#[macro_use]
mod object_needs;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::RawTracePointContext;
use probe_common::abi::Address;
use probe_common::frame::Word;
use probe_common::frame::tunnel::{Cursor, Miss};
use probe_common::hops::{MAX_ADDRESSES, REPLY};
use probe_common::upcalls::{COUNTERS, LOST, MAX_WAITING, Passage, RECORDS_BYTES, UpcallRecord, UpcallSettings};

/// Written by the loader; one entry.
#[map]
static UPCALL_SETTINGS: Array<UpcallSettings> = Array::with_max_entries(1, 0);

/// The addresses of this host's measured interfaces; the values have no meaning.
#[map]
static UPCALL_ADDRESSES: HashMap<Address, u32> = HashMap::with_max_entries(MAX_ADDRESSES, 0);

/// When packets without an answer so far were sent up.
#[map]
static UPCALLS_WAITING: LruHashMap<Passage, u64> = LruHashMap::with_max_entries(MAX_WAITING, 0);

#[map]
static UPCALL_RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

/// By `LOST`.
#[map]
static UPCALL_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Tells most packets that none of them can be an answer.
#[map]
static UPCALLS_OPEN: Array<Open> = Array::with_max_entries(1, 0);

/// The upcalls of probes that have no answer so far.
#[repr(C)]
struct Open {
    /// Too high if some never get one.
    count: u64,
    /// When the last one was sent up.
    last_ns: u64,
}

/// An upcall that had no answer for this long will not get one.
const ANSWER_TIMEOUT_NS: u64 = 10_000_000_000;

/// `ovs_dp_upcall(dp, skb, key, upcall_info)`: the datapath sends a packet up.
#[raw_tracepoint(tracepoint = "ovs_dp_upcall")]
fn kstamp_upcall(context: RawTracePointContext) -> i32 {
    if let Some(passage) = find(&context) {
        send_up(&passage);
    }
    0
}

/// `ovs_do_execute_action(dp, skb, key, a, rem)`: the datapath carries out an action, which may be the first of an answer.
#[raw_tracepoint(tracepoint = "ovs_do_execute_action")]
fn kstamp_execute(context: RawTracePointContext) -> i32 {
    if is_one_open()
        && let Some(passage) = find(&context)
    {
        answer(passage);
    }
    0
}

/// `None` if there is no room to remember the packet.
#[inline(always)]
fn send_up(passage: &Passage) -> Option<()> {
    let now_ns = monotonic_ns();
    UPCALLS_WAITING.insert(passage, now_ns, 0).ok()?;
    let open = UPCALLS_OPEN.get_ptr_mut(0)?;
    // SAFETY: the entry is there for as long as the program. Another processor may write a little older time.
    unsafe {
        if now_ns.saturating_sub((&raw const (*open).last_ns).read_volatile()) > ANSWER_TIMEOUT_NS {
            (&raw mut (*open).count).write_volatile(0);
        }
        (&raw mut (*open).last_ns).write_volatile(now_ns);
        atomic::fetch_add(&raw mut (*open).count, 1);
    }
    Some(())
}

#[inline(always)]
fn is_one_open() -> bool {
    let Some(open) = UPCALLS_OPEN.get_ptr(0) else {
        return false;
    };
    // SAFETY: as above.
    let (count, last_ns) = unsafe {
        (
            (&raw const (*open).count).read_volatile(),
            (&raw const (*open).last_ns).read_volatile(),
        )
    };
    count != 0 && monotonic_ns().saturating_sub(last_ns) <= ANSWER_TIMEOUT_NS
}

/// `None` if the packet did not wait.
#[inline(always)]
fn answer(passage: Passage) -> Option<()> {
    // SAFETY: the value is copied at once; an entry that is reused meanwhile has the time of another upcall, but then it
    // cannot be removed below.
    let at_ns = unsafe { *UPCALLS_WAITING.get(passage)? };
    UPCALLS_WAITING.remove(passage).ok()?;
    // SAFETY: as above.
    unsafe { atomic::fetch_add(&raw mut (*UPCALLS_OPEN.get_ptr_mut(0)?).count, u64::MAX) };
    let record = UpcallRecord {
        at_ns,
        wait_ns: monotonic_ns().saturating_sub(at_ns),
        passage,
    };
    // The agent looks at its own pace.
    if UPCALL_RECORDS
        .output::<UpcallRecord>(&record, BPF_RB_NO_WAKEUP.into())
        .is_err()
    {
        // SAFETY: the entry is this CPU's own, and a program does not interrupt itself.
        unsafe { *UPCALL_COUNTS.get_ptr_mut(LOST)? += 1 };
    }
    Some(())
}

/// The probe or reply of this host in a packet.
#[inline(always)]
fn find(context: &RawTracePointContext) -> Option<Passage> {
    let settings = UPCALL_SETTINGS.get(0)?;
    let packet = Packet::read(context.arg(1), settings)?;
    let found = settings.probes.find(packet).ok()?;
    if !is_own(&found.prober) && !is_own(&found.reflector) {
        return None;
    }
    Some(Passage {
        datapath: context.arg(0),
        prober: found.prober,
        reflector: found.reflector,
        sequence: found.sequence,
        ssid: found.ssid,
        flags: found.flags & REPLY,
        reserved: 0,
    })
}

#[inline(always)]
fn is_own(address: &Address) -> bool {
    UPCALL_ADDRESSES.get_ptr(address).is_some()
}

#[inline(always)]
fn monotonic_ns() -> u64 {
    // SAFETY: the helper has no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// The linear part of a packet. In the datapath it begins with the Ethernet header.
#[derive(Clone, Copy)]
struct Packet {
    data: *const u8,
    length: usize,
}

impl Packet {
    #[inline(always)]
    fn read(skb: *const u8, settings: &UpcallSettings) -> Option<Self> {
        let length: u32 = read_kernel(skb.wrapping_add(settings.len as usize))?;
        let paged: u32 = read_kernel(skb.wrapping_add(settings.data_len as usize))?;
        let data: u64 = read_kernel(skb.wrapping_add(settings.data as usize))?;
        Some(Self {
            data: data as *const u8,
            length: length.saturating_sub(paged) as usize,
        })
    }
}

impl Cursor for Packet {
    #[inline(always)]
    fn read<W: Word>(self, offset: usize) -> Result<W, Miss> {
        if offset + size_of::<W>() > self.length {
            return Err(Miss::Short);
        }
        read_kernel(self.data.wrapping_add(offset)).ok_or(Miss::Short)
    }

    #[inline(always)]
    fn skip(self, length: usize) -> Self {
        Self {
            data: self.data.wrapping_add(length),
            length: self.length.saturating_sub(length),
        }
    }
}

/// `None` where there is no such memory.
#[inline(always)]
fn read_kernel<T>(at: *const u8) -> Option<T> {
    // SAFETY: the helper checks the address, and any bytes are a valid integer, which all callers read.
    unsafe { bpf_probe_read_kernel(at.cast::<T>()) }.ok()
}

object_needs!();
