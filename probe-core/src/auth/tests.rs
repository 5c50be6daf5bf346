//! Known vectors, and altered packets that must fail.

use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::tlv::{Writer, kind};
use probe_common::{authenticated, stamp};

use super::*;

fn key() -> Key {
    Key::new(&[0x0b; 20])
}

#[test]
fn rfc_4231_test_case_1_cut_to_16_bytes() {
    let expected = [
        0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1, 0x2b,
    ];
    assert_eq!(key().hmac(&[b"Hi There"]), expected);
    assert_eq!(key().hmac(&[b"Hi ", b"There"]), expected);
}

#[test]
fn every_bit_of_a_base_packet_is_protected() {
    let mut packet = authenticated::probe(7, NtpTime(9), ErrorEstimate(1), 3).to_vec();
    assert!(!key().is_signed(&packet));
    key().sign(&mut packet);
    assert!(key().is_signed(&packet));
    assert!(!Key::new(&[0x0c; 20]).is_signed(&packet));
    for bit in 0..packet.len() * 8 {
        let mut damaged = packet.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!key().is_signed(&damaged), "bit {bit}");
    }
    assert!(!key().is_signed(&packet[..BASE_LEN - 1]));
    packet.push(9);
    assert!(
        key().is_signed(&packet),
        "the HMAC does not cover bytes after the base packet"
    );
}

fn with_tlvs(base_len: usize, hmac: bool) -> Vec<u8> {
    let mut packet = vec![0; base_len + 100];
    packet[..4].copy_from_slice(&[0, 0, 0, 5]);
    let mut tlvs = Writer::new(&mut packet[base_len..]);
    tlvs.push(kind::ACCESS_REPORT, &[0x10, 1, 0, 0]).unwrap();
    if hmac {
        tlvs.push(kind::HMAC, &[0; 16]).unwrap();
    }
    tlvs.push(kind::EXTRA_PADDING, &[7; 3]).unwrap();
    let length = tlvs.len();
    packet.truncate(base_len + length);
    packet
}

#[test]
fn the_tlvs_and_the_sequence_number_are_protected_and_padding_is_not() {
    for base_len in [stamp::BASE_LEN, BASE_LEN] {
        let mut packet = with_tlvs(base_len, true);
        assert_eq!(key().check_tlvs(&packet, base_len, true), TlvIntegrity::Failed);
        key().sign_tlvs(&mut packet, base_len);
        assert_eq!(key().check_tlvs(&packet, base_len, true), TlvIntegrity::Intact);
        for at in (0..4).chain(base_len..base_len + 28) {
            let mut damaged = packet.clone();
            damaged[at] ^= 0x10;
            // The header of the HMAC TLV itself is not covered; flags and reserved bits of it may change in transit.
            let is_hmac_flags = at == base_len + 8;
            let expected = if is_hmac_flags {
                TlvIntegrity::Intact
            } else {
                TlvIntegrity::Failed
            };
            assert_eq!(key().check_tlvs(&damaged, base_len, true), expected, "byte {at}");
        }
        let last = packet.len() - 1;
        packet[last] ^= 1;
        assert_eq!(key().check_tlvs(&packet, base_len, true), TlvIntegrity::Intact);
    }
}

#[test]
fn an_hmac_may_be_needed() {
    let packet = with_tlvs(BASE_LEN, false);
    assert_eq!(key().check_tlvs(&packet, BASE_LEN, true), TlvIntegrity::Failed);
    assert_eq!(key().check_tlvs(&packet, BASE_LEN, false), TlvIntegrity::Intact);
    assert_eq!(
        key().check_tlvs(&packet[..BASE_LEN], BASE_LEN, true),
        TlvIntegrity::Intact,
        "nothing to protect"
    );
}

#[test]
fn a_key_is_not_printed() {
    assert_eq!(format!("{:?}", key()), "Key(…)");
}
