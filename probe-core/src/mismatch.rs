//! Packets that arrived where replies are expected, and answer no probe: counted by reason, with an example of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

macro_rules! mismatches {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet answers no probe. The first reason that holds counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mismatch {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mismatch {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// A stable field name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The meaning of the counter.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

mismatches! {
    /// Probes that came back as they were sent.
    Echo = "unmatched_echo",
    /// Packets shorter than any reply of the mode in use.
    Length = "unmatched_length",
    /// In authenticated mode: packets without a valid HMAC.
    Unsigned = "unmatched_unsigned",
    /// Replies from another address than was probed.
    Address = "unmatched_address",
    /// Replies from another port than was probed.
    Port = "unmatched_port",
    /// Replies with a session identifier (SSID) that is neither that of the probe nor zero.
    Session = "unmatched_session",
    /// Replies with another sender timestamp (T1) than the probe had.
    Timestamp = "unmatched_timestamp",
    /// Packets that answer no probe that is remembered.
    Unknown = "unmatched_unknown",
}

/// The packets of one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub number: u64,
    /// Sender of the first.
    pub first: Option<SocketAddr>,
    /// Others have sent some, too.
    pub by_others: bool,
}

/// All mismatches so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mismatches([Seen; Mismatch::ALL.len()]);

impl Mismatches {
    pub fn add(&mut self, why: Mismatch, from: SocketAddr) {
        let seen = &mut self.0[why as usize];
        seen.number += 1;
        let first = *seen.first.get_or_insert(from);
        seen.by_others |= first != from;
    }

    pub fn of(&self, why: Mismatch) -> Seen {
        self.0[why as usize]
    }

    /// All packets.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|seen| seen.number).sum()
    }

    /// The numbers by name.
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let of = |&why: &Mismatch| (why.name(), self.of(why).number);
        Mismatch::ALL.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_number_and_its_first_sender() {
        let [one, other] = ["10.77.0.3:862", "10.77.0.4:862"].map(|address| address.parse::<SocketAddr>().unwrap());
        let mut all = Mismatches::default();
        all.add(Mismatch::Address, one);
        all.add(Mismatch::Address, one);
        all.add(Mismatch::Echo, one);
        let twice = Seen {
            number: 2,
            first: Some(one),
            by_others: false,
        };
        assert_eq!(all.of(Mismatch::Address), twice);
        all.add(Mismatch::Address, other);
        assert!(all.of(Mismatch::Address).by_others && !all.of(Mismatch::Echo).by_others);
        assert_eq!((all.total(), all.of(Mismatch::Port)), (4, Seen::default()));
        let by_name = all.by_name();
        assert_eq!((by_name.len(), by_name["unmatched_address"]), (Mismatch::ALL.len(), 3));
    }
}
