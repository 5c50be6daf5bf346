use super::*;
use crate::frame::Obstacle;

fn address(text: &str) -> Address {
    text.parse::<core::net::IpAddr>().unwrap().into()
}

fn settings() -> Settings {
    Settings {
        abi_version: ABI_VERSION,
        interface: 1,
        tai_offset_ns: 0,
        test_ports: [1910, 862, 0, 0],
        sender_port_v4: 40_004,
        sender_port_v6: 40_006,
        error_estimate: 1,
        reserved: 0,
        mac: [2, 0, 0, 0, 0, 6],
        partial_checksums: 0,
        ingress_is_second: 0,
        own_v4: address("10.1.1.6"),
        own_v6: address("fd01::6"),
        policy_generation: 0,
        port_batch: 1,
        max_replies: MAX_REPLIES,
        reserved_too: 0,
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
