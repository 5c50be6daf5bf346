//! Only signed frames are accepted.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SOURCE: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

fn key(seed: u8) -> Key {
    Key::from_secret(&[seed; 32])
}

fn probe() -> LldpProbe {
    LldpProbe {
        kind: Kind::Discovery,
        dpid: Dpid(0xabc),
        port: PortNumber(7),
        sent_ns: 0x0102_0304_0506_0708,
        sequence: 42,
    }
}

#[test]
fn other_devices_can_read_the_frame_as_lldp() {
    let frame = probe().encode(&key(1), SOURCE);
    let mut expected = vec![0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 9, 0x88, 0xcc];
    expected.extend([0x02, 22, 7]);
    expected.extend(b"dpid:0000000000000abc");
    expected.extend([
        0x04, 5, 2, 0, 0, 0, 7, 0x06, 2, 0, 120, 0xfe, 45, 0x02, 0x6b, 0x73, 1, 1,
    ]);
    assert_eq!(frame[..expected.len()], expected);
    assert_eq!(
        frame[expected.len() + 8..][..16],
        [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 42]
    );
    assert_eq!(frame[frame.len() - 2..], [0, 0]);
    assert!(frame.len() >= 60);
}

#[test]
fn frames_of_another_run_are_foreign_and_not_forged() {
    let frame = probe().encode(&key(1), SOURCE);
    assert_eq!(LldpProbe::decode(&key(1), &frame), Ok(probe()));
    assert_eq!(LldpProbe::decode(&key(2), &frame), Err(NotOurs::Foreign));
    assert_ne!(Key::random().unwrap().run(), Key::random().unwrap().run());
}

#[test]
fn lldp_of_other_devices_is_foreign() {
    // A short frame of lldpd: MAC chassis id, interface name, TTL, system name, an IEEE 802.3 organisation TLV.
    let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 9, 0x88, 0xcc];
    frame.extend([
        0x02, 7, 4, 2, 0, 0, 0, 0, 9, 0x04, 5, 5, b'e', b't', b'h', b'0', 0x06, 2, 0, 120,
    ]);
    frame.extend([
        0x0a, 4, b'h', b'o', b's', b't', 0xfe, 6, 0x00, 0x12, 0x0f, 4, 5, 0xea, 0, 0,
    ]);
    assert_eq!(LldpProbe::decode(&key(1), &frame), Err(NotOurs::Foreign));
    frame.truncate(frame.len() - 2);
    assert!(
        matches!(LldpProbe::decode(&key(1), &frame), Err(NotOurs::Malformed(_))),
        "no end"
    );
    assert_eq!(LldpProbe::decode(&key(1), &frame[..13]), Err(NotOurs::Other));
    frame[12..14].copy_from_slice(&[8, 0]);
    assert_eq!(LldpProbe::decode(&key(1), &frame), Err(NotOurs::Other));
}

#[test]
fn a_bounce_frame_is_no_discovery() {
    let bounce = LldpProbe {
        kind: Kind::Bounce,
        ..probe()
    };
    let mut frame = bounce.encode(&key(1), SOURCE);
    assert_eq!(LldpProbe::decode(&key(1), &frame), Ok(bounce));
    // The signature does not cover the EtherType; the kind inside it does.
    frame[12..14].copy_from_slice(&ETH_TYPE.to_be_bytes());
    assert_eq!(LldpProbe::decode(&key(1), &frame), Err(NotOurs::Forged));
}

fn any_probe() -> impl Strategy<Value = LldpProbe> {
    let kind = prop_oneof![Just(Kind::Discovery), Just(Kind::Bounce), Just(Kind::Baseline)];
    (kind, any::<[u64; 3]>(), any::<u32>()).prop_map(|(kind, [dpid, sent_ns, sequence], port)| LldpProbe {
        kind,
        dpid: Dpid(dpid),
        port: PortNumber(port),
        sent_ns,
        sequence,
    })
}

proptest! {
    #[test]
    fn a_decoded_probe_equals_the_encoded_one(probe in any_probe()) {
        prop_assert_eq!(LldpProbe::decode(&key(1), &probe.encode(&key(1), SOURCE)), Ok(probe));
    }

    #[test]
    fn any_changed_bit_is_detected(probe in any_probe(), at: prop::sample::Index, bit in 0..8_u8) {
        let mut frame = probe.encode(&key(1), SOURCE);
        // The addresses and the end TLV are not signed.
        let at = 12 + at.index(frame.len() - 2 - 12);
        frame[at] ^= 1 << bit;
        prop_assert!(LldpProbe::decode(&key(1), &frame).is_err());
    }

    #[test]
    fn random_bytes_cause_no_panic(mut bytes in vec(any::<u8>(), 0..200), lldp: bool) {
        if lldp && bytes.len() >= 14 {
            bytes[12..14].copy_from_slice(&ETH_TYPE.to_be_bytes());
        }
        prop_assert!(LldpProbe::decode(&key(1), &bytes).is_err());
    }

    #[test]
    fn a_truncated_frame_is_refused(probe in any_probe(), at: prop::sample::Index) {
        let frame = probe.encode(&key(1), SOURCE);
        // The signed part is complete without the end TLV.
        let at = at.index(frame.len() - 2);
        prop_assert!(LldpProbe::decode(&key(1), &frame[..at]).is_err());
    }
}
