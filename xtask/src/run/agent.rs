//! A kstamp that runs in a lab.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exec::{self, KillOnDrop};
use crate::lab::Lab;
use crate::signals;

/// How long a kstamp may take to print its summary.
const SUMMARY_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which processes are polled.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// A running kstamp.
pub(crate) struct Agent(KillOnDrop);

impl Agent {
    /// Starts it in a process group of its own: this process passes Ctrl-C on.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let child = exec::spawn(command.stdin(Stdio::null()).process_group(0))?;
        Ok(Self(KillOnDrop(child)))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("cannot wait for kstamp")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It fails if kstamp has ended.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), signal);
    }

    /// Terminates it, and waits for its summary.
    pub(crate) fn finish(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM);
        if let Some(status) = exec::wait_within(&mut self.0, SUMMARY_TIMEOUT)? {
            return Ok(status);
        }
        self.signal(Signal::SIGKILL);
        self.0.wait().context("cannot wait for kstamp")
    }
}

/// The kstamp of the second agent, with its output in files.
pub(super) struct FarAgent {
    pub(super) agent: Agent,
    pub(super) out: PathBuf,
    err: PathBuf,
    name: String,
    reported: bool,
}

impl FarAgent {
    /// Starts `command` of the second agent.
    pub(super) fn start(lab: &Lab, mut command: Command) -> Result<Self> {
        let create = |path: &PathBuf| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let (out, err) = (lab.scratch()?.join("far.out"), lab.scratch()?.join("far.err"));
        command.stdout(create(&out)?).stderr(create(&err)?);
        Ok(Self {
            agent: Agent::start(command)?,
            out,
            err,
            name: lab.pair()[1].namespace.clone(),
            reported: false,
        })
    }

    /// Its status, if it has failed; its output is printed the first time.
    pub(super) fn failure(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.agent.status()?.filter(|status| !status.success());
        if let Some(status) = status
            && !std::mem::replace(&mut self.reported, true)
        {
            eprintln!("== {} failed ({status}) ==", self.name);
            for file in [&self.out, &self.err] {
                eprint!("{}", fs::read_to_string(file).unwrap_or_default());
            }
        }
        Ok(status)
    }

    /// Waits for the first agent and passes a signal on to it. If this one fails meanwhile, ends the first agent and
    /// returns this one's status.
    pub(super) fn wait_for(&mut self, near: &mut Agent) -> Result<ExitStatus> {
        let mut signalled = false;
        loop {
            if let Some(status) = near.status()? {
                return Ok(status);
            }
            if let Some(status) = self.failure()? {
                near.finish()?;
                return Ok(status);
            }
            if signals::received().is_some() && !std::mem::replace(&mut signalled, true) {
                near.signal(Signal::SIGTERM);
            }
            thread::sleep(POLL);
        }
    }
}
