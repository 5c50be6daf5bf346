//! Sessions of a stateful reflector (RFC 8762 §4.3): a counter of replies for each sender.

use std::net::{IpAddr, SocketAddr};

use crate::reflector::lru::Lru;

/// As many as the kernel programs keep.
const MAX_SESSIONS: usize = probe_common::abi::MAX_REFLECTOR_SESSIONS as usize;

/// What tells sessions apart, beside the test port (RFC 8762 §4.3, RFC 8972 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub source: SocketAddr,
    pub destination: IpAddr,
    pub ssid: u16,
}

#[derive(Debug, Default)]
struct Session {
    received: u32,
    sent: u32,
    /// Number of the last reply, and when it left.
    last: Option<(u32, u64)>,
}

/// One reply of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyId {
    session: Key,
    sequence: u32,
}

/// What a session says of the reply that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub sequence: u32,
    /// Test packets received, this one included.
    pub received: u32,
    /// Replies sent, this one included.
    pub sent: u32,
    /// Number of the reply before, and when it left, if that is known.
    pub before: Option<(u32, u64)>,
    pub id: Option<ReplyId>,
}

impl Turn {
    /// Of a reflector that keeps no sessions.
    pub fn stateless(sequence: u32) -> Self {
        Self {
            sequence,
            received: 0,
            sent: 0,
            before: None,
            id: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Sessions(Lru<Key, Session>);

impl Default for Sessions {
    fn default() -> Self {
        Self(Lru::new(MAX_SESSIONS))
    }
}

impl Sessions {
    /// One more test packet of a session, to be answered.
    pub fn turn(&mut self, key: Key) -> Turn {
        let session = self.0.get_or(key, Session::default);
        // Replies are counted from zero on, as in the kernel programs.
        let sequence = session.sent;
        session.received = session.received.wrapping_add(1);
        session.sent = session.sent.wrapping_add(1);
        Turn {
            sequence,
            received: session.received,
            sent: session.sent,
            before: session.last.take(),
            id: Some(ReplyId { session: key, sequence }),
        }
    }

    /// A reply left.
    pub fn left(&mut self, reply: ReplyId, at_ns: u64) {
        if let Some(session) = self.0.peek(&reply.session)
            && session.sent == reply.sequence.wrapping_add(1)
        {
            session.last = Some((reply.sequence, at_ns));
        }
    }
}
