//! `cargo xtask run --compare`: kstamp beside what processes measure, over one path, idle and under load.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;

use super::{Agent, Family, POLL, RunArguments, create, name_of, near_end, show};
use crate::lab::{AgentNs, Lab};

/// How long the far end may take to attach.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to compare.
#[derive(Clone, Debug, Args)]
pub struct CompareArguments {
    /// Set kstamp beside what processes measure: `kstamp compare`, idle and under load.
    #[arg(long)]
    compare: bool,
    /// Busy processes in the loaded phase; 0 for no such phase [default: two for each CPU].
    #[arg(long, value_name = "NUMBER", requires = "compare")]
    stress: Option<u32>,
    /// The processes' threads at SCHED_FIFO, at both ends.
    #[arg(long, requires = "compare")]
    realtime: bool,
    /// Write a page with plots to this file.
    #[arg(long, value_name = "FILE", requires = "compare")]
    html: Option<PathBuf>,
}

impl CompareArguments {
    pub(super) fn wanted(&self) -> bool {
        self.compare
    }
}

impl RunArguments {
    /// Compares the first two agents' ports; the status of `kstamp compare`, or of the far end if that failed.
    pub(super) fn compare(&self, lab: &Lab, kstamp: &Path) -> Result<ExitStatus> {
        let [near, far, ..] = lab.agents() else {
            bail!("a lab without two agents")
        };
        let logs = lab.scratch()?;
        let (out, err) = (logs.join("far.out"), logs.join("far.err"));
        let mut command = self.far(lab, kstamp, far);
        command.stdout(create(&out)?).stderr(create(&err)?);
        let mut reflector = Agent::start(command)?;
        let deadline = Instant::now() + PATIENCE;
        // The first it says is how it is attached.
        while fs::metadata(&out).is_ok_and(|file| file.len() == 0) {
            if let Some(status) = reflector.ended()? {
                show(&format!("{} failed ({status})", far.namespace), &[&out, &err]);
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{}: kstamp reflect did not start within {PATIENCE:?}", far.namespace);
            }
            thread::sleep(POLL);
        }
        let mut comparison = Agent::start(self.near(lab, kstamp, near, far))?;
        match near_end(&mut comparison, &mut reflector)? {
            Ok(status) => {
                reflector.finish()?;
                Ok(status)
            }
            Err(status) => {
                show(&format!("{} failed ({status})", far.namespace), &[&out, &err]);
                Ok(status)
            }
        }
    }

    fn far(&self, lab: &Lab, kstamp: &Path, far: &AgentNs) -> Command {
        let mut command = lab.command(&far.namespace, kstamp, ["reflect", "--iface", &far.interface]);
        command.args(attach(lab));
        if self.compare.realtime {
            command.args(["--echo", "realtime"]);
        }
        command
    }

    fn near(&self, lab: &Lab, kstamp: &Path, near: &AgentNs, far: &AgentNs) -> Command {
        let peer = match self.family {
            Family::V6 => far.v6.to_string(),
            Family::V4 | Family::Both => far.v4.to_string(),
        };
        let mut command = lab.command(&near.namespace, kstamp, ["compare", "--iface", &near.interface]);
        command.args(["--peer", &peer, "--format", &name_of(self.format)]);
        if !self
            .extra
            .iter()
            .any(|argument| argument.to_string_lossy().starts_with("--attach"))
        {
            command.args(attach(lab));
        }
        let duration = humantime::format_duration(self.duration()).to_string();
        command.args(["--duration", &duration]);
        if let Some(interval) = self.interval {
            command.arg("--interval").arg(interval.to_string());
        }
        command.arg("--stress");
        if let Some(number) = self.compare.stress {
            command.arg(number.to_string());
        }
        if self.compare.realtime {
            command.arg("--realtime");
        }
        if let Some(page) = &self.compare.html {
            command.arg("--html").arg(page);
        }
        let note = format!("topology {}: {}", lab.topology().name(), lab.datapath());
        command.args(["--note", &note]);
        if lab.switches_in_a_process() {
            let note = "the switch runs in a process here, so that its scheduling is path delay to every method";
            command.args(["--note", note]);
        }
        command.args(&self.extra);
        command
    }
}

/// On a bare veth pair native XDP works once both ends have it, which an agent that begins cannot know.
fn attach(lab: &Lab) -> &'static [&'static str] {
    if lab.topology().has_switch() {
        &[]
    } else {
        &["--attach", "xdp-native"]
    }
}
