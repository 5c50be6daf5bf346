//! The outcomes of packets that came to the userspace reflector, named as the fields of the `counters` record.

use std::collections::BTreeMap;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $words:expr;)+) => {
        /// The outcome of a packet, or of a TLV in it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Count {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Count {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// A stable field name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            /// The unit that is counted, and its outcome, if that is a sign of trouble.
            pub fn in_words(self) -> Option<(&'static str, &'static str)> {
                match self { $(Self::$variant => $words,)+ }
            }
        }
    };
}

counts! {
    /// Probes answered.
    Reflected = "user_reflected", None;
    /// Probes to a group, answered.
    ReflectedGroup = "user_reflected_group", None;
    /// Probes of legacy agents, sent back.
    LegacyReflected = "user_echoed", None;
    /// Probes of legacy agents that may be replies; not sent back.
    LegacyLoop = "user_echo_loop", Some(("probe", "of a legacy agent not sent back in userspace: it may be a reply itself"));
    /// Identity requests answered.
    IdentityAnswered = "user_introduced", None;
    /// Questions for hop stamps answered.
    HopsAnswered = "user_hops_answered", None;
    /// Packets shorter than any test packet.
    TooShort = "user_too_short", Some(("probe", "not answered in userspace: shorter than any test packet"));
    /// Probes from port 0, to which no reply can be sent.
    SourcePort = "user_source_port", Some(("probe", "not answered in userspace: from port 0, to which no reply can be sent"));
    /// Probes with the fields of a reply, which are zero in a probe; from a test port, with a receive timestamp.
    ReplyShaped = "user_reply_shaped", Some(("probe", "not answered in userspace: with the fields of a reply"));
    /// Probes from an address that cannot be answered.
    BadSource = "user_bad_source", Some(("probe", "not answered in userspace: from an address that cannot be answered"));
    /// Probes from an own address of the interface.
    OwnSource = "user_own_source", Some(("probe", "not answered in userspace: from an own address of this interface"));
    /// Probes to a group, but the interface has no address to answer their source from.
    NoOwnAddress = "user_no_own_address", Some(("probe", "not answered in userspace: the interface has no address of that family"));
    /// Probes to an address that is neither the interface's nor a joined group.
    NotForUs = "user_not_for_us", Some(("probe", "not answered in userspace: to another address than this interface's"));
    /// Probes from a source that the policy does not allow.
    NotAllowed = "user_not_allowed", Some(("probe", "not answered in userspace: from a source that is not allowed"));
    /// Probes above a rate limit.
    RateLimited = "user_rate_limited", Some(("probe", "not answered in userspace: too many in too short a time"));
    /// In authenticated mode: probes too short to have an HMAC.
    HmacMissing = "user_hmac_missing", Some(("probe", "not answered: without the HMAC that authenticated mode demands"));
    /// In authenticated mode: probes with a wrong HMAC.
    HmacWrong = "user_hmac_wrong", Some(("probe", "not answered: with an HMAC of another key, or altered in transit"));
    /// Replies that the socket could not send.
    Unsent = "user_unsent", Some(("reply", "not sent from userspace: the socket refused it"));
    /// Probes whose Return Path TLV (RFC 9503) asks for no reply.
    NoReplyWanted = "user_no_reply_wanted", None;
    /// TLVs of an unknown type: returned with flag U.
    TlvUnrecognised = "user_tlv_unrecognised", None;
    /// Probes with a TLV of a wrong length: returned with flag M.
    TlvMalformed = "user_tlv_malformed", Some(("probe", "answered with flag M: a TLV in it was malformed"));
    /// Probes whose TLVs have a wrong or missing HMAC, or one for which there is no key: returned with flag I.
    TlvIntegrity = "user_tlv_integrity", Some(("probe", "answered with flag I: the HMAC of its TLVs was wrong or missing, or there is no key for it"));
}

/// One number for each.
#[derive(Debug, Clone, Default)]
pub struct Counts([u64; Count::ALL.len()]);

impl Counts {
    pub(super) fn add(&mut self, what: Count) {
        self.add_many(what, 1);
    }

    pub(super) fn add_many(&mut self, what: Count, number: u32) {
        self.0[what as usize] += u64::from(number);
    }

    /// How often something was counted.
    pub fn of(&self, what: Count) -> u64 {
        self.0[what as usize]
    }

    /// All of them by name.
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        Count::ALL.iter().map(|&what| (what.name(), self.of(what))).collect()
    }
}
