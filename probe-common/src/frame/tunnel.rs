//! UDP datagrams in frames and in what tunnels carry: VXLAN (RFC 7348) and Geneve (RFC 8926).
//!
//! For packets of which most are of no interest. A datagram is found behind two VLAN tags, but not behind IPv4 options or
//! IPv6 extension headers, nor in fragments.

use crate::abi::Address;
use crate::family::Family;
use crate::frame::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_LEN, IPV6_LEN, PROTOCOL_UDP, UDP_LEN, V4_DESTINATION, V4_SOURCE,
    V6_DESTINATION, V6_SOURCE, Word, is_vlan,
};

/// Port of VXLAN (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;
/// Port of VXLAN that Linux uses unless another one is configured: it is older than the RFC.
pub const VXLAN_PORT_OF_LINUX: u16 = 8472;
/// Port of Geneve (RFC 8926 §3.3).
pub const GENEVE_PORT: u16 = 6081;

/// Length of a VXLAN header, and of a Geneve header without options.
pub const HEADER_LEN: usize = 8;
/// Most bytes of Geneve options.
pub const MAX_OPTIONS_LEN: usize = 63 * 4;
/// Bytes of a frame before the payload of a datagram, at most.
pub const MAX_HEADERS_LEN: usize = ETHERNET_LEN + 2 * TAG_LEN + IPV6_LEN + UDP_LEN;

const TAG_LEN: usize = 4;

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// The packet has no header of the wanted kind.
    Foreign,
    /// The bytes end too early to tell.
    Short,
}

/// A place in a packet, and what follows it.
pub trait Cursor: Copy {
    /// The word at `offset` behind this place, or [`Miss::Short`].
    fn read<W: Word>(self, offset: usize) -> Result<W, Miss>;

    /// The place `length` bytes further on, perhaps behind the end.
    fn skip(self, length: usize) -> Self;
}

impl Cursor for &[u8] {
    fn read<W: Word>(self, offset: usize) -> Result<W, Miss> {
        self.get(offset..).and_then(W::first_of).ok_or(Miss::Short)
    }

    fn skip(self, length: usize) -> Self {
        self.get(length..).unwrap_or_default()
    }
}

#[inline(always)]
fn be16(at: impl Cursor, offset: usize) -> Result<u16, Miss> {
    at.read(offset).map(u16::from_be)
}

/// A UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<C> {
    family: Family,
    /// The IP header.
    network: C,
    /// The UDP header.
    udp: C,
    pub source_port: u16,
    pub destination_port: u16,
}

impl<C: Cursor> Datagram<C> {
    /// Finds the datagram in an Ethernet frame.
    #[inline(always)]
    pub fn find(frame: C) -> Result<Self, Miss> {
        /// Version 4, no options.
        const USUAL_V4: u8 = 0x45;
        /// "More fragments", and the offset.
        const FRAGMENT: u16 = 0x3fff;
        let (ethertype, network) = network(frame)?;
        let (family, header_len) = match ethertype {
            ETHERTYPE_IPV4 => {
                let is_plain = network.read::<u8>(9)? == PROTOCOL_UDP
                    && network.read::<u8>(0)? == USUAL_V4
                    && be16(network, 6)? & FRAGMENT == 0;
                if !is_plain {
                    return Err(Miss::Foreign);
                }
                (Family::V4, IPV4_LEN)
            }
            ETHERTYPE_IPV6 => {
                if network.read::<u8>(6)? != PROTOCOL_UDP || network.read::<u8>(0)? >> 4 != 6 {
                    return Err(Miss::Foreign);
                }
                (Family::V6, IPV6_LEN)
            }
            _ => return Err(Miss::Foreign),
        };
        let udp = network.skip(header_len);
        // In this order one comparison with the end is enough.
        let destination_port = be16(udp, 2)?;
        Ok(Self {
            family,
            network,
            udp,
            source_port: be16(udp, 0)?,
            destination_port,
        })
    }

    /// Source and destination.
    #[inline(always)]
    pub fn addresses(&self) -> Result<(Address, Address), Miss> {
        let v4 = |at| Ok(Address::from_v4_word(self.network.read(at - ETHERNET_LEN)?));
        let v6 = |at| {
            let word = |at| self.network.read(at - ETHERNET_LEN);
            Ok(Address::from_words(word(at)?, word(at + 8)?))
        };
        match self.family {
            Family::V4 => Ok((v4(V4_SOURCE)?, v4(V4_DESTINATION)?)),
            Family::V6 => Ok((v6(V6_SOURCE)?, v6(V6_DESTINATION)?)),
        }
    }

    /// Bytes of payload, by the UDP header alone.
    #[inline(always)]
    pub fn payload_len(&self) -> Result<usize, Miss> {
        let length = usize::from(be16(self.udp, 4)?);
        length.checked_sub(UDP_LEN).ok_or(Miss::Foreign)
    }

    #[inline(always)]
    pub fn payload(&self) -> C {
        self.udp.skip(UDP_LEN)
    }

    /// The frame that the datagram carries, if it has the destination port of a tunnel. The source port of a tunnel is a hash
    /// of the inner frame.
    #[inline(always)]
    pub fn tunnel(&self) -> Result<Tunnel<C>, Miss> {
        /// The flag "there is a network identifier" of VXLAN.
        const HAS_NETWORK: u8 = 0x08;
        /// "Transparent Ethernet bridging": the protocol type of Geneve that carries Ethernet frames.
        const ETHERNET: u16 = 0x6558;
        let protocol = protocol(self.destination_port).ok_or(Miss::Foreign)?;
        let header = self.payload();
        let network = u32::from_be(header.read(4)?) >> 8;
        let first: u8 = header.read(0)?;
        let options_len = match protocol {
            Protocol::Vxlan if first & HAS_NETWORK != 0 => 0,
            // The version is in the two highest bits; there is only version 0.
            Protocol::Geneve if first >> 6 == 0 && be16(header, 2)? == ETHERNET => usize::from(first & 0x3f) * 4,
            _ => return Err(Miss::Foreign),
        };
        Ok(Tunnel {
            protocol,
            network,
            frame: header.skip(HEADER_LEN + options_len),
        })
    }
}

/// The EtherType behind at most two VLAN tags, and the header after it.
#[inline(always)]
fn network<C: Cursor>(frame: C) -> Result<(u16, C), Miss> {
    let mut at = frame.skip(ETHERNET_LEN - 2);
    for _ in 0..2 {
        let ethertype = be16(at, 0)?;
        if !is_vlan(ethertype) {
            return Ok((ethertype, at.skip(2)));
        }
        at = at.skip(TAG_LEN);
    }
    Ok((be16(at, 0)?, at.skip(2)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Vxlan,
    Geneve,
}

/// The tunnel whose packets have this destination port.
#[inline(always)]
fn protocol(destination_port: u16) -> Option<Protocol> {
    match destination_port {
        VXLAN_PORT | VXLAN_PORT_OF_LINUX => Some(Protocol::Vxlan),
        GENEVE_PORT => Some(Protocol::Geneve),
        _ => None,
    }
}

/// A tunnel's packet that carries an Ethernet frame.
#[derive(Debug, Clone, Copy)]
pub struct Tunnel<C> {
    pub protocol: Protocol,
    /// VXLAN or Geneve network identifier, 24 bits.
    pub network: u32,
    /// The inner frame.
    pub frame: C,
}

#[cfg(test)]
mod tests;
