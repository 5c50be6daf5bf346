//! What Open vSwitch knows of the measured port, while that may change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use log::debug;
use probe_host::link::{LinkError, Netlink};
use probe_host::ovs::{Ovs, PortFacts, Source, USUAL_SOCKET, Wanted};

use crate::command::shared::values::{ConfigError, wrong};

/// Time for the first answer of the database, for which the start record waits. Replies are stamped meanwhile.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// The database that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ovsdb {
    /// The usual one, if there is one.
    Usual,
    At(PathBuf),
    None,
}

impl Ovsdb {
    /// `--ovsdb`.
    pub fn parse(text: Option<&str>) -> Result<Self, ConfigError> {
        match text {
            None => Ok(Self::Usual),
            Some("none") => Ok(Self::None),
            Some(text) => match text.strip_prefix("unix:").unwrap_or(text) {
                path if path.starts_with('/') => Ok(Self::At(path.into())),
                _ => wrong(format!(
                    "--ovsdb '{text}' is no absolute path of a socket; write {USUAL_SOCKET}, or none"
                )),
            },
        }
    }

    /// Its socket, if there is a database to read.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::At(path) => Some(path),
            Self::Usual => Some(Path::new(USUAL_SOCKET)).filter(|path| path.exists()),
        }
    }

    /// Connects, if there is a database to read. Call it before privileges are dropped.
    pub fn connect(&self) -> Option<Source> {
        self.socket().map(Source::connect)
    }
}

/// The port in Open vSwitch.
pub struct Switch {
    ovs: Ovs,
    netlink: Netlink,
    interface: String,
    wanted: Wanted,
    generation: u64,
    facts: Option<PortFacts>,
}

impl Switch {
    /// Follows the database, and waits a moment for its first answer.
    pub async fn follow(source: Source, interface: &str) -> Result<Self> {
        let ovs = Ovs::follow(source).context("cannot start the thread that reads Open vSwitch's database")?;
        ovs.wait(FIRST_ANSWER_TIMEOUT);
        let mut switch = Self {
            ovs,
            netlink: Netlink::open()?,
            interface: interface.to_owned(),
            wanted: Wanted::default(),
            generation: 0,
            facts: None,
        };
        switch.poll(true).await;
        Ok(switch)
    }

    /// `None` if the interface is no port of the switch.
    pub fn facts(&self) -> Option<&PortFacts> {
        self.facts.as_ref()
    }

    /// Looks for the port again if the database has changed, or the interface has. Returns whether the facts have.
    pub async fn poll(&mut self, has_changed: bool) -> bool {
        let generation = self.ovs.generation();
        if generation == self.generation && !has_changed {
            return false;
        }
        self.generation = generation;
        match self.look_up().await {
            // While the interface is gone, it is what it was.
            Ok(wanted) => self.wanted = wanted.unwrap_or_else(|| self.wanted.clone()),
            Err(error) => debug!("{error}"),
        }
        let facts = self.ovs.facts_of(&self.wanted);
        let has_changed = facts != self.facts;
        self.facts = facts;
        has_changed
    }

    async fn look_up(&self) -> Result<Option<Wanted>, LinkError> {
        let Some(link) = self.netlink.link_by_name(&self.interface).await? else {
            return Ok(None);
        };
        let peer = self.netlink.peer_of(&link).await.unwrap_or_else(|error| {
            debug!("{error}");
            None
        });
        Ok(Some(Wanted::new(&link, peer.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_its_socket() {
        let at = |path: &str| Ok(Ovsdb::At(path.into()));
        let refused = |text: &str| {
            Err(format!(
                "--ovsdb '{text}' is no absolute path of a socket; write /var/run/openvswitch/db.sock, or none"
            ))
        };
        for (text, expected) in [
            (None, Ok(Ovsdb::Usual)),
            (Some("none"), Ok(Ovsdb::None)),
            (Some("/run/ovs/db.sock"), at("/run/ovs/db.sock")),
            (Some("unix:/run/ovs/db.sock"), at("/run/ovs/db.sock")),
            (Some("tcp:127.0.0.1:6640"), refused("tcp:127.0.0.1:6640")),
            (Some(""), refused("")),
        ] {
            assert_eq!(
                Ovsdb::parse(text).map_err(|error| error.to_string()),
                expected,
                "{text:?}"
            );
        }
    }
}
