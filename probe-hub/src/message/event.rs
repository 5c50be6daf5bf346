//! What an agent has noticed, at once: JSON in a stream. And what a hub asks a reflector about it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::name::PortName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub port: PortName,
    pub boot: u64,
    /// Since 1970.
    pub time_ns: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// Several probes in a row were lost.
    Silent(Silence),
    /// A silent peer answers again.
    Answering {
        peer: PortName,
        address: IpAddr,
        silent_ns: u64,
    },
    /// A target cannot be probed from here.
    Refused {
        peer: PortName,
        address: IpAddr,
        why: String,
    },
}

/// A peer that no longer answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub peer: PortName,
    pub address: IpAddr,
    /// Transmit time of the first lost probe, since 1970.
    pub since_ns: u64,
    /// Probes in a row that were lost.
    pub lost: u64,
    pub session: Session,
    /// The number of the last reply, plus 1: the replies of which this host knows. `None` if the peer has never answered.
    pub replies: Option<u32>,
}

/// A session, by the fields of its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    /// Session identifier (RFC 8972 §3).
    pub ssid: u16,
}

/// The reply to a question about a [`Session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Replies that the reflector has sent in it, modulo 2³²; `None` if it does not know the session.
    pub replies: Option<u32>,
}

impl Answer {
    /// Where probes are lost: forward if the reflector has seen none since the last reply that came back. `known` is
    /// [`Silence::replies`].
    pub fn direction(self, known: Option<u32>) -> Direction {
        match (self.replies, known) {
            (None | Some(0), None) => Direction::Forward,
            // The reflector has restarted, or has forgotten the session.
            (None, Some(_)) => Direction::Forward,
            (Some(_), None) => Direction::Backward,
            (Some(sent), Some(known)) if sent == known => Direction::Forward,
            (Some(_), Some(_)) => Direction::Backward,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Probes do not reach the peer.
    Forward,
    /// Its replies do not come back.
    Backward,
    /// The peer could not be asked.
    Unknown,
}

/// A line for the log of an agent: JSON, not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub line: String,
}
