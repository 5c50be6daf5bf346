//! How long a processor was late to receive packets: from the raise of its NET_RX softirq until it ran.
//!
//! Optional: if these programs are not attached, all waits are 0.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::RawTracePointContext;

/// One entry for each processor.
#[map]
static HOP_SOFTIRQ: PerCpuArray<Softirq> = PerCpuArray::with_max_entries(1, 0);

/// The NET_RX softirq of one processor.
#[repr(C)]
struct Softirq {
    /// When it was raised, if it has not run since; else 0.
    raised_ns: u64,
    /// While it runs: `longest_ns`; else 0.
    waited_ns: u64,
    /// The longest wait whose packets may not all be received yet. A run receives some hundred packets at most
    /// (`net_rx_action`), and raises the softirq again for the others.
    longest_ns: u64,
    /// Until then, runs that follow without a pause may receive packets of the longest wait: it is assumed that they take no
    /// longer than the wait did.
    until_ns: u64,
}

/// Number of the softirq that receives packets (`NET_RX_SOFTIRQ`, `include/linux/interrupt.h`).
const NET_RX: u32 = 3;

/// `softirq_raise(vec_nr)`: a softirq is to run. The kernel may raise it again while it is pending.
#[raw_tracepoint(tracepoint = "softirq_raise")]
fn kstamp_rx_raise(context: RawTracePointContext) -> i32 {
    if let Some(softirq) = of_this_processor(&context) {
        // SAFETY: the entry is this processor's own. If an interrupt raises the softirq between two accesses of the program
        // below, the raise is not noted, and the next run counts as one without a wait.
        unsafe {
            if (&raw const (*softirq).raised_ns).read_volatile() == 0 {
                (&raw mut (*softirq).raised_ns).write_volatile(bpf_ktime_get_ns());
            }
        }
    }
    0
}

/// `softirq_entry(vec_nr)`: a softirq runs.
#[raw_tracepoint(tracepoint = "softirq_entry")]
fn kstamp_rx_entry(context: RawTracePointContext) -> i32 {
    if let Some(softirq) = of_this_processor(&context) {
        // SAFETY: as above.
        unsafe {
            let raised_ns = (&raw const (*softirq).raised_ns).read_volatile();
            if raised_ns != 0 {
                (&raw mut (*softirq).raised_ns).write_volatile(0);
                let now_ns = bpf_ktime_get_ns();
                let wait_ns = now_ns.saturating_sub(raised_ns);
                if wait_ns >= (*softirq).longest_ns || now_ns > (*softirq).until_ns {
                    (*softirq).longest_ns = wait_ns;
                    (*softirq).until_ns = now_ns.wrapping_add(wait_ns);
                }
                (*softirq).waited_ns = (*softirq).longest_ns;
            }
        }
    }
    0
}

/// `softirq_exit(vec_nr)`: a softirq has run. Packets may also be received outside of it, for instance by threaded NAPI.
#[raw_tracepoint(tracepoint = "softirq_exit")]
fn kstamp_rx_exit(context: RawTracePointContext) -> i32 {
    if let Some(softirq) = of_this_processor(&context) {
        // SAFETY: as above.
        unsafe {
            (*softirq).waited_ns = 0;
            if (&raw const (*softirq).raised_ns).read_volatile() == 0 {
                (*softirq).longest_ns = 0;
            }
        }
    }
    0
}

/// The entry of this processor; `None` if the event is about another softirq than NET_RX.
#[inline(always)]
fn of_this_processor(context: &RawTracePointContext) -> Option<*mut Softirq> {
    let number: u32 = context.arg(0);
    if number != NET_RX {
        return None;
    }
    HOP_SOFTIRQ.get_ptr_mut(0)
}

/// How long packets may have waited for the softirq that runs on this processor; 0 if none does.
#[inline(always)]
pub(crate) fn waited_ns() -> u64 {
    match HOP_SOFTIRQ.get_ptr(0) {
        // SAFETY: the entry is this processor's own.
        Some(softirq) => unsafe { (*softirq).waited_ns },
        None => 0,
    }
}
