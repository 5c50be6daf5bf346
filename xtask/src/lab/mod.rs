//! The lab: namespaces, Open vSwitch instances and delay lines, named exactly as people know them.
//!
//! What a lab made, it removes: when it is dropped, on an error, a panic or Ctrl-C; by its guard if its owner
//! is killed; by `cargo xtask lab down` after anything else.

mod build;
mod checksums;
mod command;
mod delay;
mod guard;
mod lock;
mod namespace;
mod network;
mod process;
mod ready;
mod state;
mod switch;
mod topology;

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

pub(crate) use command::describe;
pub use command::{LabCommand, UpArguments};
pub use delay::{DelayLine, Direction, LineArguments};
pub(crate) use namespace::end_with_parent;
pub use network::{CONTROLLER, ControlDelay, Link, Network, SWITCHES, Tour};
pub use switch::Datapath;
pub use topology::Topology;

use build::Build;
use guard::Guard;
use state::State;

use crate::privilege;

/// How long another lab is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// What can be chosen about a lab besides its topology.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many agents [`Topology::Switch`] has, 2 to 200.
    pub agents: u8,
    /// What [`Topology::Delay`] does to packets.
    pub delay: DelayLine,
    /// Which control channels of a network of switches take time.
    pub control: Vec<ControlDelay>,
    /// Which datapath its switches have; the kernel's where there is one if nothing is said.
    pub datapath: Option<Datapath>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            agents: 2,
            delay: DelayLine::default(),
            control: Vec::new(),
            datapath: None,
        }
    }
}

/// Where one agent is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentNs {
    /// Its namespace, `agent1`.
    pub namespace: String,
    /// Its port in that namespace, `port1`.
    pub interface: String,
    /// The port's IPv4 address, in a /24.
    pub v4: Ipv4Addr,
    /// The port's IPv6 address, in a /64.
    pub v6: Ipv6Addr,
}

impl AgentNs {
    fn numbered(number: u8) -> Self {
        let host = 4 + number;
        Self {
            namespace: format!("agent{number}"),
            interface: format!("port{number}"),
            v4: Ipv4Addr::new(10, 1, 1, host),
            v6: Ipv6Addr::new(0xfd01, 0x2345, 0x6789, 0xabc1, 0, 0, 0, u16::from(host)),
        }
    }
}

/// A lab that stands; dropping it removes it.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    agents: Vec<AgentNs>,
    line: Option<(String, Option<Child>)>,
    network: Option<network::Standing>,
    state: State,
    guard: Option<Guard>,
    standing: bool,
    lock: File,
}

impl Lab {
    /// Builds a lab and waits until its agents reach each other by IPv4 and IPv6; in a network of OpenFlow switches they
    /// do not before there is a controller.
    ///
    /// # Errors
    /// If this is not root, a namespace of one of its names exists, or a step fails; nothing is left then.
    pub fn up(topology: Topology, options: &Options) -> Result<Self> {
        if !privilege::is_root() {
            bail!("a lab needs root: run this as root, or with sudo");
        }
        if !(2..=200).contains(&options.agents) {
            bail!("a lab of {} agents: 2 to 200 are possible", options.agents);
        }
        check_control(topology, &options.control)?;
        let lock = lock::acquire(PATIENCE)?;
        refuse_if_taken(&topology.namespaces(options.agents))?;
        let datapath = options.datapath.unwrap_or_else(Datapath::detect);
        let words = if topology.has_switch() {
            datapath.describe()
        } else {
            "no switch, a veth pair"
        };
        let state = State::new(topology.name(), words)?;
        let mut lab = Self {
            topology,
            agents: Vec::new(),
            line: None,
            network: None,
            state,
            guard: None,
            standing: true,
            lock,
        };
        lab.guard = Some(Guard::start(&lab.state.id, &lab.lock)?);
        // From here on an error drops the lab, which removes what there is of it.
        let built = Build {
            state: &mut lab.state,
            datapath,
            options,
        }
        .build(topology)?;
        lab.agents = built.agents;
        lab.line = built.line.map(|line| (line.describe, line.child));
        lab.network = built.network;
        if lab.network.is_none() {
            ready::wait(&lab.agents)?;
        }
        Ok(lab)
    }

    /// The agents' places, `agent1` first.
    pub fn agents(&self) -> &[AgentNs] {
        &self.agents
    }

    /// Its topology.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Where packets are switched, in words.
    pub fn datapath(&self) -> &str {
        &self.state.datapath
    }

    /// Whether packets are switched by a process.
    pub fn switches_in_a_process(&self) -> bool {
        self.topology.has_switch() && self.state.datapath == Datapath::Userspace.describe()
    }

    /// What delays packets, in words, if something does.
    pub fn delay_line(&self) -> Option<&str> {
        self.line.as_ref().map(|(words, _)| words.as_str())
    }

    /// How links are delayed, in words, in a network of switches.
    pub fn links(&self) -> Option<&'static str> {
        self.network.as_ref().map(|network| network.describe)
    }

    /// Cuts the link between two switches: both its ports go down.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn cut(&self, one: &str, other: &str) -> Result<()> {
        network::cut_link(self.topology, one, other)
    }

    /// Has the link between two switches drop everything from now on, while its ports stay up and nobody is told.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn cut_silently(&self, one: &str, other: &str) -> Result<()> {
        network::drop_on_link(self.topology, one, other)
    }

    /// Repairs the link between two switches, however it was cut.
    ///
    /// # Errors
    /// If there is no such link.
    pub fn repair(&self, one: &str, other: &str) -> Result<()> {
        network::repair_link(self.topology, one, other)
    }

    /// A command that runs `program` inside `namespace`; its process id is the program's own. The kernel kills it
    /// when the thread that starts it ends, so start it from one that stays.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        namespace: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        namespace::enter(&mut command, namespace);
        end_with_parent(&mut command);
        command
    }

    /// A directory for files that are to go with the lab.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = state::scratch();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Lets the lab stand after this process; `cargo xtask lab down` removes it.
    ///
    /// # Errors
    /// If that cannot be recorded; the lab is removed then.
    pub fn keep(mut self) -> Result<()> {
        self.state.kept = true;
        self.state.save()?;
        self.standing = false;
        // What is left to do is to send the guard home.
        self.remove()
    }

    /// Removes the lab, and says what could not be removed; dropping it only prints that.
    ///
    /// # Errors
    /// If something of it cannot be removed.
    pub fn down(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let standing = std::mem::replace(&mut self.standing, false);
        let outcome = if standing { self.state.undo() } else { Ok(()) };
        if standing && let Some((_, Some(mut line))) = self.line.take() {
            // It ended with its namespace; if that could not be removed, this ends it.
            let _ = line.kill();
            let _ = line.wait();
        }
        if standing && let Some(network) = self.network.take() {
            network.end();
        }
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

/// Removes the lab that stands; `false` if none does.
///
/// # Errors
/// If a living process uses it, or something of it cannot be removed.
pub fn down() -> Result<bool> {
    if !privilege::is_root() {
        bail!("removing a lab needs root: run this as root, or with sudo");
    }
    let _lock = lock::acquire(Duration::from_secs(3))?;
    match State::load()? {
        Some(mut state) => state.undo().map(|()| true),
        None => Ok(false),
    }
}

/// Fails if a control channel is to be delayed that is not there.
fn check_control(topology: Topology, control: &[ControlDelay]) -> Result<()> {
    match topology.network() {
        Some(network) => network.check(control),
        None if control.is_empty() => Ok(()),
        None => bail!("topology {} has no control channels", topology.name()),
    }
}

fn refuse_if_taken(names: &[String]) -> Result<()> {
    if let Some(name) = names.iter().find(|name| namespace::exists(name)) {
        bail!("{}", taken(name));
    }
    if let Some(state) = State::load()? {
        bail!("a lab ({}) is up: cargo xtask lab down removes it", state.topology);
    }
    Ok(())
}

fn taken(name: &str) -> String {
    format!("namespace {name} exists; a lab is up (cargo xtask lab down removes it) or it belongs to somebody else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_the_known_names_and_addresses() {
        let agent = AgentNs::numbered(1);
        assert_eq!(agent.namespace, "agent1");
        assert_eq!(agent.interface, "port1");
        assert_eq!(agent.v4.to_string(), "10.1.1.5");
        assert_eq!(agent.v6.to_string(), "fd01:2345:6789:abc1::5");
    }
}
