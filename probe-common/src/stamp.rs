//! STAMP packet layouts, unauthenticated mode (RFC 8762 §4.2.1 and §4.3.1, with the SSID of RFC 8972 §3).
//!
//! Offsets count bytes from the start of the UDP payload; all fields are big-endian.

use crate::bytes::{get, put};
use crate::checksum::Sum;
use crate::ntp::{ErrorEstimate, NtpTime};

/// A reflector listens on this UDP port by default (RFC 8762 §4.1).
pub const PORT: u16 = 862;

/// Length of a base test packet and of a base reply.
pub const BASE_LEN: usize = 44;

/// A reply may be shorter than [`BASE_LEN`]: a TWAMP-Light reflector sends no more than the sender's error estimate
/// (RFC 5357 §4.2.1) and what follows may be cut.
pub const MIN_REPLY_LEN: usize = 36;

/// A test packet of a TWAMP-Light sender has no more than sequence, timestamp and error estimate (RFC 4656 §4.1.2).
pub const MIN_PROBE_LEN: usize = 14;

/// TTL and hop limit of unicast test packets and of replies (RFC 8762 gives none; TWAMP's choice, RFC 5357 §4.2.1).
pub const TTL: u8 = 255;

/// Sequence number of the packet's own sender: `u32`.
pub const SEQUENCE: usize = 0;
/// Timestamp of the packet's own sender, T1 in a test packet and T3 in a reply: NTP, 8 bytes.
pub const TIMESTAMP: usize = 4;
/// Error estimate of the packet's own sender: `u16`.
pub const ERROR_ESTIMATE: usize = 12;
/// STAMP session identifier: `u16`. A sender has none if what follows it in a test packet is not zero: TWAMP-Light fills its
/// packets with random bytes from here on.
pub const SSID: usize = 14;
/// In a reply: T2, NTP, 8 bytes.
pub const RECEIVE_TIMESTAMP: usize = 16;
/// In a reply: sequence number of the test packet, `u32`.
pub const SENDER_SEQUENCE: usize = 24;
/// In a reply: T1, as the test packet had it, 8 bytes.
pub const SENDER_TIMESTAMP: usize = 28;
/// In a reply: error estimate of the test packet, `u16`.
pub const SENDER_ERROR_ESTIMATE: usize = 36;
/// In a reply: zero, 2 bytes.
const MUST_BE_ZERO: usize = 38;
/// In a reply: TTL or hop limit with which the test packet arrived, `u8`; three zero bytes follow.
pub const SENDER_TTL: usize = 40;

/// A session-sender's test packet with T1 and the must-be-zero field at zero; the egress program writes T1.
pub fn probe(sequence: u32, error: ErrorEstimate, ssid: u16) -> [u8; BASE_LEN] {
    let mut packet = [0; BASE_LEN];
    put(&mut packet, SEQUENCE, sequence.to_be_bytes());
    put(&mut packet, ERROR_ESTIMATE, error.0.to_be_bytes());
    put(&mut packet, SSID, ssid.to_be_bytes());
    packet
}

/// The fields of a reply that are not copied from the test packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFields {
    /// The reflector's own counter for this session.
    pub sequence: u32,
    /// T3.
    pub transmit: NtpTime,
    /// The reflector's error estimate.
    pub error: ErrorEstimate,
    /// T2.
    pub receive: NtpTime,
    /// TTL or hop limit of the test packet.
    pub ttl: u8,
}

/// Turns a test packet into its reply in place. Bytes beyond the base packet are left as they are.
///
/// `packet` must hold at least [`BASE_LEN`] bytes; a shorter one is left unchanged and `false` returned.
pub fn into_reply(packet: &mut [u8], fields: &ReplyFields) -> bool {
    let Some(base) = packet.first_chunk_mut() else {
        return false;
    };
    let &ReplyFields {
        sequence,
        transmit,
        error,
        receive,
        ttl,
    } = fields;
    write_reply(base, sequence, error, receive, ttl, || transmit);
    true
}

/// Turns a base test packet into its reply, and returns the sum of the new fields. Besides these, the reply has the probe's
/// fields up to the session identifier, some at other places, and zeros. `transmit` gives T3 and is called as late as possible.
/// The arguments are those of [`ReplyFields`].
///
/// Each field is added as it is written: to read it back from the packet would cost the kernel programs time.
#[inline(always)]
pub fn write_reply(
    base: &mut [u8; BASE_LEN],
    sequence: u32,
    error: ErrorEstimate,
    receive: NtpTime,
    ttl: u8,
    transmit: impl FnOnce() -> NtpTime,
) -> Sum {
    let sequence = sequence.to_be_bytes();
    let error = error.0.to_be_bytes();
    let receive = receive.to_be_bytes();
    let sender_sequence: [u8; 4] = get(base, SEQUENCE);
    let sender_timestamp: [u8; 8] = get(base, TIMESTAMP);
    let sender_error: [u8; 2] = get(base, ERROR_ESTIMATE);
    let sum = Sum::ZERO.long(sequence).word(error).quad(receive).word([ttl, 0]);

    put(base, SEQUENCE, sequence);
    put(base, ERROR_ESTIMATE, error);
    put(base, RECEIVE_TIMESTAMP, receive);
    put(base, SENDER_SEQUENCE, sender_sequence);
    put(base, SENDER_TIMESTAMP, sender_timestamp);
    put(base, SENDER_ERROR_ESTIMATE, sender_error);
    put(base, MUST_BE_ZERO, [0; 2]);
    put(base, SENDER_TTL, [ttl, 0, 0, 0]);

    let transmit = transmit().to_be_bytes();
    put(base, TIMESTAMP, transmit);
    sum.quad(transmit)
}

/// The session identifier of a test packet, as on the wire; 0 for none, see [`SSID`].
pub fn ssid_of(packet: &[u8]) -> [u8; 2] {
    match packet.first_chunk::<BASE_LEN>() {
        Some(base) if base[SSID + 2..].iter().all(|&byte| byte == 0) => get(base, SSID),
        _ => [0; 2],
    }
}

/// Whether a test packet is a reply of some reflector, as far as it goes: T2 where a session-sender's packet is zero, and
/// zeros where random padding is not (RFC 8762 §4.2.1 and §4.3.1). Two reflectors that answer replies would loop forever.
///
/// From another reflector's port (`from_test_port`) T2 is enough: reflectors of TWAMP-Light put random padding there, too.
#[inline(always)]
pub fn is_reply_shaped(packet: &[u8], from_test_port: bool) -> bool {
    let shortest = if from_test_port { SENDER_SEQUENCE } else { MUST_BE_ZERO };
    if packet.len() < shortest || get(packet, RECEIVE_TIMESTAMP) == [0; 8] {
        return false;
    }
    if from_test_port {
        return true;
    }
    match packet.first_chunk::<BASE_LEN>() {
        Some(base) => get(base, MUST_BE_ZERO) == [0; 2] && get(base, SENDER_TTL + 1) == [0; 3],
        None => (MUST_BE_ZERO..packet.len()).all(|at| at == SENDER_TTL || packet[at] == 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probe_has_every_field_at_its_offset() {
        let packet = probe(0x0102_0304, ErrorEstimate(0x8a0b), 0x0c0d);
        let mut expected = [0; BASE_LEN];
        expected[..4].copy_from_slice(&[1, 2, 3, 4]);
        expected[12..16].copy_from_slice(&[0x8a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(packet, expected);
        assert!(!is_reply_shaped(&packet, false) && !is_reply_shaped(&packet, true));
    }

    const FIELDS: ReplyFields = ReplyFields {
        sequence: 0xa0a1_a2a3,
        transmit: NtpTime(0xb0b1_b2b3_b4b5_b6b7),
        error: ErrorEstimate(0xc0c1),
        receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
        ttl: 0xee,
    };

    #[test]
    fn reply_copies_the_sender_and_zeroes_must_be_zero_bytes() {
        let mut packet: [u8; BASE_LEN + 2] = core::array::from_fn(|i| i as u8);
        assert!(into_reply(&mut packet, &FIELDS));
        assert_eq!(packet[..4], [0xa0, 0xa1, 0xa2, 0xa3]);
        assert_eq!(packet[4..12], [0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7]);
        assert_eq!(packet[12..14], [0xc0, 0xc1]);
        assert_eq!(packet[14..16], [14, 15], "the SSID stays");
        assert_eq!(packet[16..24], [0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7]);
        assert_eq!(packet[24..38], core::array::from_fn::<u8, 14, _>(|i| i as u8));
        assert_eq!(packet[38..40], [0, 0]);
        assert_eq!(packet[40..44], [0xee, 0, 0, 0]);
        assert_eq!(packet[44..], [44, 45], "what follows the base packet stays");
    }

    #[test]
    fn a_packet_that_is_too_short_is_left_as_it_is() {
        let mut packet = [7; BASE_LEN - 1];
        assert!(!into_reply(&mut packet, &FIELDS));
        assert_eq!(packet, [7; BASE_LEN - 1]);
    }

    #[test]
    fn a_reply_is_recognised_however_short_it_was_cut() {
        let mut reply = [0xff; BASE_LEN + 1];
        into_reply(&mut reply, &FIELDS);
        for length in 0..=reply.len() {
            for (from_test_port, shortest) in [(false, 38), (true, 24)] {
                let shaped = is_reply_shaped(&reply[..length], from_test_port);
                assert_eq!(shaped, length >= shortest, "{length} bytes");
            }
        }
        for t2 in 16..24 {
            let mut reply = [0; BASE_LEN];
            reply[t2] = 1;
            assert!(is_reply_shaped(&reply, false), "byte {t2}");
        }
    }

    #[test]
    fn random_padding_is_not_taken_for_a_reply() {
        for length in [BASE_LEN + 1, BASE_LEN, BASE_LEN - 1] {
            for at in 36..length {
                let mut probe = [0; BASE_LEN + 1];
                probe[20] = 1;
                probe[at] = 1;
                let is_zero_in_replies = matches!(at, 38 | 39 | 41..=43);
                assert_eq!(
                    is_reply_shaped(&probe[..length], false),
                    !is_zero_in_replies,
                    "byte {at} of {length}"
                );
                assert!(
                    is_reply_shaped(&probe[..length], true),
                    "from a test port: byte {at} of {length}"
                );
            }
        }
    }

    #[test]
    fn random_padding_is_not_taken_for_a_session_identifier() {
        let packet = probe(1, ErrorEstimate(1), 0x0c0d);
        assert_eq!(ssid_of(&packet), [0x0c, 0x0d]);
        assert_eq!(ssid_of(&[&packet[..], &[7; 9]].concat()), [0x0c, 0x0d]);
        for length in 0..BASE_LEN {
            assert_eq!(ssid_of(&packet[..length]), [0; 2], "{length} bytes");
        }
        for at in SSID + 2..BASE_LEN {
            let mut packet = packet;
            packet[at] = 1;
            assert_eq!(ssid_of(&packet), [0; 2], "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_new_in_a_reply_and_what_is_the_probes_add_up_to_it(
            probe: [u8; BASE_LEN], sequence: u32, error: u16, receive: u64, ttl: u8, transmit: u64,
        ) {
            let mut base = probe;
            let sum = write_reply(&mut base, sequence, ErrorEstimate(error), NtpTime(receive), ttl, || NtpTime(transmit));
            let of_bytes = |bytes: &[u8]| bytes.as_chunks().0.iter().fold(Sum::ZERO, |sum, &word| sum.word(word));
            prop_assert_eq!(sum.plus(of_bytes(&probe[..SSID + 2])).fold(), of_bytes(&base).fold());
        }
    }
}
