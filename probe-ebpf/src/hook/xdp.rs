//! XDP: packet memory is read and written in place.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_xdp_load_bytes;
use aya_ebpf::programs::XdpContext;
use probe_common::abi::Settings;
use probe_common::frame::{Source, Word};
use probe_common::reflect::Frame;

use crate::hook::Hook;

pub struct XdpHook(XdpContext);

impl XdpHook {
    #[inline(always)]
    pub fn new(context: XdpContext) -> Self {
        Self(context)
    }

    /// A pointer to a `T` at `offset`; `None` if the packet is shorter.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.0.data() + offset;
        (start + size_of::<T>() <= self.0.data_end()).then_some(start as *mut T)
    }
}

impl Source for XdpHook {
    #[inline(always)]
    fn load<W: Word>(&self, offset: usize) -> Option<W> {
        // SAFETY: the bytes lie within the packet, and any bytes are a valid word.
        self.at::<W>(offset).map(|word| unsafe { word.read_unaligned() })
    }

    #[inline(always)]
    fn load_behind<W: Word>(&self, offset: usize) -> Option<W> {
        let mut word = W::ZERO;
        let length = size_of::<W>() as u32;
        // SAFETY: `word` has the given length, and the helper checks the offset against the packet.
        let status = unsafe { bpf_xdp_load_bytes(self.0.ctx, offset as u32, (&raw mut word).cast(), length) };
        (status == 0).then_some(word)
    }
}

impl Hook for XdpHook {
    type Verdict = u32;
    const PASS: u32 = XDP_PASS;
    const CONSUME: u32 = XDP_DROP;
    type Context = XdpContext;

    #[inline(always)]
    fn context(&self) -> &XdpContext {
        &self.0
    }

    #[inline(always)]
    fn is_second(&self, _: &Settings) -> bool {
        false
    }

    #[inline(always)]
    fn untagged(&self) -> bool {
        false
    }

    #[inline(always)]
    fn transmit(&self, _: &Settings) -> u32 {
        XDP_TX
    }

    #[inline(always)]
    fn copy(&self, offset: usize, into: *mut u8, length: usize) -> bool {
        // SAFETY: the caller has room, and the helper checks the offset against the packet.
        unsafe { bpf_xdp_load_bytes(self.0.ctx, offset as u32, into.cast(), length as u32) == 0 }
    }

    #[inline(always)]
    fn store(&self, offset: usize, byte: u8) -> bool {
        let Some(place) = self.at::<u8>(offset) else {
            return false;
        };
        // SAFETY: the byte lies within the packet.
        unsafe { place.write(byte) };
        true
    }

    #[inline(always)]
    fn view<F: Frame, R>(&self, look: impl FnOnce(&mut F) -> R) -> Option<R> {
        let frame = self.at::<F>(0)?;
        // SAFETY: the frame lies within the packet, a `Frame` is a plain byte array, and nothing else refers to
        // packet memory while `look` runs.
        Some(look(unsafe { &mut *frame }))
    }

    #[inline(always)]
    fn change<F: Frame>(&self, change: impl FnOnce(&mut F)) -> bool {
        self.view(change).is_some()
    }
}
