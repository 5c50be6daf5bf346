use super::*;

fn tlv(kind: u8, flags: u8, value: &[u8]) -> ReturnedTlv {
    ReturnedTlv {
        flags,
        kind,
        value: value.to_vec(),
        unused: false,
    }
}

#[test]
fn each_tlv_is_described_in_words() {
    let follow_up = FollowUp {
        sequence: 3,
        timestamp: 0xabc,
        method: tlv::TimestampMethod(1),
    };
    let cos = ClassOfService {
        dscp_wanted: 46,
        dscp_received: 10,
        ecn_received: 1,
        reverse_path: 1,
    };
    let table = [
        (tlv(1, 0, &[0; 9]), "padding (1), 9 bytes"),
        (
            tlv(3, 0, &[1, 1, 5, 2]),
            "timestamps (3), 4 bytes: receives by NTP and hardware, sends by a free clock and software",
        ),
        (
            tlv(4, 0, &cos.to_bytes()),
            "cos (4), 4 bytes: DSCP 10 and ECN 1 received, DSCP 46 wanted, refused for the reply",
        ),
        (
            tlv(5, 0, &[0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1]),
            "direct (5), 12 bytes: 3 sent, 2 received, 1 returned",
        ),
        (tlv(6, 0, &[0x10, 2, 0, 0]), "access (6), 4 bytes: access 1, code 2"),
        (tlv(7, 0, &[0; 16]), "follow-up (7), 16 bytes: nothing to report"),
        (
            tlv(7, 0, &follow_up.to_bytes()),
            "follow-up (7), 16 bytes: reply 3 left at 0x0000000000000abc, by hardware",
        ),
        (tlv(200, 0x80, &[1, 2]), "unknown (200), 2 bytes, flags U"),
        (tlv(5, 0x60, &[0; 3]), "direct (5), 3 bytes, flags MI"),
        (tlv(5, 0, &[0; 3]), "direct (5), 3 bytes"),
    ];
    for (tlv, expected) in table {
        assert_eq!(tlv.to_string(), expected);
    }
}

#[test]
fn a_cut_tlv_is_noticed_behind_the_whole_ones() {
    let (tlvs, is_cut) = returned(&[0, 200, 0, 1, 9, 0x80, 5, 0, 12, 0], false);
    assert_eq!((tlvs, is_cut), (vec![tlv(200, 0, &[9])], true));
    assert_eq!(returned(&[0; 5], false), (Vec::new(), false), "padding without a TLV");
}

#[test]
fn values_behind_a_malformed_tlv_or_a_wrong_hmac_are_not_used() {
    let report = [0, 6, 0, 4, 0x10, 2, 0, 0];
    let [malformed, integrity] = [0x40, 0x20].map(|flags| [&[flags, 5, 0, 1, 0][..], &report].concat());
    let table: [(&[u8], bool, &[bool]); 4] = [
        (&report, false, &[false]),
        (&report, true, &[true]),
        (&malformed, false, &[false, true]),
        (&integrity, false, &[false, true]),
    ];
    for (bytes, forged, unused) in table {
        let (tlvs, _) = returned(bytes, forged);
        let found: Vec<bool> = tlvs.iter().map(|tlv| tlv.unused).collect();
        assert_eq!(found, unused);
        assert_eq!(tlvs.last().unwrap().says().is_none(), *unused.last().unwrap());
    }
}
