//! A vector for every TLV, as a sender sends it and as a reflector returns it, and malformed ones.

use core::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn observed() -> Observed {
    Observed {
        source: ("10.1.1.5".parse().unwrap(), 0x9c41),
        destination: ("10.1.1.6".parse().unwrap(), 1910),
        dscp: 20,
        ecn: 1,
        may_set_dscp: true,
        has_key: true,
        timestamps: TimestampInformation {
            sync_in: SyncSource::NTP,
            method_in: TimestampMethod::SOFTWARE,
            sync_out: SyncSource::LOCAL,
            method_out: TimestampMethod::CONTROL_PLANE,
        },
        received: 0x0102_0304,
        sent: 0x0506_0708,
        follow_up: FollowUp {
            sequence: 0x2122_2324,
            timestamp: 0x3132_3334_3536_3738,
            method: TimestampMethod::SOFTWARE,
        },
    }
}

fn own() -> [IpAddr; 2] {
    ["10.1.1.6", "fd01::6"].map(|address| address.parse().unwrap())
}

fn answered(tlvs: &[u8]) -> (Vec<u8>, Answered) {
    let mut tlvs = tlvs.to_vec();
    let answered = answer(&mut tlvs, &observed(), &own());
    (tlvs, answered)
}

fn written(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = [0xff; 200];
    let mut writer = Writer::new(&mut bytes);
    writer.push(kind, value).unwrap();
    writer.written().to_vec()
}

#[test]
fn extra_padding() {
    let sent = written(kind::EXTRA_PADDING, &[0xa5, 0x5a, 0x99]);
    assert_eq!(sent, [0x80, 1, 0, 3, 0xa5, 0x5a, 0x99]);
    assert_eq!(answered(&sent).0, [0x00, 1, 0, 3, 0xa5, 0x5a, 0x99]);
    assert_eq!(answered(&[0x80, 1, 0, 0]).0, [0, 1, 0, 0], "may be empty");
}

#[test]
fn location_v4() {
    let sent = written(kind::LOCATION, &Location::question());
    #[rustfmt::skip]
    let question = [
        0x80, 2, 0, 44,
        0, 0, 0, 0,
        0x80, 7, 0, 16,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
        0x80, 4, 0, 16,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    ];
    assert_eq!(sent, question);
    let (returned, _) = answered(&sent);
    #[rustfmt::skip]
    let answer = [
        0, 2, 0, 44,
        0x07, 0x76, 0x9c, 0x41,
        0, 8, 0, 16,  10, 1, 1, 5,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
        0, 5, 0, 16,  10, 1, 1, 6,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    ];
    assert_eq!(returned, answer);
    let location = Location::read(&returned[HEADER_LEN..]).unwrap();
    assert_eq!((location.destination_port, location.source_port), (1910, 0x9c41));
    let (source, destination) = (observed().source.0, observed().destination.0);
    assert_eq!(
        location.subs().collect::<Vec<_>>(),
        [LocationSub::Source(source), LocationSub::Destination(destination)]
    );
}

#[test]
fn location_v6() {
    let mut tlvs = written(kind::LOCATION, &Location::question());
    let source: IpAddr = "fd01::5".parse().unwrap();
    let destination: IpAddr = "fd01::6".parse().unwrap();
    answer(
        &mut tlvs,
        &Observed {
            source: (source, 1),
            destination: (destination, 2),
            ..observed()
        },
        &own(),
    );
    assert_eq!(tlvs[8..14], [0, 9, 0, 16, 0xfd, 1]);
    assert_eq!(tlvs[28..34], [0, 6, 0, 16, 0xfd, 1]);
    let location = Location::read(&tlvs[HEADER_LEN..]).unwrap();
    assert_eq!(
        location.subs().collect::<Vec<_>>(),
        [LocationSub::Source(source), LocationSub::Destination(destination)]
    );
}

#[test]
fn location_without_a_mac_address_says_so_by_zeros() {
    let mut value = vec![0, 0, 0, 0, 0x80, 1, 0, 8];
    value.extend([0; 8]);
    let (returned, _) = answered(&written(kind::LOCATION, &value));
    assert_eq!(returned[8..], [0, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let location = Location::read(&returned[HEADER_LEN..]).unwrap();
    assert_eq!(location.subs().collect::<Vec<_>>(), [LocationSub::Other]);
}

#[test]
fn location_with_an_eui_48_is_read() {
    let value = [0, 1, 0, 2, 0, 2, 0, 8, 2, 0, 0, 0, 0, 5, 0, 0];
    let location = Location::read(&value).unwrap();
    assert_eq!(
        location.subs().collect::<Vec<_>>(),
        [LocationSub::SourceMac([2, 0, 0, 0, 0, 5])]
    );
}

#[test]
fn location_with_odd_sub_tlvs_marks_them_alone() {
    #[rustfmt::skip]
    let sent = written(kind::LOCATION, &[
        0, 0, 0, 0,
        0x80, 99, 0, 1, 7,
        0x80, 7, 0, 4, 0, 0, 0, 0,
        0x80, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let (returned, answered) = answered(&sent);
    assert_eq!(returned[8..13], [0x80, 99, 0, 1, 7], "unknown");
    assert_eq!(returned[13..21], [0xc0, 7, 0, 4, 0, 0, 0, 0], "of a wrong length");
    assert_eq!(returned[21], 0x80, "not looked at");
    assert!(!answered.malformed, "the TLV itself is sound");
}

#[test]
fn location_ends_at_a_malformed_sub_tlv() {
    // Cut off, or of a wrong length; flag M stays if the sender has set it.
    for malformed in [
        &[0x80, 7, 0, 16, 1][..],
        &[0xc0, 7, 0, 16],
        &[0x80, 1, 0, 1, 9],
        &[0xc0, 7, 0, 1, 9],
    ] {
        let (returned, _) = answered(&written(kind::LOCATION, &[&[0; 4], malformed].concat()));
        assert_eq!(returned[8], 0xc0, "{malformed:02x?}");
        assert_eq!(returned[9..], malformed[1..]);
    }
}

#[test]
fn location_without_an_answer_has_no_report() {
    for (flags, value) in [(0x80, 1), (0x40, 1), (0, 0)] {
        let value = [&[0, 0, 0, 0, flags, 8, 0, 16][..], &[value; 16]].concat();
        let location = Location::read(&value).unwrap();
        assert_eq!(location.subs().collect::<Vec<_>>(), [LocationSub::Other], "{flags:#x}");
    }
}

#[test]
fn timestamp_information() {
    let sent = written(kind::TIMESTAMP_INFORMATION, &[0; 4]);
    assert_eq!(sent, [0x80, 3, 0, 4, 0, 0, 0, 0]);
    let (returned, _) = answered(&sent);
    assert_eq!(returned, [0, 3, 0, 4, 1, 2, 5, 3]);
    assert_eq!(TimestampInformation::read(&returned[4..]), Some(observed().timestamps));
    let with_sub = written(kind::TIMESTAMP_INFORMATION, &[0, 0, 0, 0, 0x80, 9, 0, 0]);
    assert_eq!(answered(&with_sub).0[8..], [0x80, 9, 0, 0], "optional sub-TLVs stay");
}

#[test]
fn class_of_service() {
    let asked = ClassOfService {
        dscp_wanted: 46,
        ..ClassOfService::default()
    };
    let sent = written(kind::CLASS_OF_SERVICE, &asked.to_bytes());
    assert_eq!(sent, [0x80, 4, 0, 4, 0b1011_1000, 0, 0, 0]);
    let (returned, made) = answered(&sent);
    // 101110 010100 01 00
    assert_eq!(returned, [0, 4, 0, 4, 0b1011_1001, 0b0100_0100, 0, 0]);
    assert_eq!(made.dscp, Some(46));
    let reported = ClassOfService {
        dscp_wanted: 46,
        dscp_received: 20,
        ecn_received: 1,
        reverse_path: 0,
    };
    assert_eq!(ClassOfService::read(&returned[4..]), Some(reported));
}

#[test]
fn class_of_service_that_is_refused() {
    let mut tlvs = [0x80, 4, 0, 4, 0b1011_1000, 0, 0, 0];
    let made = answer(
        &mut tlvs,
        &Observed {
            may_set_dscp: false,
            ..observed()
        },
        &own(),
    );
    assert_eq!(tlvs, [0, 4, 0, 4, 0b1011_1001, 0b0100_0101, 0, 0]);
    assert_eq!(made.dscp, None);
}

#[test]
fn direct_measurement() {
    let asked = DirectMeasurement {
        sender_sent: 0x1112_1314,
        ..DirectMeasurement::default()
    };
    let sent = written(kind::DIRECT_MEASUREMENT, &asked.to_bytes());
    assert_eq!(sent, [0x80, 5, 0, 12, 0x11, 0x12, 0x13, 0x14, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (returned, _) = answered(&sent);
    assert_eq!(returned, [0, 5, 0, 12, 0x11, 0x12, 0x13, 0x14, 1, 2, 3, 4, 5, 6, 7, 8]);
    let reported = DirectMeasurement {
        sender_sent: 0x1112_1314,
        reflector_received: 0x0102_0304,
        reflector_sent: 0x0506_0708,
    };
    assert_eq!(DirectMeasurement::read(&returned[4..]), Some(reported));
}

#[test]
fn access_report() {
    let report = AccessReport {
        access_id: 2,
        return_code: 1,
    };
    let sent = written(kind::ACCESS_REPORT, &report.to_bytes());
    assert_eq!(sent, [0x80, 6, 0, 4, 0x20, 1, 0, 0]);
    assert_eq!(answered(&sent).0, [0, 6, 0, 4, 0x20, 1, 0, 0]);
    assert_eq!(AccessReport::read(&sent[4..]), Some(report));
    let unknown = [0x80, 6, 0, 4, 0x30, 1, 0, 0];
    assert_eq!(answered(&unknown).0, unknown, "an access network of no known kind");
}

#[test]
fn follow_up_telemetry() {
    let sent = written(kind::FOLLOW_UP_TELEMETRY, &FollowUp::NONE.to_bytes());
    assert_eq!(sent, [0x80, 7, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (returned, _) = answered(&sent);
    #[rustfmt::skip]
    let reported = [
        0, 7, 0, 16,
        0x21, 0x22, 0x23, 0x24,
        0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38,
        2, 0, 0, 0,
    ];
    assert_eq!(returned, reported);
    assert_eq!(FollowUp::read(&returned[4..]), Some(observed().follow_up));
    let (short, made) = answered(&[0x80, 7, 0, 5, 1, 2, 3, 4, 5]);
    assert_eq!(short, [0xc0, 7, 0, 5, 0, 0, 0, 0, 0]);
    assert!(made.malformed);
}

#[test]
fn hmac() {
    let sent = written(kind::HMAC, &[7; 16]);
    assert_eq!(sent[..4], [0x80, 8, 0, 16]);
    assert_eq!(hmac_place(&sent), HmacPlace::At(0));
    let (returned, _) = answered(&sent);
    assert_eq!(returned[..4], [0, 8, 0, 16]);
    assert_eq!(returned[4..], [7; 16], "the caller signs it");

    let without_key = Observed {
        has_key: false,
        ..observed()
    };
    let mut returned = sent.clone();
    assert_eq!(answer(&mut returned, &without_key, &own()).unrecognised, 1);
    assert_eq!(returned, sent, "U tells the sender that it was not checked");
}

#[test]
fn a_reply_leaves_from_the_destination_node_address_if_it_is_an_own_one() {
    let v6 = Observed {
        source: ("fd01::5".parse().unwrap(), 0x9c41),
        ..observed()
    };
    let [v4_own, v6_own] = own();
    let table = [
        (observed(), &[10, 1, 1, 6][..], 0, Some(v4_own)),
        (observed(), &[10, 1, 1, 7], 0x80, None),
        (
            observed(),
            &[0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6],
            0x80,
            None,
        ),
        (
            v6,
            &[0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6],
            0,
            Some(v6_own),
        ),
        (observed(), &[10, 1, 1], 0xc0, None),
        (observed(), &[0; 8], 0xc0, None),
    ];
    for (observed, address, flags, source) in table {
        let mut tlv = written(kind::DESTINATION_NODE_ADDRESS, address);
        let sent = tlv.clone();
        let answered = answer(&mut tlv, &observed, &own());
        assert_eq!((tlv[0], answered.source), (flags, source), "{address:?}");
        assert_eq!(tlv[1..], sent[1..]);
    }
}

#[test]
fn a_return_path_is_honoured_only_if_it_leads_to_the_sender_or_nowhere() {
    let (same_link, none) = ([0x80, 1, 0, 4, 0, 0, 0, 1], [0x80, 1, 0, 4, 0, 0, 0, 0]);
    let address = [0x80, 2, 0, 4, 8, 8, 8, 8];
    // Sub-TLVs; flags of the TLV and of the first sub-TLV; whether there is no reply.
    let table: [(&[&[u8]], u8, u8, bool); 8] = [
        (&[&same_link], 0, 0, false),
        (&[&none], 0, 0, true),
        (&[&[0x80, 1, 0, 4, 0xff, 0xff, 0xff, 0xfe]], 0, 0, true),
        (&[&address], 0x80, 0x80, false),
        (&[&same_link, &address], 0x80, 0, false),
        (&[&none, &none], 0xc0, 0, false),
        (&[&[0x80, 1, 0, 3, 0, 0, 1]], 0xc0, 0xc0, false),
        (&[&[0x80, 1, 0, 9, 0]], 0xc0, 0xc0, false),
    ];
    for (subs, flags, sub_flags, no_reply) in table {
        let (returned, made) = answered(&written(kind::RETURN_PATH, &subs.concat()));
        assert_eq!((returned[0], returned[4]), (flags, sub_flags), "{subs:?}");
        assert_eq!(made.no_reply, no_reply, "{subs:?}");
    }
    assert_eq!(answered(&[0x80, 10, 0, 0]).0, [0x80, 10, 0, 0], "nothing to honour");
}

#[test]
fn unknown_types_are_returned_as_they_came() {
    for kind in [0, 11, 12, 200, 252, 255] {
        let sent = [0x80, kind, 0, 2, 1, 2];
        let (returned, made) = answered(&sent);
        assert_eq!((returned.as_slice(), made.unrecognised), (sent.as_slice(), 1));
    }
    let without_u = [0x1f, 200, 0, 1, 9];
    assert_eq!(
        answered(&without_u).0,
        [0x80, 200, 0, 1, 9],
        "U is set even if the sender did not, reserved bits are zero"
    );
}

#[test]
fn a_wrong_length_is_malformed_and_ends_the_processing() {
    for (kind, length) in [
        (kind::LOCATION, 3),
        (kind::TIMESTAMP_INFORMATION, 3),
        (kind::CLASS_OF_SERVICE, 5),
        (kind::DIRECT_MEASUREMENT, 11),
        (kind::ACCESS_REPORT, 0),
        (kind::FOLLOW_UP_TELEMETRY, 17),
        (kind::HMAC, 32),
    ] {
        let mut sent = written(kind, &vec![0; length]);
        sent.extend([0x80, 3, 0, 4, 0, 0, 0, 0]);
        let (returned, made) = answered(&sent);
        assert!(made.malformed, "{kind}");
        let mut expected = sent.clone();
        expected[0] = 0xc0;
        assert_eq!(returned, expected, "{kind}");
        sent[0] = 0xff;
        assert_eq!(
            self::answered(&sent).0,
            expected,
            "{kind}, with flags that a sender does not set"
        );
    }
}

#[test]
fn a_tlv_that_the_packet_cuts_off_is_malformed() {
    for cut in [&[0x80, 1, 0, 9, 1][..], &[0x80, 1, 0], &[0x80], &[0xc0]] {
        let sent = [&[0x80, 1, 0, 1, 9], cut].concat();
        let (returned, made) = answered(&sent);
        assert_eq!(returned[..5], [0, 1, 0, 1, 9]);
        assert_eq!(returned[5], 0xc0);
        assert_eq!(returned[6..], sent[6..]);
        assert!(made.malformed);
        let found: Vec<_> = read(&sent).collect();
        assert_eq!((found.len(), found[1]), (2, Err(Cut { at: 5 })));
    }
}

#[test]
fn zeros_are_padding_and_not_tlvs() {
    assert_eq!(read(&[0; 100]).next(), None);
    let sent = [0x80, 1, 0, 1, 9, 0, 0, 0, 0, 0, 0];
    assert_eq!(read(&sent).count(), 1);
    let (returned, made) = answered(&sent);
    assert_eq!(returned[5..], [0; 6]);
    assert_eq!(made, Answered::default());
}

#[test]
fn the_hmac_stands_behind_all_but_padding() {
    let hmac = written(kind::HMAC, &[7; 16]);
    let padding = [0x80, 1, 0, 2, 5, 5];
    let report = [0x80, 6, 0, 4, 0x20, 1, 0, 0];
    let cut = [0x80, 1, 0, 9, 1];
    let table: [(&[&[u8]], HmacPlace); 13] = [
        (&[], HmacPlace::NotNeeded),
        (&[&padding], HmacPlace::NotNeeded),
        (&[&padding, &padding], HmacPlace::Missing),
        (&[&report], HmacPlace::Missing),
        (&[&padding, &report], HmacPlace::Missing),
        (&[&report, &hmac], HmacPlace::At(8)),
        (&[&padding, &hmac], HmacPlace::At(6)),
        (&[&report, &hmac, &padding], HmacPlace::At(8)),
        (&[&cut], HmacPlace::Missing),
        (&[&hmac, &cut], HmacPlace::Misplaced),
        (&[&hmac, &report], HmacPlace::Misplaced),
        (&[&hmac, &hmac], HmacPlace::Misplaced),
        (&[&[0x80, 8, 0, 4, 1, 2, 3, 4]], HmacPlace::Misplaced),
    ];
    for (tlvs, place) in table {
        assert_eq!(hmac_place(&tlvs.concat()), place, "{tlvs:?}");
    }
}

#[test]
fn a_failed_hmac_marks_every_tlv_and_changes_nothing_else() {
    let mut tlvs = [&[0x80, 6, 0, 4, 0x20, 1, 0, 0][..], &[0x80, 1, 0, 9, 1]].concat();
    fail_integrity(&mut tlvs);
    assert_eq!(tlvs, [0xa0, 6, 0, 4, 0x20, 1, 0, 0, 0xa0, 1, 0, 9, 1]);
    let first = read(&tlvs).next().unwrap().unwrap();
    assert!(first.has(flag::INTEGRITY) && !first.has(flag::MALFORMED) && !first.is_honoured());
    fail_integrity(&mut tlvs);
    assert_eq!((tlvs[0], tlvs[8]), (0xa0, 0xa0));
}

#[test]
fn a_full_writer_is_an_error() {
    let mut bytes = [0; 10];
    let mut writer = Writer::new(&mut bytes);
    assert!(writer.is_empty());
    assert_eq!(writer.push(kind::EXTRA_PADDING, &[1; 7]), Err(NoRoom));
    assert_eq!(writer.push(kind::EXTRA_PADDING, &[1; 2]), Ok(()));
    assert_eq!(writer.push(kind::EXTRA_PADDING, &[]), Ok(()));
    assert_eq!(writer.push(kind::EXTRA_PADDING, &[]), Err(NoRoom));
    assert!(!writer.is_empty());
    assert_eq!(
        (writer.len(), writer.written()),
        (10, &[0x80, 1, 0, 2, 1, 1, 0x80, 1, 0, 0][..])
    );
}

#[test]
fn only_a_tlv_without_flags_of_a_reflector_is_honoured() {
    for (flags, honoured) in [(0, true), (0x1f, true), (0x80, false), (0x40, false), (0x20, false)] {
        let tlv = Tlv {
            flags,
            kind: kind::EXTRA_PADDING,
            value: &[],
        };
        assert_eq!(tlv.is_honoured(), honoured, "{flags:#x}");
    }
}

#[test]
fn only_padding_without_flags_of_a_reflector_is_for_the_kernel_programs() {
    for (header, length, expected) in [
        ([0x80, 1, 0, 3], 7, true),
        ([0, 1, 0, 3], 7, true),
        ([0x80, 1, 0, 0], 4, true),
        ([0x80, 1, 2, 1], 517, true),
        ([0x80, 1, 0, 3], 8, false),
        ([0x80, 1, 0, 3], 6, false),
        ([0x80, 2, 0, 3], 7, false),
        ([0xc0, 1, 0, 3], 7, false),
        ([0x81, 1, 0, 3], 7, false),
        ([0; 4], 4, false),
    ] {
        assert_eq!(is_padding(header, length), expected, "{header:02x?} of {length}");
    }
}

proptest! {
    #[test]
    fn padding_is_answered_alike_in_the_kernel_and_in_userspace(
        flags in prop::sample::select(vec![0u8, 0x80]), words in prop::collection::vec(any::<[u8; 2]>(), 0..50),
    ) {
        let mut probe = written(kind::EXTRA_PADDING, words.as_flattened());
        probe[0] = flags;
        let header = *probe.first_chunk().unwrap();
        prop_assert!(is_padding(header, probe.len()));
        let sum = |bytes: &[u8]| bytes.as_chunks().0.iter().fold(Sum::ZERO, |sum, &word| sum.word(word));
        let (in_userspace, _) = answered(&probe);
        prop_assert_eq!(in_userspace[0], 0);
        prop_assert_eq!(&in_userspace[1..], &probe[1..]);
        prop_assert_eq!(clear_flags(sum(&probe), header).fold(), sum(&in_userspace).fold());
    }

    #[test]
    fn whatever_comes_is_answered_in_its_own_length(
        tlvs in prop::collection::vec(any::<u8>(), 0..200),
        kinds in prop::collection::vec((0u8..10, prop::collection::vec(any::<u8>(), 0..40)), 0..5),
    ) {
        let mut bytes = Vec::new();
        for (kind, value) in &kinds {
            bytes.extend(written(*kind, value));
        }
        bytes.extend(&tlvs);
        let (returned, _) = answered(&bytes);
        prop_assert_eq!(returned.len(), bytes.len());
        let mut failed = bytes.clone();
        fail_integrity(&mut failed);
        prop_assert_eq!(failed.len(), bytes.len());
        hmac_place(&bytes);
        for tlv in read(&bytes).flatten() {
            if let Some(location) = Location::read(tlv.value) {
                location.subs().count();
            }
        }
    }

    #[test]
    fn types_and_lengths_survive_the_answer(
        kinds in prop::collection::vec((any::<u8>(), prop::collection::vec(1u8.., 0..40)), 1..5),
    ) {
        let mut bytes = Vec::new();
        for (kind, value) in &kinds {
            bytes.extend(written(*kind, value));
        }
        let (returned, _) = answered(&bytes);
        let shape = |bytes: &[u8]| -> Vec<_> { read(bytes).flatten().map(|tlv| (tlv.kind, tlv.value.len())).collect() };
        prop_assert_eq!(shape(&bytes), kinds.iter().map(|(kind, value)| (*kind, value.len())).collect::<Vec<_>>());
        prop_assert_eq!(shape(&returned), shape(&bytes));
    }
}
