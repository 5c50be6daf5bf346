//! The Location TLV (RFC 8972 §4.2): two ports, then sub-TLVs. A sender asks for an address of any kind; the reflector
//! replaces the sub-TLV by one of a particular kind and the same length.

use core::net::IpAddr;

use crate::tlv::{HEADER_LEN, Tlv, Tlvs, Writer, flag, malformed, read, span};

/// Types of sub-TLVs (RFC 8972 §5.2, table 5).
pub(super) mod sub {
    pub const SOURCE_MAC: u8 = 1;
    pub const SOURCE_EUI_48: u8 = 2;
    pub const SOURCE_EUI_64: u8 = 3;
    pub const DESTINATION_IP: u8 = 4;
    pub const DESTINATION_IPV4: u8 = 5;
    pub const DESTINATION_IPV6: u8 = 6;
    pub const SOURCE_IP: u8 = 7;
    pub const SOURCE_IPV4: u8 = 8;
    pub const SOURCE_IPV6: u8 = 9;
}

/// Bytes of the two ports.
const PORTS_LEN: usize = 4;
/// Length of the value of a sub-TLV with a MAC address.
const MAC_LEN: usize = 8;
/// Length of the value of a sub-TLV with an IP address of either version.
const IP_LEN: usize = 16;

/// A Location value as it stands in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location<'a> {
    /// Destination port with which the test packet arrived.
    pub destination_port: u16,
    /// Source port with which it arrived.
    pub source_port: u16,
    subs: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocationSub {
    /// Source MAC address with which the test packet arrived.
    SourceMac([u8; 6]),
    /// Source address with which it arrived.
    Source(IpAddr),
    /// Destination address with which it arrived.
    Destination(IpAddr),
    /// No address: a question, unknown to the reflector, not reported, or malformed.
    Other,
}

/// Length of the value of [`Location::question`].
const QUESTION_LEN: usize = PORTS_LEN + 2 * (HEADER_LEN + IP_LEN);

impl<'a> Location<'a> {
    /// The value with which a sender asks for both ports and both addresses.
    pub fn question() -> [u8; QUESTION_LEN] {
        let mut value = [0; QUESTION_LEN];
        let mut subs = Writer::new(&mut value[PORTS_LEN..]);
        for kind in [sub::SOURCE_IP, sub::DESTINATION_IP] {
            // The array has room for these two.
            let fits = subs.push(kind, &[0; IP_LEN]);
            debug_assert!(fits.is_ok());
        }
        value
    }

    pub fn read(value: &'a [u8]) -> Option<Self> {
        let (&[d0, d1, s0, s1], subs) = value.split_first_chunk::<PORTS_LEN>()?;
        Some(Self {
            destination_port: u16::from_be_bytes([d0, d1]),
            source_port: u16::from_be_bytes([s0, s1]),
            subs,
        })
    }

    pub fn subs(&self) -> LocationSubs<'a> {
        LocationSubs(read(self.subs))
    }
}

/// The sub-TLVs of a Location TLV.
#[derive(Debug, Clone)]
pub struct LocationSubs<'a>(Tlvs<'a>);

impl Iterator for LocationSubs<'_> {
    type Item = LocationSub;

    fn next(&mut self) -> Option<LocationSub> {
        Some(self.0.next()?.map_or(LocationSub::Other, |tlv| reported(&tlv)))
    }
}

fn reported(tlv: &Tlv<'_>) -> LocationSub {
    let v4 = || tlv.value.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
    let v6 = || tlv.value.first_chunk::<IP_LEN>().map(|octets| IpAddr::from(*octets));
    let is_reported = tlv.is_honoured() && tlv.value.iter().any(|&byte| byte != 0);
    let sub = match tlv.kind {
        _ if !is_reported => None,
        sub::SOURCE_EUI_48 => tlv.value.first_chunk().copied().map(LocationSub::SourceMac),
        sub::SOURCE_IPV4 => v4().map(LocationSub::Source),
        sub::SOURCE_IPV6 => v6().map(LocationSub::Source),
        sub::DESTINATION_IPV4 => v4().map(LocationSub::Destination),
        sub::DESTINATION_IPV6 => v6().map(LocationSub::Destination),
        _ => None,
    };
    sub.unwrap_or(LocationSub::Other)
}

/// Addresses and ports with which a test packet arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
}

/// Answers in place, in the length that the sender chose (RFC 8972 §4.2.2). `false` if the value is malformed.
pub(super) fn answer(value: &mut [u8], ends: &Ends) -> bool {
    let Some((ports, subs)) = value.split_first_chunk_mut::<PORTS_LEN>() else {
        return false;
    };
    ports[..2].copy_from_slice(&ends.destination.1.to_be_bytes());
    ports[2..].copy_from_slice(&ends.source.1.to_be_bytes());
    let mut at = 0;
    while let Some(span) = span(subs, at) {
        let end = match span {
            Ok(end) => end,
            Err(_) => {
                subs[at] = malformed(subs[at]);
                return true;
            }
        };
        if !answer_sub(&mut subs[at..end], ends) {
            return true;
        }
        at = end;
    }
    true
}

/// Answers one sub-TLV; `false` if it is malformed, and those after it are left as they are.
fn answer_sub(tlv: &mut [u8], ends: &Ends) -> bool {
    let (header, value) = tlv.split_at_mut(HEADER_LEN);
    let expected = match header[1] {
        sub::SOURCE_MAC..=sub::SOURCE_EUI_64 => Some(MAC_LEN),
        sub::DESTINATION_IP..=sub::SOURCE_IPV6 => Some(IP_LEN),
        _ => None,
    };
    if expected.is_some_and(|expected| expected != value.len()) {
        header[0] = malformed(header[0]);
        return false;
    }
    header[0] = 0;
    match header[1] {
        // A socket does not learn the MAC address: an EUI-64 of zeros reports that (§4.2.2).
        sub::SOURCE_MAC => {
            header[1] = sub::SOURCE_EUI_64;
            value.fill(0);
        }
        sub::SOURCE_IP => header[1] = put_address(value, ends.source.0, sub::SOURCE_IPV4, sub::SOURCE_IPV6),
        sub::DESTINATION_IP => {
            header[1] = put_address(value, ends.destination.0, sub::DESTINATION_IPV4, sub::DESTINATION_IPV6);
        }
        // Reports, and unknown sub-TLVs.
        _ => header[0] = flag::UNRECOGNISED,
    }
    true
}

/// Writes an address, padded with zeros, and returns the type for its version.
fn put_address(value: &mut [u8], address: IpAddr, v4: u8, v6: u8) -> u8 {
    value.fill(0);
    match address {
        IpAddr::V4(address) => {
            value[..4].copy_from_slice(&address.octets());
            v4
        }
        IpAddr::V6(address) => {
            value.copy_from_slice(&address.octets());
            v6
        }
    }
}
