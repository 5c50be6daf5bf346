use etherparse::{PacketBuilder, PacketBuilderStep, SlicedPacket, UdpHeader};
use proptest::prelude::*;

use super::*;
use crate::abi::ReflectorSessionKey;

const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
const GROUP_MAC: [u8; 6] = [1, 0, 0x5e, 0x7f, 0xff, 0xfa];
const SENDER_V4: [u8; 4] = [10, 1, 1, 5];
const OWN_V4: [u8; 4] = [10, 1, 1, 6];
const SENDER_V6: [u8; 16] = [0xfd; 16];
const OWN_V6: [u8; 16] = [0xfc, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const T3: NtpTime = NtpTime(0xb0b1_b2b3_b4b5_b6b7);
const PROBE: [u8; stamp::BASE_LEN] = {
    let mut probe = [0; stamp::BASE_LEN];
    let fields = [0, 0, 0, 7, 0xe0, 1, 2, 3, 4, 5, 6, 7, 0x0a, 0x0b, 0, 9];
    let mut at = 0;
    while at < fields.len() {
        probe[at] = fields[at];
        at += 1;
    }
    probe
};

fn built<const LENGTH: usize>(headers: PacketBuilderStep<UdpHeader>, payload: &[u8]) -> [u8; LENGTH] {
    let mut frame = Vec::new();
    headers.write(&mut frame, payload).unwrap();
    frame[..LENGTH].try_into().unwrap()
}

fn v4_to<const LENGTH: usize>(mac: [u8; 6], destination: [u8; 4], payload: &[u8]) -> V4<LENGTH> {
    let ethernet = PacketBuilder::ethernet2(SENDER_MAC, mac);
    V4(built(
        ethernet.ipv4(SENDER_V4, destination, 61).udp(40000, 1910),
        payload,
    ))
}

fn v4<const LENGTH: usize>(payload: &[u8]) -> V4<LENGTH> {
    v4_to(OWN_MAC, OWN_V4, payload)
}

fn v6<const LENGTH: usize>(payload: &[u8]) -> V6<LENGTH> {
    let ethernet = PacketBuilder::ethernet2(SENDER_MAC, OWN_MAC);
    V6(built(ethernet.ipv6(SENDER_V6, OWN_V6, 62).udp(40000, 1910), payload))
}

/// The reply's frame, built from scratch.
fn v4_reply<const LENGTH: usize>(payload: &[u8]) -> [u8; LENGTH] {
    let ethernet = PacketBuilder::ethernet2(OWN_MAC, SENDER_MAC);
    built(ethernet.ipv4(OWN_V4, SENDER_V4, 255).udp(1910, 40000), payload)
}

fn v6_reply<const LENGTH: usize>(payload: &[u8]) -> [u8; LENGTH] {
    let ethernet = PacketBuilder::ethernet2(OWN_MAC, SENDER_MAC);
    built(ethernet.ipv6(OWN_V6, SENDER_V6, 255).udp(1910, 40000), payload)
}

fn inputs(own: &Address) -> ReplyInputs<'_> {
    ReplyInputs {
        mac: OWN_MAC,
        own,
        sequence: 3,
        receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
        error: ErrorEstimate(0xc0c1),
        kept: Sum::ZERO,
        partial: false,
    }
}

/// Turns a probe into its reply as the kernel program does, with `trailer` behind the base packet.
fn answer<F: BaseFrame>(frame: &mut F, trailer: Sum, inputs: &ReplyInputs<'_>) {
    let kept = frame.kept(frame.sums().0, trailer);
    reply(frame, &ReplyInputs { kept, ..*inputs }, || T3);
}

/// The payload of the reply to [`PROBE`], as the userspace reflector would make it.
fn reply_payload(ttl: u8) -> [u8; stamp::BASE_LEN] {
    let mut payload = PROBE;
    let fields = stamp::ReplyFields {
        sequence: 3,
        transmit: T3,
        error: ErrorEstimate(0xc0c1),
        receive: NtpTime(0xd0d1_d2d3_d4d5_d6d7),
        ttl,
    };
    assert!(stamp::into_reply(&mut payload, &fields));
    payload
}

#[test]
fn every_byte_of_a_reply() {
    let (own_v4, own_v6) = (Address::from_v4(OWN_V4), Address::from_bytes(OWN_V6));
    for (mac, destination) in [(OWN_MAC, OWN_V4), (GROUP_MAC, [239, 255, 255, 250])] {
        let mut frame: V4 = v4_to(mac, destination, &PROBE);
        answer(&mut frame, Sum::ZERO, &inputs(&own_v4));
        assert_eq!(frame.0, v4_reply(&reply_payload(61)));
    }
    let mut frame: V6 = v6(&PROBE);
    answer(&mut frame, Sum::ZERO, &inputs(&own_v6));
    assert_eq!(frame.0, v6_reply(&reply_payload(62)));
}

#[test]
fn a_reply_keeps_the_dscp_and_no_ecn() {
    let (own_v4, own_v6) = (Address::from_v4(OWN_V4), Address::from_bytes(OWN_V6));
    for ecn in 0..4 {
        let (mut v4, mut v6): (V4, V6) = (v4(&PROBE), v6(&PROBE));
        v4.0[15] = 46 << 2 | ecn;
        // The checksum of the header that `v4` makes, whose type of service is 0.
        let checksum = !u16::from_be_bytes([v4.0[24], v4.0[25]]) + u16::from(v4.0[15]);
        v4.0[24..26].copy_from_slice(&(!checksum).to_be_bytes());
        v6.0[14..16].copy_from_slice(&[0x6b, 0x8f | ecn << 4]);
        answer(&mut v4, Sum::ZERO, &inputs(&own_v4));
        assert_eq!(v4.0[15], 46 << 2, "ECN {ecn}");
        assert!(v4.is_intact(Sum::ZERO));
        answer(&mut v6, Sum::ZERO, &inputs(&own_v6));
        assert_eq!(v6.0[14..16], [0x6b, 0x8f], "ECN {ecn}");
        assert!(v6.is_intact(Sum::ZERO));
    }
}

#[test]
fn the_trailer_is_part_of_the_checksum() {
    let longer = [&PROBE[..], &[1, 2, 3]].concat();
    let trailer = Sum::ZERO.word([1, 2]).word([3, 0]);
    let mut frame: V4 = v4(&longer);
    assert_eq!(
        (frame.checksum(trailer), frame.checksum(Sum::ZERO)),
        (State::Full, State::Wrong)
    );
    assert_eq!((frame.is_intact(trailer), frame.is_intact(Sum::ZERO)), (true, false));
    let own = Address::from_v4(OWN_V4);
    answer(&mut frame, trailer, &inputs(&own));
    assert_eq!(frame.0, v4_reply(&[&reply_payload(61)[..], &[1, 2, 3]].concat()));
}

#[test]
fn a_returned_datagram_differs_only_in_its_headers() {
    let sum = Sum::ZERO.word(*b"19").word(*b"1\0");
    let mut frame: V4<V4_HEADERS> = v4(b"191");
    assert_eq!(
        (frame.checksum_over(sum), frame.checksum_over(Sum::ZERO)),
        (State::Full, State::Wrong)
    );
    frame.send_back(OWN_MAC, &Address::from_v4(OWN_V4), sum, false);
    assert_eq!(frame.0, v4_reply(b"191"));
    let mut frame: V6<V6_HEADERS> = v6(b"191");
    frame.send_back(OWN_MAC, &Address::from_bytes(OWN_V6), sum, false);
    assert_eq!(frame.0, v6_reply(b"191"));
}

#[test]
fn a_partial_checksum_stays_partial_only_if_asked() {
    let own = Address::from_v4(OWN_V4);
    for (partial, state) in [(true, State::Partial), (false, State::Full)] {
        let mut frame: V4 = v4(&PROBE);
        let pseudo = frame.pseudo().fold();
        frame.0[40..42].copy_from_slice(&pseudo);
        assert!(frame.checksum(Sum::ZERO) == State::Partial && frame.is_intact(Sum::ZERO));
        answer(
            &mut frame,
            Sum::ZERO,
            &ReplyInputs {
                partial,
                ..inputs(&own)
            },
        );
        assert_eq!(frame.checksum(Sum::ZERO), state);
        frame.send_back(OWN_MAC, &own, Sum::ZERO, true);
        assert_eq!(frame.checksum(Sum::ZERO), State::Partial);
    }
}

#[test]
fn a_damaged_packet_is_not_intact() {
    // In an IPv6 frame: from the source address on, as nothing protects what is before.
    for at in 14..V4_FRAME {
        let mut frame: V4 = v4(&PROBE);
        frame.0[at] ^= 0x20;
        assert!(!frame.is_intact(Sum::ZERO), "byte {at}");
        assert_eq!(frame.network_is_intact(), at >= V4_HEADERS - UDP_LEN, "byte {at}");
    }
    for at in 14..V6_FRAME {
        let mut frame: V6 = v6(&PROBE);
        frame.0[at] ^= 0x20;
        assert_eq!(frame.is_intact(Sum::ZERO), at < V6_SOURCE, "byte {at}");
        assert!(frame.network_is_intact());
    }
    let (mut v4, mut v6): (V4, V6) = (v4(&PROBE), v6(&PROBE));
    v4.0[40..42].fill(0);
    v6.0[60..62].fill(0);
    assert!(
        v4.is_intact(Sum::ZERO) && !v6.is_intact(Sum::ZERO),
        "IPv4 allows no checksum"
    );
}

#[test]
fn headers_are_read_where_they_are() {
    let (v4, v6): (V4, V6) = (v4(&PROBE), v6(&PROBE));
    assert_eq!(
        (v4.source(), v4.destination()),
        (Address::from_v4(SENDER_V4), Address::from_v4(OWN_V4))
    );
    assert_eq!(
        (v6.source(), v6.destination()),
        (Address::from_bytes(SENDER_V6), Address::from_bytes(OWN_V6))
    );
    assert_eq!((v4.ttl(), v6.ttl()), (61, 62));
    for at in 0..6 {
        let mut mac = OWN_MAC;
        assert!(v4.is_for_mac(mac));
        mac[at] ^= 1;
        assert!(!v4.is_for_mac(mac), "byte {at}");
    }
}

#[test]
fn the_session_of_a_probe_is_read_from_it() {
    for (has_ssid, ssid) in [(true, [0, 9]), (false, [0, 0])] {
        let key = ReflectorSessionKey {
            source: Address::from_v4(SENDER_V4),
            destination: Address::from_v4(OWN_V4),
            source_port: 40000_u16.to_be(),
            destination_port: 1910_u16.to_be(),
            ssid: u16::from_ne_bytes(ssid),
            reserved: 0,
        };
        let (v4, v6): (V4, V6) = (v4(&PROBE), v6(&PROBE));
        let read = ReflectorSessionKey::new(v4.source(), v4.destination(), v4.session(has_ssid));
        assert!(read == key && read.is(&key) && key.rest() == v6.session(has_ssid));
    }
}

#[test]
fn only_one_host_is_answered() {
    for (source_mac, source, answerable) in [
        (SENDER_MAC, SENDER_V4, true),
        (SENDER_MAC, [224, 0, 0, 1], false),
        (GROUP_MAC, SENDER_V4, false),
        ([0xff; 6], SENDER_V4, false),
        ([0x33, 0x33, 0, 0, 0, 1], SENDER_V4, false),
    ] {
        let mut frame: V4 = v4(&PROBE);
        frame.0[6..12].copy_from_slice(&source_mac);
        frame.0[26..30].copy_from_slice(&source);
        assert_eq!(frame.source_is_answerable(), answerable, "{source_mac:02x?} {source:?}");
    }
    let mut frame: V6 = v6(&PROBE);
    assert!(frame.source_is_answerable());
    frame.0[V6_SOURCE..][..16].copy_from_slice(&Address::from_v4(SENDER_V4).bytes());
    assert!(!frame.source_is_answerable(), "IPv4 in an IPv6 header");
}

#[test]
fn a_reply_is_never_answered() {
    let (mut v4, mut v6): (V4, V6) = (v4(&PROBE), v6(&PROBE));
    assert!(!v4.is_reply_shaped(false) && !v6.is_reply_shaped(false));
    answer(&mut v4, Sum::ZERO, &inputs(&Address::from_v4(OWN_V4)));
    answer(&mut v6, Sum::ZERO, &inputs(&Address::from_bytes(OWN_V6)));
    assert!(v4.is_reply_shaped(false) && v6.is_reply_shaped(false));
}

proptest! {
    #[test]
    fn every_reply_has_right_checksums(bytes: [u8; stamp::BASE_LEN], sequence: u32, transmit: u64, receive: u64) {
        let own = Address::from_v4(OWN_V4);
        let mut frame: V4 = v4(&bytes);
        let kept = frame.kept(frame.sums().0, Sum::ZERO);
        let inputs = ReplyInputs { sequence, receive: NtpTime(receive), kept, ..inputs(&own) };
        reply(&mut frame, &inputs, || NtpTime(transmit));
        prop_assert_eq!(frame.checksum(Sum::ZERO), State::Full);
        let sliced = SlicedPacket::from_ethernet(&frame.0).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else { panic!("no IPv4") };
        prop_assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
    }
}
