use probe_common::tlv;
use probe_core::auth::TlvIntegrity;

use super::*;

const SENT: NtpTime = NtpTime(0x1112_1314_1516_1718);
const ERROR: ErrorEstimate = ErrorEstimate(0x8a0b);

fn key() -> Key {
    Key::new(b"a shared secret!")
}

fn kinds(packet: &[u8], base_len: usize) -> Vec<(u8, usize)> {
    let tlvs = tlv::read(&packet[base_len..]).map(Result::unwrap);
    tlvs.map(|tlv| {
        assert_eq!(tlv.flags, flag::UNRECOGNISED, "as a sender must");
        (tlv.kind, tlv.value.len())
    })
    .collect()
}

#[test]
fn a_base_probe_has_its_fields() {
    let plan = PacketPlan::new(7, Vec::new(), None);
    let mut expected = stamp::probe(5, ERROR, 7);
    expected[4..12].copy_from_slice(&SENT.to_be_bytes());
    assert_eq!(plan.build(5, SENT, ERROR), expected);
    assert_eq!((plan.len(), plan.least_len(), plan.base_len()), (44, 44, 44));
}

#[test]
fn tlvs_are_in_order_with_padding_last() {
    let requests = vec![
        TlvRequest::ClassOfService { dscp: 46 },
        TlvRequest::Location,
        TlvRequest::Direct,
        TlvRequest::Other {
            kind: 200,
            value: vec![1, 2],
        },
    ];
    let plan = PacketPlan::new(7, requests, None).padded_to(200).unwrap();
    let packet = plan.build(9, SENT, ERROR);
    assert_eq!((packet.len(), plan.len()), (200, 200));
    assert_eq!(
        kinds(&packet, 44),
        [(4, 4), (2, 44), (5, 12), (200, 2), (1, 200 - 44 - 8 - 48 - 16 - 6 - 4)]
    );
    let counts = tlv::read(&packet[44..]).nth(2).unwrap().unwrap();
    let counts = DirectMeasurement::read(counts.value).unwrap();
    assert_eq!(counts.sender_sent, 10, "the tenth probe");
}

#[test]
fn impossible_sizes_are_refused() {
    let plan = PacketPlan::new(7, Vec::new(), None);
    for (size, fits) in [
        (43, false),
        (44, true),
        (45, false),
        (47, false),
        (48, true),
        (MAX_SIZE, true),
        (MAX_SIZE + 1, false),
    ] {
        let padded = plan.clone().padded_to(size);
        assert_eq!(padded.is_some(), fits, "{size}");
        if let Some(padded) = padded {
            assert_eq!(padded.build(0, SENT, ERROR).len(), size);
        }
    }
}

#[test]
fn authenticated_probes_are_signed_with_their_tlvs() {
    for (requests, size, expected) in [
        (vec![], 112, vec![]),
        (vec![], 130, vec![(1, 14)]),
        (vec![TlvRequest::Padding(3)], 119, vec![(1, 3)]),
        (vec![TlvRequest::Direct], 200, vec![(5, 12), (8, 16), (1, 48)]),
    ] {
        let plan = PacketPlan::new(7, requests, Some(key())).padded_to(size).unwrap();
        let packet = plan.build(5, SENT, ERROR);
        assert_eq!(packet.len(), size);
        assert_eq!(kinds(&packet, 112), expected);
        assert!(key().is_signed(&packet));
        assert_eq!(key().check_tlvs(&packet, 112, true), TlvIntegrity::Intact);
        assert_eq!(packet[authenticated::SSID..][..2], [0, 7]);
    }
}

#[test]
fn tlvs_alone_are_signed_in_unauthenticated_mode() {
    let requests = vec![TlvRequest::Direct];
    let plan = PacketPlan::new(7, requests, None).with_tlv_key(Some(key()));
    let plan = plan.padded_to(100).unwrap();
    let packet = plan.build(9, SENT, ERROR);
    assert_eq!((packet.len(), plan.base_len()), (100, 44));
    assert_eq!(kinds(&packet, 44), [(5, 12), (8, 16), (1, 100 - 44 - 16 - 20 - 4)]);
    assert_eq!(key().check_tlvs(&packet, 44, true), TlvIntegrity::Intact);
}
