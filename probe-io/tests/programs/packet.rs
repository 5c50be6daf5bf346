//! Packets, built by etherparse, which shares no code with the programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;

pub(crate) const SENDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x05];
pub(crate) const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x06];

pub(crate) const TEST_PORT: u16 = 1910;
/// Probes arrive there, too, but none are sent there.
pub(crate) const SECOND_PORT: u16 = 862;
/// Port of the far sender.
pub(crate) const PROBER_PORT: u16 = 52_001;
/// Ports of this host's sender.
pub(crate) const SENDER_PORT_V4: u16 = 40_004;
pub(crate) const SENDER_PORT_V6: u16 = 40_006;

pub(crate) const SENDER_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 5);
pub(crate) const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 6);
/// A second address of the interface; group probes are not answered from it.
pub(crate) const SECOND_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 6);
pub(crate) const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

pub(crate) const SENDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 5);
pub(crate) const SENDER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 5);
pub(crate) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 6);
pub(crate) const OWN_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 6);
pub(crate) const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x10);

pub(crate) const ETHERNET: usize = 14;
pub(crate) const UDP_V4: usize = 34;
pub(crate) const UDP_V6: usize = 54;

/// A UDP datagram in an untagged Ethernet frame.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) macs: ([u8; 6], [u8; 6]),
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ports: (u16, u16),
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
}

impl Datagram {
    /// A base probe to this host from the far sender, of the destination's IP version.
    pub(crate) fn probe(destination: impl Into<IpAddr>) -> Self {
        let destination = destination.into();
        Self {
            macs: (SENDER_MAC, mac_of(destination)),
            source: if destination.is_ipv4() {
                SENDER_V4.into()
            } else {
                SENDER_V6.into()
            },
            destination,
            ports: (PROBER_PORT, TEST_PORT),
            ttl: 61,
            payload: probe_payload(0x0102_0304, 0x0b0c),
        }
    }

    pub(crate) fn from(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = source.into();
        self
    }

    pub(crate) fn payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = payload;
        self
    }

    pub(crate) fn ports(mut self, source: u16, destination: u16) -> Self {
        self.ports = (source, destination);
        self
    }

    pub(crate) fn at_mac(mut self, mac: [u8; 6]) -> Self {
        self.macs.1 = mac;
        self
    }

    /// The reply to this probe from `own`, with the TTL of a reply.
    pub(crate) fn reply(&self, own: IpAddr, payload: Vec<u8>) -> Self {
        Self {
            macs: (OWN_MAC, self.macs.0),
            source: own,
            destination: self.source,
            ports: (self.ports.1, self.ports.0),
            ttl: 255,
            payload,
        }
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.destination.is_ipv4()
    }

    pub(crate) fn udp_at(&self) -> usize {
        if self.is_v4() { UDP_V4 } else { UDP_V6 }
    }

    /// The frame, with right lengths and checksums.
    pub(crate) fn build(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.macs.0, self.macs.1);
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), self.ttl)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ethernet.ipv6(source.octets(), destination.octets(), self.ttl)
            }
            mixed => panic!("addresses of two IP versions: {mixed:?}"),
        };
        let mut frame = Vec::new();
        ip.udp(self.ports.0, self.ports.1)
            .write(&mut frame, &self.payload)
            .unwrap();
        frame
    }
}

/// A base probe with a timestamp and random must-be-zero bytes, as a foreign sender may send.
pub(crate) fn probe_payload(sequence: u32, ssid: u16) -> Vec<u8> {
    let mut payload = stamp::probe(sequence, ErrorEstimate(0x8a0b), ssid);
    payload[stamp::TIMESTAMP..][..8].copy_from_slice(&[0xec, 0x01, 0x02, 0x03, 0x84, 0x05, 0x06, 0x07]);
    for (byte, filler) in payload[stamp::SSID + 2..].iter_mut().zip(0x60..) {
        *byte = filler;
    }
    payload.to_vec()
}

fn mac_of(destination: IpAddr) -> [u8; 6] {
    match destination {
        IpAddr::V4(group) if group.is_multicast() => {
            let [_, b, c, d] = group.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) if group.is_multicast() => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
        _ => OWN_MAC,
    }
}

/// Inserts VLAN tags with these TPIDs before the EtherType.
pub(crate) fn with_tags(frame: &[u8], tpids: &[u16]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    for tpid in tpids {
        tagged.extend(tpid.to_be_bytes());
        tagged.extend([0, 42]);
    }
    tagged.extend(&frame[12..]);
    tagged
}

/// Adds one word of IPv4 options.
pub(crate) fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    out.splice(UDP_V4..UDP_V4, [1, 1, 1, 0]);
    out[ETHERNET] = 0x46;
    add_to_length(&mut out, ETHERNET + 2, 4);
    mend_ipv4(&mut out);
    out
}

/// Sets the IPv4 fragment word: flags and offset.
pub(crate) fn with_fragment(frame: &[u8], flags_and_offset: u16) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[ETHERNET + 6..][..2].copy_from_slice(&flags_and_offset.to_be_bytes());
    mend_ipv4(&mut out);
    out
}

/// Inserts IPv6 extension headers before UDP, each given by its number and its bytes after the next-header byte.
pub(crate) fn with_extensions(frame: &[u8], headers: &[(u8, &[u8])]) -> Vec<u8> {
    const UDP: u8 = 17;
    let mut out = frame[..UDP_V6].to_vec();
    out[ETHERNET + 6] = headers[0].0;
    for (i, (_, body)) in headers.iter().enumerate() {
        out.push(headers.get(i + 1).map_or(UDP, |next| next.0));
        out.extend(*body);
    }
    let inserted = out.len() - UDP_V6;
    add_to_length(&mut out, ETHERNET + 4, inserted as u16);
    out.extend(&frame[UDP_V6..]);
    out
}

fn add_to_length(frame: &mut [u8], at: usize, more: u16) {
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + more;
    frame[at..][..2].copy_from_slice(&length.to_be_bytes());
}

/// Recomputes the IPv4 header checksum, if there is a whole IPv4 header.
pub(crate) fn mend_ipv4(frame: &mut [u8]) {
    if let Ok(header) = etherparse::Ipv4HeaderSlice::from_slice(&frame[ETHERNET.min(frame.len())..]) {
        let checksum = ipv4_checksum(header.slice());
        frame[ETHERNET + 10..][..2].copy_from_slice(&checksum);
    }
}

/// The checksum that an IPv4 header must have, over its bytes: etherparse's own ignores the reserved flag.
pub(crate) fn ipv4_checksum(header: &[u8]) -> [u8; 2] {
    let sum = etherparse::checksum::Sum16BitWords::new()
        .add_slice(&header[..10])
        .add_slice(&header[12..]);
    sum.ones_complement().to_ne_bytes()
}

/// The sum of the pseudo-header, which a local sender leaves in the UDP checksum field for a device to complete.
pub(crate) fn partial_checksum(datagram: &Datagram) -> [u8; 2] {
    let mut sum = etherparse::checksum::Sum16BitWords::new();
    sum = match (datagram.source, datagram.destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => sum.add_4bytes(a.octets()).add_4bytes(b.octets()),
        (IpAddr::V6(a), IpAddr::V6(b)) => sum.add_16bytes(a.octets()).add_16bytes(b.octets()),
        mixed => panic!("addresses of two IP versions: {mixed:?}"),
    };
    let length = (8 + datagram.payload.len() as u16).to_be_bytes();
    let complement = sum.add_2bytes([0, 17]).add_2bytes(length).ones_complement();
    (!complement).to_ne_bytes()
}

/// The frame with a partial checksum instead of a whole one.
pub(crate) fn with_partial_checksum(datagram: &Datagram) -> Vec<u8> {
    with_checksum(datagram, partial_checksum(datagram))
}

/// Overwrites the UDP checksum field of a built datagram.
pub(crate) fn with_checksum(datagram: &Datagram, checksum: [u8; 2]) -> Vec<u8> {
    let mut frame = datagram.build();
    frame[datagram.udp_at() + 6..][..2].copy_from_slice(&checksum);
    frame
}
