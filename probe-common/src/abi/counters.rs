//! The outcomes of packets that the programs count.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Index into `COUNTERS`: the outcome of a packet that concerned kstamp. Each packet counts once in the groups
        /// "egress", "probe" and "reply".
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        /// Name of each counter, in the order of their indices; a stable field name of the `counters` record.
        pub const COUNTER_NAMES: [&str; COUNTERS as usize] = [$($name,)+];

        /// What each counter counts, in the same order.
        pub const COUNTER_MEANINGS: [&str; COUNTERS as usize] = [$(concat!($($doc),+),)+];

        pub const COUNTERS: u32 = [$($name,)+].len() as u32;

        impl Counter {
            pub const ALL: [Self; COUNTERS as usize] = [$(Self::$variant,)+];
        }
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
    /// probe: sent to a group; answered.
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
    /// probe: from an own address of the interface: our own multicast that came back, or forged; dropped.
    OwnSource = "own_source",
    /// probe: from the network or the broadcast address of one of the interface's prefixes; dropped.
    SubnetSource = "subnet_source",
    /// probe: from port 0, to which no reply can be sent; passed up.
    SourcePort = "source_port",
    /// probe: with a reply's fields where a sender's are zero; passed up. Answering it could loop. From a test port, a
    /// receive timestamp suffices.
    ReplyShaped = "reply_shaped",
    /// probe: sent to a group, but the interface has no address to answer its source from; passed up.
    NoOwnAddress = "no_own_address",
    /// probe: the reply could not be written; passed up.
    ReflectFailed = "reflect_failed",
    /// probe: of a legacy agent; sent back.
    LegacyReflected = "echoed",
    /// probe: of a legacy agent, sent to a group; sent back.
    LegacyReflectedGroup = "echoed_group",
    /// probe: of a legacy agent, but from a test port, from the port of an echoing service or with the TTL of our own replies; passed up.
    /// Answering it could loop.
    LegacyLoop = "echo_loop",
    /// probe: from a source outside the prefixes that are answered; dropped.
    NotAllowed = "not_allowed",
    /// probe: above its source's rate; dropped.
    RateSource = "rate_source",
    /// probe: sent to a group, above its source's rate of group probes; dropped.
    RateGroup = "rate_group",
    /// probe: above the rate of all sources together; dropped.
    RatePort = "rate_port",
    /// reply: accepted and handed to userspace.
    Collected = "collected",
    /// reply: accepted, but the ring buffer had no room.
    RingFull = "ring_full",
    /// reply: above the limit of replies to one probe; dropped.
    DuplicateDropped = "duplicate_dropped",
    /// reply: to no probe in flight, from another address than was probed, or with another T1; passed up.
    Unmatched = "unmatched",
    /// reply: to a group probe, from an own address, one that cannot be answered, or one outside the prefixes that are
    /// answered; passed up. It makes no peer.
    ReplyNotAllowed = "reply_not_allowed",
    /// reply: a checksum was wrong; passed up.
    ReplyBadChecksum = "reply_bad_checksum",
    /// reply: shorter than any reply, longer than any probe, or with lengths that contradict each other; passed up.
    ReplyMalformed = "reply_malformed",
    /// probe or reply: with a VLAN tag; passed up.
    Vlan = "vlan",
    /// probe or reply: with IPv4 options; passed up.
    IpOptions = "ip_options",
    /// probe or reply: with IPv6 extension headers; passed up.
    Extension = "ipv6_extension",
    /// probe or reply: the first fragment of a datagram; passed up.
    Fragment = "fragment",
    /// In no group: a reflector session started, or restarted after its eviction.
    SessionStarted = "session_started",
    /// In no group: an answered probe was longer than a base packet.
    Padded = "padded",
    /// In no group: a source was seen for the first time, or again after its eviction.
    SourceStarted = "source_started",
    /// In no group: a packet was passed up because loader and programs disagree on the ABI version.
    AbiMismatch = "abi_mismatch",
}

impl Counter {
    /// Whether packets with this outcome are dropped: the policy has refused them.
    #[inline(always)]
    pub const fn is_dropped(self) -> bool {
        matches!(
            self,
            Self::OwnSource
                | Self::SubnetSource
                | Self::NotAllowed
                | Self::RateSource
                | Self::RateGroup
                | Self::RatePort
        )
    }

    /// Whether a probe to this host with this outcome goes on to the socket in userspace: neither the programs nor the
    /// stack have answered or refused it.
    #[inline(always)]
    pub const fn reaches_userspace(self) -> bool {
        matches!(
            self,
            Self::PassedUp
                | Self::Malformed
                | Self::SourcePort
                | Self::ReplyShaped
                | Self::LegacyLoop
                | Self::IpOptions
                | Self::Extension
                | Self::Fragment
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_names_are_unique_and_fit_json() {
        for (i, name) in COUNTER_NAMES.iter().enumerate() {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(name.bytes().all(fits), "{name}");
            assert!(!COUNTER_NAMES[..i].contains(name), "{name}");
        }
        assert_eq!(COUNTER_NAMES[Counter::RingFull as usize], "ring_full");
    }

    #[test]
    fn a_refused_probe_is_dropped_or_passed_up() {
        let dropped = [
            "own_source",
            "subnet_source",
            "not_allowed",
            "rate_source",
            "rate_group",
            "rate_port",
        ];
        let for_userspace = [
            "passed_up",
            "malformed",
            "source_port",
            "reply_shaped",
            "echo_loop",
            "ip_options",
            "ipv6_extension",
            "fragment",
        ];
        for counter in Counter::ALL {
            let name = COUNTER_NAMES[counter as usize];
            assert_eq!(counter.is_dropped(), dropped.contains(&name), "{name}");
            assert_eq!(counter.reaches_userspace(), for_userspace.contains(&name), "{name}");
        }
    }
}
