//! Sessions of a stateful reflector (RFC 8762 §4.3): one reply counter per sender.

use std::net::IpAddr;

use crate::lru::Lru;

const MAX_SESSIONS: usize = probe_common::abi::MAX_REFLECTOR_SESSIONS as usize;

/// Distinguishes sessions (RFC 8762 §4.3, RFC 8972 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    /// 0 for none.
    pub ssid: u16,
}

#[derive(Debug, Default)]
struct Session {
    received: u32,
    sent: u32,
    /// Number and transmit time of the last reply.
    last: Option<(u32, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyId {
    session: SessionKey,
    sequence: u32,
}

/// The fields of a reply that depend on its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub sequence: u32,
    /// Test packets received, including this one.
    pub received: u32,
    /// Replies sent, including this one.
    pub sent: u32,
    /// Number and transmit time of the previous reply, if known.
    pub previous: Option<(u32, u64)>,
    pub id: Option<ReplyId>,
}

impl Turn {
    pub fn stateless(sequence: u32) -> Self {
        Self {
            sequence,
            received: 0,
            sent: 0,
            previous: None,
            id: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Sessions(Lru<SessionKey, Session>);

impl Default for Sessions {
    fn default() -> Self {
        Self(Lru::new(MAX_SESSIONS))
    }
}

impl Sessions {
    /// Counts one more test packet and its reply.
    pub fn turn(&mut self, key: SessionKey) -> Turn {
        let session = self.0.get_or(key, Session::default);
        // From zero, as in the kernel programs.
        let sequence = session.sent;
        session.received = session.received.wrapping_add(1);
        session.sent = session.sent.wrapping_add(1);
        Turn {
            sequence,
            received: session.received,
            sent: session.sent,
            previous: session.last.take(),
            id: Some(ReplyId { session: key, sequence }),
        }
    }

    /// Replies sent in a session, modulo 2³²; `None` if it is not known.
    pub fn replies_sent(&self, key: &SessionKey) -> Option<u32> {
        self.0.peek(key).map(|session| session.sent)
    }

    /// The reply was not sent after all.
    pub fn withdraw(&mut self, reply: ReplyId) {
        if let Some(session) = self.0.peek_mut(&reply.session) {
            session.sent = session.sent.wrapping_sub(1);
        }
    }

    pub fn transmitted(&mut self, reply: ReplyId, at_ns: u64) {
        if let Some(session) = self.0.peek_mut(&reply.session)
            && session.sent == reply.sequence.wrapping_add(1)
        {
            session.last = Some((reply.sequence, at_ns));
        }
    }
}
