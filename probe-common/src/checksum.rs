//! The Internet checksum (RFC 1071), summed over words as they lie in memory, which its arithmetic allows.

/// A running one's complement sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// A sum that the kernel has computed (`bpf_csum_diff`), over words in memory order too.
    #[inline(always)]
    pub fn of_kernel(sum: u32) -> Self {
        Self(u64::from(sum))
    }

    /// Whether all that was added is zero.
    #[inline(always)]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Adds two bytes in memory order.
    #[inline(always)]
    pub fn word(self, bytes: [u8; 2]) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(bytes)))
    }

    /// Adds four bytes in memory order; 2³² of them fit before the sum overflows.
    #[inline(always)]
    pub fn long(self, bytes: [u8; 4]) -> Self {
        Self(self.0 + u64::from(u32::from_ne_bytes(bytes)))
    }

    /// Adds eight bytes in memory order.
    #[inline(always)]
    pub fn quad(self, [a, b, c, d, e, f, g, h]: [u8; 8]) -> Self {
        self.long([a, b, c, d]).long([e, f, g, h])
    }

    /// The 16-bit sum in memory order, not complemented.
    #[inline(always)]
    pub fn fold(self) -> [u8; 2] {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        (sum as u16).to_ne_bytes()
    }

    /// The checksum as it goes into a header.
    #[inline(always)]
    pub fn finish(self) -> [u8; 2] {
        (!u16::from_ne_bytes(self.fold())).to_ne_bytes()
    }

    /// The checksum of a UDP header, where zero means "none" and is sent as all ones (RFC 768).
    #[inline(always)]
    pub fn finish_udp(self) -> [u8; 2] {
        match self.finish() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether a sum that includes its checksum field is right.
    #[inline(always)]
    pub fn is_valid(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}

/// What a received UDP checksum field turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A checksum that is right, or none where IPv4 allows it.
    Full,
    /// Only the pseudo-header's sum: the sender is on this machine and left the rest to a device
    /// (`CHECKSUM_PARTIAL`, `include/linux/skbuff.h`).
    Partial,
    /// Neither.
    Wrong,
}

/// Judges a UDP checksum `field` by the sums of the pseudo-header and of all else (UDP header without its checksum
/// field, and payload).
#[inline(always)]
pub fn judge(field: [u8; 2], pseudo: Sum, rest: Sum, may_be_absent: bool) -> Found {
    if field == [0, 0] {
        return if may_be_absent { Found::Full } else { Found::Wrong };
    }
    if Sum(pseudo.0 + rest.0).word(field).is_valid() {
        Found::Full
    } else if field == pseudo.fold() {
        Found::Partial
    } else {
        Found::Wrong
    }
}

/// The checksum field of a datagram to be sent: the whole checksum, or only the pseudo-header's sum where a device
/// will add the rest.
#[inline(always)]
pub fn seal(pseudo: Sum, rest: Sum, partial: bool) -> [u8; 2] {
    if partial {
        pseudo.fold()
    } else {
        Sum(pseudo.0 + rest.0).finish_udp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(bytes: &[u8]) -> Sum {
        let chunks = bytes.chunks_exact(2);
        let tail = chunks.remainder();
        let sum = chunks.fold(Sum::ZERO, |sum, word| sum.word([word[0], word[1]]));
        tail.first().map_or(sum, |&last| sum.word([last, 0]))
    }

    #[test]
    fn example_of_rfc_1071() {
        let sum = sum_of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), [0xdd, 0xf2]);
        assert_eq!(sum.finish(), [0x22, 0x0d]);
    }

    #[test]
    fn udp_never_sends_zero() {
        assert_eq!(Sum::ZERO.word([0xff, 0xff]).finish_udp(), [0xff, 0xff]);
    }

    #[test]
    fn absent_is_for_ipv4_only() {
        assert_eq!(judge([0, 0], Sum::ZERO, Sum::ZERO, true), Found::Full);
        assert_eq!(judge([0, 0], Sum::ZERO, Sum::ZERO, false), Found::Wrong);
    }

    proptest! {
        #[test]
        fn agrees_with_etherparse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement();
            prop_assert_eq!(u16::from_ne_bytes(sum_of(&bytes).finish()), theirs);
        }

        #[test]
        fn what_is_sealed_is_judged_so(pseudo: [u8; 8], rest in prop::collection::vec(any::<u8>(), 2..80)) {
            let (pseudo, rest) = (sum_of(&pseudo), sum_of(&rest));
            prop_assert_eq!(judge(seal(pseudo, rest, false), pseudo, rest, false), Found::Full);
            let partial = seal(pseudo, rest, true);
            prop_assume!(partial != [0, 0] && !Sum(pseudo.0 + rest.0).word(partial).is_valid());
            prop_assert_eq!(judge(partial, pseudo, rest, false), Found::Partial);
        }
    }
}
