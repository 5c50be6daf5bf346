//! The differences between XDP and TC: access to packet bytes, and verdicts.

mod tc;
mod xdp;

use aya_ebpf::EbpfContext;
use probe_common::abi::Settings;
use probe_common::frame::Source;
use probe_common::reflect::Frame;

pub use crate::hook::tc::TcHook;
pub use crate::hook::xdp::XdpHook;

/// A place in the kernel at which the receive program runs.
pub trait Hook: Source {
    type Verdict;
    /// Let the packet go on as if no program were here.
    const PASS: Self::Verdict;
    /// Drop a packet that has served its purpose.
    const CONSUME: Self::Verdict;
    type Context: EbpfContext;

    /// For debug lines.
    fn context(&self) -> &Self::Context;

    /// Whether another program of ours has seen the packet before.
    fn is_second(&self, settings: &Settings) -> bool;

    /// Whether the frame had a VLAN tag that was taken out of it.
    fn untagged(&self) -> bool;

    /// Sends the frame back out of the interface on which it arrived.
    fn transmit(&self, settings: &Settings) -> Self::Verdict;

    /// Copies `length` bytes at `offset`; `false` if the packet is shorter. `into` must have room for them.
    fn copy(&self, offset: usize, into: *mut u8, length: usize) -> bool;

    /// Overwrites the byte at `offset`; `false` if the packet is shorter.
    fn store(&self, offset: usize, byte: u8) -> bool;

    /// Shows `look` the packet or a copy as a frame of type `F`; `None` if the packet is shorter.
    fn view<F: Frame, R>(&self, look: impl FnOnce(&mut F) -> R) -> Option<R>;

    /// Applies `change` to the packet. `F` must be the type that `view` has shown last. `false` if writing fails.
    fn change<F: Frame>(&self, change: impl FnOnce(&mut F)) -> bool;
}
