//! STAMP packet layouts, authenticated mode (RFC 8762 §4.2.2 and §4.3.2, with the SSID of RFC 8972 §3).
//!
//! Offsets count bytes from the start of the UDP payload; all fields are big-endian, and bytes of no field are zero. The
//! HMAC is computed in userspace: kernel programs have no use for it.

use crate::bytes::{get, put};
use crate::ntp::{ErrorEstimate, NtpTime};
use crate::stamp::ReplyFields;

/// Length of a base test packet and of a base reply.
pub const BASE_LEN: usize = 112;

/// Sequence number of the packet's own sender: `u32`.
pub const SEQUENCE: usize = 0;
/// Timestamp of the packet's own sender, T1 in a test packet and T3 in a reply: 8 bytes.
pub const TIMESTAMP: usize = 16;
/// Error estimate of the packet's own sender: `u16`.
pub const ERROR_ESTIMATE: usize = 24;
/// STAMP session identifier: `u16`.
pub const SSID: usize = 26;
/// In a reply: T2, 8 bytes.
pub const RECEIVE_TIMESTAMP: usize = 32;
/// In a reply: sequence number of the test packet, `u32`.
pub const SENDER_SEQUENCE: usize = 48;
/// In a reply: T1, as the test packet had it, 8 bytes.
pub const SENDER_TIMESTAMP: usize = 64;
/// In a reply: error estimate of the test packet, `u16`.
pub const SENDER_ERROR_ESTIMATE: usize = 72;
/// In a reply: TTL or hop limit with which the test packet arrived, `u8`.
pub const SENDER_TTL: usize = 80;
/// HMAC-SHA-256 of all bytes before it, cut to 16 bytes (RFC 8762 §4.4).
pub const HMAC: usize = 96;
pub const HMAC_LEN: usize = 16;

const _: () = assert!(HMAC + HMAC_LEN == BASE_LEN);

/// A session-sender's test packet; the caller signs it.
pub fn probe(sequence: u32, transmit: NtpTime, error: ErrorEstimate, ssid: u16) -> [u8; BASE_LEN] {
    let mut packet = [0; BASE_LEN];
    put(&mut packet, SEQUENCE, sequence.to_be_bytes());
    put(&mut packet, TIMESTAMP, transmit.to_be_bytes());
    put(&mut packet, ERROR_ESTIMATE, error.0.to_be_bytes());
    put(&mut packet, SSID, ssid.to_be_bytes());
    packet
}

/// Turns a test packet into its reply in place; the caller signs it. Bytes beyond the base packet are left as they are.
///
/// `packet` must hold at least [`BASE_LEN`] bytes; a shorter one is left unchanged and `false` returned.
pub fn into_reply(packet: &mut [u8], fields: &ReplyFields) -> bool {
    let Some(base) = packet.first_chunk_mut::<BASE_LEN>() else {
        return false;
    };
    let asked = *base;
    base.fill(0);
    put(base, SEQUENCE, fields.sequence.to_be_bytes());
    put(base, TIMESTAMP, fields.transmit.to_be_bytes());
    put(base, ERROR_ESTIMATE, fields.error.0.to_be_bytes());
    put(base, SSID, get::<2>(&asked, SSID));
    put(base, RECEIVE_TIMESTAMP, fields.receive.to_be_bytes());
    put(base, SENDER_SEQUENCE, get::<4>(&asked, SEQUENCE));
    put(base, SENDER_TIMESTAMP, get::<8>(&asked, TIMESTAMP));
    put(base, SENDER_ERROR_ESTIMATE, get::<2>(&asked, ERROR_ESTIMATE));
    base[SENDER_TTL] = fields.ttl;
    true
}

/// Whether a packet is a reply: it has a T2 where a test packet has zeros. Two reflectors that share a key and answer
/// each other's replies would loop forever.
pub fn is_reply_shaped(packet: &[u8]) -> bool {
    packet.len() >= RECEIVE_TIMESTAMP + 8 && get(packet, RECEIVE_TIMESTAMP) != [0; 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> ReplyFields {
        ReplyFields {
            sequence: 0xa0a1_a2a3,
            transmit: NtpTime(0xb0b1_b2b3_b4b5_b6b7),
            error: ErrorEstimate(0xc0c1),
            receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
            ttl: 0xee,
        }
    }

    #[test]
    fn probe_has_every_field_at_its_offset() {
        let packet = probe(
            0x0102_0304,
            NtpTime(0x1112_1314_1516_1718),
            ErrorEstimate(0x8a0b),
            0x0c0d,
        );
        let mut expected = [0; 112];
        expected[..4].copy_from_slice(&[1, 2, 3, 4]);
        expected[16..24].copy_from_slice(&[0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        expected[24..28].copy_from_slice(&[0x8a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(packet, expected);
        assert!(!is_reply_shaped(&packet));
    }

    #[test]
    fn reply_copies_the_sender_and_zeroes_must_be_zero_bytes() {
        let mut packet: [u8; BASE_LEN + 3] = core::array::from_fn(|i| i as u8);
        assert!(into_reply(&mut packet, &fields()));
        let mut expected = [0; BASE_LEN + 3];
        expected[..4].copy_from_slice(&[0xa0, 0xa1, 0xa2, 0xa3]);
        expected[16..24].copy_from_slice(&[0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7]);
        expected[24..28].copy_from_slice(&[0xc0, 0xc1, 26, 27]);
        expected[32..40].copy_from_slice(&[0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7]);
        expected[48..52].copy_from_slice(&[0, 1, 2, 3]);
        expected[64..72].copy_from_slice(&[16, 17, 18, 19, 20, 21, 22, 23]);
        expected[72..74].copy_from_slice(&[24, 25]);
        expected[80] = 0xee;
        expected[112..].copy_from_slice(&[112, 113, 114]);
        assert_eq!(packet, expected);
        assert!(is_reply_shaped(&packet));
    }

    #[test]
    fn a_packet_that_is_too_short_is_left_as_it_is() {
        let mut packet = [7; BASE_LEN - 1];
        assert!(!into_reply(&mut packet, &fields()));
        assert_eq!(packet, [7; BASE_LEN - 1]);
        assert!(!is_reply_shaped(&packet[..RECEIVE_TIMESTAMP + 7]));
    }
}
