//! What is wrong with ports, as far as the coordinator sees it. Without I/O, and bounded.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::name::{HostName, PortName};

/// Most problems that are kept, and most notices that wait.
const MAX_PROBLEMS: usize = 10_000;
/// Most problems of one host, which may make up names of ports.
const MAX_OF_HOST: usize = 128;
/// A problem of a port that is not taken into the fleet is forgotten after this time, if it does not come again.
const REFUSED_NS: u64 = 600_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    NotEnrolled,
    TooManyPorts,
    BadPresence,
    ForeignAddress,
    AddressConflict,
    NameConflict,
    Clock,
}

impl ProblemKind {
    pub const ALL: [Self; 7] = [
        Self::NotEnrolled,
        Self::TooManyPorts,
        Self::BadPresence,
        Self::ForeignAddress,
        Self::AddressConflict,
        Self::NameConflict,
        Self::Clock,
    ];
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Since 1970.
    pub since_ns: u64,
    pub last_ns: u64,
    /// A sentence about the port, without its name.
    pub text: String,
}

/// Problems by port and kind: at most one of each.
#[derive(Debug, Default)]
pub struct Problems {
    current: BTreeMap<(PortName, ProblemKind), Problem>,
    /// Lines for the logs of the agents.
    notices: VecDeque<(PortName, String)>,
}

impl Problems {
    pub fn iter(&self) -> impl Iterator<Item = (&PortName, ProblemKind, &Problem)> {
        self.current
            .iter()
            .map(|((port, kind), problem)| (port, *kind, problem))
    }

    /// Enters a problem. The agent gets a notice once, and again if the text changes.
    pub fn raise(&mut self, port: PortName, kind: ProblemKind, text: String, utc_ns: u64) {
        let key = (port, kind);
        if let Some(problem) = self.current.get_mut(&key) {
            problem.last_ns = utc_ns;
            if problem.text == text {
                return;
            }
            problem.text.clone_from(&text);
        } else if self.current.len() < MAX_PROBLEMS && self.number_of(&key.0.host) < MAX_OF_HOST {
            let problem = Problem {
                since_ns: utc_ns,
                last_ns: utc_ns,
                text: text.clone(),
            };
            self.current.insert(key.clone(), problem);
        } else {
            return;
        }
        // No warning: the user sees the alert.
        log::debug!("{}: {text}", key.0);
        if self.notices.len() < MAX_PROBLEMS {
            self.notices.push_back((key.0, text));
        }
    }

    fn number_of(&self, host: &HostName) -> usize {
        let first = PortName {
            host: host.clone(),
            interface: String::new(),
        };
        let from_host = self.current.range((first, ProblemKind::ALL[0])..);
        from_host.take_while(|((port, _), _)| port.host == *host).count()
    }

    pub fn clear(&mut self, port: &PortName, kind: ProblemKind) {
        if !self.current.is_empty()
            && let Some(problem) = self.current.remove(&(port.clone(), kind))
        {
            log::debug!("{port}: this is over: {}", problem.text);
        }
    }

    pub fn forget(&mut self, port: &PortName) {
        for kind in ProblemKind::ALL {
            self.clear(port, kind);
        }
    }

    pub fn has(&self, port: &PortName, kind: ProblemKind) -> bool {
        !self.current.is_empty() && self.current.contains_key(&(port.clone(), kind))
    }

    /// Ports that have a problem of this kind.
    pub fn ports(&self, kind: ProblemKind) -> Vec<PortName> {
        let of_kind = self.iter().filter(|(_, other, _)| *other == kind);
        of_kind.map(|(port, _, _)| port.clone()).collect()
    }

    /// Forgets refusals that are old.
    pub fn trim(&mut self, utc_ns: u64) {
        self.current.retain(|(_, kind), problem| {
            let is_refusal = matches!(
                kind,
                ProblemKind::NotEnrolled | ProblemKind::TooManyPorts | ProblemKind::BadPresence
            );
            !is_refusal || utc_ns.saturating_sub(problem.last_ns) < REFUSED_NS
        });
    }

    pub fn take_notices(&mut self) -> Vec<(PortName, String)> {
        self.notices.drain(..).collect()
    }
}
