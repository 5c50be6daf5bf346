//! Counters of the userspace reflector. Their names are fields of the `counters` record.

use std::collections::BTreeMap;

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $words:expr;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Count {
            $($(#[doc = $doc])* $variant,)+
        }

        impl Count {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            /// What is counted, and what happened to it, if that is a sign of trouble.
            pub fn in_words(self) -> Option<(&'static str, &'static str)> {
                match self { $(Self::$variant => $words,)+ }
            }
        }
    };
}

counts! {
    Reflected = "user_reflected", None;
    ReflectedGroup = "user_reflected_group", None;
    LegacyReflected = "user_echoed", None;
    LegacyLoop = "user_echo_loop", Some(("number", "not sent back in userspace: it may be an echo itself"));
    IdentityAnswered = "user_introduced", None;
    TooShort = "user_too_short", Some(("probe", "not answered in userspace: shorter than any test packet"));
    SourcePort = "user_source_port", Some(("probe", "not answered in userspace: from the test port itself"));
    ReplyShaped = "user_reply_shaped", Some(("probe", "not answered in userspace: with the fields of a reply"));
    BadSource = "user_bad_source", Some(("probe", "not answered in userspace: from an address that cannot be answered"));
    NotForUs = "user_not_for_us", Some(("probe", "not answered in userspace: to another address than this interface's"));
    NotAllowed = "user_not_allowed", Some(("probe", "not answered in userspace: from a source that is not allowed"));
    RateLimited = "user_rate_limited", Some(("probe", "not answered in userspace: too many in too short a time"));
    HmacMissing = "user_hmac_missing", Some(("probe", "not answered: without the HMAC that authenticated mode demands"));
    HmacWrong = "user_hmac_wrong", Some(("probe", "not answered: with an HMAC of another key, or altered on the way"));
    /// The kernel programs have already refused and counted the packet.
    RefusedByKernel = "user_left_by_kernel", None;
    Unsent = "user_unsent", Some(("reply", "not sent from userspace: the socket refused it"));
    /// An unknown TLV, returned with flag U.
    TlvUnrecognised = "user_tlv_unrecognised", None;
    /// A packet with a TLV of a wrong length, which is returned with flag M.
    TlvMalformed = "user_tlv_malformed", Some(("probe", "answered with flag M: a TLV in it was malformed"));
    /// A packet whose TLVs failed their HMAC, and are returned with flag I.
    TlvIntegrity = "user_tlv_integrity", Some(("probe", "answered with flag I: the HMAC of its TLVs was wrong or missing"));
}

#[derive(Debug, Clone, Default)]
pub struct Counts([u64; Count::ALL.len()]);

impl Counts {
    pub(super) fn add(&mut self, what: Count) {
        self.add_many(what, 1);
    }

    pub(super) fn add_many(&mut self, what: Count, number: u32) {
        self.0[what as usize] += u64::from(number);
    }

    pub fn of(&self, what: Count) -> u64 {
        self.0[what as usize]
    }

    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        Count::ALL.iter().map(|&what| (what.name(), self.of(what))).collect()
    }
}
