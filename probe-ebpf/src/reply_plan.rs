//! How a probe is to be answered, in the same form for both IP versions and all kinds of probes.

use core::{mem, ptr};

use probe_common::abi::{ABI_VERSION, Address, Charge, Counter, Settings};
use probe_common::checksum::Sum;

pub struct ReplyPlan {
    pub source: Address,
    pub destination: Address,
    /// From which the reply is sent, [`Address::NONE`] for none; of a group probe, once its source is admitted.
    pub own: Address,
    /// Of a reply with a base packet, what it keeps of the probe ([`probe_common::reflect::BaseFrame::kept`]); else the sum of
    /// the payload.
    pub sum: Sum,
    /// Of a probe with a base packet, the rest of its session's key ([`probe_common::abi::ReflectorSessionKey::rest`]).
    pub session: u64,
    /// Bits, as below.
    pub flags: u32,
}

impl ReplyPlan {
    /// The probe came by a group. This bit and the next are a [`Charge`].
    pub const GROUP: u32 = Charge::GROUP.0;
    /// There is no reply: the probe is left to userspace.
    pub const PASSED_UP: u32 = Charge::USERSPACE.0;
    /// The UDP checksum was left to a device, and may be in the reply.
    pub const PARTIAL: u32 = 1 << 2;
    pub const V6: u32 = 1 << 3;
    /// The probe is that of a legacy agent.
    pub const LEGACY: u32 = 1 << 4;
    /// Something follows the base packet.
    pub const PADDED: u32 = 1 << 5;
    /// That is a TLV whose flags the reply clears.
    pub const CLEARS_FLAGS: u32 = 1 << 6;
    /// The counter of a probe that is [`ReplyPlan::PASSED_UP`] is in the bits from here on.
    const COUNTER: u32 = 8;

    /// Of a probe that is not answered for the reason `counter`.
    #[inline(always)]
    pub fn pass_up(source: Address, counter: Counter) -> Self {
        Self {
            source,
            destination: source,
            own: source,
            sum: Sum::ZERO,
            session: 0,
            flags: Self::PASSED_UP | (counter as u32) << Self::COUNTER,
        }
    }

    /// The counter of a plan that is [`ReplyPlan::PASSED_UP`].
    #[inline(always)]
    pub fn passed_up(&self) -> Counter {
        // SAFETY: the bits are those of a `Counter`, by `pass_up`.
        unsafe { mem::transmute::<u32, Counter>(self.flags >> Self::COUNTER) }
    }

    /// What its source is charged for.
    #[inline(always)]
    pub fn charge(&self) -> Charge {
        Charge(self.flags & (Self::GROUP | Self::PASSED_UP))
    }

    #[inline(always)]
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The same plan, but with contents that the verifier does not know. It would follow all later code once for each
    /// known plan, and there are dozens.
    #[inline(always)]
    pub fn hidden(self, settings: &Settings) -> Self {
        let zero = unknown_zero(settings);
        let wide = u64::from(zero) << 32 | u64::from(zero);
        let [first, last] = self.source.words();
        Self {
            source: Address::from_words(first | wide, last | wide),
            sum: self.sum.long(zero.to_ne_bytes()),
            session: self.session | wide,
            flags: self.flags | zero,
            ..self
        }
    }
}

/// Zero, but the verifier does not know: no packet is taken before the loader's version has been compared with ours.
#[inline(always)]
pub fn unknown_zero(settings: &Settings) -> u32 {
    // SAFETY: a reference can be read.
    unsafe { ptr::read_volatile(&raw const settings.abi_version) ^ ABI_VERSION }
}
