//! `cargo xtask lab`: a lab for manual use.

use std::net::IpAddr;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exec::{self, KillOnDrop};
use crate::forward::ImpairmentArguments;
use crate::lab::state::{self, State, Step};
use crate::lab::topology::AgentNs;
use crate::lab::{ControlDelay, DelayLine, Families, Hurt, Lab, Options, Topology, namespace, network, owner};
use crate::{UsageError, name_of, privilege, signals, workspace};

#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// Build a lab that stays until `lab down`.
    Up(UpArguments),
    /// Test the lab: ping, the multicast route and, if it is built, kstamp between the first two agents.
    Test,
    /// Remove the lab, even after a crash.
    Down,
    /// Show which lab is up.
    Status,
    /// Cut the link between two switches.
    Cut(CutArguments),
    /// Repair the link between two switches after either cut.
    Repair(Ends),
    /// Remove a lab when its owner is killed.
    #[command(hide = true)]
    Guard {
        /// Identifier of the lab.
        id: String,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Ends {
    /// The switch at one end.
    one: String,
    /// The switch at the other end.
    other: String,
}

#[derive(Clone, Debug, Args)]
pub struct CutArguments {
    #[command(flatten)]
    ends: Ends,
    /// Drop all frames but leave the ports up: no switch reports it to the controller.
    #[arg(long)]
    silently: bool,
}

#[derive(Clone, Debug, Args)]
pub struct UpArguments {
    /// How the agents are connected.
    #[arg(long, value_enum, default_value = "vxlan")]
    topology: Topology,
    /// IP versions of the agents' addresses.
    #[arg(long, value_enum, default_value = "both")]
    family: Families,
    /// Number of agents (topologies switch and fleet) [default: 2].
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=200))]
    agents: Option<u8>,
    /// Stay in the foreground and remove the lab on Ctrl-C.
    #[arg(long)]
    hold: bool,
    /// Delay a switch's control channel (topologies line, triangle, arpanet), such as s2:10ms:30ms; repeatable.
    #[arg(long, value_name = "SWITCH:UP:DOWN")]
    control_delay: Vec<ControlDelay>,
    /// Hurt a segment of the path from agent1 to agent2 (topology vxlan), such as underlay:5ms, far-switch:loss=1% or
    /// own-switch:stall=50ms; repeatable.
    #[arg(long, value_name = "SEGMENT:HARM")]
    hurt: Vec<Hurt>,
    #[command(flatten)]
    impairments: ImpairmentArguments,
}

impl LabCommand {
    pub fn run(&self) -> Result<ExitCode> {
        if let Self::Up(arguments) = self {
            arguments.options()?;
        }
        if !privilege::is_root() && !matches!(self, Self::Status | Self::Guard { .. }) {
            return privilege::rerun_as_root("lab", &[]);
        }
        match self {
            Self::Up(arguments) => up(arguments)?,
            Self::Test => test()?,
            Self::Down => {
                let removed = super::down()?;
                eprintln!("lab: {}", if removed { "removed" } else { "none is up" });
            }
            Self::Status => status()?,
            Self::Cut(cut) if cut.silently => on_link(&cut.ends, network::cut_link_silently)?,
            Self::Cut(cut) => on_link(&cut.ends, network::cut_link)?,
            Self::Repair(ends) => on_link(ends, network::repair_link)?,
            Self::Guard { id } => owner::guard(id)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl UpArguments {
    /// The options of the lab, if they fit the topology.
    fn options(&self) -> Result<Options> {
        for (option, is_given, topologies) in [
            (
                "--agents",
                self.agents.is_some(),
                &[Topology::Switch, Topology::Fleet][..],
            ),
            ("delays and losses", self.impairments.are_given(), &[Topology::Delay]),
        ] {
            if is_given && !topologies.contains(&self.topology) {
                let names: Vec<_> = topologies.iter().map(|topology| topology.name()).collect();
                let names = names.join(" or ");
                bail!(UsageError(format!("{option}: only with --topology {names}")));
            }
        }
        let (left_to_right, right_to_left) = self.impairments.directions();
        let options = Options {
            agents: self.agents.unwrap_or(2),
            families: self.family,
            delay: DelayLine {
                left_to_right,
                right_to_left,
                ..DelayLine::default()
            },
            control: self.control_delay.clone(),
            hurts: self.hurt.clone(),
            ..Options::default()
        };
        options.check(self.topology)?;
        Ok(options)
    }
}

fn up(arguments: &UpArguments) -> Result<()> {
    signals::catch()?;
    let lab = Lab::up(arguments.topology, &arguments.options()?)?;
    lab.describe();
    if !arguments.hold {
        return lab.keep();
    }
    eprintln!("lab: Ctrl-C removes it");
    while signals::received().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    lab.down()?;
    eprintln!("lab: removed");
    Ok(())
}

fn current() -> Result<State> {
    match State::load()? {
        Some(state) => Ok(state),
        None => bail!("no lab is up: cargo xtask lab up builds one"),
    }
}

fn on_link(ends: &Ends, act: fn(Topology, &str, &str) -> Result<()>) -> Result<()> {
    act(current()?.topology, &ends.one, &ends.other)
}

fn status() -> Result<()> {
    let Some(state) = State::load()? else {
        println!("no lab is up");
        return Ok(());
    };
    println!("topology {}; {}", state.topology.name(), state.datapath);
    println!(
        "built by process {}{}",
        state.owner,
        if state.kept { ", kept" } else { "" }
    );
    for step in &state.steps {
        match step {
            Step::Namespace { name } => {
                let missing = if namespace::exists(name) { "" } else { " (missing)" };
                let processes = namespace::processes(name).len();
                println!("namespace {name}{missing}, {processes} processes");
            }
            Step::Switch { namespace, directory } => {
                println!("Open vSwitch in {namespace}, files in {}", directory.display());
            }
            Step::Directory { .. } => {}
        }
    }
    Ok(())
}

fn test() -> Result<()> {
    let state = current()?;
    let topology = state.topology;
    if topology.network().is_some() {
        let name = topology.name();
        bail!("in topology {name} no agent reaches another without a controller: cargo xtask run --topology {name}");
    }
    let agents = topology.agents(2);
    let (near, far) = (&agents[0], &agents[1]);
    for family in [Families::V4, Families::V6] {
        if ![family, Families::Both].contains(&state.families) {
            continue;
        }
        let group = if family == Families::V4 {
            "239.255.255.250"
        } else {
            "ff0e::10"
        };
        for (from, to) in [(near, far), (far, near)] {
            for address in to.addresses(family) {
                println!("== ping from {} to {address}", from.namespace);
                ping(from, address)?;
            }
            println!("== route of {} to group {group}", from.namespace);
            let mut route = namespace::command(&from.namespace, "ip", ["route", "get", group]);
            let route = exec::capture(&mut route)?;
            if !route.contains(&format!("dev {}", from.interface)) {
                bail!("{} does not send to {group} through {}", from.namespace, from.interface);
            }
            println!("{}", route.lines().next().unwrap_or_default());
        }
        kstamp(near, far, family)?;
    }
    println!("== all tests passed");
    Ok(())
}

fn ping(from: &AgentNs, to: IpAddr) -> Result<()> {
    let arguments = ["-n", "-c", "3", "-i", "0.2", "-W", "1", &to.to_string()];
    let status = run(namespace::command(&from.namespace, "ping", arguments))?;
    if !status.success() {
        bail!("{} does not reach {to}", from.namespace);
    }
    Ok(())
}

/// Runs kstamp between two agents for five seconds.
fn kstamp(near: &AgentNs, far: &AgentNs, family: Families) -> Result<()> {
    let binary = workspace::kstamp_binary();
    if !binary.is_file() {
        println!(
            "== no {}: cargo build --release -p probe-user builds it",
            binary.display()
        );
        return Ok(());
    }
    let family = name_of(&family);
    println!("== kstamp, {family}");
    let agent = |place: &AgentNs, duration| {
        let arguments = format!(
            "agent --iface {} --family {family} --duration {duration}",
            place.interface
        );
        namespace::command(&place.namespace, &binary, arguments.split(' '))
    };
    let scratch = state::scratch();
    fs::create_dir_all(&scratch)?;
    let log = scratch.join("far.log");
    let file = fs::File::create(&log)?;
    let mut far_agent = agent(far, "10s");
    far_agent.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut far_agent = KillOnDrop(exec::spawn(&mut far_agent)?);
    let near_status = run(agent(near, "5s"))?;
    // It fails if the agent has ended.
    let _ = kill(Pid::from_raw(far_agent.id().cast_signed()), Signal::SIGTERM);
    let far_status = far_agent.wait()?;
    for (agent, status) in [(near, near_status), (far, far_status)] {
        if !status.success() {
            eprint!("{}", fs::read_to_string(&log).unwrap_or_default());
            bail!("kstamp failed in {} ({status})", agent.namespace);
        }
    }
    Ok(())
}

fn run(mut command: Command) -> Result<ExitStatus> {
    Ok(exec::spawn(command.stdin(Stdio::null()))?.wait()?)
}
