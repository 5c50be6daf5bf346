//! One alert: of which kind, about what, since when, and how it ended.

use serde::{Deserialize, Serialize};

use crate::hub::problems::ProblemKind;
use crate::message::event::Direction;
use crate::name::{HostName, PortName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A host sends no heartbeats.
    HostDown,
    /// A peer does not answer.
    Silent,
    /// Many probes to a peer are lost.
    Loss,
    /// What the coordinator sees in presences and heartbeats.
    #[serde(untagged)]
    Problem(ProblemKind),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    Pair { from: PortName, to: PortName },
    Port { port: PortName },
    Host { host: HostName },
}

impl Subject {
    /// The host that says so, or of which it is said.
    pub(super) fn host(&self) -> &HostName {
        match self {
            Self::Pair { from: port, .. } | Self::Port { port } => &port.host,
            Self::Host { host } => host,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pair { from, to } => write!(f, "{from} -> {to}"),
            Self::Port { port } => write!(f, "{port}"),
            Self::Host { host } => write!(f, "{host}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Of kind, subject and start.
    pub id: String,
    pub kind: Kind,
    #[serde(flatten)]
    pub subject: Subject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// A sentence.
    pub text: String,
    /// Since 1970, as `until_ns`.
    pub since_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ns: Option<u64>,
    /// Why it is no longer raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Silent pairs for which this one stands.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pairs: usize,
}

/// At most one alert of a key is kept.
pub(super) type Key = (Kind, Subject);

impl Alert {
    pub fn new(kind: Kind, subject: Subject, text: String, since_ns: u64) -> Self {
        Self {
            id: format!("{kind} {subject} {since_ns}"),
            kind,
            subject,
            direction: None,
            text,
            since_ns,
            until_ns: None,
            end: None,
            pairs: 0,
        }
    }

    pub(super) fn key(&self) -> Key {
        (self.kind, self.subject.clone())
    }

    pub(super) fn ended(self, end: End, now_ns: u64) -> Self {
        Self {
            until_ns: Some(now_ns),
            end: Some(end),
            ..self
        }
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The problem is over.
    Recovered,
    /// A port of it has left the fleet.
    Left,
    /// It is no longer measured.
    NotMeasured,
    /// Another alert has it: its host is down.
    Folded,
}

/// A line for the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Change {
    Raised(Alert),
    Resolved(Alert),
}

impl Change {
    pub fn alert(&self) -> &Alert {
        match self {
            Self::Raised(alert) | Self::Resolved(alert) => alert,
        }
    }
}
