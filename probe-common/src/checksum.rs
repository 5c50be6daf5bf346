//! The Internet checksum (RFC 1071), summed over words as they lie in memory, which its arithmetic allows.

use crate::family::Family;

/// A running one's complement sum.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    pub const ZERO: Self = Self(0);

    /// A sum that the kernel has computed (`bpf_csum_diff`), over words in memory order too.
    #[inline(always)]
    pub fn of_kernel(sum: u32) -> Self {
        Self(u64::from(sum))
    }

    /// Whether nothing but zeros was added.
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

    /// Subtracts two bytes in memory order.
    #[inline(always)]
    pub fn without_word(self, bytes: [u8; 2]) -> Self {
        Self(self.0 + u64::from(!u16::from_ne_bytes(bytes)))
    }

    /// Subtracts four bytes in memory order.
    #[inline(always)]
    pub fn without_long(self, bytes: [u8; 4]) -> Self {
        Self(self.0 + u64::from(!u32::from_ne_bytes(bytes)))
    }

    /// Adds eight bytes in memory order.
    #[inline(always)]
    pub fn quad(self, [a, b, c, d, e, f, g, h]: [u8; 8]) -> Self {
        self.long([a, b, c, d]).long([e, f, g, h])
    }

    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The 16-bit sum in memory order, not complemented.
    #[inline(always)]
    pub fn fold(self) -> [u8; 2] {
        // Two steps: to 32 bits and to 16. Each adds a word to itself with its halves exchanged. The upper half is then the sum
        // of both halves, and gets the carry of the lower half: the end-around carry (RFC 1071).
        let long = self.0.wrapping_add(self.0.rotate_left(32)) >> 32;
        let word = long + (long << 16) + (long >> 16);
        ((word >> 16) as u16).to_ne_bytes()
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

/// State of a received UDP checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A right checksum, or none where IPv4 allows that.
    Full,
    /// Only the pseudo-header's sum: the sender is on this machine and left the rest to a device
    /// (`CHECKSUM_PARTIAL`, `include/linux/skbuff.h`).
    Partial,
    Wrong,
}

/// Checks a UDP checksum `field` against the sums of the pseudo-header and of all else (UDP header without this field,
/// and payload). IPv4 allows an absent checksum (RFC 768), IPv6 does not (RFC 8200 §8.1).
#[inline(always)]
pub fn check(field: [u8; 2], pseudo: Sum, rest: Sum, family: Family) -> State {
    if field == [0, 0] {
        return match family {
            Family::V4 => State::Full,
            Family::V6 => State::Wrong,
        };
    }
    if pseudo.plus(rest).word(field).is_valid() {
        State::Full
    } else if field == pseudo.fold() {
        State::Partial
    } else {
        State::Wrong
    }
}

/// The checksum field of a datagram to be sent: the whole checksum, or only the pseudo-header's sum if a device adds the
/// rest.
#[inline(always)]
pub fn seal(pseudo: Sum, rest: Sum, partial: bool) -> [u8; 2] {
    if partial {
        pseudo.fold()
    } else {
        pseudo.plus(rest).finish_udp()
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
        assert_eq!(check([0, 0], Sum::ZERO, Sum::ZERO, Family::V4), State::Full);
        assert_eq!(check([0, 0], Sum::ZERO, Sum::ZERO, Family::V6), State::Wrong);
    }

    #[test]
    fn only_zeros_add_up_to_zero() {
        assert!(Sum::ZERO.is_zero() && Sum::of_kernel(0).word([0; 2]).is_zero());
        for bytes in [[0xff; 2], [0, 1], [1, 0]] {
            assert!(!Sum::ZERO.word(bytes).is_zero());
        }
    }

    #[test]
    fn carries_are_added_until_none_is_left() {
        for (sum, folded) in [
            (0, 0),
            (0xffff, 0xffff),
            (0x1_0000, 1),
            (0x1_ffff, 1),
            (0xffff_ffff, 0xffff),
            (0x1_ffff_ffff, 1),
            (0xfffe_ffff_0001, 0xffff),
            (0x1_0000_ffff_ffff, 1),
            (u64::MAX, 0xffff),
        ] {
            assert_eq!(u16::from_ne_bytes(Sum(sum).fold()), folded, "{sum:#x}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_etherparse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement();
            prop_assert_eq!(u16::from_ne_bytes(sum_of(&bytes).finish()), theirs);
        }

        #[test]
        fn words_of_every_length_add_up_to_the_same(bytes: [u8; 8], kernel: u32) {
            let [a, b, c, d, e, f, g, h] = bytes;
            let in_words = sum_of(&bytes).fold();
            prop_assert_eq!(Sum::ZERO.long([a, b, c, d]).long([e, f, g, h]).fold(), in_words);
            prop_assert_eq!(Sum::ZERO.quad(bytes).fold(), in_words);
            prop_assert_eq!(Sum::of_kernel(kernel).fold(), Sum::ZERO.long(kernel.to_ne_bytes()).fold());
        }

        #[test]
        fn a_sealed_datagram_passes_the_check(pseudo: [u8; 8], rest in prop::collection::vec(any::<u8>(), 2..80)) {
            let (pseudo, rest) = (sum_of(&pseudo), sum_of(&rest));
            let full = seal(pseudo, rest, false);
            prop_assert_eq!(check(full, pseudo, rest, Family::V6), State::Full);
            let partial = seal(pseudo, rest, true);
            prop_assume!(partial != [0, 0] && !pseudo.plus(rest).word(partial).is_valid());
            prop_assert_eq!(check(partial, pseudo, rest, Family::V6), State::Partial);
            let wrong = [full[0] ^ 1, full[1]];
            prop_assume!(wrong != [0, 0] && wrong != partial);
            prop_assert_eq!(check(wrong, pseudo, rest, Family::V6), State::Wrong);
        }
    }
}
