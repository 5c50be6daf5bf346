//! A test packet in its frame, judged and turned into its reply in place: the reflector without its maps and clocks.

use crate::abi::{Address, Settings};
use crate::checksum::{self, Found, Sum};
use crate::frame::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, PROTOCOL_UDP, UDP_LEN};
use crate::ntp::NtpTime;
use crate::stamp;

/// Length of an untagged IPv4 frame with a base test packet.
pub const V4_FRAME: usize = V4_HEADERS + stamp::BASE_LEN;
/// Length of an untagged IPv6 frame with a base test packet.
pub const V6_FRAME: usize = V6_HEADERS + stamp::BASE_LEN;

/// Length of an untagged IPv4 frame's headers.
pub const V4_HEADERS: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
/// Length of an untagged IPv6 frame's headers.
pub const V6_HEADERS: usize = ETHERNET_LEN + IPV6_LEN + UDP_LEN;

/// TTL and hop limit of a reply (RFC 8762 gives none; TWAMP's choice, RFC 5357 §4.2.1).
pub const REPLY_TTL: u8 = 255;

const V4_SOURCE: usize = ETHERNET_LEN + 12;
const V4_DESTINATION: usize = ETHERNET_LEN + 16;
const V6_SOURCE: usize = ETHERNET_LEN + 8;
const V6_DESTINATION: usize = ETHERNET_LEN + 24;

/// The Ethernet, IP and UDP headers of one IP version, and what of the datagram the frame holds.
pub trait Frame: Sized {
    /// Whether it is IPv6's.
    const IS_V6: bool;
    /// Offset of the UDP header.
    const UDP_AT: usize;
    /// The sender's address.
    fn source(&self) -> Address;
    /// The address that the sender meant.
    fn destination(&self) -> Address;
    /// TTL or hop limit.
    fn ttl(&self) -> u8;
    /// Whether `source` can be a host to answer: not multicast, broadcast, unspecified or loopback, nor an IPv4 address
    /// where none belongs.
    fn source_is_answerable(&self) -> bool;
    /// The address from which to answer a group probe of this sender, or `None` where the interface has none.
    fn own_address(&self, settings: &Settings) -> Option<Address>;
    /// The interface's first address of this IP version.
    fn first_own(settings: &Settings) -> Address;
    /// Whether the network header's own checksum is right, if it has one: a program at the hook is the first to look.
    fn network_is_intact(&self) -> bool;
    /// Sum of the UDP pseudo-header.
    fn pseudo(&self) -> Sum;
    /// Whether a zero UDP checksum is allowed (RFC 768; not for IPv6, RFC 8200 §8.1).
    const CHECKSUM_MAY_BE_ABSENT: bool;
    /// Turns the network header around: from `own`, to the sender.
    fn turn_network(&mut self, own: &Address);
    /// The frame's bytes.
    fn bytes(&self) -> &[u8];
    /// The frame's bytes.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Whether the frame was sent to `mac`, not merely flooded this way.
    #[inline(always)]
    fn is_for_mac(&self, mac: [u8; 6]) -> bool {
        get::<6>(self.bytes(), 0) == mac
    }

    /// Whether the frame came from one station's MAC address; an answer to a group's would be flooded.
    #[inline(always)]
    fn is_from_station(&self) -> bool {
        self.bytes()[6] & 1 == 0
    }

    /// What the UDP checksum field holds, if the payload adds up to `payload`.
    #[inline(always)]
    fn checksum_over(&self, payload: Sum) -> Found {
        let (udp, bytes) = (Self::UDP_AT, self.bytes());
        let rest = payload.long(get(bytes, udp)).word(get(bytes, udp + 4));
        checksum::judge(get(bytes, udp + 6), self.pseudo(), rest, Self::CHECKSUM_MAY_BE_ABSENT)
    }

    /// Turns MAC addresses, IP addresses and ports around.
    #[inline(always)]
    fn turn_headers(&mut self, mac: [u8; 6], own: &Address) {
        let bytes = self.bytes_mut();
        let sender_mac: [u8; 6] = get(bytes, 6);
        put(bytes, 0, sender_mac);
        put(bytes, 6, mac);
        let [s0, s1, d0, d1]: [u8; 4] = get(bytes, Self::UDP_AT);
        put(bytes, Self::UDP_AT, [d0, d1, s0, s1]);
        self.turn_network(own);
    }

    /// Turns a datagram around that goes back with the payload that it came with, which adds up to `payload`. `partial`
    /// leaves the UDP checksum to the device.
    #[inline(always)]
    fn echo(&mut self, mac: [u8; 6], own: &Address, payload: Sum, partial: bool) {
        self.turn_headers(mac, own);
        let udp = Self::UDP_AT;
        let rest = payload.long(get(self.bytes(), udp)).word(get(self.bytes(), udp + 4));
        let checksum = checksum::seal(self.pseudo(), rest, partial);
        put(self.bytes_mut(), udp + 6, checksum);
    }
}

/// A frame of one IP version that holds a base test packet, or the front of a longer one.
pub trait BaseFrame: Frame {
    /// Whether this is a reply of some reflector: T2 where a session-sender's packet is zero, and zeroes where random
    /// padding is not (RFC 8762 §4.2.1 and §4.3.1). Two reflectors that answered replies would never end.
    #[inline(always)]
    fn is_reply_shaped(&self) -> bool {
        let payload = Self::UDP_AT + UDP_LEN;
        let bytes = self.bytes();
        get::<8>(bytes, payload + stamp::RECEIVE_TIMESTAMP) != [0; 8]
            && get::<2>(bytes, payload + stamp::SENDER_ERROR_ESTIMATE + 2) == [0; 2]
            && get::<4>(bytes, payload + stamp::SENDER_TTL)[1..] == [0; 3]
    }

    /// Whether both checksums are right, as far as this host can know: a sender on it may have left one to a device.
    /// What is beyond the base packet adds up to `beyond`.
    #[inline(always)]
    fn is_intact(&self, beyond: Sum) -> bool {
        self.network_is_intact() && self.checksum(beyond) != Found::Wrong
    }

    /// What the UDP checksum field holds, if what is beyond the base packet adds up to `beyond`.
    #[inline(always)]
    fn checksum(&self, beyond: Sum) -> Found {
        let (mut sum, mut at) = (beyond, Self::UDP_AT + UDP_LEN);
        while at < Self::UDP_AT + UDP_LEN + stamp::BASE_LEN {
            sum = sum.long(get(self.bytes(), at));
            at += 4;
        }
        self.checksum_over(sum)
    }
}

/// What a reply needs besides the frame that it answers.
pub struct Answer<'a> {
    /// The port's own MAC address.
    pub mac: [u8; 6],
    /// The address to answer from.
    pub own: &'a Address,
    /// The session's reply counter.
    pub sequence: u32,
    /// T2.
    pub receive: NtpTime,
    /// The reflector's error estimate.
    pub error: u16,
    /// What the reply's bytes beyond a base packet add up to.
    pub beyond: Sum,
    /// Leave the UDP checksum to the device, as the sender of the probe did.
    pub partial: bool,
}

/// Turns a test packet into its reply. `transmit` is called as late as can be, and gives T3.
#[inline(always)]
pub fn answer<F: BaseFrame>(frame: &mut F, answer: &Answer<'_>, transmit: impl FnOnce() -> NtpTime) {
    let ttl = frame.ttl();
    frame.turn_headers(answer.mac, answer.own);
    let pseudo = frame.pseudo();

    let udp = F::UDP_AT;
    let payload = udp + UDP_LEN;
    let bytes = frame.bytes_mut();
    let ports: [u8; 4] = get(bytes, udp);
    let length: [u8; 2] = get(bytes, udp + 4);
    let sequence = answer.sequence.to_be_bytes();
    let receive = answer.receive.to_be_bytes();
    let error = answer.error.to_be_bytes();
    let ssid: [u8; 2] = get(bytes, payload + stamp::SSID);
    let sender_sequence: [u8; 4] = get(bytes, payload + stamp::SEQUENCE);
    let sender_timestamp: [u8; 8] = get(bytes, payload + stamp::TIMESTAMP);
    let sender_error: [u8; 2] = get(bytes, payload + stamp::ERROR_ESTIMATE);
    let rest = answer
        .beyond
        .long(ports)
        .word(length)
        .long(sequence)
        .word(error)
        .word(ssid)
        .quad(receive)
        .long(sender_sequence)
        .quad(sender_timestamp)
        .word(sender_error)
        .word([ttl, 0]);

    put(bytes, payload + stamp::SEQUENCE, sequence);
    put(bytes, payload + stamp::ERROR_ESTIMATE, error);
    put(bytes, payload + stamp::RECEIVE_TIMESTAMP, receive);
    put(bytes, payload + stamp::SENDER_SEQUENCE, sender_sequence);
    put(bytes, payload + stamp::SENDER_TIMESTAMP, sender_timestamp);
    put(bytes, payload + stamp::SENDER_ERROR_ESTIMATE, sender_error);
    put(bytes, payload + stamp::SENDER_ERROR_ESTIMATE + 2, [0, 0]);
    put(bytes, payload + stamp::SENDER_TTL, [ttl, 0, 0, 0]);

    let transmit = transmit().to_be_bytes();
    put(bytes, payload + stamp::TIMESTAMP, transmit);
    put(
        bytes,
        udp + 6,
        checksum::seal(pseudo, rest.quad(transmit), answer.partial),
    );
}

/// An IPv4 frame's first `LENGTH` bytes: its headers at least.
#[repr(transparent)]
pub struct V4<const LENGTH: usize = V4_FRAME>(pub [u8; LENGTH]);

impl BaseFrame for V4 {}

impl<const LENGTH: usize> Frame for V4<LENGTH> {
    const IS_V6: bool = false;
    const UDP_AT: usize = ETHERNET_LEN + IPV4_LEN;
    const CHECKSUM_MAY_BE_ABSENT: bool = true;

    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_v4(get(&self.0, V4_SOURCE))
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_v4(get(&self.0, V4_DESTINATION))
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.0[ETHERNET_LEN + 8]
    }

    #[inline(always)]
    fn source_is_answerable(&self) -> bool {
        // 0/8, 127/8, and everything from multicast upwards (RFC 1122 §3.2.1.3).
        !matches!(self.0[V4_SOURCE], 0 | 127 | 224..)
    }

    #[inline(always)]
    fn own_address(&self, settings: &Settings) -> Option<Address> {
        (settings.own_v4 != Address::NONE).then_some(settings.own_v4)
    }

    #[inline(always)]
    fn first_own(settings: &Settings) -> Address {
        settings.own_v4
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
        Sum::ZERO
            .quad(get(&self.0, V4_SOURCE))
            .word([0, PROTOCOL_UDP])
            .word(get(&self.0, Self::UDP_AT + 4))
    }

    #[inline(always)]
    fn turn_network(&mut self, own: &Address) {
        let sender: [u8; 4] = get(&self.0, V4_SOURCE);
        put(&mut self.0, V4_DESTINATION, sender);
        put(&mut self.0, V4_SOURCE, own.v4());
        put(&mut self.0, ETHERNET_LEN + 8, [REPLY_TTL]);
        let sum = Sum::ZERO
            .quad(get(&self.0, ETHERNET_LEN))
            .word(get(&self.0, ETHERNET_LEN + 8))
            .quad(get(&self.0, V4_SOURCE));
        put(&mut self.0, ETHERNET_LEN + 10, sum.finish());
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
    const IS_V6: bool = true;
    const UDP_AT: usize = ETHERNET_LEN + IPV6_LEN;
    const CHECKSUM_MAY_BE_ABSENT: bool = false;

    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_bytes(get(&self.0, V6_SOURCE))
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_bytes(get(&self.0, V6_DESTINATION))
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.0[ETHERNET_LEN + 7]
    }

    #[inline(always)]
    fn source_is_answerable(&self) -> bool {
        let address = self.source();
        let is_nobody = address == Address::NONE || address == Address::V6_LOOPBACK;
        !is_nobody && !address.is_multicast() && !address.is_v4()
    }

    #[inline(always)]
    fn own_address(&self, settings: &Settings) -> Option<Address> {
        let link_local = self.0[V6_SOURCE] == 0xfe && self.0[V6_SOURCE + 1] & 0xc0 == 0x80;
        let own = if link_local {
            settings.own_v6_link_local
        } else {
            settings.own_v6
        };
        (own != Address::NONE).then_some(own)
    }

    #[inline(always)]
    fn first_own(settings: &Settings) -> Address {
        settings.own_v6
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
    fn turn_network(&mut self, own: &Address) {
        let sender: [u8; 16] = get(&self.0, V6_SOURCE);
        put(&mut self.0, V6_DESTINATION, sender);
        put(&mut self.0, V6_SOURCE, own.bytes());
        put(&mut self.0, ETHERNET_LEN + 7, [REPLY_TTL]);
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

/// `N` bytes at `at`; the callers' constant offsets lie within the frame.
#[inline(always)]
fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut chunk = [0; N];
    chunk.copy_from_slice(&bytes[at..at + N]);
    chunk
}

/// Writes `N` bytes at `at`; the callers' constant offsets lie within the frame.
#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], at: usize, chunk: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&chunk);
}

#[cfg(test)]
mod tests;
