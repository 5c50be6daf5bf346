//! Ethernet frames inside UDP: VXLAN (RFC 7348) and Geneve (RFC 8926).

use crate::frame::{Source, Udp, Word};

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

/// "Transparent Ethernet bridging": the protocol type of Geneve that carries Ethernet frames.
const ETHERNET: u16 = 0x6558;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Vxlan,
    Geneve,
}

impl Protocol {
    /// By the destination port. The source port of a tunnel is a hash of the inner frame.
    #[inline(always)]
    pub const fn of_port(destination: u16) -> Option<Self> {
        match destination {
            VXLAN_PORT | VXLAN_PORT_OF_LINUX => Some(Self::Vxlan),
            GENEVE_PORT => Some(Self::Geneve),
            _ => None,
        }
    }
}

/// A tunnel header that carries an Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    pub protocol: Protocol,
    /// VXLAN or Geneve network identifier, 24 bits.
    pub network: u32,
    /// Offset of the inner frame in the outer one.
    pub inner_at: usize,
}

/// The tunnel header in the payload of an outer datagram; `None` if there is none, or it carries no Ethernet frame.
#[inline(always)]
pub fn tunnel<S: Source + ?Sized>(frame: &S, outer: &Udp) -> Option<Tunnel> {
    /// The flag "there is a network identifier" of VXLAN.
    const HAS_NETWORK: u8 = 0x08;
    let protocol = Protocol::of_port(outer.destination_port)?;
    let header = u64::from_be(frame.load_behind(outer.payload_at)?);
    let first = (header >> 56) as u8;
    let options_len = match protocol {
        Protocol::Vxlan if first & HAS_NETWORK != 0 => 0,
        // The version is in the two highest bits; there is only version 0.
        Protocol::Geneve if first >> 6 == 0 && (header >> 32) as u16 == ETHERNET => usize::from(first & 0x3f) * 4,
        _ => return None,
    };
    Some(Tunnel {
        protocol,
        network: header as u32 >> 8,
        inner_at: outer.payload_at + HEADER_LEN + options_len,
    })
}

/// What follows in a frame from an offset on.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a, S: ?Sized> {
    pub frame: &'a S,
    pub at: usize,
}

impl<S: Source + ?Sized> Source for Inner<'_, S> {
    #[inline(always)]
    fn load<W: Word>(&self, offset: usize) -> Option<W> {
        self.load_behind(offset)
    }

    #[inline(always)]
    fn peek<W: Word>(&self, offset: usize) -> Option<W> {
        self.frame.peek_behind(self.at + offset)
    }

    #[inline(always)]
    fn load_behind<W: Word>(&self, offset: usize) -> Option<W> {
        self.frame.load_behind(self.at + offset)
    }
}

#[cfg(test)]
mod tests;
