use etherparse::{PacketBuilder, SlicedPacket};
use proptest::prelude::*;

use super::*;
use crate::abi::{ABI_VERSION, Limit};
use crate::ntp::ErrorEstimate;

const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
const GROUP_MAC: [u8; 6] = [1, 0, 0x5e, 0x7f, 0xff, 0xfa];

fn payload(sequence: u32, ssid: u16) -> [u8; stamp::BASE_LEN] {
    let mut payload = stamp::probe(sequence, ErrorEstimate(0x0a0b), ssid);
    payload[stamp::TIMESTAMP..][..8].copy_from_slice(&[0xe0, 1, 2, 3, 4, 5, 6, 7]);
    payload
}

fn v4(destination_mac: [u8; 6], destination: [u8; 4], payload: &[u8]) -> V4 {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(SENDER_MAC, destination_mac)
        .ipv4([10, 1, 1, 5], destination, 61)
        .udp(40000, 1910)
        .write(&mut frame, payload)
        .unwrap();
    V4(frame.try_into().unwrap())
}

fn v6(source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> V6 {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(SENDER_MAC, OWN_MAC)
        .ipv6(source, destination, 62)
        .udp(40000, 1910)
        .write(&mut frame, payload)
        .unwrap();
    V6(frame.try_into().unwrap())
}

fn reply<'a>(own: &'a Address, sequence: u32, partial: bool) -> Answer<'a> {
    Answer {
        mac: OWN_MAC,
        own,
        sequence,
        receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
        error: 0xc0c1,
        beyond: Sum::ZERO,
        partial,
    }
}

/// The reply's payload as [`stamp::into_reply`] would make it.
fn expected_payload(probe: &[u8; stamp::BASE_LEN], sequence: u32, ttl: u8) -> [u8; stamp::BASE_LEN] {
    let mut payload = *probe;
    let fields = stamp::ReplyFields {
        sequence,
        transmit: NtpTime(0xb0b1_b2b3_b4b5_b6b7),
        error: ErrorEstimate(0xc0c1),
        receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
        ttl,
    };
    assert!(stamp::into_reply(&mut payload, &fields));
    payload
}

fn transmit() -> NtpTime {
    NtpTime(0xb0b1_b2b3_b4b5_b6b7)
}

/// Builds the reply from scratch with a library and compares every byte.
fn assert_v4_reply(frame: &V4, own: [u8; 4], payload: &[u8]) {
    let mut expected = Vec::new();
    PacketBuilder::ethernet2(OWN_MAC, SENDER_MAC)
        .ipv4(own, [10, 1, 1, 5], 255)
        .udp(1910, 40000)
        .write(&mut expected, payload)
        .unwrap();
    assert_eq!(frame.0[..], expected[..]);
}

#[test]
fn unicast_v4_every_byte() {
    let probe = payload(7, 9);
    let mut frame = v4(OWN_MAC, [10, 1, 1, 6], &probe);
    assert_eq!(frame.checksum(Sum::ZERO), Found::Full);
    answer(&mut frame, &reply(&Address::from_v4([10, 1, 1, 6]), 3, false), transmit);
    assert_v4_reply(&frame, [10, 1, 1, 6], &expected_payload(&probe, 3, 61));
}

#[test]
fn group_v4_is_answered_from_the_own_address_and_mac() {
    let probe = payload(7, 9);
    let mut frame = v4(GROUP_MAC, [239, 255, 255, 250], &probe);
    answer(&mut frame, &reply(&Address::from_v4([10, 1, 1, 6]), 0, false), transmit);
    assert_v4_reply(&frame, [10, 1, 1, 6], &expected_payload(&probe, 0, 61));
}

#[test]
fn v6_every_byte() {
    let (sender, own) = ([0xfd; 16], [0xfc; 16]);
    let probe = payload(u32::MAX, u16::MAX);
    let mut frame = v6(sender, own, &probe);
    assert_eq!(frame.checksum(Sum::ZERO), Found::Full);
    answer(&mut frame, &reply(&Address::from_bytes(own), u32::MAX, false), transmit);
    let mut expected = Vec::new();
    PacketBuilder::ethernet2(OWN_MAC, SENDER_MAC)
        .ipv6(own, sender, 255)
        .udp(1910, 40000)
        .write(&mut expected, &expected_payload(&probe, u32::MAX, 62))
        .unwrap();
    assert_eq!(frame.0[..], expected[..]);
}

#[test]
fn a_partial_checksum_stays_partial_only_if_asked() {
    let mut frame = v4(GROUP_MAC, [239, 255, 255, 250], &payload(7, 9));
    let pseudo = frame.pseudo().fold();
    frame.0[40..42].copy_from_slice(&pseudo);
    assert_eq!(frame.checksum(Sum::ZERO), Found::Partial);
    answer(&mut frame, &reply(&Address::from_v4([10, 1, 1, 6]), 0, true), transmit);
    assert_eq!(frame.0[40..42], frame.pseudo().fold());
    assert_eq!(frame.checksum(Sum::ZERO), Found::Partial);
}

#[test]
fn checksums_are_judged() {
    let mut v4 = v4(OWN_MAC, [10, 1, 1, 6], &payload(7, 9));
    v4.0[50] ^= 1;
    assert_eq!(v4.checksum(Sum::ZERO), Found::Wrong);
    v4.0[40..42].fill(0);
    assert_eq!(v4.checksum(Sum::ZERO), Found::Full);
    let mut v6 = v6([0xfd; 16], [0xfc; 16], &payload(7, 9));
    v6.0[60..62].fill(0);
    assert_eq!(v6.checksum(Sum::ZERO), Found::Wrong);
}

#[test]
fn only_an_ipv4_header_has_a_checksum_of_its_own() {
    for flipped in 14..34 {
        let mut frame = v4(OWN_MAC, [10, 1, 1, 6], &payload(7, 9));
        assert!(frame.network_is_intact());
        frame.0[flipped] ^= 0x20;
        assert!(!frame.network_is_intact(), "byte {flipped}");
    }
    let mut frame = v6([0xfd; 16], [0xfc; 16], &payload(7, 9));
    frame.0[21] ^= 0x20;
    assert!(frame.network_is_intact());
}

#[test]
fn only_stations_are_answered() {
    let mut frame = v4(OWN_MAC, [10, 1, 1, 6], &payload(7, 9));
    assert!(frame.is_from_station());
    for group in [GROUP_MAC, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
        frame.0[6..12].copy_from_slice(&group);
        assert!(!frame.is_from_station(), "{group:02x?}");
    }
}

#[test]
fn only_hosts_are_answered() {
    for (source, answerable) in [
        ([10, 1, 1, 5], true),
        ([223, 255, 255, 1], true),
        ([0, 0, 0, 0], false),
        ([127, 0, 0, 1], false),
        ([224, 0, 0, 1], false),
        ([239, 255, 255, 250], false),
        ([255, 255, 255, 255], false),
    ] {
        let mut frame = v4(OWN_MAC, [10, 1, 1, 6], &payload(7, 9));
        frame.0[26..30].copy_from_slice(&source);
        assert_eq!(frame.source_is_answerable(), answerable, "{source:?}");
    }
    for (source, answerable) in [
        ("fd00::5", true),
        ("fe80::5", true),
        ("::", false),
        ("::1", false),
        ("ff02::1", false),
    ] {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        let frame = v6(source.octets(), [0xfc; 16], &payload(7, 9));
        assert_eq!(frame.source_is_answerable(), answerable, "{source}");
    }
}

#[test]
fn own_address_follows_the_senders_scope() {
    let settings = Settings {
        abi_version: ABI_VERSION,
        interface: 1,
        tai_offset_ns: 0,
        test_port: 1910,
        sender_port_v4: 0,
        sender_port_v6: 0,
        error_estimate: 1,
        mac: OWN_MAC,
        partial_checksums: 0,
        ingress_is_second: 0,
        own_v4: Address::from_v4([10, 1, 1, 6]),
        own_v6: Address::NONE,
        own_v6_link_local: Address::from_bytes([0xfe; 16]),
        policy_generation: 0,
        port_batch: 1,
        source_limit: Limit::NONE,
        group_limit: Limit::NONE,
        port_limit: Limit::NONE,
    };
    let mut link_local = [0; 16];
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    assert_eq!(
        v4(OWN_MAC, [10, 1, 1, 6], &payload(0, 0)).own_address(&settings),
        Some(settings.own_v4)
    );
    assert_eq!(
        v6(link_local, [0xff; 16], &payload(0, 0)).own_address(&settings),
        Some(Address::from_bytes([0xfe; 16]))
    );
    assert_eq!(v6([0xfd; 16], [0xff; 16], &payload(0, 0)).own_address(&settings), None);
}

proptest! {
    #[test]
    fn every_reply_has_right_checksums(bytes: [u8; stamp::BASE_LEN], sequence: u32, transmit: u64, receive: u64) {
        let own = Address::from_v4([10, 1, 1, 6]);
        let fields = Answer { mac: OWN_MAC, own: &own, sequence, receive: NtpTime(receive), error: 1, beyond: Sum::ZERO, partial: false };
        let mut frame = v4(GROUP_MAC, [239, 255, 255, 250], &bytes);
        answer(&mut frame, &fields, || NtpTime(transmit));
        prop_assert_eq!(frame.checksum(Sum::ZERO), Found::Full);
        let sliced = SlicedPacket::from_ethernet(&frame.0).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("no IPv4") };
        prop_assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
    }
}
