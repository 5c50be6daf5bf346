//! A probe in its frame, turned into its reply in place: the kernel reflector without its maps and clocks.

use crate::abi::Address;
use crate::bytes::{get, put};
use crate::checksum::{self, State, Sum};
use crate::family::Family;
use crate::frame::{
    ETHERNET_LEN, PROTOCOL_UDP, UDP_CHECKSUM, UDP_LEN, V4_DESTINATION, V4_SOURCE, V6_DESTINATION, V6_SOURCE, payload_at,
};
use crate::ntp::{ErrorEstimate, NtpTime};
use crate::stamp;

/// Length of an untagged frame's headers.
pub const V4_HEADERS: usize = payload_at(Family::V4);
pub const V6_HEADERS: usize = payload_at(Family::V6);

/// Length of an untagged frame with a base test packet.
pub const V4_FRAME: usize = V4_HEADERS + stamp::BASE_LEN;
pub const V6_FRAME: usize = V6_HEADERS + stamp::BASE_LEN;

/// The bits of a type of service or traffic class that are not the DSCP.
pub const ECN: u8 = 3;

/// The Ethernet, IP and UDP headers of one IP version, and as much of the datagram as the frame holds.
pub trait Frame: Sized {
    const FAMILY: Family;
    /// Offset of the UDP header.
    const UDP_AT: usize = payload_at(Self::FAMILY) - UDP_LEN;
    /// Offset of the TTL or hop limit.
    const TTL_AT: usize;

    fn source(&self) -> Address;
    fn destination(&self) -> Address;
    /// Whether the network header's own checksum is right, if it has one: a program at the hook is the first to look.
    fn network_is_intact(&self) -> bool;
    /// Sum of the UDP pseudo-header.
    fn pseudo(&self) -> Sum;
    /// Makes the network header that of a reply from `own` to the sender: without ECN, since a mark is the probe's (RFC 3168
    /// §5). The header's checksum must be right.
    fn reverse_network(&mut self, own: &Address);
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.bytes()[Self::TTL_AT]
    }

    /// Whether the frame was sent to `mac`, not merely flooded this way.
    #[inline(always)]
    fn is_for_mac(&self, mac: [u8; 6]) -> bool {
        get::<6>(self.bytes(), 0) == mac
    }

    /// Whether one host sent the frame and can be answered: a reply to a group's MAC address would be flooded.
    #[inline(always)]
    fn source_is_answerable(&self) -> bool {
        self.source().is_answerable(Self::FAMILY) && self.bytes()[6] & 1 == 0
    }

    /// State of the UDP checksum, given the sum of the payload.
    #[inline(always)]
    fn checksum_over(&self, payload: Sum) -> State {
        let field = get(self.bytes(), Self::UDP_AT + UDP_CHECKSUM);
        checksum::check(field, self.pseudo(), self.with_udp_header(payload), Self::FAMILY)
    }

    /// Whether both checksums are right, as far as this host can know: a local sender may have left one to a device.
    #[inline(always)]
    fn is_intact_with(&self, payload: Sum) -> bool {
        self.network_is_intact() && self.checksum_over(payload) != State::Wrong
    }

    /// Adds ports and length.
    #[inline(always)]
    fn with_udp_header(&self, payload: Sum) -> Sum {
        let (udp, bytes) = (Self::UDP_AT, self.bytes());
        payload.long(get(bytes, udp)).word(get(bytes, udp + 4))
    }

    /// Swaps MAC addresses, IP addresses and ports.
    #[inline(always)]
    fn reverse_headers(&mut self, mac: [u8; 6], own: &Address) {
        let bytes = self.bytes_mut();
        let sender_mac: [u8; 6] = get(bytes, 6);
        put(bytes, 0, sender_mac);
        put(bytes, 6, mac);
        let [s0, s1, d0, d1]: [u8; 4] = get(bytes, Self::UDP_AT);
        put(bytes, Self::UDP_AT, [d0, d1, s0, s1]);
        self.reverse_network(own);
    }

    /// Sends a datagram back with the payload that it came with, given the payload's sum. `partial` leaves the UDP
    /// checksum to the device.
    #[inline(always)]
    fn send_back(&mut self, mac: [u8; 6], own: &Address, payload: Sum, partial: bool) {
        self.reverse_headers(mac, own);
        let checksum = checksum::seal(self.pseudo(), self.with_udp_header(payload), partial);
        put(self.bytes_mut(), Self::UDP_AT + UDP_CHECKSUM, checksum);
    }
}

/// A frame that holds a base test packet, or the front of a longer one.
pub trait BaseFrame: Frame {
    #[inline(always)]
    fn is_reply_shaped(&self, from_test_port: bool) -> bool {
        stamp::is_reply_shaped(&self.bytes()[Self::UDP_AT + UDP_LEN..], from_test_port)
    }

    /// The sum of the base packet in two parts: up to the session identifier, and what a sender leaves zero.
    #[inline(always)]
    fn sums(&self) -> (Sum, Sum) {
        const FIELDS: usize = stamp::SSID + 2;
        let payload = Self::UDP_AT + UDP_LEN;
        let sum = |from: usize, to: usize| {
            let (mut sum, mut at) = (Sum::ZERO, payload + from);
            while at < payload + to {
                sum = sum.long(get(self.bytes(), at));
                at += 4;
            }
            sum
        };
        (sum(0, FIELDS), sum(FIELDS, stamp::BASE_LEN))
    }

    /// Ports and session identifier: [`rest`](crate::abi::ReflectorSessionKey::rest) of the key of its session.
    /// `has_ssid`: the sender left zeros where a base packet has them; else the packet has no session identifier.
    #[inline(always)]
    fn session(&self, has_ssid: bool) -> u64 {
        let bytes = self.bytes();
        let ports = u64::from(u32::from_ne_bytes(get(bytes, Self::UDP_AT)));
        let ssid = u16::from_ne_bytes(get(bytes, Self::UDP_AT + UDP_LEN + stamp::SSID));
        if has_ssid { ports | u64::from(ssid) << 32 } else { ports }
    }

    /// The sum of what the reply to a probe keeps of it, perhaps at another place: ports and length, and the fields that
    /// [`BaseFrame::sums`] adds up. Behind the base packet the reply has `trailer`.
    #[inline(always)]
    fn kept(&self, fields: Sum, trailer: Sum) -> Sum {
        self.with_udp_header(fields.plus(trailer))
    }

    /// As [`Frame::is_intact_with`]. `trailer` is the sum of what follows the base packet.
    #[inline(always)]
    fn is_intact(&self, trailer: Sum) -> bool {
        self.network_is_intact() && self.checksum(trailer) != State::Wrong
    }

    /// State of the UDP checksum, given the sum of what follows the base packet.
    #[inline(always)]
    fn checksum(&self, trailer: Sum) -> State {
        let (fields, zeros) = self.sums();
        self.checksum_over(fields.plus(zeros).plus(trailer))
    }
}

/// The inputs of a reply besides the frame of its probe.
pub struct ReplyInputs<'a> {
    /// The port's own MAC address.
    pub mac: [u8; 6],
    /// The address to answer from.
    pub own: &'a Address,
    /// The session's reply counter.
    pub sequence: u32,
    /// T2.
    pub receive: NtpTime,
    /// The reflector's error estimate.
    pub error: ErrorEstimate,
    /// See [`BaseFrame::kept`].
    pub kept: Sum,
    /// Leave the UDP checksum to the device, as the sender of the probe did.
    pub partial: bool,
}

/// Turns a test packet into its reply. `transmit` gives T3 and is called as late as possible.
#[inline(always)]
pub fn reply<F: BaseFrame>(frame: &mut F, inputs: &ReplyInputs<'_>, transmit: impl FnOnce() -> NtpTime) {
    let ttl = frame.ttl();
    frame.reverse_headers(inputs.mac, inputs.own);
    let pseudo = frame.pseudo();
    let bytes = frame.bytes_mut();
    let Some(base) = bytes[F::UDP_AT + UDP_LEN..].first_chunk_mut() else {
        return;
    };
    let new = stamp::write_reply(base, inputs.sequence, inputs.error, inputs.receive, ttl, transmit);
    let checksum = checksum::seal(pseudo, inputs.kept.plus(new), inputs.partial);
    put(bytes, F::UDP_AT + UDP_CHECKSUM, checksum);
}

/// An IPv4 frame's first `LENGTH` bytes: its headers at least.
#[repr(transparent)]
pub struct V4<const LENGTH: usize = V4_FRAME>(pub [u8; LENGTH]);

impl BaseFrame for V4 {}

impl<const LENGTH: usize> Frame for V4<LENGTH> {
    const FAMILY: Family = Family::V4;
    const TTL_AT: usize = ETHERNET_LEN + 8;

    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_v4(get(&self.0, V4_SOURCE))
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_v4(get(&self.0, V4_DESTINATION))
    }

    #[inline(always)]
    fn network_is_intact(&self) -> bool {
        let sum = Sum::ZERO
            .quad(get(&self.0, ETHERNET_LEN))
            .long(get(&self.0, ETHERNET_LEN + 8))
            .quad(get(&self.0, V4_SOURCE));
        sum.is_valid()
    }

    #[inline(always)]
    fn pseudo(&self) -> Sum {
        // Two reads: a single one would span two earlier writes, and wait for both.
        Sum::ZERO
            .long(get(&self.0, V4_SOURCE))
            .long(get(&self.0, V4_DESTINATION))
            .word([0, PROTOCOL_UDP])
            .word(get(&self.0, Self::UDP_AT + 4))
    }

    /// The checksum is updated by what changes (RFC 1624).
    #[inline(always)]
    fn reverse_network(&mut self, own: &Address) {
        const CHECKSUM: usize = ETHERNET_LEN + 10;
        let [version, tos] = get(&self.0, ETHERNET_LEN);
        let [ttl, protocol] = get(&self.0, Self::TTL_AT);
        let sender: [u8; 4] = get(&self.0, V4_SOURCE);
        let sum = Sum::ZERO
            .without_word(get(&self.0, CHECKSUM))
            .without_word([version, tos])
            .word([version, tos & !ECN])
            .without_word([ttl, protocol])
            .word([stamp::TTL, protocol])
            .without_long(get(&self.0, V4_DESTINATION))
            .long(own.v4());
        put(&mut self.0, CHECKSUM, sum.finish());
        put(&mut self.0, ETHERNET_LEN + 1, [tos & !ECN]);
        put(&mut self.0, Self::TTL_AT, [stamp::TTL]);
        put(&mut self.0, V4_SOURCE, own.v4());
        put(&mut self.0, V4_DESTINATION, sender);
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// An IPv6 frame's first `LENGTH` bytes: its headers at least.
#[repr(transparent)]
pub struct V6<const LENGTH: usize = V6_FRAME>(pub [u8; LENGTH]);

impl BaseFrame for V6 {}

impl<const LENGTH: usize> Frame for V6<LENGTH> {
    const FAMILY: Family = Family::V6;
    const TTL_AT: usize = ETHERNET_LEN + 7;

    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_bytes(get(&self.0, V6_SOURCE))
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_bytes(get(&self.0, V6_DESTINATION))
    }

    #[inline(always)]
    fn network_is_intact(&self) -> bool {
        true
    }

    #[inline(always)]
    fn pseudo(&self) -> Sum {
        Sum::ZERO
            .quad(get(&self.0, V6_SOURCE))
            .quad(get(&self.0, V6_SOURCE + 8))
            .quad(get(&self.0, V6_DESTINATION))
            .quad(get(&self.0, V6_DESTINATION + 8))
            .word(get(&self.0, Self::UDP_AT + 4))
            .word([0, PROTOCOL_UDP])
    }

    #[inline(always)]
    fn reverse_network(&mut self, own: &Address) {
        let sender: [u8; 16] = get(&self.0, V6_SOURCE);
        put(&mut self.0, V6_DESTINATION, sender);
        put(&mut self.0, V6_SOURCE, own.bytes());
        // The traffic class begins in the middle of a byte.
        self.0[ETHERNET_LEN + 1] &= !(ECN << 4);
        put(&mut self.0, Self::TTL_AT, [stamp::TTL]);
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests;
