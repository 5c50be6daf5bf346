//! TC: bytes in the linear part are read in place; all are written through helpers, which leave clones alone.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::{bpf_redirect, bpf_set_hash_invalid, bpf_skb_load_bytes, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use probe_common::abi::Settings;
use probe_common::checksum::Sum;
use probe_common::frame::{Source, Word};
use probe_common::reflect::Frame;

use crate::hook::Hook;
use crate::maps::SCRATCH;

pub struct TcHook(TcContext);

impl TcHook {
    #[inline(always)]
    pub fn new(context: TcContext) -> Self {
        Self(context)
    }

    /// Removes the random flow hash of a connected socket (`sk_set_txhash`, net/ipv4/datagram.c). The kernel then
    /// computes one from addresses and ports, as for an unconnected socket.
    #[inline(always)]
    pub fn clear_flow_hash(&self) {
        // SAFETY: the kernel keeps the context valid while the program runs.
        unsafe {
            if (*self.0.skb.skb).hash != 0 {
                bpf_set_hash_invalid(self.0.skb.skb);
            }
        }
    }

    /// Overwrites the eight bytes at `offset` by `new`, in memory order, and updates the UDP checksum at `checksum_at`
    /// unless a device will compute it (`CHECKSUM_PARTIAL`, which `bpf_l4_csum_replace` handles).
    #[inline(always)]
    pub fn replace(&self, offset: usize, checksum_at: usize, new: u64) -> bool {
        let Some(old) = self.load::<u64>(offset) else {
            return false;
        };
        // With no size in the flags, the helper takes a difference of sums (RFC 1624) instead of two words.
        let difference = Sum::ZERO.quad(new.to_ne_bytes()).quad((!old).to_ne_bytes()).fold();
        let (difference, flags) = (
            u64::from(u16::from_ne_bytes(difference)),
            u64::from(BPF_F_MARK_MANGLED_0),
        );
        self.0.skb.store(offset, &new, 0).is_ok()
            && self.0.skb.l4_csum_replace(checksum_at, 0, difference, flags).is_ok()
    }
}

impl Source for TcHook {
    #[inline(always)]
    fn load<W: Word>(&self, offset: usize) -> Option<W> {
        let start = self.0.data() + offset;
        if start + size_of::<W>() <= self.0.data_end() {
            // SAFETY: the bytes lie within the linear part of the packet, and any bytes are a valid word.
            return Some(unsafe { (start as *const W).read_unaligned() });
        }
        self.load_behind(offset)
    }

    #[inline(always)]
    fn peek<W: Word>(&self, offset: usize) -> Option<W> {
        let start = self.0.data() + offset;
        // SAFETY: as above.
        (start + size_of::<W>() <= self.0.data_end()).then(|| unsafe { (start as *const W).read_unaligned() })
    }

    #[inline(always)]
    fn load_behind<W: Word>(&self, offset: usize) -> Option<W> {
        let mut word = W::ZERO;
        let length = size_of::<W>() as u32;
        // SAFETY: `word` has the given length, and the helper checks the offset against the packet.
        let status =
            unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, (&raw mut word).cast(), length) };
        (status == 0).then_some(word)
    }
}

impl Hook for TcHook {
    type Verdict = i32;
    const PASS: i32 = TC_ACT_UNSPEC;
    const CONSUME: i32 = TC_ACT_SHOT;
    type Context = TcContext;

    #[inline(always)]
    fn context(&self) -> &TcContext {
        &self.0
    }

    #[inline(always)]
    fn is_second(&self, settings: &Settings) -> bool {
        settings.ingress_is_second != 0
    }

    #[inline(always)]
    fn untagged(&self) -> bool {
        // SAFETY: the kernel keeps the context valid while the program runs.
        unsafe { (*self.0.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn transmit(&self, settings: &Settings) -> i32 {
        // SAFETY: the helper takes integers; an interface that is gone makes it drop the packet.
        unsafe { bpf_redirect(settings.interface, 0) as i32 }
    }

    #[inline(always)]
    fn copy(&self, offset: usize, into: *mut u8, length: usize) -> bool {
        // SAFETY: the caller has room, and the helper checks the offset against the packet.
        unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), offset as u32, into.cast(), length as u32) == 0 }
    }

    #[inline(always)]
    fn store(&self, offset: usize, byte: u8) -> bool {
        self.0.skb.store(offset, &byte, 0).is_ok()
    }

    #[inline(always)]
    fn view<F: Frame, R>(&self, look: impl FnOnce(&mut F) -> R) -> Option<R> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        let length = size_of::<F>() as u32;
        // SAFETY: `scratch` has room for the longest `Frame`, and is this CPU's own while the program runs.
        let status = unsafe { bpf_skb_load_bytes(self.0.skb.skb.cast(), 0, scratch.cast(), length) };
        // SAFETY: as above; a `Frame` is a plain byte array, so that any bytes are a valid one.
        (status == 0).then(|| look(unsafe { &mut *scratch.cast::<F>() }))
    }

    #[inline(always)]
    fn change<F: Frame>(&self, change: impl FnOnce(&mut F)) -> bool {
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: as in `view`, which has left the frame there.
        change(unsafe { &mut *scratch.cast::<F>() });
        let length = size_of::<F>() as u32;
        // SAFETY: the scratch is as long.
        unsafe { bpf_skb_store_bytes(self.0.skb.skb.cast(), 0, scratch.cast(), length, 0) == 0 }
    }
}
