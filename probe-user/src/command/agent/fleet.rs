//! Joins a measured port to a fleet: what the port is, and what the hub has assigned to it.

pub mod config;
pub mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::pending;
use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use log::warn;
use nix::unistd::User;
use probe_core::agent::Agent;
use probe_core::agent::event::Event;
use probe_core::reflector::SessionKey;
use probe_core::text::plain;
use probe_host::clock::clock_identity;
use probe_host::link::TargetRefusal;
use probe_host::ovs::{PortFacts, Tunnel};
use probe_hub::agent::{Link, LinkConfig, LinkThread, RefusedTarget, Request, Status};
use probe_hub::message::assignment::Assignment;
use probe_hub::message::event::Session;
use probe_hub::message::presence::{BRIDGE, Presence, TUNNEL};
use probe_hub::name::PortName;
use probe_io::port::Port;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, mpsc};

use crate::command::agent::config::AgentConfig;
use crate::command::agent::fleet::config::{FleetConfig, MAX_LABEL_LEN};
use crate::command::shared::host::{kernel_release, refusals};
use crate::command::shared::introductions::nonce;

/// How long the end of the agent waits until results are delivered.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// So that the hash of the clock's identity, which is a secret, is of no use for anything else.
const CLOCK_HASH: &[u8] = b"kstamp clock in a fleet\n";
const CLOCK_HASH_LEN: usize = 8;

pub struct Fleet {
    link: Link,
    presence: Presence,
    /// Those that the user gave.
    labels: BTreeMap<String, String>,
    /// The last assignment, while the routes to its new targets are looked up.
    unchecked: Option<Assignment>,
    /// The assignment before that, to apply it again when addresses change.
    assignment: Option<Assignment>,
    /// Its targets that this host cannot reach.
    unreachable: Vec<(IpAddr, TargetRefusal)>,
    checks: (mpsc::Sender<Checked>, Mutex<mpsc::Receiver<Checked>>),
    /// Sources that are answered because they were assigned.
    probers: Vec<IpNet>,
    /// Addresses and reasons of the last assignment, so that each is reported once.
    refused: Vec<RefusedTarget>,
}

/// The targets of an assignment that this host cannot reach.
#[derive(Debug)]
pub struct Checked {
    generation: u64,
    unreachable: Vec<(IpAddr, TargetRefusal)>,
}

/// What is to be done for the fleet.
#[derive(Debug)]
pub enum Work {
    Request(Request),
    Checked(Checked),
}

/// Makes what needs privileges: the directory of the buffer, for `user` if the agent becomes that, and a thread in the
/// namespace from which the hub is reached.
pub fn prepare(config: &FleetConfig, user: Option<&str>) -> Result<LinkThread> {
    let directory = &config.buffer;
    let failed = || {
        format!(
            "cannot make the directory {}; name another one with --hub-buffer",
            directory.display()
        )
    };
    fs::create_dir_all(directory).with_context(failed)?;
    if let Some(user) = user.and_then(|name| User::from_name(name).ok().flatten()) {
        chown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(failed)?;
    }
    LinkThread::start(config.netns.as_deref()).context("--hub-netns")
}

impl Fleet {
    /// Announces the port. `thread` is of [`prepare`].
    pub fn start(
        thread: LinkThread,
        fleet: &FleetConfig,
        config: &AgentConfig,
        port: &Port,
        facts: Option<&PortFacts>,
    ) -> Result<Self> {
        let presence = Presence {
            port: fleet.port.clone(),
            boot: nonce(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: Vec::new(),
            udp_port: config.endpoint.port.test_port,
            interval_ns: config.core.interval_ns,
            max_peers: fleet.max_peers,
            labels: labels(&fleet.labels, facts),
            clock: clock_hash()?,
            attach: String::new(),
            kernel: kernel_release(),
            ended: false,
        };
        let presence = current(presence, port, config.core.interval_ns);
        let link = LinkConfig {
            credentials: fleet.credentials.clone(),
            buffer: fleet.buffer.clone(),
            buffer_size: fleet.buffer_size,
            report_ns: config.core.report_ns,
            allow: fleet.allow.clone(),
        };
        let (sender, receiver) = mpsc::channel(1);
        Ok(Self {
            link: Link::start(thread, link, presence.clone())?,
            presence,
            labels: fleet.labels.clone(),
            unchecked: None,
            assignment: None,
            unreachable: Vec::new(),
            checks: (sender, Mutex::new(receiver)),
            probers: Vec::new(),
            refused: Vec::new(),
        })
    }

    /// Announces what has changed. Returns whether the addresses have.
    pub fn follow(&mut self, port: &Port, interval_ns: u64, facts: Option<&PortFacts>) -> bool {
        let mut presence = current(self.presence.clone(), port, interval_ns);
        presence.labels = labels(&self.labels, facts);
        let has_moved = presence.addresses != self.presence.addresses;
        if presence != self.presence {
            self.link.set_presence(presence.clone());
            self.presence = presence;
        }
        has_moved
    }

    /// Passes an event of the core on.
    pub fn note(&mut self, event: &Event, agent: &Agent, port: &Port) {
        self.link.note(event, |peer| {
            let key = port.session(peer, agent.ssid(peer)?)?;
            Some(Session {
                source: key.source,
                destination: key.destination,
                source_port: key.source_port,
                destination_port: key.destination_port,
                ssid: key.ssid,
            })
        });
    }

    /// Delivers the windows that ended before `held_ns`, or all.
    pub fn flush(&mut self, held_ns: Option<u64>) {
        self.link.flush(held_ns);
    }

    /// Cancel safe.
    pub async fn work(&self) -> Work {
        let checked = async || match self.checks.1.lock().await.recv().await {
            Some(checked) => checked,
            None => pending().await,
        };
        tokio::select! {
            request = self.link.request() => Work::Request(request),
            checked = checked() => Work::Checked(checked),
        }
    }

    /// Looks up the routes to the targets that are not `known`, in a task of its own: it takes several system calls for each.
    pub fn check(&mut self, assignment: Assignment, known: &[IpAddr]) {
        let generation = assignment.generation;
        let addresses = assignment.targets.iter().flat_map(|target| &target.addresses);
        let new: Vec<_> = addresses.copied().filter(|address| !known.contains(address)).collect();
        let (interface, sender) = (self.presence.port.interface.clone(), self.checks.0.clone());
        self.unchecked = Some(assignment);
        tokio::spawn(async move {
            let unreachable = refusals(&interface, &new).await.unwrap_or_else(|error| {
                warn!("cannot look up the routes to assigned peers: {error:#}");
                Vec::new()
            });
            let checked = Checked {
                generation,
                unreachable,
            };
            // The agent has ended.
            let _ = sender.send(checked).await;
        });
    }

    /// Returns whether the last assignment is to be applied now.
    pub fn set_checked(&mut self, checked: Checked) -> bool {
        let assignment = self
            .unchecked
            .take_if(|assignment| assignment.generation == checked.generation);
        let is_last = assignment.is_some();
        if is_last {
            (self.assignment, self.unreachable) = (assignment, checked.unreachable);
        }
        is_last
    }

    pub fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    pub fn unreachable(&self) -> &[(IpAddr, TargetRefusal)] {
        &self.unreachable
    }

    /// The assignment is in force: these peers are probed, these sources answered.
    pub fn set_in_force(&mut self, peers: Vec<(IpAddr, PortName)>, probers: Vec<IpNet>, refused: Vec<RefusedTarget>) {
        let generation = self.assignment.as_ref().map_or(0, |assignment| assignment.generation);
        self.link.probing(generation, peers);
        self.probers = probers;
        for target in refused.iter().filter(|target| !self.refused.contains(target)) {
            self.link.refused(target.clone());
        }
        self.refused = refused;
    }

    /// Sources to answer beside those of the configuration.
    pub fn probers(&self) -> &[IpNet] {
        &self.probers
    }

    pub fn port(&self) -> &PortName {
        &self.presence.port
    }

    pub fn status(&self) -> Status {
        self.link.status()
    }

    /// For the service manager.
    pub fn status_line(&self) -> String {
        let Status { state, peers, .. } = self.status();
        format!(
            "{} of the fleet: {}, {peers} assigned peers",
            self.presence.port,
            state.name()
        )
    }

    /// Delivers what is left, as far as that takes no longer than [`FINISH_TIMEOUT`].
    pub async fn finish(self) {
        self.link.finish(FINISH_TIMEOUT).await;
    }
}

/// A question of the hub in the core's terms.
pub fn session_key(session: &Session) -> SessionKey {
    SessionKey {
        source: session.source,
        source_port: session.source_port,
        destination: session.destination,
        destination_port: session.destination_port,
        ssid: session.ssid,
    }
}

fn current(mut presence: Presence, port: &Port, interval_ns: u64) -> Presence {
    presence.addresses = port.addresses();
    // They are of no use beyond the link.
    presence
        .addresses
        .retain(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    presence.interval_ns = interval_ns;
    if let Some((mode, _)) = port.attachment() {
        presence.attach = mode.to_string();
    }
    presence
}

/// Those that the user `gave`, and those that Open vSwitch gives to the port.
fn labels(given: &BTreeMap<String, String>, facts: Option<&PortFacts>) -> BTreeMap<String, String> {
    let Some(facts) = facts else { return given.clone() };
    let networks: BTreeSet<_> = facts.tunnels.iter().map(Tunnel::network).collect();
    let tunnel = networks
        .into_iter()
        .reduce(|known, next| match known.len() + 2 + next.len() {
            0..=MAX_LABEL_LEN => format!("{known}, {next}"),
            _ => known,
        });
    let labels = [
        (BRIDGE, facts.bridge.clone()),
        (TUNNEL, plain(&tunnel.unwrap_or_default(), MAX_LABEL_LEN)),
    ];
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let mut labels: BTreeMap<_, _> = labels.map(|(name, value)| (name.to_owned(), value)).collect();
    labels.extend(given.clone());
    labels
}

/// Equal on two agents on one clock, in hexadecimal digits.
fn clock_hash() -> Result<String> {
    let identity = clock_identity().context("cannot identify this host's clock")?;
    let hash = Sha256::digest([CLOCK_HASH, &identity].concat());
    Ok(hash[..CLOCK_HASH_LEN]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixtures::port_facts;

    #[test]
    fn bridge_and_tunnel_are_labels_unless_the_user_gives_others() {
        let shown = |given: &[(&str, &str)], facts: Option<&PortFacts>| {
            let given = given.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            let labels = labels(&given.collect(), facts);
            Vec::from_iter(labels.iter().map(|(name, value)| format!("{name}={value}")))
        };
        let rack = &[("rack", "r7")][..];
        assert_eq!(shown(rack, None), ["rack=r7"]);
        let mut facts = port_facts();
        assert_eq!(
            shown(rack, Some(&facts)),
            ["bridge=br-int", "rack=r7", "tunnel=vxlan 42"]
        );
        assert_eq!(
            shown(&[("tunnel", "blue")], Some(&facts)),
            ["bridge=br-int", "tunnel=blue"]
        );
        let other = |number: u8| Tunnel {
            kind: "geneve".to_owned(),
            key: Some(number.to_string()),
            ..Tunnel::default()
        };
        facts.tunnels.extend([other(1), other(1)]);
        assert_eq!(shown(&[], Some(&facts)), ["bridge=br-int", "tunnel=geneve 1, vxlan 42"]);
        facts.tunnels = (0..16).map(other).collect();
        let many = "tunnel=geneve 0, geneve 1, geneve 10, geneve 11, geneve 12, geneve 13";
        assert_eq!(shown(&[], Some(&facts)).remove(1), many);
        facts.tunnels.clear();
        assert_eq!(shown(&[], Some(&facts)), ["bridge=br-int"]);
    }
}
