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
    /// Where most of `lost` probes in a row were lost: forward if the reflector has not seen them. `known` is
    /// [`Silence::replies`].
    ///
    /// More probes may have been sent since, so the reflector may have sent more replies than were missed. If it has sent fewer
    /// than were known, or does not know the session, then it has restarted since the last reply that came back.
    pub fn direction(self, known: Option<u32>, lost: u64) -> Direction {
        let sent = self.replies.unwrap_or(0);
        let missed = match known {
            // Half of all numbers are behind: the counter wraps around.
            Some(known) if sent.wrapping_sub(known) <= u32::MAX / 2 && self.replies.is_some() => {
                sent.wrapping_sub(known)
            }
            _ => sent,
        };
        if missed == 0 || u64::from(missed) * 2 < lost {
            Direction::Forward
        } else {
            Direction::Backward
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replies_of_the_reflector_show_the_direction() {
        use Direction::{Backward, Forward};
        const MAX: u32 = u32::MAX;
        // Replies sent, replies known, probes lost.
        for (replies, known, lost, want) in [
            (Some(100), Some(100), 3, Forward),
            (Some(103), Some(100), 3, Backward),
            // Probes were sent after the silence was noticed.
            (Some(140), Some(100), 3, Backward),
            // A reply is on its way, or one probe came through.
            (Some(101), Some(100), 3, Forward),
            (Some(102), Some(100), 3, Backward),
            // The counter wraps around.
            (Some(2), Some(MAX), 3, Backward),
            (Some(MAX), Some(MAX), 3, Forward),
            (Some(0), Some(0), 3, Forward),
            // The peer has never answered.
            (None, None, 3, Forward),
            (Some(0), None, 3, Forward),
            (Some(3), None, 3, Backward),
            // The reflector has restarted.
            (None, Some(100), 3, Forward),
            (Some(0), Some(100), 3, Forward),
            (Some(3), Some(100), 3, Backward),
            (Some(1), Some(100), 3, Forward),
        ] {
            let direction = Answer { replies }.direction(known, lost);
            assert_eq!(direction, want, "{replies:?} of {known:?}, {lost} lost");
        }
    }
}
