//! Everything that crosses the kernel boundary: settings, map keys and values, ring records, counters.
//!
//! Only plain integers and byte arrays cross, padding is spelled out, and the layout of each type is asserted below.

use crate::frame::{Family, Udp};

/// Version of this module's layouts and meanings. The loader writes it into [`Settings`]; a program that was built
/// with another one touches no packet.
pub const ABI_VERSION: u32 = 2;

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

    /// As two words, as they lie in memory.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        [self.first, self.last]
    }

    /// Whether this is an IPv4 address mapped into IPv6.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let [e, f, g, h, ..] = self.last.to_ne_bytes();
        self.first == 0 && matches!([e, f, g, h], [0, 0, 0xff, 0xff])
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
        let [.., v4_first, _, _, _] = self.last.to_ne_bytes();
        first == 0xff || (self.is_v4() && v4_first >= 224 && v4_first < 240)
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
    /// Changes whenever `ALLOWED` does, so that what [`SourceState`] remembers of it is looked up anew.
    pub policy_generation: u32,
    /// Packets that a CPU takes from the port's bucket at once, at least 1.
    pub port_batch: u32,
    /// How often each source is answered.
    pub source_limit: Limit,
    /// How often each source is answered that probes a group.
    pub group_limit: Limit,
    /// How often all of them together are answered.
    pub port_limit: Limit,
}

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, virtual scheduling): a packet costs
/// `interval_ns`, and the debt may not exceed `burst_ns`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Time in which one packet is earned; 0 for no limit.
    pub interval_ns: u64,
    /// How far what has been spent may be ahead of what has been earned.
    pub burst_ns: u64,
}

impl Limit {
    /// As much as comes.
    pub const NONE: Self = Self {
        interval_ns: 0,
        burst_ns: 0,
    };

    /// The debt after `packets` more at `now_ns`, as the time at which it will have been earned; `None` if that is too
    /// much. `earned_ns` is the debt before.
    ///
    /// A debt that no series of packets can have made is that of a clock that has been set back: it is forgiven. Nobody
    /// can have made twice what is allowed, even if another CPU's clock is some nanoseconds ahead.
    #[inline(always)]
    pub fn charge(&self, earned_ns: u64, now_ns: u64, packets: u64) -> Option<u64> {
        let cost_ns = self.interval_ns.wrapping_mul(packets);
        let debt_ns = earned_ns.wrapping_sub(now_ns) as i64;
        let debt_ns = if debt_ns > 0 && debt_ns as u64 <= self.burst_ns.wrapping_mul(2) {
            debt_ns as u64
        } else {
            0
        };
        let debt_ns = debt_ns.wrapping_add(cost_ns);
        (debt_ns <= self.burst_ns).then_some(now_ns.wrapping_add(debt_ns))
    }
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

/// Value of `ALLOWED`: the prefix is one of IPv4, mapped into IPv6.
pub const ALLOWED_V4: u32 = 4;
/// Value of `ALLOWED`: the prefix is one of IPv6.
pub const ALLOWED_V6: u32 = 6;

/// Value of `SOURCES`, by source address: what a sender that may be answered has used up.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceState {
    /// When all that it was answered by unicast will have been earned, UTC. Modified atomically.
    pub unicast_earned_ns: u64,
    /// The same for its probes to a group.
    pub group_earned_ns: u64,
    /// The same for what was passed up to userspace: apart, so that a source whose probes are too many can still ask.
    pub passed_up_earned_ns: u64,
    /// Probes of its that a limit has refused. Modified atomically.
    pub refused: u64,
    /// [`Settings::policy_generation`] of when it was found to be allowed.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
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
/// Senders of which the reflector knows what they have used up; beyond, the least recently seen one starts anew.
pub const MAX_SOURCES: u32 = 1 << 14;
/// Prefixes whose sources are answered.
pub const MAX_ALLOWED: u32 = 1 << 12;
/// Longest payload of a padded probe that the kernel programs answer: what a jumbo frame of 9,000 bytes holds.
pub const MAX_PADDED_LEN: usize = 9000 - 28;
/// Longest payload of the older agents' probes: the digits of a number.
pub const MAX_ECHO_LEN: usize = 20;
/// The port on which the older agents echo.
pub const ECHO_PORT: u16 = 1910;
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
    /// probe: not a base packet (extensions other than padding, TWAMP-Light); passed up to userspace.
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
    /// probe: a number in ASCII, as the older agents send; echoed.
    Echoed = "echoed",
    /// probe: a number in ASCII that came by a group; echoed.
    EchoedGroup = "echoed_group",
    /// probe: a number in ASCII from the port of an echoing service, or with the TTL of our own echoes; passed up.
    /// Echoing it could go on for ever.
    EchoLoop = "echo_loop",
    /// probe: from a source outside the prefixes that are answered; dropped.
    NotAllowed = "not_allowed",
    /// probe: its source has used up its share; dropped.
    RateSource = "rate_source",
    /// probe: by a group, and its source has used up its share of group probes; dropped.
    RateGroup = "rate_group",
    /// probe: all sources together have used up what this port answers; dropped.
    RatePort = "rate_port",
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
    /// Beside the groups: a probe that was answered was longer than a base packet.
    Padded = "padded",
    /// Beside the groups: a source was seen for the first time, or again after it had been evicted.
    SourceStarted = "source_started",
    /// Beside the groups: a packet was passed up because loader and programs disagree on [`ABI_VERSION`].
    AbiMismatch = "abi_mismatch",
}

impl Counter {
    /// Whether a packet that is counted so is dropped: the policy has refused it.
    #[inline(always)]
    pub const fn is_dropped(self) -> bool {
        matches!(
            self,
            Self::NotAllowed | Self::RateSource | Self::RateGroup | Self::RatePort
        )
    }

    /// Whether a probe to this host that is counted so goes on to userspace's socket: it is neither answered nor dropped,
    /// the stack will not refuse it either, and it is nobody else's.
    #[inline(always)]
    pub const fn reaches_userspace(self) -> bool {
        matches!(
            self,
            Self::PassedUp
                | Self::Malformed
                | Self::SourcePort
                | Self::ReplyShaped
                | Self::EchoLoop
                | Self::IpOptions
                | Self::Extension
                | Self::Fragment
        )
    }
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(size_of::<Address>() == 16 && align_of::<Address>() == 8);

    assert!(size_of::<Settings>() == 136 && align_of::<Settings>() == 8);
    assert!(offset_of!(Settings, tai_offset_ns) == 8);
    assert!(offset_of!(Settings, test_port) == 16);
    assert!(offset_of!(Settings, mac) == 24);
    assert!(offset_of!(Settings, own_v4) == 32);
    assert!(offset_of!(Settings, own_v6_link_local) == 64);
    assert!(offset_of!(Settings, policy_generation) == 80);
    assert!(offset_of!(Settings, source_limit) == 88);
    assert!(offset_of!(Settings, port_limit) == 120);
    assert!(size_of::<Limit>() == 16 && offset_of!(Limit, burst_ns) == 8);

    assert!(size_of::<SourceState>() == 40 && align_of::<SourceState>() == 8);
    assert!(offset_of!(SourceState, refused) == 24);
    assert!(offset_of!(SourceState, generation) == 32);

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
    unsafe impl aya::Pod for SourceState {}
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

    /// Packets that pass of those that come every `step_ns` until `end_ns`.
    fn passing(limit: Limit, step_ns: u64, end_ns: u64) -> u64 {
        let mut earned_ns = 0;
        let mut passed = 0;
        for now_ns in (1_000_000_000..1_000_000_000 + end_ns).step_by(step_ns as usize) {
            if let Some(after_ns) = limit.charge(earned_ns, now_ns, 1) {
                earned_ns = after_ns;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_limit_lets_its_burst_and_then_its_rate_pass() {
        // 1,000 a second, 250 at once.
        let limit = Limit {
            interval_ns: 1_000_000,
            burst_ns: 250_000_000,
        };
        assert_eq!(passing(limit, 1, 100), 100);
        assert_eq!(passing(limit, 1_000, 1_000_000), 250, "the burst");
        let in_two_seconds = passing(limit, 10_000, 2_000_000_000);
        assert!((2249..=2250).contains(&in_two_seconds), "{in_two_seconds}");
        assert_eq!(
            passing(limit, 1_000_000, 2_000_000_000),
            2000,
            "nothing of what keeps to the rate"
        );
        assert_eq!(limit.charge(0, 0, 250), Some(250_000_000));
        assert_eq!(limit.charge(0, 0, 251), None);
        assert_eq!(Limit::NONE.charge(0, 5, u64::MAX), Some(5));
    }

    #[test]
    fn a_clock_that_is_set_starts_the_limit_anew() {
        let limit = Limit {
            interval_ns: 1_000,
            burst_ns: 10_000,
        };
        let hour_ns = 3_600_000_000_000;
        assert_eq!(limit.charge(2 * hour_ns, hour_ns, 1), Some(hour_ns + 1_000), "set back");
        assert_eq!(
            limit.charge(hour_ns, 2 * hour_ns, 1),
            Some(2 * hour_ns + 1_000),
            "set forth"
        );
        assert_eq!(limit.charge(u64::MAX, 0, 1), Some(1_000));
        assert_eq!(
            limit.charge(hour_ns + 10_000, hour_ns - 5, 1),
            None,
            "not by another CPU's clock"
        );
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
