//! `cargo xtask run --topology fleet`: a hub with its nats-server, and an agent on each host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::fleet::Fleet;
use crate::lab::Lab;
use crate::run::agent::{Agent, POLL};
use crate::run::args::RunArguments;
use crate::{exec, name_of, setup, signals, workspace};

/// A kstamp, with its output in files.
struct Program {
    name: String,
    agent: Agent,
    log: PathBuf,
}

impl Program {
    fn start(directory: &Path, name: &str, mut command: Command) -> Result<Self> {
        let create = |ending: &str| {
            let path = directory.join(format!("{name}.{ending}"));
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        command.stdout(create("out")?).stderr(create("log")?);
        Ok(Self {
            name: name.to_owned(),
            agent: Agent::start(command)?,
            log: directory.join(format!("{name}.log")),
        })
    }

    /// Fails if it has ended.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.agent.status()? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it has printed nothing");
        bail!("kstamp of {} has ended ({status}): {last}", self.name);
    }
}

/// Runs all programs for the duration. Prints what the hub knows then, and returns the status of `kstamp hub status`.
pub(super) fn run(arguments: &RunArguments, lab: &Lab, kstamp: &Path) -> Result<ExitStatus> {
    let fleet = Fleet::new(lab, kstamp, &setup::ensure_nats_server()?)?;
    let directory = workspace::target_directory().join("fleet");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for host in lab.agents() {
        signals::check()?;
        fleet.enroll(host)?;
    }
    let begin = Instant::now();
    let mut hub = Program::start(&directory, "hub", fleet.hub())?;
    let mut agents = Vec::new();
    for host in lab.agents() {
        let mut command = fleet.agent(host);
        command.arg("--family").arg(name_of(&arguments.family));
        if let Some(interval) = arguments.interval {
            command.arg("--interval").arg(interval.to_string());
        }
        command.args(&arguments.extra);
        agents.push(Program::start(&directory, &host.namespace, command)?);
    }
    eprintln!(
        "run: a hub and {} agents; what they print is in {}",
        agents.len(),
        directory.display()
    );
    let outcome = watch(&mut hub, &mut agents, begin + arguments.duration()).and_then(|()| {
        let mut status = fleet.at_hub(&["hub", "status"]);
        exec::spawn(&mut status)?
            .wait()
            .context("cannot wait for kstamp hub status")
    });
    // All at once, because each waits for its last probes.
    agents.iter().for_each(|program| program.agent.signal(Signal::SIGTERM));
    for program in agents.iter_mut().chain([&mut hub]) {
        program.agent.finish()?;
    }
    outcome
}

/// Waits until `end` or a signal. Fails if a program has ended before.
fn watch(hub: &mut Program, agents: &mut [Program], end: Instant) -> Result<()> {
    while Instant::now() < end && signals::received().is_none() {
        hub.check()?;
        agents.iter_mut().try_for_each(Program::check)?;
        thread::sleep(POLL);
    }
    Ok(())
}
