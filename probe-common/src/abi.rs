//! Everything that crosses the kernel boundary: settings, map keys and values, ring records, counters.
//!
//! Only plain integers and byte arrays cross, padding is spelled out, and the layout of each type is asserted below.

use crate::frame::{Family, Udp};

/// Version of this module's layouts and meanings. The loader writes it into [`Settings`]; a program that was built
/// with another one touches no packet.
pub const ABI_VERSION: u32 = 1;

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 §2.5.5.2), as its bytes lie in memory.
///
/// Words and not bytes: the verifier allows only aligned access to the stack, and the compiler keeps to the alignment
/// of words.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    first: u64,
    last: u64,
}

impl Address {
    /// No address.
    pub const NONE: Self = Self { first: 0, last: 0 };
    /// ::1.
    pub const V6_LOOPBACK: Self = Self::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// From network order.
    #[inline(always)]
    pub const fn from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> Self {
        Self {
            first: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            last: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// From two words as they lie in memory.
    #[inline(always)]
    pub const fn from_words(first: u64, last: u64) -> Self {
        Self { first, last }
    }

    /// In network order.
    #[inline(always)]
    pub const fn bytes(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.first.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.last.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// ::ffff:a.b.c.d.
    #[inline(always)]
    pub const fn from_v4([a, b, c, d]: [u8; 4]) -> Self {
        Self {
            first: 0,
            last: u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d]),
        }
    }

    /// ::ffff:a.b.c.d, from a word as it lies in memory.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self::from_v4(word.to_ne_bytes())
    }

    /// The last four bytes, which are the address if it is a mapped one.
    #[inline(always)]
    pub const fn v4(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.last.to_ne_bytes();
        [a, b, c, d]
    }

    /// Whether this is a multicast address of either version.
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        let [first, ..] = self.first.to_ne_bytes();
        let [e, f, g, h, v4_first, ..] = self.last.to_ne_bytes();
        let mapped = self.first == 0 && matches!([e, f, g, h], [0, 0, 0xff, 0xff]);
        first == 0xff || (mapped && v4_first >= 224 && v4_first < 240)
    }
}

#[cfg(feature = "user")]
impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::from_bytes(v6.octets()),
        }
    }
}

#[cfg(feature = "user")]
impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.bytes()).to_canonical()
    }
}

/// What the programs must know; the one entry of the `SETTINGS` array.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// [`ABI_VERSION`] of the loader.
    pub abi_version: u32,
    /// Index of the interface, to which the TC reflector redirects.
    pub interface: u32,
    /// TAI − UTC.
    pub tai_offset_ns: u64,
    /// Port on which probes arrive, host order.
    pub test_port: u16,
    /// Port from which this host sends IPv4 probes, host order; 0 for none.
    pub sender_port_v4: u16,
    /// Port from which this host sends IPv6 probes, host order; 0 for none.
    pub sender_port_v6: u16,
    /// Error estimate for replies (RFC 8762 §4.2.1), host order.
    pub error_estimate: u16,
    /// The interface's MAC address.
    pub mac: [u8; 6],
    /// 1 where frames reach the receive program with checksums left to the device (XDP generic, TC) and may leave so.
    pub partial_checksums: u8,
    /// 1 where TC ingress stands behind generic XDP: it then takes what was not shown to XDP, and counts no refusals,
    /// which XDP has counted.
    pub ingress_is_second: u8,
    /// Answers group probes of IPv4 senders; [`Address::NONE`] for none.
    pub own_v4: Address,
    /// Answers group probes of IPv6 senders; [`Address::NONE`] for none.
    pub own_v6: Address,
    /// Answers group probes of link-local IPv6 senders; [`Address::NONE`] for none.
    pub own_v6_link_local: Address,
}

impl Settings {
    /// Whether a datagram is a probe to this host's reflector, by its port. Nothing is before the loader has set one.
    #[inline(always)]
    pub fn is_probe(&self, udp: &Udp) -> bool {
        udp.destination_port == self.test_port && self.test_port != 0
    }

    /// Whether a datagram is a reflector's reply to this host's sender, by its ports.
    #[inline(always)]
    pub fn is_reply(&self, udp: &Udp) -> bool {
        udp.source_port == self.test_port && self.is_sender_port(udp.family, udp.destination_port)
    }

    /// Whether a datagram is a probe that this host's sender sends, by its ports.
    #[inline(always)]
    pub fn is_own_probe(&self, udp: &Udp) -> bool {
        udp.destination_port == self.test_port && self.is_sender_port(udp.family, udp.source_port)
    }

    #[inline(always)]
    fn is_sender_port(&self, family: Family, port: u16) -> bool {
        let sender_port = match family {
            Family::V4 => self.sender_port_v4,
            Family::V6 => self.sender_port_v6,
        };
        port == sender_port && sender_port != 0
    }
}

/// Value of `DESTINATIONS`: the address is one of this interface.
pub const DESTINATION_OWN: u32 = 1;
/// Value of `DESTINATIONS`: the address is a group that this agent has joined.
pub const DESTINATION_GROUP: u32 = 2;

/// Key of `IN_FLIGHT`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightKey {
    /// Sequence number of the probe.
    pub seq: u32,
    /// Its session identifier.
    pub ssid: u16,
    /// Zero.
    pub reserved: u16,
}

/// Value of `IN_FLIGHT`: what the egress program remembers of a probe.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// T1, `CLOCK_MONOTONIC`.
    pub t1_mono_ns: u64,
    /// T1 as the packet carries it, NTP format.
    pub t1_wire: u64,
    /// Where it was sent.
    pub destination: Address,
}

/// Key of `REFLECTOR_SESSIONS` (RFC 8762 §4.3: addresses, ports, and the SSID of RFC 8972 §3).
///
/// The destination port is the test port of the one interface that a map serves, so it is not repeated here.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorSessionKey {
    /// The sender's address.
    pub source: Address,
    /// The address that the sender probes, own or group.
    pub destination: Address,
    /// The sender's port, as on the wire.
    pub source_port: u16,
    /// Session identifier, as on the wire.
    pub ssid: u16,
    /// Zero.
    pub reserved: u32,
}

/// Value of `REFLECTOR_SESSIONS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorSession {
    /// Replies so far; the low 32 bits are the sequence number of the next one. Modified atomically.
    pub replies: u64,
}

/// Key of `MISSED`: a reply that was accepted, but for which the ring buffer had no room. The value is T4,
/// `CLOCK_MONOTONIC`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedKey {
    /// Who replied.
    pub source: Address,
    /// To which probe.
    pub probe: InFlightKey,
}

/// Probed hosts of which `SESSIONS_BY_PEER` knows the session.
pub const MAX_PEER_SESSIONS: u32 = 1 << 12;

/// One accepted reply; the only kind of record in `SAMPLES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// T1, `CLOCK_MONOTONIC`.
    pub t1_mono_ns: u64,
    /// T4, `CLOCK_MONOTONIC`.
    pub t4_mono_ns: u64,
    /// T1 as the probe carried it, NTP format.
    pub t1_wire: u64,
    /// T2 as the reflector wrote it, in the format that `reflector_error` says.
    pub t2_wire: u64,
    /// T3 as the reflector wrote it, in the format that `reflector_error` says.
    pub t3_wire: u64,
    /// T4, UTC since 1970.
    pub t4_unix_ns: u64,
    /// Who replied.
    pub source: Address,
    /// Sequence number of the probe.
    pub seq: u32,
    /// Sequence number of the reply.
    pub reflector_seq: u32,
    /// Session identifier.
    pub ssid: u16,
    /// The reflector's error estimate.
    pub reflector_error: u16,
    /// Zero.
    pub reserved: u32,
}

/// Size of `SAMPLES`.
pub const SAMPLES_BYTES: u32 = 4 << 20;
/// Probes that can be waiting for replies at once, in all sessions together.
pub const MAX_IN_FLIGHT: u32 = 1 << 16;
/// Sessions that a reflector counts at once; beyond, the least recently used one starts again at zero.
pub const MAX_REFLECTOR_SESSIONS: u32 = 1 << 14;
/// Own and group addresses.
pub const MAX_DESTINATIONS: u32 = 256;
/// Replies remembered while the ring buffer is full.
pub const MAX_MISSED: u32 = 1 << 14;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Index into `COUNTERS`: what became of a packet that concerned kstamp. Each packet counts once in the groups
        /// "egress", "probe" and "reply".
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        /// Name of each counter, in the order of their indices; a stable field name of the `counters` record.
        pub const COUNTER_NAMES: [&str; COUNTERS as usize] = [$($name,)+];

        /// Number of counters.
        pub const COUNTERS: u32 = [$($name,)+].len() as u32;
    };
}

counters! {
    /// egress: a probe was stamped.
    EgressStamped = "egress_stamped",
    /// egress: a packet from the sender's port to the test port was not a base test packet and left unstamped.
    EgressForeign = "egress_foreign",
    /// egress: a probe could not be remembered or rewritten, and left unstamped.
    EgressFailed = "egress_failed",
    /// probe: answered.
    Reflected = "reflected",
    /// probe: answered, having come by a group.
    ReflectedGroup = "reflected_group",
    /// probe: not a base packet (extensions, padding, TWAMP-Light); passed up to userspace.
    PassedUp = "passed_up",
    /// probe: shorter than any test packet, or with lengths that contradict each other; passed up.
    Malformed = "malformed",
    /// probe: the UDP or the IPv4 header checksum was wrong; passed up.
    BadChecksum = "bad_checksum",
    /// probe: for an address that is neither the interface's nor a joined group; passed up.
    NotForUs = "not_for_us",
    /// probe: from an IP or MAC address that cannot be answered (multicast, broadcast, loopback, unspecified); passed up.
    BadSource = "bad_source",
    /// probe: from the test port itself, as a reply would be; passed up.
    SourcePort = "source_port",
    /// probe: with a reply's fields where a sender's are zero; passed up. Answering it could go on for ever.
    ReplyShaped = "reply_shaped",
    /// probe: by a group, but the interface has no address of its own to answer from; passed up.
    NoOwnAddress = "no_own_address",
    /// probe: the reply could not be written; passed up.
    ReflectFailed = "reflect_failed",
    /// reply: accepted and handed to userspace.
    Collected = "collected",
    /// reply: accepted, but the ring buffer had no room.
    RingFull = "ring_full",
    /// reply: to no probe that is in flight, from another address than was asked, or with another T1; passed up.
    Unmatched = "unmatched",
    /// reply: a checksum was wrong; passed up.
    ReplyBadChecksum = "reply_bad_checksum",
    /// reply: shorter than any reply, or with lengths that contradict each other; passed up.
    ReplyMalformed = "reply_malformed",
    /// probe or reply: with a VLAN tag; passed up.
    Vlan = "vlan",
    /// probe or reply: with IPv4 options; passed up.
    IpOptions = "ip_options",
    /// probe or reply: with IPv6 extension headers; passed up.
    Extension = "ipv6_extension",
    /// probe or reply: the first fragment of a datagram; passed up.
    Fragment = "fragment",
    /// Beside the groups: a reflector session began, or began again after it had been evicted.
    SessionStarted = "session_started",
    /// Beside the groups: a packet was passed up because loader and programs disagree on [`ABI_VERSION`].
    AbiMismatch = "abi_mismatch",
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(size_of::<Address>() == 16 && align_of::<Address>() == 8);

    assert!(size_of::<Settings>() == 80 && align_of::<Settings>() == 8);
    assert!(offset_of!(Settings, tai_offset_ns) == 8);
    assert!(offset_of!(Settings, test_port) == 16);
    assert!(offset_of!(Settings, mac) == 24);
    assert!(offset_of!(Settings, own_v4) == 32);
    assert!(offset_of!(Settings, own_v6_link_local) == 64);

    assert!(size_of::<InFlightKey>() == 8 && align_of::<InFlightKey>() == 4);
    assert!(size_of::<InFlight>() == 32 && align_of::<InFlight>() == 8);
    assert!(offset_of!(InFlight, destination) == 16);

    assert!(size_of::<ReflectorSessionKey>() == 40 && align_of::<ReflectorSessionKey>() == 8);
    assert!(offset_of!(ReflectorSessionKey, source_port) == 32);
    assert!(offset_of!(ReflectorSessionKey, reserved) == 36);
    assert!(size_of::<ReflectorSession>() == 8);

    assert!(size_of::<MissedKey>() == 24 && align_of::<MissedKey>() == 8);
    assert!(offset_of!(MissedKey, probe) == 16);

    assert!(size_of::<Sample>() == 80 && align_of::<Sample>() == 8);
    assert!(offset_of!(Sample, source) == 48);
    assert!(offset_of!(Sample, seq) == 64);
    assert!(offset_of!(Sample, reserved) == 76);

    assert!(Counter::AbiMismatch as u32 + 1 == COUNTERS);
};

#[cfg(feature = "user")]
mod pod {
    //! aya copies these types to and from the kernel byte by byte.

    use super::*;

    // SAFETY: each is `repr(C)`, made of integers and byte arrays, valid for any bytes, and without implicit padding,
    // which the assertions above on sizes and offsets show.
    unsafe impl aya::Pod for Address {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for InFlightKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for InFlight {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReflectorSessionKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReflectorSession {}
    // SAFETY: as above.
    unsafe impl aya::Pod for MissedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Sample {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_names_are_unique_and_fit_json() {
        for (i, name) in COUNTER_NAMES.iter().enumerate() {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert!(!COUNTER_NAMES[..i].contains(name), "{name}");
        }
        assert_eq!(COUNTER_NAMES[Counter::RingFull as usize], "ring_full");
    }

    #[test]
    fn v4_addresses_are_mapped() {
        let address = Address::from_v4([10, 1, 1, 5]);
        assert_eq!(address.bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 1, 5]);
        assert_eq!(address.v4(), [10, 1, 1, 5]);
        assert_eq!(Address::from_bytes(address.bytes()), address);
    }

    #[test]
    fn multicast_of_both_versions() {
        let table = [
            ("224.0.0.1", true),
            ("239.255.255.250", true),
            ("223.255.255.255", false),
            ("240.0.0.1", false),
            ("10.1.1.5", false),
            ("ff0e::10", true),
            ("fe80::1", false),
            ("::e000:1", false),
        ];
        for (text, multicast) in table {
            let address = match text.parse().unwrap() {
                std::net::IpAddr::V4(v4) => Address::from_v4(v4.octets()),
                std::net::IpAddr::V6(v6) => Address::from_bytes(v6.octets()),
            };
            assert_eq!(address.is_multicast(), multicast, "{text}");
        }
    }
}
