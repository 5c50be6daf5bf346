//! What became of packets.

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
    /// Beside the groups: a packet was passed up because loader and programs disagree on [`ABI_VERSION`](super::ABI_VERSION).
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
}
