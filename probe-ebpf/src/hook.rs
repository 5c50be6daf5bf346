//! What differs between XDP and TC: where the bytes are, and which verdicts there are.

mod tc;
mod xdp;

use aya_ebpf::EbpfContext;
use probe_common::abi::Settings;
use probe_common::frame::Source;
use probe_common::reflect::Frame;
pub use tc::TcHook;
pub use xdp::XdpHook;

/// A place in the kernel at which the receive program runs.
pub trait Hook: Source {
    /// The program's return value.
    type Verdict;
    /// Let the packet go on as if no program were here.
    const PASS: Self::Verdict;
    /// The packet has served its purpose.
    const CONSUME: Self::Verdict;
    /// The context, for debug lines.
    type Context: EbpfContext;

    /// The context, for debug lines.
    fn context(&self) -> &Self::Context;

    /// Whether another program of ours has judged the packet before.
    fn is_second(&self, settings: &Settings) -> bool;

    /// Whether the frame had a VLAN tag that was taken out of it.
    fn untagged(&self) -> bool;

    /// Sends the frame back out of the interface that it came from.
    fn transmit(&self, settings: &Settings) -> Self::Verdict;

    /// Copies `length` bytes at `offset`; `false` where the packet is shorter. `into` must have room for them.
    fn copy(&self, offset: usize, into: *mut u8, length: usize) -> bool;

    /// Overwrites the byte at `offset`; `false` where the packet is shorter.
    fn store(&self, offset: usize, byte: u8) -> bool;

    /// Lets `look` see a frame of type `F`, or a copy of it; `None` where the packet is shorter.
    fn view<F: Frame, R>(&self, look: impl FnOnce(&mut F) -> R) -> Option<R>;

    /// Lets `change` work on the frame that `view` has shown last, as the same type, and keeps what it did; `false` if
    /// that fails.
    fn change<F: Frame>(&self, change: impl FnOnce(&mut F)) -> bool;
}
