use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::frame::{Obstacle, udp};

/// A datagram in an untagged frame.
fn frame(family: Family, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match family {
        Family::V4 => ethernet.ipv4([10, 1, 1, 5], [10, 1, 1, 6], 64),
        Family::V6 => ethernet.ipv6([0xfd; 16], [0xfe; 16], 64),
    };
    let mut frame = Vec::new();
    ip.udp(ports.0, ports.1).write(&mut frame, payload).unwrap();
    frame
}

fn with_tags(mut frame: Vec<u8>, count: usize) -> Vec<u8> {
    frame.splice(12..12, [0x88, 0xa8, 0, 1, 0x81, 0x00, 0, 2][8 - 4 * count..].to_vec());
    frame
}

fn families() -> impl Strategy<Value = Family> {
    prop::sample::select(vec![Family::V4, Family::V6])
}

/// A VXLAN header, or a Geneve header with options of `options` words, and the port.
fn header(protocol: Protocol, network: u32, options: u8) -> (u16, Vec<u8>) {
    let network = network << 8;
    match protocol {
        Protocol::Vxlan => (VXLAN_PORT, [[8, 0, 0, 0], network.to_be_bytes()].concat()),
        Protocol::Geneve => {
            let fixed = [[options, 0, 0x65, 0x58], network.to_be_bytes()].concat();
            (GENEVE_PORT, [fixed, vec![0x5a; usize::from(options) * 4]].concat())
        }
    }
}

fn tunnel(frame: &[u8]) -> Result<(Protocol, u32, &[u8]), Miss> {
    let tunnel = Datagram::find(frame)?.tunnel()?;
    Ok((tunnel.protocol, tunnel.network, tunnel.frame))
}

#[test]
fn headers_that_carry_no_frame_are_foreign() {
    let (vxlan, geneve) = (header(Protocol::Vxlan, 42, 0).1, header(Protocol::Geneve, 42, 1).1);
    let changed = |header: &[u8], at: usize, byte| {
        let mut header = header.to_vec();
        header[at] = byte;
        [header, vec![0; 60]].concat()
    };
    for (port, payload, want) in [
        (VXLAN_PORT, changed(&vxlan, 0, 0x08), Ok(Protocol::Vxlan)),
        (VXLAN_PORT_OF_LINUX, changed(&vxlan, 0, 0x88), Ok(Protocol::Vxlan)),
        (VXLAN_PORT, changed(&vxlan, 0, 0xf7), Err(Miss::Foreign)),
        (4790, changed(&vxlan, 0, 0x08), Err(Miss::Foreign)),
        (GENEVE_PORT, changed(&geneve, 0, 0x01), Ok(Protocol::Geneve)),
        (GENEVE_PORT, changed(&geneve, 0, 0x41), Err(Miss::Foreign)),
        // An IPv4 packet without an Ethernet header.
        (GENEVE_PORT, changed(&geneve, 2, 0x08), Err(Miss::Foreign)),
        (VXLAN_PORT, vxlan[..7].to_vec(), Err(Miss::Short)),
        (GENEVE_PORT, Vec::new(), Err(Miss::Short)),
    ] {
        let frame = frame(Family::V4, (50_000, port), &payload);
        let found = tunnel(&frame).map(|(protocol, ..)| protocol);
        assert_eq!(found, want, "{port}: {payload:02x?}");
    }
}

proptest! {
    #[test]
    fn the_inner_frame_is_found_behind_tags_and_options(family in families(), tags in 0..=2_usize, is_geneve: bool,
                                                        network in 0..1_u32 << 24, options in 0..64_u8,
                                                        inner in prop::collection::vec(any::<u8>(), 0..80)) {
        let protocol = if is_geneve { Protocol::Geneve } else { Protocol::Vxlan };
        let (port, header) = header(protocol, network, options);
        let outer = with_tags(frame(family, (50_000, port), &[header, inner.clone()].concat()), tags);
        prop_assert_eq!(tunnel(&outer), Ok((protocol, network, &inner[..])));
    }

    #[test]
    fn a_datagram_is_found_where_the_other_parser_meets_no_more_than_tags(family in families(), tags in 0..=3_usize,
                                                                           at in 12_usize..70, byte: u8) {
        let mut frame = with_tags(frame(family, (40_000, 1910), &[0; 44]), tags.min(2));
        if tags == 3 {
            frame.splice(12..12, [0x81, 0x00, 0, 3]);
        }
        frame[at] = byte;
        let ours = Datagram::find(&frame[..]).map(|found| (found.source_port, found.destination_port));
        match udp(&frame[..]) {
            Some(theirs) if matches!(theirs.obstacle, None | Some(Obstacle::Vlan)) => {
                // Tags hide what follows them.
                if theirs.obstacle.is_none() || ours.is_ok() {
                    prop_assert_eq!(ours, Ok((theirs.source_port, theirs.destination_port)));
                }
            }
            _ => prop_assert_eq!(ours, Err(Miss::Foreign)),
        }
    }

    #[test]
    fn a_part_of_a_frame_is_too_short_or_enough(family in families(), tags in 0..=2_usize, options in 0..4_u8,
                                                at in 12_usize..100, byte: u8) {
        let (port, header) = header(Protocol::Geneve, 7, options);
        let inner = frame(family, (40_000, 1910), &[0; 44]);
        let mut outer = with_tags(frame(family, (50_000, port), &[header, inner].concat()), tags);
        outer[at] = byte;
        let ports = |frame: &[u8]| -> Result<_, Miss> {
            let inner = Datagram::find(Datagram::find(frame)?.tunnel()?.frame)?;
            Ok((inner.source_port, inner.destination_port))
        };
        let whole = ports(&outer);
        for length in 0..outer.len() {
            let part = ports(&outer[..length]);
            prop_assert!(part == Err(Miss::Short) || part == whole, "{part:?} of {length} bytes, not {whole:?}");
        }
    }
}
