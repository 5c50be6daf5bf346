//! Legacy agents: they send a number in ASCII ("1", "2", …) to port 1910, and a reflector sends it back as it came.
//!
//! Probe and reply are the same bytes, so only the headers can tell them apart: see [`may_loop`].

pub const PORT: u16 = 1910;

/// Longest probe in bytes: the digits of `u64::MAX`.
pub const MAX_LEN: usize = 20;

/// TTL and hop limit of a probe: that of an ordinary host, since [`may_loop`] takes a higher one for a reply.
pub const PROBE_TTL: u8 = 64;

/// Hosts send with a TTL of 64 or 128. Our replies leave with [`crate::stamp::TTL`], and come from less than 127 hops
/// away.
const MAX_PROBE_TTL: u8 = 128;

/// Ports below belong to services, some of which send back whatever they get (RFC 862).
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

const _: () = assert!(PROBE_TTL <= MAX_PROBE_TTL && MAX_PROBE_TTL < crate::stamp::TTL);

/// Whether an ASCII probe may be a reply, or its reply may be answered in turn: either could loop forever.
#[inline(always)]
pub fn may_loop(source_port: u16, ttl: u8) -> bool {
    source_port < FIRST_UNPRIVILEGED_PORT || source_port == PORT || ttl > MAX_PROBE_TTL
}

/// Whether a payload is an ASCII probe: at least one digit, at most [`MAX_LEN`], and nothing else.
pub fn is_probe(payload: &[u8]) -> bool {
    (1..=MAX_LEN).contains(&payload.len())
        && payload.chunks(8).all(|chunk| {
            let mut word = ZERO_DIGITS.to_ne_bytes();
            word[..chunk.len()].copy_from_slice(chunk);
            are_digits(u64::from_ne_bytes(word))
        })
}

/// The digit 0, eight times.
pub const ZERO_DIGITS: u64 = u64::from_ne_bytes([b'0'; 8]);

/// Whether all eight bytes of a word are ASCII digits: the upper half of each is 3, and stays 3 when 6 is added.
#[inline(always)]
pub fn are_digits(word: u64) -> bool {
    const UPPER: u64 = u64::from_ne_bytes([0xf0; 8]);
    const SIX: u64 = u64::from_ne_bytes([6; 8]);
    // Bytes whose upper half is 3 are less than 0x40, so nothing carries over.
    word & UPPER == ZERO_DIGITS && word.wrapping_add(SIX) & UPPER == ZERO_DIGITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loops_are_recognised_by_port_and_ttl() {
        for (source_port, ttl, may) in [
            (40000, PROBE_TTL, false),
            (1024, 128, false),
            (1023, 64, true),
            (7, 64, true),
            (0, 64, true),
            (PORT, 64, true),
            (PORT - 1, 64, false),
            (PORT + 1, 64, false),
            (40000, 129, true),
            (40000, crate::stamp::TTL, true),
        ] {
            assert_eq!(may_loop(source_port, ttl), may, "port {source_port}, TTL {ttl}");
        }
    }

    #[test]
    fn a_probe_is_digits_and_nothing_else() {
        for (payload, is) in [
            ("1", true),
            ("0", true),
            ("12345678", true),
            ("123456789", true),
            ("18446744073709551615", true),
            ("00000000000000000000", true),
            ("", false),
            ("184467440737095516150", false),
            ("-1", false),
            ("1 ", false),
            ("1\n", false),
            ("1234567a", false),
            ("12345678/", false),
            ("12345678:", false),
        ] {
            assert_eq!(is_probe(payload.as_bytes()), is, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn a_word_of_digits_is_distinguished_from_any_other(digits in prop::array::uniform8(b'0'..=b'9'), at in 0usize..8, byte: u8) {
            let mut bytes = digits;
            prop_assert!(are_digits(u64::from_ne_bytes(bytes)));
            bytes[at] = byte;
            prop_assert_eq!(are_digits(u64::from_ne_bytes(bytes)), byte.is_ascii_digit());
        }
    }
}
