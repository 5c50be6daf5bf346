//! How a probe is to be answered, in the same form for both IP versions and all kinds of probes.

use core::ptr;

use probe_common::abi::{ABI_VERSION, Address, Settings};
use probe_common::checksum::Sum;

pub struct ReplyPlan {
    pub source: Address,
    pub destination: Address,
    /// Sum of the reply's payload, without the base packet if it has one.
    pub sum: Sum,
    /// Bits, as below.
    pub flags: u32,
}

impl ReplyPlan {
    /// The probe came by a group.
    pub const GROUP: u32 = 1;
    /// The UDP checksum was left to a device, and may be in the reply.
    pub const PARTIAL: u32 = 1 << 1;
    pub const V6: u32 = 1 << 2;
    /// The probe is that of a legacy agent.
    pub const LEGACY: u32 = 1 << 3;
    /// Something follows the base packet.
    pub const PADDED: u32 = 1 << 4;
    /// That is a TLV whose flags the reply clears.
    pub const CLEARS_FLAGS: u32 = 1 << 5;
    /// Without a session identifier.
    pub const NO_SSID: u32 = 1 << 6;

    #[inline(always)]
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The same plan, but with contents that the verifier does not know. It would follow all later code once for each
    /// known plan, and there are dozens.
    #[inline(always)]
    pub fn hidden(self, settings: &Settings) -> Self {
        // Zero, since no packet is taken before the loader's version has been compared with ours.
        // SAFETY: a reference can be read.
        let zero = unsafe { ptr::read_volatile(&raw const settings.abi_version) } ^ ABI_VERSION;
        Self {
            sum: self.sum.long(zero.to_ne_bytes()),
            flags: self.flags | zero,
            ..self
        }
    }
}
