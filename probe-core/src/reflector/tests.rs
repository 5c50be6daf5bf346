//! Packets in, replies out.

use ipnet::IpNet;
use probe_common::legacy;
use probe_common::tlv::{AccessReport, ClassOfService, DirectMeasurement, Tlv, Writer, flag, kind};
use proptest::prelude::*;

use super::*;
use crate::reflector::policy::OwnAddress;

const T2_NS: u64 = 1_795_000_000_123_456_789;
const T3_NS: u64 = T2_NS + 40_000;
const OWN: &str = "10.1.1.6";
const GROUP: &str = "239.255.255.250";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config() -> ReflectorConfig {
    ReflectorConfig {
        test_ports: vec![1910, 862],
        groups: vec![ip(GROUP), ip("ff0e::10")],
        stateless: false,
        key: None,
        tlv_key: None,
        rates: Rates::DEFAULT,
    }
}

fn reflector(config: ReflectorConfig) -> Reflector {
    let mut reflector = Reflector::new(config);
    let prefixes = [
        "10.1.0.0/16",
        "fd01::/64",
        "fe80::/64",
        "0.0.0.0/8",
        "127.0.0.0/8",
        "224.0.0.0/3",
        "::/127",
        "ff00::/8",
    ];
    let own = [(OWN, 24), ("10.1.2.6", 24), ("fd01::6", 64)].map(|(own, length)| OwnAddress {
        ip: ip(own),
        prefix: IpNet::new(ip(own), length).unwrap(),
        deprecated: false,
    });
    reflector.set_policy(Policy::of_interface(
        &own,
        prefixes.map(|prefix| prefix.parse().unwrap()),
    ));
    reflector
}

fn arrival() -> Arrival {
    Arrival {
        from: "10.1.1.5:40001".parse().unwrap(),
        to: ip(OWN),
        to_port: 1910,
        ttl: 63,
        tos: 20 << 2 | 1,
        receive_ns: T2_NS,
    }
}

fn clock() -> ClockQuality {
    ClockQuality {
        error: ErrorEstimate(0x8a0b),
        synchronised: true,
    }
}

fn key() -> Key {
    Key::new(b"0123456789abcdef")
}

fn reflect(reflector: &mut Reflector, packet: &[u8], arrival: &Arrival) -> Option<(Vec<u8>, Reflected)> {
    let mut packet = packet.to_vec();
    let reply = reflector.reflect(&mut packet, arrival, clock(), || T3_NS)?;
    Some((packet, reply))
}

fn probe(sequence: u32) -> Vec<u8> {
    let mut packet = stamp::probe(sequence, ErrorEstimate(1), 0x0c0d).to_vec();
    packet[4..12].copy_from_slice(&[0x11; 8]);
    packet
}

fn with_tlvs(mut base: Vec<u8>, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut room = [0; 300];
    let mut writer = Writer::new(&mut room);
    for (kind, value) in tlvs {
        writer.push(*kind, value).unwrap();
    }
    base.extend(writer.written());
    base
}

fn tlvs(packet: &[u8], base_len: usize) -> Vec<Tlv<'_>> {
    tlv::read(&packet[base_len..]).map(Result::unwrap).collect()
}

#[test]
fn a_base_packet_is_answered_in_every_field() {
    let mut reflector = reflector(config());
    let (reply, facts) = reflect(&mut reflector, &probe(7), &arrival()).unwrap();
    let mut expected = [0; 44];
    expected[4..12].copy_from_slice(&NtpTime::from_unix_ns(T3_NS).to_be_bytes());
    expected[12..16].copy_from_slice(&[0x8a, 0x0b, 0x0c, 0x0d]);
    expected[16..24].copy_from_slice(&NtpTime::from_unix_ns(T2_NS).to_be_bytes());
    expected[27] = 7;
    expected[28..36].copy_from_slice(&[0x11; 8]);
    expected[37] = 1;
    expected[40] = 63;
    assert_eq!(reply, expected);
    assert_eq!((facts.source, facts.by_group), (Some(ip(OWN)), false));
    assert_eq!(facts.tos, 20 << 2, "the DSCP of the packet, and no ECN");
    assert_eq!(reflector.counts().of(Count::Reflected), 1);
}

#[test]
fn sessions_count_by_source_destination_and_ssid() {
    let mut reflector = reflector(config());
    let mut sequence = |packet: &[u8], arrival: &Arrival| {
        let (reply, _) = reflect(&mut reflector, packet, arrival).unwrap();
        u32::from_be_bytes(reply[..4].try_into().unwrap())
    };
    let other_port = Arrival {
        from: "10.1.1.5:40002".parse().unwrap(),
        ..arrival()
    };
    let by_group = Arrival {
        to: ip(GROUP),
        ..arrival()
    };
    let to_other_port = Arrival {
        to_port: 862,
        ..arrival()
    };
    let random_padding = |number, random| {
        let mut packet = probe(number);
        packet[14..].fill(random);
        packet
    };
    let mut other_ssid = probe(9);
    other_ssid[15] ^= 1;
    assert_eq!(sequence(&probe(100), &arrival()), 0);
    assert_eq!(sequence(&probe(103), &arrival()), 1);
    assert_eq!(sequence(&probe(9), &other_port), 0);
    assert_eq!(sequence(&probe(9), &by_group), 0);
    assert_eq!(sequence(&other_ssid, &arrival()), 0);
    assert_eq!(sequence(&probe(9), &to_other_port), 0);
    assert_eq!(sequence(&probe(104), &arrival()), 2);
    // TWAMP-Light: no session identifier.
    assert_eq!(sequence(&random_padding(1, 7), &arrival()), 0);
    assert_eq!(sequence(&random_padding(2, 8)[..20], &arrival()), 1);
    assert_eq!(sequence(&random_padding(3, 9), &arrival()), 2);
    let session = SessionKey {
        source: ip("10.1.1.5"),
        source_port: 40_001,
        destination: ip(OWN),
        destination_port: 1910,
        ssid: 0x0c0d,
    };
    let by_group = SessionKey {
        destination: ip(GROUP),
        ..session
    };
    let unknown = SessionKey {
        source_port: 40_003,
        ..session
    };
    let replies = [session, by_group, unknown].map(|session| reflector.replies_sent(&session));
    assert_eq!(replies, [Some(3), Some(1), None]);
}

#[test]
fn a_stateless_reflector_returns_the_senders_number() {
    let mut reflector = reflector(ReflectorConfig {
        stateless: true,
        ..config()
    });
    for number in [5, 3, 9] {
        let follow_up = with_tlvs(probe(number), &[(kind::FOLLOW_UP_TELEMETRY, &[0; 16])]);
        let (reply, facts) = reflect(&mut reflector, &follow_up, &arrival()).unwrap();
        assert_eq!(reply[..4], number.to_be_bytes());
        assert_eq!(facts.id, None);
        assert_eq!(tlvs(&reply, 44)[0].value, [0; 16]);
    }
}

#[test]
fn a_group_probe_is_answered_from_the_address_of_its_senders_subnet() {
    let mut reflector = reflector(config());
    for (from, own) in [("10.1.1.5:40001", OWN), ("10.1.2.5:40001", "10.1.2.6")] {
        let arrival = Arrival {
            from: from.parse().unwrap(),
            to: ip(GROUP),
            ..arrival()
        };
        assert!(reflector.admits(&arrival, 0));
        let (_, facts) = reflect(&mut reflector, &probe(0), &arrival).unwrap();
        assert_eq!((facts.source, facts.by_group), (Some(ip(own)), true));
    }
    assert_eq!(reflector.counts().of(Count::ReflectedGroup), 2);
}

#[test]
fn twamp_light_gets_a_base_packet_and_padding_comes_back() {
    let mut reflector = reflector(config());
    for length in 14..=44 {
        let packet = &probe(7)[..length];
        let (reply, _) = reflect(&mut reflector, packet, &arrival()).unwrap();
        assert_eq!((reply.len(), &reply[24..36]), (44, &packet[..12]), "{length}");
    }
    for length in [45, 100, 1452] {
        let mut packet = probe(7);
        packet.resize(length, 0);
        let (reply, _) = reflect(&mut reflector, &packet, &arrival()).unwrap();
        assert_eq!(reply.len(), length);
        assert!(reply[44..].iter().all(|&byte| byte == 0));
    }
    for length in 0..14 {
        assert_eq!(reflect(&mut reflector, &probe(7)[..length], &arrival()), None);
    }
    assert_eq!(reflector.counts().of(Count::TooShort), 14);
}

#[test]
fn tlvs_are_answered_with_their_flags() {
    let mut reflector = reflector(config());
    let asked = ClassOfService {
        dscp_wanted: 46,
        ..ClassOfService::default()
    };
    let packet = with_tlvs(
        probe(7),
        &[
            (kind::CLASS_OF_SERVICE, &asked.to_bytes()),
            (kind::DIRECT_MEASUREMENT, &[0; 12]),
            (kind::TIMESTAMP_INFORMATION, &[0; 4]),
            (200, &[1, 2, 3]),
            (kind::EXTRA_PADDING, &[9; 20]),
            (kind::ACCESS_REPORT, &[1]),
        ],
    );
    reflect(&mut reflector, &packet, &arrival()).unwrap();
    let (reply, facts) = reflect(&mut reflector, &packet, &arrival()).unwrap();
    assert_eq!(reply.len(), packet.len());
    assert_eq!(facts.tos, 46 << 2, "the wanted DSCP");
    let tlvs = tlvs(&reply, 44);
    let flags: Vec<u8> = tlvs.iter().map(|tlv| tlv.flags).collect();
    assert_eq!(
        flags,
        [0, 0, 0, flag::UNRECOGNISED, 0, flag::UNRECOGNISED | flag::MALFORMED]
    );
    let class = ClassOfService::read(tlvs[0].value).unwrap();
    assert_eq!((class.dscp_received, class.ecn_received), (20, 1));
    let counted = DirectMeasurement::read(tlvs[1].value).unwrap();
    assert_eq!((counted.reflector_received, counted.reflector_sent), (2, 2));
    assert_eq!(tlvs[2].value, [1, 2, 1, 2]);
    let counts = reflector.counts();
    assert_eq!(
        (counts.of(Count::TlvUnrecognised), counts.of(Count::TlvMalformed)),
        (2, 2)
    );
}

#[test]
fn a_follow_up_has_the_transmit_time_of_the_previous_reply() {
    let mut reflector = reflector(config());
    let packet = with_tlvs(probe(7), &[(kind::FOLLOW_UP_TELEMETRY, &[0; 16])]);
    let follow_up = |reflector: &mut Reflector| {
        let (reply, facts) = reflect(reflector, &packet, &arrival()).unwrap();
        (FollowUp::read(tlvs(&reply, 44)[0].value).unwrap(), facts.id.unwrap())
    };
    let (first, first_id) = follow_up(&mut reflector);
    assert_eq!(first, FollowUp::NONE);
    reflector.transmitted(first_id, T3_NS + 5);
    let (second, second_id) = follow_up(&mut reflector);
    assert_eq!(second.sequence, 0);
    assert_eq!(second.timestamp, NtpTime::from_unix_ns(T3_NS + 5).0);
    assert_eq!(second.method, TimestampMethod::SOFTWARE);
    reflector.transmitted(first_id, T3_NS + 9);
    assert_eq!(
        follow_up(&mut reflector).0,
        FollowUp::NONE,
        "the transmit time of the second is unknown"
    );
    reflector.transmitted(second_id, T3_NS + 9);
    assert_eq!(follow_up(&mut reflector).0, FollowUp::NONE, "reported too late");
}

fn signed(sequence: u32, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let base = authenticated::probe(sequence, NtpTime(0x11), ErrorEstimate(1), 0x0c0d).to_vec();
    let mut packet = with_tlvs(base, tlvs);
    key().sign(&mut packet);
    key().sign_tlvs(&mut packet, authenticated::BASE_LEN);
    packet
}

fn authenticated_reflector() -> Reflector {
    reflector(ReflectorConfig {
        key: Some(key()),
        ..config()
    })
}

#[test]
fn authenticated_packets_are_answered_and_signed() {
    let mut reflector = authenticated_reflector();
    let report = AccessReport {
        access_id: 1,
        return_code: 1,
    };
    let packet = signed(7, &[(kind::ACCESS_REPORT, &report.to_bytes()), (kind::HMAC, &[0; 16])]);
    let (reply, _) = reflect(&mut reflector, &packet, &arrival()).unwrap();
    assert!(key().is_signed(&reply));
    assert_eq!(key().check_tlvs(&reply, 112, true), TlvIntegrity::Intact);
    assert_eq!(reply.len(), packet.len());
    assert_eq!(reply[48..52], [0, 0, 0, 7]);
    assert_eq!(reply[80], 63);
    assert_eq!(
        tlvs(&reply, 112).iter().map(|tlv| tlv.flags).collect::<Vec<_>>(),
        [0, 0]
    );
    let (reply, _) = reflect(&mut reflector, &packet, &arrival()).unwrap();
    assert_eq!(reply[..4], [0, 0, 0, 1]);
}

#[test]
fn a_wrong_or_missing_hmac_is_dropped_and_counted() {
    let mut reflector = authenticated_reflector();
    for length in [0, 14, 44, 111] {
        assert_eq!(reflect(&mut reflector, &signed(7, &[])[..length], &arrival()), None);
    }
    assert_eq!(reflect(&mut reflector, &[0; 112], &arrival()), None);
    let mut other_key = authenticated::probe(7, NtpTime(1), ErrorEstimate(1), 1).to_vec();
    Key::new(b"another secret..").sign(&mut other_key);
    assert_eq!(reflect(&mut reflector, &other_key, &arrival()), None);
    let mut altered = signed(7, &[]);
    altered[3] ^= 1;
    assert_eq!(reflect(&mut reflector, &altered, &arrival()), None);
    let counts = reflector.counts();
    assert_eq!((counts.of(Count::HmacMissing), counts.of(Count::HmacWrong)), (4, 3));
    assert_eq!(counts.of(Count::Reflected), 0);
}

#[test]
fn tlvs_with_a_wrong_or_missing_hmac_come_back_with_flag_i_and_unchanged() {
    let mut reflector = authenticated_reflector();
    let class = [0xb8, 0, 0, 0];
    let without = signed(7, &[(kind::CLASS_OF_SERVICE, &class)]);
    let mut altered = signed(7, &[(kind::CLASS_OF_SERVICE, &class), (kind::HMAC, &[0; 16])]);
    altered[117] ^= 1;
    for packet in [without, altered] {
        let (reply, facts) = reflect(&mut reflector, &packet, &arrival()).unwrap();
        assert!(key().is_signed(&reply));
        let (sent, returned) = (tlvs(&packet, 112), tlvs(&reply, 112));
        for (sent, returned) in sent.iter().zip(&returned) {
            assert_eq!(returned.flags, sent.flags | flag::INTEGRITY);
            assert_eq!(returned.value, sent.value);
        }
        assert_eq!(facts.tos, 20 << 2, "the DSCP of the TLV is not used");
    }
    assert_eq!(reflector.counts().of(Count::TlvIntegrity), 2);
}

/// An unauthenticated packet whose TLVs are signed with the key.
fn tlvs_signed(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = with_tlvs(probe(7), tlvs);
    key().sign_tlvs(&mut packet, stamp::BASE_LEN);
    packet
}

#[test]
fn an_hmac_tlv_is_verified_in_unauthenticated_mode_too() {
    let class: (u8, &[u8]) = (kind::CLASS_OF_SERVICE, &[0xb8, 0, 0, 0]);
    let hmac: (u8, &[u8]) = (kind::HMAC, &[0; 16]);
    let good = tlvs_signed(&[class, hmac]);
    let mut altered = good.clone();
    altered[48] ^= 4;
    let misplaced = tlvs_signed(&[hmac, class]);
    let without = tlvs_signed(&[class]);
    let short = probe(7)[..14].to_vec();
    // With the key; packet; whether the TLVs are used.
    let table = [
        (true, &good, true),
        (true, &altered, false),
        (true, &misplaced, false),
        (true, &without, true),
        (true, &short, true),
        (false, &good, false),
        (false, &misplaced, false),
        (false, &without, true),
        (false, &short, true),
    ];
    for (case, (with_key, packet, used)) in table.into_iter().enumerate() {
        let mut reflector = reflector(ReflectorConfig {
            tlv_key: with_key.then(key),
            ..config()
        });
        let (reply, facts) = reflect(&mut reflector, packet, &arrival()).unwrap();
        assert_eq!(
            reflector.counts().of(Count::TlvIntegrity),
            u64::from(!used),
            "case {case}"
        );
        let (sent, returned) = (
            tlvs(packet.get(44..).map_or(&[0; 44], |_| packet), 44),
            tlvs(&reply, 44),
        );
        if used && !sent.is_empty() {
            assert_eq!(facts.tos, 46 << 2, "case {case}");
            assert!(returned.iter().all(|tlv| tlv.is_honoured()), "case {case}");
            assert_eq!(
                key().check_tlvs(&reply, 44, with_key && sent.len() > 1),
                TlvIntegrity::Intact
            );
        } else if !used {
            assert_eq!(facts.tos, 20 << 2, "case {case}: the DSCP of the TLV is not used");
            for (sent, returned) in sent.iter().zip(&returned) {
                assert_eq!(
                    (returned.flags, returned.value),
                    (sent.flags | flag::INTEGRITY, sent.value)
                );
            }
        }
    }
}

#[test]
fn routing_tlvs_choose_the_source_or_no_reply() {
    let mut reflector = reflector(config());
    let by_group = Arrival {
        to: ip(GROUP),
        ..arrival()
    };
    let node = with_tlvs(probe(7), &[(kind::DESTINATION_NODE_ADDRESS, &[10, 1, 1, 6])]);
    let (_, facts) = reflect(&mut reflector, &node, &by_group).unwrap();
    assert_eq!((facts.source, facts.by_group), (Some(ip(OWN)), true));
    let other = with_tlvs(probe(7), &[(kind::DESTINATION_NODE_ADDRESS, &[10, 1, 1, 9])]);
    let (reply, facts) = reflect(&mut reflector, &other, &arrival()).unwrap();
    assert_eq!(
        (tlvs(&reply, 44)[0].flags, facts.source),
        (flag::UNRECOGNISED, Some(ip(OWN)))
    );
    let nowhere = with_tlvs(probe(7), &[(kind::RETURN_PATH, &[0x80, 1, 0, 4, 0, 0, 0, 0])]);
    assert_eq!(reflect(&mut reflector, &nowhere, &arrival()), None);
    assert_eq!(reflector.counts().of(Count::NoReplyWanted), 1);
    let (reply, _) = reflect(&mut reflector, &probe(8), &arrival()).unwrap();
    assert_eq!(reply[..4], [0, 0, 0, 1], "the second reply of this session");
}

#[test]
fn replies_are_never_answered() {
    let mut plain = reflector(config());
    for packet in [
        probe(7),
        with_tlvs(probe(7), &[(kind::EXTRA_PADDING, &[1; 9])]),
        probe(7)[..14].to_vec(),
    ] {
        let (reply, _) = reflect(&mut plain, &packet, &arrival()).unwrap();
        assert_eq!(reflect(&mut plain, &reply, &arrival()), None);
        // A TWAMP-Light reflector would cut it.
        for length in 38..44 {
            assert_eq!(reflect(&mut plain, &reply[..length], &arrival()), None, "{length}");
        }
    }
    let mut with_key = authenticated_reflector();
    let (reply, _) = reflect(&mut with_key, &signed(7, &[]), &arrival()).unwrap();
    assert_eq!(reflect(&mut with_key, &reply, &arrival()), None);
    assert_eq!(with_key.counts().of(Count::ReplyShaped), 1);
}

/// A sender may use the port of reflectors, but what a reflector sends from there is a reply.
#[test]
fn from_a_test_port_only_probes_are_answered() {
    let mut reflector = reflector(config());
    for port in [1910, 862] {
        let from = |port| Arrival {
            from: SocketAddr::new(ip("10.1.1.5"), port),
            ..arrival()
        };
        assert!(reflect(&mut reflector, &probe(7), &from(port)).is_some());
        assert!(reflect(&mut reflector, &probe(7)[..20], &from(port)).is_some());
        let mut padded = probe(7);
        padded[16] = 1;
        padded[41..].fill(7);
        assert_eq!(reflect(&mut reflector, &padded, &from(port)), None);
        assert_eq!(reflect(&mut reflector, &padded[..24], &from(port)), None);
        assert!(reflect(&mut reflector, &padded, &from(40_001)).is_some());
        let ascii = Arrival { ttl: 64, ..from(port) };
        assert_eq!(reflect(&mut reflector, b"7", &ascii), None);
    }
    assert_eq!(reflector.counts().of(Count::LegacyLoop), 2);
}

#[test]
fn sources_and_destinations_that_are_answered() {
    let mut reflector = reflector(config());
    let from = |text: &str| Arrival {
        from: text.parse().unwrap(),
        ..arrival()
    };
    let to = |text: &str| Arrival {
        to: ip(text),
        ..arrival()
    };
    let mut admitted = |arrival: Arrival| reflector.admits(&arrival, 0);
    for good in [
        arrival(),
        from("[fd01::5]:1"),
        from("[fe80::5]:65535"),
        from("10.1.1.5:1910"),
        to(GROUP),
        to("ff0e::10"),
        to("fd01::6"),
    ] {
        assert!(admitted(good), "{good:?}");
    }
    for bad in [
        from("10.1.1.5:0"),
        from("0.1.1.5:9"),
        from("127.0.0.1:9"),
        from("224.0.0.1:9"),
        from("255.255.255.255:9"),
        from("[::]:9"),
        from("[::1]:9"),
        from("[ff02::1]:9"),
        from("10.9.9.9:9"),
        from("10.1.1.6:9"),
        from("[fd01::6]:9"),
        from("10.1.1.255:9"),
        from("10.1.2.0:9"),
        Arrival {
            to: ip("ff0e::10"),
            ..from("[fe80::5]:9")
        },
        to("10.1.1.255"),
        to("255.255.255.255"),
        to("224.0.0.1"),
        to("10.1.1.7"),
    ] {
        assert!(!admitted(bad), "{bad:?}");
    }
    let counts = reflector.counts();
    let expected = [
        (Count::SourcePort, 1),
        (Count::BadSource, 9),
        (Count::OwnSource, 2),
        (Count::NoOwnAddress, 1),
        (Count::NotAllowed, 1),
        (Count::NotForUs, 4),
        (Count::RateLimited, 0),
    ];
    for (what, number) in expected {
        assert_eq!(counts.of(what), number, "{what:?}");
    }
}

#[test]
fn a_flood_is_refused_and_counted() {
    let mut reflector = reflector(config());
    let answered = (0..10_000).filter(|_| reflector.admits(&arrival(), 0)).count();
    assert!((1..10_000).contains(&answered));
    assert_eq!(reflector.counts().of(Count::RateLimited), 10_000 - answered as u64);
}

#[test]
fn packets_handled_elsewhere_are_counted_and_the_mode_is_known() {
    let mut plain = reflector(config());
    plain.count(Count::IdentityAnswered);
    assert_eq!(plain.counts().of(Count::IdentityAnswered), 1);
    assert!(!plain.is_authenticated());
    assert!(authenticated_reflector().is_authenticated());
}

#[test]
fn every_count_has_a_name_of_its_own() {
    assert_eq!(Counts::default().by_name().len(), Count::ALL.len());
    assert!(Count::ALL.iter().all(|what| what.name().starts_with("user_")));
}

fn modes() -> impl Strategy<Value = ReflectorConfig> {
    (any::<bool>(), 0..3).prop_map(|(stateless, keys)| ReflectorConfig {
        stateless,
        key: (keys == 1).then(key),
        tlv_key: (keys == 2).then(key),
        ..config()
    })
}

/// Bytes of any kind, some of which begin like a test packet, some of which are signed.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let tail = prop_oneof![
        bytes(),
        prop::collection::vec((0u8..12, prop::collection::vec(any::<u8>(), 0..40)), 0..6).prop_map(|list| {
            let list: Vec<(u8, &[u8])> = list.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
            with_tlvs(Vec::new(), &list)
        }),
    ];
    prop_oneof![
        bytes(),
        "[0-9]{1,22}".prop_map(String::into_bytes),
        (any::<u32>(), tail.clone()).prop_map(|(sequence, tail)| [probe(sequence), tail].concat()),
        (any::<u32>(), tail, any::<bool>()).prop_map(|(sequence, tail, sign)| {
            let mut packet = [signed(sequence, &[]), tail].concat();
            if sign {
                key().sign_tlvs(&mut packet, authenticated::BASE_LEN);
            }
            packet
        }),
    ]
}

proptest! {
    #[test]
    fn no_packet_causes_a_panic_a_longer_reply_or_an_answer_to_a_reply(
        config in modes(),
        packets in prop::collection::vec(packets(), 1..8),
        tos: u8,
    ) {
        let base_len = if config.key.is_some() { authenticated::BASE_LEN } else { stamp::BASE_LEN };
        let mut reflector = reflector(config);
        let arrival = Arrival { tos, ..arrival() };
        for (number, packet) in packets.iter().enumerate() {
            let before: u64 = [Count::Reflected, Count::ReflectedGroup].iter().map(|&what| reflector.counts().of(what)).sum();
            let Some((reply, facts)) = reflect(&mut reflector, packet, &arrival) else {
                continue;
            };
            prop_assert_eq!(facts.tos & 3, 0);
            if legacy::is_probe(packet) {
                // The reply to an ASCII probe has the same bytes; only its ports differ.
                prop_assert_eq!(&reply, packet, "packet {}", number);
                continue;
            }
            prop_assert_eq!(reflector.counts().of(Count::Reflected), before + 1);
            prop_assert_eq!(reply.len(), packet.len().max(base_len), "packet {}", number);
            prop_assert_eq!(reflect(&mut reflector, &reply, &arrival), None);
        }
    }
}

#[test]
fn ascii_probes_go_back_unchanged_unless_they_may_be_replies() {
    let from = |port: u16, ttl: u8| Arrival {
        from: format!("10.1.1.5:{port}").parse().unwrap(),
        ttl,
        ..arrival()
    };
    let mut plain = reflector(config());
    for number in ["1", "42", "18446744073709551615"] {
        let (bytes, reply) = reflect(&mut plain, number.as_bytes(), &from(40_001, 64)).expect(number);
        assert_eq!(bytes, number.as_bytes());
        assert_eq!(reply.tos, 20 << 2, "the DSCP of the probe, and no ECN");
        assert_eq!(
            (reply.source, reply.by_group, reply.id.is_none()),
            (Some(ip(OWN)), false, true)
        );
    }
    let by_group = Arrival {
        to: ip(GROUP),
        ..from(40_001, 1)
    };
    let (_, reply) = reflect(&mut plain, b"7", &by_group).unwrap();
    assert_eq!((reply.source, reply.by_group), (Some(ip(OWN)), true));
    for (port, ttl) in [(1_023, 64), (1_910, 64), (40_001, 129), (40_001, 255)] {
        assert_eq!(reflect(&mut plain, b"1", &from(port, ttl)), None, "{port} {ttl}");
    }
    assert_eq!(
        (
            plain.counts().of(Count::LegacyReflected),
            plain.counts().of(Count::LegacyLoop)
        ),
        (4, 4)
    );
    for strange in [&b""[..], b"one", b"-1", b"1 ", b"1\n"] {
        assert_eq!(reflect(&mut plain, strange, &from(40_001, 64)), None, "{strange:?}");
    }
    let mut authenticated = reflector(ReflectorConfig {
        key: Some(key()),
        ..config()
    });
    assert_eq!(reflect(&mut authenticated, b"1", &from(40_001, 64)), None, "not signed");
}
