//! The lab: namespaces, Open vSwitch instances and delay lines.
//!
//! A lab is removed when it is dropped, on an error, a panic or Ctrl-C; by its guard if its owner is killed; and by
//! `cargo xtask lab down` after anything else.

mod build;
mod checksums;
mod command;
mod delay;
mod fleet;
mod hurt;
mod namespace;
mod network;
mod owner;
mod ready;
mod state;
mod switch;
mod topology;
mod vxlan;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::build::Delaying;
pub use crate::lab::build::Options;
pub use crate::lab::command::LabCommand;
pub use crate::lab::delay::{ControlDelay, DelayLine};
use crate::lab::hurt::Hurts;
pub use crate::lab::hurt::{Harm, Hurt, Segment};
pub(crate) use crate::lab::namespace::{end_with_parent, within};
use crate::lab::owner::Guard;
use crate::lab::state::State;
pub use crate::lab::switch::Datapath;
pub use crate::lab::topology::{AgentNs, CONTROLLER, Families, HUB, Link, Network, SWITCHES, Subnet, Topology, Tour};
use crate::privilege;

/// How long to wait for the removal of another lab.
const LOCK_TIMEOUT: Duration = Duration::from_secs(300);

/// A lab that is up; dropping it removes it.
#[derive(Debug)]
pub struct Lab {
    agents: Vec<AgentNs>,
    delaying: Delaying,
    state: State,
    guard: Option<Guard>,
    /// Whether it is still to be removed.
    up: bool,
    lock: File,
}

impl Lab {
    /// Builds a lab and waits until its agents reach each other; agents in a network of OpenFlow switches need the
    /// controller first. On an error nothing is left.
    pub fn up(topology: Topology, options: &Options) -> Result<Self> {
        if !privilege::is_root() {
            bail!("a lab needs root: run this as root, or with sudo");
        }
        options.check(topology)?;
        let lock = owner::lock(LOCK_TIMEOUT)?;
        let namespaces = topology.namespaces(options.agents);
        if let Some(name) = namespaces.iter().find(|name| namespace::exists(name)) {
            return Err(namespace::taken(name));
        }
        if let Some(state) = State::load()? {
            let topology = state.topology.name();
            bail!("a lab ({topology}) is up: cargo xtask lab down removes it");
        }
        let datapath = options.datapath.unwrap_or_else(Datapath::detect);
        Hurts(&options.hurts).check(datapath)?;
        let datapath_name = if topology.has_switch() {
            datapath.describe()
        } else {
            "no switch, a veth pair"
        };
        let state = State::new(topology, options.families, datapath_name)?;
        let mut lab = Self {
            agents: topology.agents(options.agents),
            delaying: Delaying::default(),
            state,
            guard: None,
            up: true,
            lock,
        };
        lab.guard = Some(Guard::start(&lab.state.id, &lab.lock)?);
        // From here on an error drops the lab, which removes what exists of it.
        lab.delaying = build::build(topology, &mut lab.state, datapath, options)?;
        if topology.network().is_none() {
            ready::wait(&lab.agents, options.families)?;
        }
        Ok(lab)
    }

    /// `agent1` first; in a network, the hosts in the order of their switches.
    pub fn agents(&self) -> &[AgentNs] {
        &self.agents
    }

    pub fn pair(&self) -> [&AgentNs; 2] {
        [&self.agents[0], &self.agents[1]]
    }

    /// The host of a switch, in a network; panics if there is no such switch.
    pub fn host(&self, switch: &str) -> &AgentNs {
        let namespace = format!("host-{switch}");
        let mut agents = self.agents.iter();
        agents.find(|agent| agent.namespace == namespace).expect(switch)
    }

    pub fn topology(&self) -> Topology {
        self.state.topology
    }

    /// The datapath in words.
    pub fn datapath(&self) -> &str {
        &self.state.datapath
    }

    pub fn has_userspace_datapath(&self) -> bool {
        self.state.datapath == Datapath::Userspace.describe()
    }

    /// The source of the delay in words, if there is one.
    pub fn delayed_by(&self) -> Option<&str> {
        self.delaying.delayed_by.as_deref()
    }

    /// Prints the parts of the lab to stderr.
    pub(crate) fn describe(&self) {
        eprintln!("lab: topology {}; {}", self.topology().name(), self.datapath());
        if let Some(delayed_by) = self.delayed_by() {
            eprintln!("lab: delay by {delayed_by}");
        }
        if self.topology().network().is_some() {
            eprintln!("lab: switches in namespace {SWITCHES} connect to the controller at {CONTROLLER}");
        }
        if self.topology() == Topology::Fleet {
            let hub = self.hub();
            eprintln!("lab: the hub's place is namespace {} at {}", hub.namespace, hub.v4);
        }
        for agent in &self.agents {
            let addresses = agent.addresses(self.state.families);
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            eprintln!("lab: {}: {} {}", agent.namespace, agent.interface, addresses.join(" "));
        }
    }

    /// Cuts the link between two switches: both its ports go down.
    pub fn cut(&self, one: &str, other: &str) -> Result<()> {
        network::cut_link(self.topology(), one, other)
    }

    /// Makes the link between two switches drop all frames while its ports stay up, so that no switch reports it.
    pub fn cut_silently(&self, one: &str, other: &str) -> Result<()> {
        network::cut_link_silently(self.topology(), one, other)
    }

    /// Repairs the link between two switches after either cut.
    pub fn repair(&self, one: &str, other: &str) -> Result<()> {
        network::repair_link(self.topology(), one, other)
    }

    /// The hub's port in a fleet, which all hosts reach.
    pub fn hub(&self) -> AgentNs {
        let [_, hub] = topology::hub_link();
        hub
    }

    /// The file of the network namespace with the switch of an agent of [`Topology::Vxlan`].
    pub fn host_netns(&self, agent: &AgentNs) -> PathBuf {
        namespace::path(&agent.namespace.replace("agent", "host"))
    }

    /// The socket of the database of an agent's switch in [`Topology::Vxlan`].
    pub fn ovsdb(&self, agent: &AgentNs) -> PathBuf {
        state::directory(&agent.namespace.replace("agent", "host")).join(switch::DATABASE)
    }

    /// Sets the delays and losses of all segments that have a line: each that the options of the lab hurt, be it with a delay
    /// of 0.
    pub fn hurt(&mut self, hurts: &[Hurt]) -> Result<()> {
        let mut lines = self.delaying.lines.iter_mut();
        lines.try_for_each(|line| line.set(Hurts(hurts)))
    }

    /// Makes a router of a fleet drop all IPv4 packets from one host to another. Neither host is notified.
    pub fn black_hole(&self, from: &AgentNs, to: &AgentNs) -> Result<()> {
        fleet::set_black_hole(from, to, true)
    }

    /// Removes a black hole.
    pub fn fill_black_hole(&self, from: &AgentNs, to: &AgentNs) -> Result<()> {
        fleet::set_black_hole(from, to, false)
    }

    /// A command that runs `program` in `namespace`; its process id is the program's own. The kernel kills it when the
    /// thread that starts it ends, so start it from a thread that stays.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        namespace: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        namespace::command(namespace, program, arguments)
    }

    /// Does work in a namespace, in a thread of its own.
    pub fn within<T: Send>(&self, namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(namespace, work)
    }

    /// A directory for files that are removed with the lab.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = state::scratch();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Leaves the lab up; `cargo xtask lab down` removes it. On an error the lab is removed.
    pub fn keep(mut self) -> Result<()> {
        self.state.kept = true;
        self.state.save()?;
        self.up = false;
        std::mem::forget(std::mem::take(&mut self.delaying));
        eprintln!("lab: it stays up; cargo xtask lab down removes it");
        self.remove()
    }

    /// Removes the lab; dropping it only prints what could not be removed.
    pub fn down(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let up = std::mem::replace(&mut self.up, false);
        let outcome = if up { self.state.undo() } else { Ok(()) };
        self.delaying = Delaying::default();
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        outcome
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Removes the lab that is up; `false` if none is. Fails if a running process uses it.
pub fn down() -> Result<bool> {
    if !privilege::is_root() {
        bail!("removing a lab needs root: run this as root, or with sudo");
    }
    let _lock = owner::lock(Duration::from_secs(3))?;
    match State::load()? {
        Some(mut state) => state.undo().map(|()| true),
        None => Ok(false),
    }
}
