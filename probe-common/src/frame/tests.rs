use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfe; 16]);

fn v4_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4([10, 1, 1, 5], [10, 1, 1, 6], 64)
        .udp(40000, 1910)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn v6_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv6(V6.0, V6.1, 64)
        .udp(40000, 1910)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn with_tags(frame: &[u8], tags: &[u16]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    for tpid in tags {
        tagged.extend(tpid.to_be_bytes());
        tagged.extend([0, 42]);
    }
    tagged.extend(&frame[12..]);
    tagged
}

/// Inserts IPv6 extension headers, given as (their own number, bytes without the next-header byte).
fn with_extensions(frame: &[u8], headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = frame[..54].to_vec();
    out[20] = headers[0].0;
    let mut inserted = 0;
    for (i, (_, body)) in headers.iter().enumerate() {
        out.push(headers.get(i + 1).map_or(PROTOCOL_UDP, |next| next.0));
        out.extend(body);
        inserted += 1 + body.len() as u16;
    }
    out.extend(&frame[54..]);
    let payload = u16::from_be_bytes([out[18], out[19]]) + inserted;
    out[18..20].copy_from_slice(&payload.to_be_bytes());
    out
}

/// A datagram of the frames above, with a payload of `length` bytes.
fn datagram(family: Family, obstacle: Option<Obstacle>, length: u16) -> Option<Udp> {
    Some(Udp {
        family,
        obstacle,
        source_port: 40000,
        destination_port: 1910,
        ip_payload_len: 8 + length,
        udp_len: 8 + length,
    })
}

fn payload_len(frame: &[u8]) -> Option<usize> {
    udp(frame).expect("a UDP datagram").payload_len()
}

#[test]
fn plain_frames() {
    for length in [0, 1, 44, 1000] {
        let payload = vec![0; length.into()];
        assert_eq!(udp(&v4_frame(&payload)[..]), datagram(Family::V4, None, length));
        assert_eq!(udp(&v6_frame(&payload)[..]), datagram(Family::V6, None, length));
        assert_eq!(payload_len(&v4_frame(&payload)), Some(length.into()));
    }
}

#[test]
fn obstacles_are_recognised_and_the_ports_still_found() {
    let v4 = v4_frame(&[0; 44]);
    let v6 = v6_frame(&[0; 44]);
    let mut options = v4.clone();
    options[14] = 0x46;
    let total = u16::from_be_bytes([options[16], options[17]]) + 4;
    options[16..18].copy_from_slice(&total.to_be_bytes());
    options.splice(34..34, [1, 1, 1, 0]);
    let mut fragment = v4.clone();
    fragment[20] = 0x20;
    let hop_by_hop = (HOP_BY_HOP, vec![0, 1, 4, 0, 0, 0, 0]);
    let long_options = (DESTINATION_OPTIONS, [vec![1], vec![0; 14]].concat());
    let authentication = (AUTHENTICATION, [vec![1], vec![0; 10]].concat());
    let first_fragment = (FRAGMENT, vec![0, 0, 1, 0, 0, 0, 7]);

    let table = [
        (with_tags(&v4, &[0x8100]), Family::V4, Obstacle::Vlan),
        (with_tags(&v6, &[0x8100]), Family::V6, Obstacle::Vlan),
        (with_tags(&v4, &[0x88a8, 0x8100]), Family::V4, Obstacle::Vlan),
        (with_tags(&options, &[0x8100]), Family::V4, Obstacle::Vlan),
        (options, Family::V4, Obstacle::IpOptions),
        (fragment, Family::V4, Obstacle::Fragment),
        (
            with_extensions(&v6, std::slice::from_ref(&hop_by_hop)),
            Family::V6,
            Obstacle::Extension,
        ),
        (
            with_extensions(&v6, &[hop_by_hop.clone(), long_options]),
            Family::V6,
            Obstacle::Extension,
        ),
        (with_extensions(&v6, &[authentication]), Family::V6, Obstacle::Extension),
        (
            with_extensions(&v6, std::slice::from_ref(&first_fragment)),
            Family::V6,
            Obstacle::Fragment,
        ),
        (
            with_extensions(&v6, &[hop_by_hop, first_fragment]),
            Family::V6,
            Obstacle::Extension,
        ),
    ];
    for (frame, family, obstacle) in table {
        assert_eq!(udp(&frame[..]), datagram(family, Some(obstacle), 44), "{obstacle:?}");
    }
}

#[test]
fn frames_without_ports_are_left_alone() {
    let v4 = v4_frame(&[0; 44]);
    let v6 = v6_frame(&[0; 44]);
    let mut later_fragment = v4.clone();
    later_fragment[21] = 1;
    let mut tcp = v4.clone();
    tcp[23] = 6;
    let mut arp = v4.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut version = v4.clone();
    version[14] = 0x65;
    let mut version_v6 = v6.clone();
    version_v6[14] = 0x40;
    let mut short_header = v4.clone();
    short_header[14] = 0x44;
    let later_v6 = with_extensions(&v6, &[(FRAGMENT, vec![0, 0x05, 0xa8, 0, 0, 0, 7])]);
    let endless = with_extensions(&v6, &vec![(HOP_BY_HOP, vec![0, 1, 4, 0, 0, 0, 0]); 5]);
    let triple = with_tags(&v4, &[0x88a8, 0x8100, 0x8100]);
    for frame in [
        later_fragment,
        tcp,
        arp,
        version,
        version_v6,
        short_header,
        later_v6,
        endless,
        triple,
        Vec::new(),
    ] {
        assert_eq!(udp(&frame[..]), None, "{frame:02x?}");
    }
}

#[test]
fn most_frames_of_others_are_foreign_at_a_look() {
    let is_ours = |_, destination| destination == 1910;
    let foreign = |frame: &[u8]| is_foreign(frame, is_ours);
    let other = |mut frame: Vec<u8>, port_at: usize| {
        frame[port_at..port_at + 2].copy_from_slice(&443u16.to_be_bytes());
        frame
    };
    let (v4, v6) = (v4_frame(&[0; 44]), v6_frame(&[0; 44]));
    let mut tcp = v4.clone();
    tcp[23] = 6;
    assert!(foreign(&tcp) && foreign(&other(v4.clone(), 36)) && foreign(&other(v6.clone(), 56)));
    assert!(!foreign(&v4) && !foreign(&v6));
    assert!(
        !is_foreign(&v4[..], |source, _| source == 40000),
        "the source may be of interest"
    );
}

#[test]
fn lengths_must_agree() {
    let mut frame = v4_frame(&[0; 44]);
    frame.extend([0xee; 10]);
    assert_eq!(payload_len(&frame), Some(44), "Ethernet padding is not payload");
    frame[38..40].copy_from_slice(&60u16.to_be_bytes());
    assert_eq!(payload_len(&frame), None, "UDP claims more than IP");
    frame[38..40].copy_from_slice(&7u16.to_be_bytes());
    assert_eq!(payload_len(&frame), None, "UDP claims less than its header");
}

#[test]
fn every_truncation_is_safe() {
    for full in [v4_frame(&[0; 44]), with_tags(&v6_frame(&[0; 44]), &[0x8100])] {
        for len in 0..full.len() {
            let _ = udp(&full[..len]);
        }
    }
}

proptest! {
    #[test]
    fn never_reads_beyond_the_frame(frame in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = udp(&frame[..]);
    }

    #[test]
    fn no_frame_of_interest_is_foreign(mut frame in prop::sample::select(vec![v4_frame(&[0; 44]), v6_frame(&[0; 44]),
                                                                              with_tags(&v4_frame(&[0; 44]), &[0x8100])]),
                                       at in 12usize..60, byte: u8) {
        frame[at] = byte;
        let is_ours = |_, destination| destination == 1910;
        if udp(&frame[..]).is_some_and(|udp| is_ours(udp.source_port, udp.destination_port)) {
            prop_assert!(!is_foreign(&frame[..], is_ours));
        }
    }

    #[test]
    fn agrees_with_etherparse(mut frame in prop::sample::select(vec![v4_frame(&[0; 44]), v6_frame(&[0; 44])]),
                              at in 12usize..60, byte: u8) {
        frame[at] = byte;
        let theirs = etherparse::SlicedPacket::from_ethernet(&frame).ok().and_then(|sliced| match sliced.transport {
            Some(etherparse::TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
            _ => None,
        });
        if let Some(theirs) = theirs {
            let ours = udp(&frame[..]).map(|udp| (udp.source_port, udp.destination_port));
            prop_assert_eq!(ours, Some(theirs));
        }
    }
}
