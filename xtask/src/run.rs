//! `cargo xtask run`: one kstamp in each of two namespaces, a controller of a network of switches, or a fleet, in a temporary
//! lab.

pub(crate) mod agent;
mod args;
mod compare;
mod controller;
mod fleet;
mod hops;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::{AgentNs, Lab, Options, Topology};
use crate::run::agent::{Agent, FarAgent};
pub use crate::run::args::RunArguments;
use crate::run::args::{Format, option};
use crate::{exec, name_of, privilege, setup, signals, workspace};

/// How much longer the far agent runs, so that the near one loses no probe at the end.
const FAR_EXTRA: Duration = Duration::from_secs(5);

impl RunArguments {
    /// Returns the status of the near agent, of the comparison, of the controller or of `kstamp hub status`.
    pub fn run(&self) -> Result<ExitCode> {
        self.check()?;
        let options = Options {
            agents: self.agents(),
            control: self.control_delay.clone(),
            hurts: self.hurt.clone(),
            ..Options::default()
        };
        options.check(self.topology())?;
        let kstamp = built(self.built.as_deref())?;
        if !privilege::is_root() {
            // Only the lab needs root.
            return privilege::rerun_as_root("run", &["--built".as_ref(), kstamp.as_os_str()]);
        }
        signals::catch()?;
        let lab = Lab::up(self.topology(), &options)?;
        lab.describe();
        let status = match self.topology().network() {
            Some(network) => controller::run(self, &lab, network, &kstamp)?,
            None if self.topology() == Topology::Fleet => fleet::run(self, &lab, &kstamp)?,
            None if self.compare => compare::run(self, &lab, &kstamp)?,
            None => self.measure(&lab, &kstamp)?,
        };
        if self.keep {
            lab.keep()?;
        } else {
            lab.down()?;
        }
        Ok(exec::exit_code(status))
    }

    /// Runs both agents to their end, and returns the status of the near one, or of the far one if that failed.
    fn measure(&self, lab: &Lab, kstamp: &Path) -> Result<ExitStatus> {
        let [near, far] = lab.pair();
        let mut far_agent = FarAgent::start(lab, self.agent(lab, kstamp, far, self.duration() + FAR_EXTRA)?)?;
        let mut near_agent = Agent::start(self.agent(lab, kstamp, near, self.duration())?)?;
        let status = far_agent.wait_for(&mut near_agent)?;
        let far_status = far_agent.agent.finish()?;
        if far_status.success() {
            self.print_far(far, &far_agent.out)?;
            if self.reports_hurts() {
                hops::report(&self.hurt, &self.samples(lab)?)?;
            }
            return Ok(status);
        }
        far_agent.failure()?;
        Ok(if status.success() { far_status } else { status })
    }

    fn agent(&self, lab: &Lab, kstamp: &Path, place: &AgentNs, duration: Duration) -> Result<Command> {
        let mut command = lab.command(&place.namespace, kstamp, ["agent", "--iface", &place.interface]);
        command.arg("--family").arg(name_of(&self.family));
        command.arg("--format").arg(name_of(&self.format));
        command
            .arg("--duration")
            .arg(humantime::format_duration(duration).to_string());
        if let Some(interval) = self.interval {
            command.arg("--interval").arg(interval.to_string());
        }
        if self.hops {
            command.arg("--hops").arg("--host-netns").arg(lab.host_netns(place));
            if option(&self.extra, "--ovsdb").is_none() {
                command.arg("--ovsdb").arg(lab.ovsdb(place));
            }
        }
        if self.reports_hurts() && hops::samples_of(&self.extra).is_none() && place == lab.pair()[0] {
            command.arg("--samples").arg(self.samples(lab)?);
        }
        command.args(self.extra_at(place, lab));
        Ok(command)
    }

    /// Whether single probes show what hop stamps have found.
    fn reports_hurts(&self) -> bool {
        self.hops && !self.hurt.is_empty()
    }

    /// The file of the near agent's single probes.
    fn samples(&self, lab: &Lab) -> Result<PathBuf> {
        match hops::samples_of(&self.extra) {
            Some(file) => Ok(file),
            None => Ok(lab.scratch()?.join("hops.samples")),
        }
    }

    /// The further arguments. Names of files of the far agent get its namespace as their ending.
    fn extra_at(&self, place: &AgentNs, lab: &Lab) -> Vec<OsString> {
        match place.namespace == lab.pair()[0].namespace {
            true => self.extra.clone(),
            false => with_own_files(&self.extra, &place.namespace),
        }
    }

    /// Prints the far agent's summary, or all its JSON lines after those of the near agent: each record names its agent.
    fn print_far(&self, far: &AgentNs, out: &Path) -> Result<()> {
        let text = fs::read_to_string(out).with_context(|| format!("cannot read {}", out.display()))?;
        match self.format {
            // With --output, everything is in that file.
            Format::Text if text.is_empty() => {}
            Format::Text => {
                let heading = format!("== {} ({}, {}) ==", far.namespace, far.interface, far.v4);
                println!("\n{heading}\n{}", summary_of(&text));
            }
            Format::Jsonl => print!("{text}"),
        }
        Ok(())
    }
}

/// The kstamp at `path`; without a path, set-up runs and builds it.
pub(crate) fn built(path: Option<&Path>) -> Result<PathBuf> {
    path.map_or_else(build, |path| Ok(path.to_path_buf()))
}

fn build() -> Result<PathBuf> {
    setup::prepare()?;
    let mut command = workspace::cargo();
    command.args(["build", "--release", "-p", "probe-user"]);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`{}` failed: {status}", exec::line(&command));
    }
    let binary = workspace::kstamp_binary();
    if !binary.is_file() {
        bail!("`{}` left no {}", exec::line(&command), binary.display());
    }
    Ok(binary)
}

/// Options whose value is a file that an agent writes.
const FILES: [&str; 2] = ["--samples", "--output"];

fn with_own_files(extra: &[OsString], namespace: &str) -> Vec<OsString> {
    let ending = OsString::from(format!(".{namespace}"));
    let mut is_file = false;
    let mut own = Vec::new();
    for argument in extra {
        let mut argument = argument.clone();
        let text = argument.to_string_lossy().into_owned();
        let has_file = text.split_once('=').is_some_and(|(option, _)| FILES.contains(&option));
        let is_option = !is_file && FILES.contains(&text.as_str());
        if is_file || has_file {
            argument.push(&ending);
        }
        is_file = is_option;
        own.push(argument);
    }
    own
}

/// From the last line that begins with `Summary`, or else from the last empty line.
fn summary_of(text: &str) -> &str {
    let text = text.trim_end();
    let start = text.rfind("\nSummary").or_else(|| text.rfind("\n\n"));
    start.map_or(text, |start| text[start..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_has_its_own_files() {
        for (given, far) in [
            ("--samples f --interval 1s", "--samples f.agent2 --interval 1s"),
            ("--samples=f", "--samples=f.agent2"),
            ("--samples --samples", "--samples --samples.agent2"),
            ("--output a --samples b", "--output a.agent2 --samples b.agent2"),
            ("--output=a=b --name=x", "--output=a=b.agent2 --name=x"),
            ("--interval 1s", "--interval 1s"),
        ] {
            let given: Vec<_> = given.split(' ').map(OsString::from).collect();
            let far: Vec<_> = far.split(' ').map(OsString::from).collect();
            assert_eq!(with_own_files(&given, "agent2"), far);
        }
    }

    #[test]
    fn summary_begins_at_its_heading_or_the_last_empty_line() {
        for (output, summary) in [
            ("window\n\nSummary: x\nrtt\n\nParts\n\n", "Summary: x\nrtt\n\nParts"),
            ("window\n\nother\nrtt\n", "other\nrtt"),
            ("Summary\n", "Summary"),
            ("", ""),
        ] {
            assert_eq!(summary_of(output), summary);
        }
    }
}
