//! `cargo xtask run --compare`: `kstamp compare` on the path between the first two agents.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Result, bail};

use crate::lab::{Families, Lab};
use crate::name_of;
use crate::run::agent::{Agent, FarAgent, POLL};
use crate::run::args::{RunArguments, attach_options};

/// How long the far end may take to attach.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the status of `kstamp compare`, or that of the far end if it failed.
pub(super) fn run(arguments: &RunArguments, lab: &Lab, kstamp: &Path) -> Result<ExitStatus> {
    let [_, far] = lab.pair();
    let mut reflect = lab.command(&far.namespace, kstamp, ["reflect", "--iface", &far.interface]);
    reflect.args(attach_options(lab));
    if arguments.realtime {
        reflect.args(["--responder", "realtime"]);
    }
    let mut reflector = FarAgent::start(lab, reflect)?;
    let deadline = Instant::now() + ATTACH_TIMEOUT;
    // The first output is the start record.
    while fs::metadata(&reflector.out).is_ok_and(|file| file.len() == 0) {
        if let Some(status) = reflector.failure()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!(
                "{}: kstamp reflect did not start within {ATTACH_TIMEOUT:?}",
                far.namespace
            );
        }
        thread::sleep(POLL);
    }
    let mut comparison = Agent::start(command(arguments, lab, kstamp))?;
    let status = reflector.wait_for(&mut comparison)?;
    reflector.agent.finish()?;
    Ok(status)
}

fn command(arguments: &RunArguments, lab: &Lab, kstamp: &Path) -> Command {
    let [near, far] = lab.pair();
    let peer = match arguments.family {
        Families::V6 => far.v6.to_string(),
        Families::V4 | Families::Both => far.v4.to_string(),
    };
    let mut command = lab.command(&near.namespace, kstamp, ["compare", "--iface", &near.interface]);
    command.args(["--peer", &peer, "--format", &name_of(&arguments.format)]);
    let mut extra = arguments.extra.iter();
    if !extra.any(|argument| argument.to_string_lossy().starts_with("--attach")) {
        command.args(attach_options(lab));
    }
    let duration = humantime::format_duration(arguments.duration()).to_string();
    command.args(["--duration", &duration]);
    if let Some(interval) = arguments.interval {
        command.arg("--interval").arg(interval.to_string());
    }
    command.arg("--stress");
    if let Some(number) = arguments.stress {
        command.arg(number.to_string());
    }
    if arguments.realtime {
        command.arg("--realtime");
    }
    if let Some(page) = &arguments.html {
        command.arg("--html").arg(page);
    }
    let note = format!("topology {}: {}", lab.topology().name(), lab.datapath());
    command.args(["--note", &note]);
    if lab.has_userspace_datapath() {
        let note = "the switch is a process here: its scheduling is path delay to every method";
        command.args(["--note", note]);
    }
    command.args(&arguments.extra);
    command
}
