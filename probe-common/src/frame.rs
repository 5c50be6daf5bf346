//! One cursor over a received or leaving frame: Ethernet, VLAN tags, IPv4, IPv6 with extension headers, UDP.
//!
//! The parser finds the UDP header also behind tags, options and extension headers, and in first fragments. kstamp does
//! not answer such packets, but recognises them by their ports and counts them.

pub mod tunnel;

use crate::family::Family;

/// Length of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Length of the fixed IPv6 header.
pub const IPV6_LEN: usize = 40;
pub const UDP_LEN: usize = 8;

/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: usize = 6;

// Offsets of addresses in an untagged frame.
pub const V4_SOURCE: usize = ETHERNET_LEN + 12;
pub const V4_DESTINATION: usize = ETHERNET_LEN + 16;
pub const V6_SOURCE: usize = ETHERNET_LEN + 8;
pub const V6_DESTINATION: usize = ETHERNET_LEN + 24;

/// Offset of the UDP payload in a frame without [`Obstacle`].
#[inline(always)]
pub const fn payload_at(family: Family) -> usize {
    match family {
        Family::V4 => ETHERNET_LEN + IPV4_LEN + UDP_LEN,
        Family::V6 => ETHERNET_LEN + IPV6_LEN + UDP_LEN,
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_8021Q: u16 = 0x8100;
const ETHERTYPE_8021AD: u16 = 0x88a8;

/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers that are followed before the packet is left alone.
const MAX_EXTENSION_HEADERS: usize = 4;

/// An unsigned integer as it lies in memory.
pub trait Word: Copy {
    const ZERO: Self;
    /// From the first bytes of `bytes`; `None` if they are too few.
    fn first_of(bytes: &[u8]) -> Option<Self>;
}

macro_rules! word {
    ($($word:ty),+) => {
        $(impl Word for $word {
            const ZERO: Self = 0;

            fn first_of(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().copied().map(Self::from_ne_bytes)
            }
        })+
    };
}

word!(u8, u16, u32, u64);

/// Where the bytes of a frame come from: packet memory in the kernel, a slice in tests.
///
/// Words and not byte arrays, for the reason given at [`Address`](crate::abi::Address).
pub trait Source {
    /// The word at `offset` from the start of the Ethernet header; `None` if the frame is shorter.
    fn load<W: Word>(&self, offset: usize) -> Option<W>;

    /// The same by direct access alone: also `None` where loading the word would take a helper call.
    fn peek<W: Word>(&self, offset: usize) -> Option<W> {
        self.load(offset)
    }

    /// The same for an offset that was read from the packet, which the verifier cannot follow into direct access.
    fn load_behind<W: Word>(&self, offset: usize) -> Option<W>;
}

impl Source for [u8] {
    fn load<W: Word>(&self, offset: usize) -> Option<W> {
        W::first_of(self.get(offset..)?)
    }

    fn load_behind<W: Word>(&self, offset: usize) -> Option<W> {
        self.load(offset)
    }
}

/// Why the kernel programs leave a frame alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A VLAN tag: the frame belongs to another interface.
    Vlan,
    IpOptions,
    /// IPv6 extension headers.
    Extension,
    /// The first fragment of a datagram.
    Fragment,
}

/// A UDP datagram found in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    pub family: Family,
    /// The first obstacle met, outermost first.
    pub obstacle: Option<Obstacle>,
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes that the IP header leaves for UDP header and payload.
    pub ip_payload_len: u16,
    /// Length field of the UDP header.
    pub udp_len: u16,
}

impl Udp {
    /// Bytes of UDP payload, or `None` where the two length fields contradict each other.
    #[inline(always)]
    pub fn payload_len(&self) -> Option<usize> {
        let agree = self.udp_len as usize >= UDP_LEN && self.udp_len <= self.ip_payload_len;
        agree.then_some((self.udp_len as usize).wrapping_sub(UDP_LEN))
    }
}

/// Whether headers of the usual form show that neither port of a frame is of interest. That finds most frames that are not
/// kstamp's; [`udp`] decides about all others. `is_of_interest` gets the source and the destination port.
#[inline(always)]
pub fn is_foreign<S: Source + ?Sized>(source: &S, is_of_interest: impl Fn(u16, u16) -> bool) -> bool {
    usual_ports(source)
        .is_some_and(|ports| ports.is_none_or(|(source, destination)| !is_of_interest(source, destination)))
}

/// The ports in headers of the usual form; the inner value is `None` if the packet is not UDP.
#[inline(always)]
fn usual_ports<S: Source + ?Sized>(source: &S) -> Option<Option<(u16, u16)>> {
    /// Version 4, no options.
    const USUAL_V4: u8 = 0x45;
    let word = |at: usize| source.peek(at).map(u16::from_be);
    let ports = |udp_at: usize| {
        // In this order one comparison with the end of the frame is enough.
        let destination = word(udp_at + 2)?;
        Some(Some((word(udp_at)?, destination)))
    };
    match word(12)? {
        ETHERTYPE_IPV4 => {
            if source.peek::<u8>(ETHERNET_LEN + 9)? != PROTOCOL_UDP {
                return Some(None);
            }
            if source.peek::<u8>(ETHERNET_LEN)? != USUAL_V4 {
                return None;
            }
            ports(ETHERNET_LEN + IPV4_LEN)
        }
        ETHERTYPE_IPV6 if source.peek::<u8>(ETHERNET_LEN + 6)? == PROTOCOL_UDP => ports(ETHERNET_LEN + IPV6_LEN),
        _ => None,
    }
}

/// Finds the UDP datagram in a frame; `None` if it is not UDP, is cut short, or is a later fragment.
#[inline(always)]
pub fn udp<S: Source + ?Sized>(source: &S) -> Option<Udp> {
    let (ethertype, tagged, at) = ethertype(source)?;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(source, at, tagged),
        ETHERTYPE_IPV6 => ipv6(source, at, tagged),
        _ => None,
    }
}

/// The EtherType behind at most two VLAN tags, the tag as an obstacle, and where the network header starts.
#[inline(always)]
fn ethertype<S: Source + ?Sized>(source: &S) -> Option<(u16, Option<Obstacle>, usize)> {
    let outer = be16(source, 12)?;
    if !is_vlan(outer) {
        return Some((outer, None, ETHERNET_LEN));
    }
    let inner = be16(source, 16)?;
    if !is_vlan(inner) {
        return Some((inner, Some(Obstacle::Vlan), ETHERNET_LEN + 4));
    }
    Some((be16(source, 20)?, Some(Obstacle::Vlan), ETHERNET_LEN + 8))
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_8021Q || ethertype == ETHERTYPE_8021AD
}

#[inline(always)]
fn ipv4<S: Source + ?Sized>(source: &S, at: usize, tagged: Option<Obstacle>) -> Option<Udp> {
    let protocol: u8 = source.load(at + 9)?;
    if protocol != PROTOCOL_UDP {
        return None;
    }
    let version_ihl: u8 = source.load(at)?;
    let header_len = (version_ihl & 0x0f) as usize * 4;
    let total_len = be16(source, at + 2)?;
    let fragment = be16(source, at + 6)?;
    if version_ihl >> 4 != 4 || header_len < IPV4_LEN || fragment & 0x1fff != 0 {
        return None;
    }
    let obstacle = if fragment & 0x2000 != 0 {
        tagged.or(Some(Obstacle::Fragment))
    } else {
        tagged
    };
    let network = Network {
        family: Family::V4,
        obstacle,
        ip_payload_len: total_len.saturating_sub(header_len as u16),
    };
    if header_len == IPV4_LEN {
        network.ports(|offset| source.load(at + IPV4_LEN + offset))
    } else {
        network
            .behind(Obstacle::IpOptions)
            .ports(|offset| source.load_behind(at + header_len + offset))
    }
}

#[inline(always)]
fn ipv6<S: Source + ?Sized>(source: &S, at: usize, tagged: Option<Obstacle>) -> Option<Udp> {
    let version: u8 = source.load(at)?;
    if version >> 4 != 6 {
        return None;
    }
    let mut next: u8 = source.load(at + 6)?;
    let payload_len = be16(source, at + 4)?;
    let mut network = Network {
        family: Family::V6,
        obstacle: tagged,
        ip_payload_len: payload_len,
    };
    if next == PROTOCOL_UDP {
        return network.ports(|offset| source.load(at + IPV6_LEN + offset));
    }
    let mut udp_at = at + IPV6_LEN;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let length = source.load_behind::<u8>(udp_at + 1)? as usize;
        let header_len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (length + 1) * 8,
            AUTHENTICATION => (length + 2) * 4,
            FRAGMENT => {
                let offset: u16 = source.load_behind(udp_at + 2)?;
                if u16::from_be(offset) & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            _ => return None,
        };
        network = network.behind(if next == FRAGMENT {
            Obstacle::Fragment
        } else {
            Obstacle::Extension
        });
        network.ip_payload_len = network.ip_payload_len.saturating_sub(header_len as u16);
        next = source.load_behind(udp_at)?;
        udp_at += header_len;
        if next == PROTOCOL_UDP {
            return network.ports(|offset| source.load_behind(udp_at + offset));
        }
    }
    None
}

/// What the network header says about a UDP datagram.
struct Network {
    family: Family,
    obstacle: Option<Obstacle>,
    ip_payload_len: u16,
}

impl Network {
    #[inline(always)]
    fn behind(self, obstacle: Obstacle) -> Self {
        Self {
            obstacle: self.obstacle.or(Some(obstacle)),
            ..self
        }
    }

    /// Reads the UDP header through `load`, which takes offsets from its start.
    #[inline(always)]
    fn ports(self, load: impl Fn(usize) -> Option<u16>) -> Option<Udp> {
        Some(Udp {
            family: self.family,
            obstacle: self.obstacle,
            source_port: u16::from_be(load(0)?),
            destination_port: u16::from_be(load(2)?),
            ip_payload_len: self.ip_payload_len,
            udp_len: u16::from_be(load(4)?),
        })
    }
}

#[inline(always)]
fn be16<S: Source + ?Sized>(source: &S, offset: usize) -> Option<u16> {
    source.load(offset).map(u16::from_be)
}

#[cfg(test)]
mod tests;
