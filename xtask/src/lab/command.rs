//! `cargo xtask lab`: a lab to work in by hand.

use std::{process::ExitCode, thread, time::Duration};

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum as _};

use super::{
    CONTROLLER, ControlDelay, DelayLine, Lab, LineArguments, Options, SWITCHES, Topology, guard, namespace, network,
    state::{State, Step},
};
use crate::signals;

/// What to do with the lab.
#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// Build a lab that stays until `lab down`.
    Up(UpArguments),
    /// Remove the lab, also one that a crash left behind.
    Down,
    /// Show which lab is up.
    Status,
    /// Cut the link between two switches of a lab that stands.
    Cut(CutArguments),
    /// Repair the link between two switches, however it was cut.
    Repair(Ends),
    /// Remove a lab when its owner is killed.
    #[command(hide = true)]
    Guard {
        /// Which lab.
        id: String,
    },
}

/// A link by the switches that it joins.
#[derive(Clone, Debug, Args)]
pub struct Ends {
    /// The switch at one end.
    one: String,
    /// The switch at the other.
    other: String,
}

/// Which link to cut, and how.
#[derive(Clone, Debug, Args)]
pub struct CutArguments {
    #[command(flatten)]
    ends: Ends,
    /// Drop what it carries, and leave its ports up: no switch tells the controller.
    #[arg(long)]
    silently: bool,
}

/// Which lab to build.
#[derive(Clone, Debug, Args)]
pub struct UpArguments {
    /// What stands between the agents.
    #[arg(long, value_enum, default_value = "vxlan")]
    pub topology: Topology,
    /// How many agents (topology switch).
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=200))]
    pub agents: u8,
    /// Stay in the foreground and remove the lab on Ctrl-C.
    #[arg(long)]
    pub hold: bool,
    /// Delay a switch's control channel (topologies line, triangle, arpanet), such as s2:10ms:30ms; repeatable.
    #[arg(long, value_name = "SWITCH:UP:DOWN")]
    control_delay: Vec<ControlDelay>,
    #[command(flatten)]
    line: LineArguments,
}

impl UpArguments {
    /// What they say about a lab besides its topology.
    pub fn options(&self) -> Options {
        let (left_to_right, right_to_left) = self.line.directions();
        Options {
            agents: self.agents,
            delay: DelayLine {
                left_to_right,
                right_to_left,
                ..DelayLine::default()
            },
            control: self.control_delay.clone(),
            ..Options::default()
        }
    }
}

impl LabCommand {
    /// Does it.
    ///
    /// # Errors
    /// One line: what was wrong, where, what to do.
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Up(arguments) => up(arguments),
            Self::Down => {
                let removed = super::down()?;
                eprintln!("lab: {}", if removed { "removed" } else { "none is up" });
                Ok(ExitCode::SUCCESS)
            }
            Self::Status => status(),
            Self::Cut(cut) if cut.silently => on_link(&cut.ends, network::drop_on_link),
            Self::Cut(cut) => on_link(&cut.ends, network::cut_link),
            Self::Repair(ends) => on_link(ends, network::repair_link),
            Self::Guard { id } => guard::watch(id).map(|()| ExitCode::SUCCESS),
        }
    }
}

fn up(arguments: &UpArguments) -> Result<ExitCode> {
    signals::catch()?;
    let lab = Lab::up(arguments.topology, &arguments.options())?;
    describe(&lab);
    if !arguments.hold {
        lab.keep()?;
        eprintln!("lab: it stays; cargo xtask lab down removes it");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lab: Ctrl-C removes it");
    while signals::received().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    lab.down()?;
    eprintln!("lab: removed");
    Ok(ExitCode::SUCCESS)
}

/// Says on stderr what a lab consists of.
pub(crate) fn describe(lab: &Lab) {
    eprintln!("lab: topology {}; {}", lab.topology().name(), lab.datapath());
    if let Some(line) = lab.delay_line() {
        eprintln!("lab: delay by {line}");
    }
    if let Some(links) = lab.links() {
        eprintln!("lab: {links}; switches in namespace {SWITCHES} ask the controller at {CONTROLLER}");
    }
    for agent in lab.agents() {
        eprintln!(
            "lab: {}: {} {} {}",
            agent.namespace, agent.interface, agent.v4, agent.v6
        );
    }
}

fn on_link(ends: &Ends, act: fn(Topology, &str, &str) -> Result<()>) -> Result<ExitCode> {
    let Some(lab) = State::load()? else {
        bail!("no lab is up: cargo xtask lab up --topology arpanet");
    };
    let topology =
        Topology::from_str(&lab.topology, false).map_err(|_| anyhow!("unknown topology {}", lab.topology))?;
    act(topology, &ends.one, &ends.other)?;
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    let Some(state) = State::load()? else {
        println!("no lab is up");
        return Ok(ExitCode::SUCCESS);
    };
    println!("topology {}; {}", state.topology, state.datapath);
    println!(
        "built by process {}{}",
        state.owner,
        if state.kept { ", kept" } else { "" }
    );
    for step in &state.steps {
        match step {
            Step::Namespace { name } => {
                let there = if namespace::exists(name) { "" } else { " (missing)" };
                println!(
                    "namespace {name}{there}, {} processes",
                    namespace::processes(name).len()
                );
            }
            Step::Switch { namespace, directory } => {
                println!("Open vSwitch in {namespace}, files in {}", directory.display());
            }
            Step::Directory { .. } => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}
