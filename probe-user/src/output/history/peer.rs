//! The state of a peer.

use std::net::IpAddr;

use probe_core::agent::event::Found;
use probe_core::attach::AttachMode;
use serde::Serialize;

use crate::output::field_lists::Field;
use crate::output::fields;
use crate::output::model::{Method, PeerChange, PeerEvent, Results};
use crate::output::time::Utc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Up,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    pub version: Option<String>,
    pub state: State,
    /// When it came up or went down.
    pub since: Utc,
    #[serde(with = "fields::FoundName")]
    pub found: Found,
    pub method: Method,
    pub peer_attach: Option<AttachMode>,
}

#[rustfmt::skip]
pub const PEER: &[Field] = &[
    ("peer", "string", "Address."),
    ("peer_name", "string?", "Name."),
    ("version", "string?", "The peer's version of kstamp."),
    ("state", "string", "`up` or `down`."),
    ("since", "time", "When it came up or went down; of a peer that has never been up, when this agent started."),
    ("found", "string", "`multicast`, `introduced`: it probes this host and has answered it, `static`: given with `--peer`, or `assigned`: by the hub."),
    ("method", "string", "`stamp`, or `echo` for a legacy agent."),
    ("peer_attach", "string?", "Hook of the peer's receive program."),
];

impl Peer {
    /// A peer that was given with `--peer`.
    pub(super) fn given(peer: IpAddr, since: Utc) -> Self {
        Self {
            peer,
            peer_name: None,
            version: None,
            state: State::Down,
            since,
            found: Found::Static,
            method: Method::Stamp,
            peer_attach: None,
        }
    }

    pub(super) fn changed(&mut self, change: &PeerChange) {
        let state = match change.event {
            PeerEvent::Down => State::Down,
            PeerEvent::Up | PeerEvent::Moved => State::Up,
        };
        if self.state != state {
            (self.state, self.since) = (state, change.time);
        }
        if self.found != Found::Static {
            self.found = change.found;
        }
        self.method = change.method;
        self.peer_name = change.name.clone().or(self.peer_name.take());
        self.version = change.version.clone().or(self.version.take());
    }

    pub(super) fn measured(&mut self, results: &Results) {
        if results.peer_name.is_some() {
            self.peer_name.clone_from(&results.peer_name);
        }
        self.peer_attach = results.peer_attach;
    }
}
