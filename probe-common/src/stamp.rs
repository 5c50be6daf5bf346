//! STAMP packet layouts, unauthenticated mode (RFC 8762 §4.2.1 and §4.3.1, with the SSID of RFC 8972 §3).
//!
//! Offsets count bytes from the start of the UDP payload; all fields are big-endian.

use crate::ntp::{ErrorEstimate, NtpTime};

/// Length of a base test packet and of a base reply.
pub const BASE_LEN: usize = 44;

/// A reply may be shorter than [`BASE_LEN`]: a TWAMP-Light reflector sends no more than the sender's error estimate
/// (RFC 5357 §4.2.1) and what follows may be cut.
pub const MIN_REPLY_LEN: usize = 36;

/// A test packet of a TWAMP-Light sender has no more than sequence, timestamp and error estimate (RFC 4656 §4.1.2).
pub const MIN_PROBE_LEN: usize = 14;

/// Length of a TLV's flags, type and length fields (RFC 8972 §4).
pub const TLV_HEADER_LEN: usize = 4;
/// Type of the Extra Padding TLV (RFC 8972 §4.1).
pub const EXTRA_PADDING: u8 = 1;
/// Flag U of a TLV: set by the sender, cleared by a reflector that recognises the type (RFC 8972 §4).
pub const TLV_UNRECOGNISED: u8 = 0x80;

/// Sequence number of the packet's own sender: `u32`.
pub const SEQUENCE: usize = 0;
/// Timestamp of the packet's own sender, T1 in a test packet and T3 in a reply: NTP, 8 bytes.
pub const TIMESTAMP: usize = 4;
/// Error estimate of the packet's own sender: `u16`.
pub const ERROR_ESTIMATE: usize = 12;
/// STAMP session identifier: `u16`.
pub const SSID: usize = 14;
/// In a reply: T2, NTP, 8 bytes.
pub const RECEIVE_TIMESTAMP: usize = 16;
/// In a reply: sequence number of the test packet, `u32`.
pub const SENDER_SEQUENCE: usize = 24;
/// In a reply: T1, as the test packet had it, 8 bytes.
pub const SENDER_TIMESTAMP: usize = 28;
/// In a reply: error estimate of the test packet, `u16`.
pub const SENDER_ERROR_ESTIMATE: usize = 36;
/// In a reply: TTL or hop limit with which the test packet arrived, `u8`.
pub const SENDER_TTL: usize = 40;

/// A session-sender's test packet with the must-be-zero field at zero.
///
/// T1 is written by the egress program; userspace sends it as zero.
pub fn probe(sequence: u32, error: ErrorEstimate, ssid: u16) -> [u8; BASE_LEN] {
    let mut packet = [0; BASE_LEN];
    packet[SEQUENCE..][..4].copy_from_slice(&sequence.to_be_bytes());
    packet[ERROR_ESTIMATE..][..2].copy_from_slice(&error.0.to_be_bytes());
    packet[SSID..][..2].copy_from_slice(&ssid.to_be_bytes());
    packet
}

/// What a session-reflector puts into its reply beyond what it copies from the test packet.
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
    let Some(base) = packet.first_chunk_mut::<BASE_LEN>() else {
        return false;
    };
    let mut sender = [0; MIN_PROBE_LEN];
    sender.copy_from_slice(&base[..MIN_PROBE_LEN]);
    base[SEQUENCE..][..4].copy_from_slice(&fields.sequence.to_be_bytes());
    base[TIMESTAMP..][..8].copy_from_slice(&fields.transmit.to_be_bytes());
    base[ERROR_ESTIMATE..][..2].copy_from_slice(&fields.error.0.to_be_bytes());
    base[RECEIVE_TIMESTAMP..][..8].copy_from_slice(&fields.receive.to_be_bytes());
    base[SENDER_SEQUENCE..][..MIN_PROBE_LEN].copy_from_slice(&sender);
    base[SENDER_ERROR_ESTIMATE + 2..][..2].fill(0);
    base[SENDER_TTL] = fields.ttl;
    base[SENDER_TTL + 1..].fill(0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_has_every_field_at_its_offset() {
        let packet = probe(0x0102_0304, ErrorEstimate(0x8a0b), 0x0c0d);
        let mut expected = [0; BASE_LEN];
        expected[..4].copy_from_slice(&[1, 2, 3, 4]);
        expected[12..16].copy_from_slice(&[0x8a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(packet, expected);
    }

    #[test]
    fn reply_copies_the_sender_and_zeroes_what_must_be_zero() {
        let mut packet: [u8; BASE_LEN] = core::array::from_fn(|i| i as u8);
        let fields = ReplyFields {
            sequence: 0xa0a1_a2a3,
            transmit: NtpTime(0xb0b1_b2b3_b4b5_b6b7),
            error: ErrorEstimate(0xc0c1),
            receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
            ttl: 0xee,
        };
        assert!(into_reply(&mut packet, &fields));
        assert_eq!(packet[..4], [0xa0, 0xa1, 0xa2, 0xa3]);
        assert_eq!(packet[4..12], [0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7]);
        assert_eq!(packet[12..14], [0xc0, 0xc1]);
        assert_eq!(packet[14..16], [14, 15], "the SSID stays");
        assert_eq!(packet[16..24], [0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7]);
        assert_eq!(packet[24..38], core::array::from_fn::<u8, 14, _>(|i| i as u8));
        assert_eq!(packet[38..40], [0, 0]);
        assert_eq!(packet[40..44], [0xee, 0, 0, 0]);
    }

    #[test]
    fn a_short_packet_is_no_reply() {
        let mut packet = [7; BASE_LEN - 1];
        let fields = ReplyFields {
            sequence: 0,
            transmit: NtpTime(0),
            error: ErrorEstimate(1),
            receive: NtpTime(0),
            ttl: 0,
        };
        assert!(!into_reply(&mut packet, &fields));
        assert_eq!(packet, [7; BASE_LEN - 1]);
    }
}
