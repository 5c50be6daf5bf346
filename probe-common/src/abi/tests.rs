use super::*;
use crate::frame::Obstacle;

fn address(text: &str) -> Address {
    text.parse::<core::net::IpAddr>().unwrap().into()
}

fn settings() -> Settings {
    Settings {
        abi_version: ABI_VERSION,
        interface: 1,
        unix_offset_ns: 0,
        test_ports: [1910, 862, 0, 0],
        sender_port_v4: 40_004,
        sender_port_v6: 40_006,
        error_estimate: 1,
        cold_ports: 0,
        mac: [2, 0, 0, 0, 0, 6],
        partial_checksums: 0,
        ingress_is_second: 0,
        own_v4: address("10.1.1.6"),
        own_v6: address("fd01::6"),
        policy_generation: 0,
        port_batch: 1,
        max_replies: MAX_REPLIES,
        ring_mask: 0,
        source_limit: Limit::NONE,
        group_limit: Limit::NONE,
        port_limit: Limit::NONE,
    }
}

#[test]
fn a_datagram_concerns_kstamp_by_its_ports() {
    let none = Settings {
        test_ports: [0; 4],
        sender_port_v4: 0,
        sender_port_v6: 0,
        ..settings()
    };
    let no_sender = Settings {
        sender_port_v4: 0,
        ..settings()
    };
    let cold = Settings {
        cold_ports: 64,
        ..settings()
    };
    // is_probe, is_reply, is_own_probe
    for (settings, family, source_port, destination_port, expected) in [
        (settings(), Family::V4, 50_000, 1910, [true, false, false]),
        (settings(), Family::V4, 40_004, 1910, [true, false, true]),
        (settings(), Family::V6, 40_006, 1910, [true, false, true]),
        (settings(), Family::V6, 40_004, 1910, [true, false, false]),
        (settings(), Family::V4, 40_006, 1910, [true, false, false]),
        (settings(), Family::V4, 1910, 40_004, [false, true, false]),
        (settings(), Family::V6, 1910, 40_006, [false, true, false]),
        (settings(), Family::V6, 1910, 40_004, [false, false, false]),
        (settings(), Family::V4, 1911, 40_004, [false, false, false]),
        (settings(), Family::V4, 40_004, 1911, [false, false, false]),
        (settings(), Family::V4, 40_004, 862, [true, false, false]),
        (settings(), Family::V6, 50_000, 862, [true, false, false]),
        (settings(), Family::V4, 862, 40_004, [false, false, false]),
        (settings(), Family::V4, 40_004, 0, [false, false, false]),
        (no_sender, Family::V4, 1910, 0, [false, false, false]),
        (no_sender, Family::V4, 0, 1910, [true, false, false]),
        (settings(), Family::V4, 40_005, 1910, [true, false, false]),
        (cold, Family::V4, 40_003, 1910, [true, false, false]),
        (cold, Family::V4, 40_004, 1910, [true, false, true]),
        (cold, Family::V4, 40_068, 1910, [true, false, true]),
        (cold, Family::V4, 40_069, 1910, [true, false, false]),
        (cold, Family::V6, 1910, 40_070, [false, true, false]),
        (cold, Family::V6, 1910, 40_071, [false, false, false]),
        (none, Family::V4, 0, 0, [false, false, false]),
        (none, Family::V6, 0, 0, [false, false, false]),
    ] {
        let udp = Udp {
            family,
            obstacle: Some(Obstacle::Vlan),
            source_port,
            destination_port,
            ip_payload_len: 52,
            udp_len: 52,
        };
        let found = [
            settings.is_probe(&udp),
            settings.is_reply(&udp),
            settings.is_own_probe(&udp),
        ];
        assert_eq!(found, expected, "{udp:?}");
    }
}

#[test]
fn a_reply_must_come_from_where_the_probe_went_and_return_its_stamp() {
    for (destination, source, sender_timestamp, answers) in [
        ("10.1.1.6", "10.1.1.6", 7, true),
        ("10.1.1.6", "10.1.1.6", 8, false),
        ("10.1.1.6", "10.1.1.7", 7, false),
        ("239.255.255.250", "10.1.1.7", 7, true),
        ("ff0e::10", "fd01::7", 7, true),
        ("ff0e::10", "fd01::7", 8, false),
    ] {
        let probe = InFlight {
            t1_mono_ns: 1,
            t1_wire: 7,
            destination: address(destination),
            replies: 0,
            reserved: 0,
        };
        assert_eq!(
            probe.is_answered_by(&address(source), sender_timestamp),
            answers,
            "{destination} {source} {sender_timestamp}"
        );
    }
}

#[test]
fn a_ring_has_a_record_for_each_of_the_last_probes() {
    let ring = SessionRing::new(96, 5);
    for (seq, index) in [(0, 96), (31, 127), (32, 96), (33, 97), (u32::MAX, 127)] {
        assert_eq!(ring.record(seq, 31), Some((index, 5 << 32 | u64::from(seq))), "{seq}");
    }
    assert_eq!(SessionRing::NONE.record(0, 31), None);
    assert_eq!(
        SessionRing::new(0, 1).record(0, 0),
        Some((0, 1 << 32)),
        "never the identifier 0"
    );
}

#[test]
fn a_probe_has_left_if_its_record_or_that_of_a_later_one_is_there() {
    let id = |generation, seq| SessionRing::new(0, generation).record(seq, 7).unwrap().1;
    for (record, probe, has_left) in [
        (id(5, 9), id(5, 9), true),
        (id(5, 17), id(5, 9), true),
        (id(5, 1), id(5, 9), false),
        (id(5, 3), id(5, u32::MAX - 4), true),
        (id(4, 9), id(5, 9), false),
        (id(6, 17), id(5, 9), false),
        (0, id(5, 0), false),
    ] {
        let record = InFlightRecord {
            id: record,
            sent: InFlight {
                t1_mono_ns: 1,
                t1_wire: 7,
                destination: Address::NONE,
                replies: 0,
                reserved: 0,
            },
        };
        assert_eq!(record.has_left(probe), has_left, "{record:?} {probe:x}");
    }
}

#[test]
fn a_test_port_is_one_of_four() {
    let all = [1910, 862, 0x8000, u16::MAX];
    for test_ports in [
        all,
        [1910, 862, 0, 0],
        [1, 0, 0, 0],
        [0; 4],
        [0x0100, 0x0001, 0xff00, 0x00ff],
    ] {
        let settings = Settings {
            test_ports,
            ..settings()
        };
        for port in 0..=u16::MAX {
            let expected = port != 0 && test_ports.contains(&port);
            assert_eq!(settings.is_test_port(port), expected, "{port} of {test_ports:?}");
            let or_862 = test_ports.contains(&port) || test_ports.contains(&862);
            assert_eq!(may_be_one_of(port, 862, test_ports), or_862, "{port} of {test_ports:?}");
            assert_eq!(may_be_one_of(862, port, test_ports), or_862, "{port} of {test_ports:?}");
        }
    }
}

#[test]
fn neighbours_and_the_sessions_of_a_source_have_slots_of_their_own() {
    let distinct = |slots: &mut dyn Iterator<Item = u32>| slots.collect::<std::collections::HashSet<_>>().len();
    let v4 = |host: u16| Address::from_v4([10, 1, (host >> 8) as u8, host as u8]);
    let v6 = |host: u16| Address::from_words(0xfd, u64::from(host.to_be()) << 48);
    let key = |source, ssid: u16, port: u16| ReflectorSessionKey {
        source,
        destination: v4(1),
        source_port: port.to_be(),
        destination_port: 862_u16.to_be(),
        ssid: ssid.to_be(),
        reserved: 0,
    };
    let hosts = 0..1024;
    for (what, number) in [
        ("IPv4", distinct(&mut hosts.clone().map(|host| v4(host).slot()))),
        ("IPv6", distinct(&mut hosts.clone().map(|host| v6(host).slot()))),
        (
            "SSID",
            distinct(&mut hosts.clone().map(|ssid| key(v4(2), ssid, 5).slot())),
        ),
        (
            "port",
            distinct(&mut hosts.clone().map(|port| key(v4(2), 5, port).slot())),
        ),
        (
            "host",
            distinct(&mut hosts.clone().map(|host| key(v6(host), 5, 5).slot())),
        ),
    ] {
        // At random, 31 of 1,024 would share one.
        assert!(number > 900, "{what}: {number}");
    }
    assert!((0..=u16::MAX).all(|host| v4(host).slot() < SLOTS && key(v6(host), host, host).slot() < SLOTS));
}
