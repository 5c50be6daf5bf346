//! `cargo xtask run`: one kstamp in each of two namespaces, or a controller of a network of switches, in a lab made for
//! it and removed after it.

mod controller;

mod compare;

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    exec,
    lab::{self, AgentNs, ControlDelay, Lab, Options, Topology},
    privilege, setup, signals, workspace,
};

/// How much longer the far agent runs, so that its end is not taken for loss.
const LONGER: Duration = Duration::from_secs(5);

/// How long an agent may take to print its summary.
const GRACE: Duration = Duration::from_secs(5);

/// How often the agents are looked at.
const POLL: Duration = Duration::from_millis(20);

/// What to run, and where.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// What stands between the agents [default: vxlan; veth with --compare].
    #[arg(long, value_enum)]
    topology: Option<Topology>,
    /// Which IP versions are probed.
    #[arg(long, value_enum, default_value = "v4")]
    family: Family,
    /// How long to measure; with --compare, each phase [default: 20s; 10s with --compare].
    #[arg(long, value_name = "TIME")]
    duration: Option<humantime::Duration>,
    /// How results are printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Time between probes.
    #[arg(long, value_name = "TIME")]
    interval: Option<humantime::Duration>,
    /// Delay a switch's control channel (topologies line, triangle, arpanet), such as s2:10ms:30ms; repeatable.
    #[arg(long, value_name = "SWITCH:UP:DOWN")]
    control_delay: Vec<ControlDelay>,
    /// Set kstamp beside what processes measure, as the machine is and under load.
    #[command(flatten)]
    compare: compare::CompareArguments,
    /// Let the lab stand afterwards.
    #[arg(long)]
    keep: bool,
    /// A kstamp that is already built; set-up and building are skipped.
    #[arg(long, hide = true)]
    built: Option<PathBuf>,
    /// Further arguments for `kstamp agent`, given to both agents, or for `kstamp controller`.
    #[arg(last = true)]
    extra: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Family {
    V4,
    V6,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Jsonl,
}

impl RunArguments {
    /// Runs; the status is the near agent's.
    ///
    /// # Errors
    /// If setting up, building or bringing the lab up fails.
    pub fn run(&self) -> Result<ExitCode> {
        if self.topology().network().is_some() && self.interval.is_some() {
            bail!("no --interval in a network of switches: arguments for its controller come after --");
        }
        let kstamp = built(self.built.as_deref())?;
        if !privilege::is_root() {
            return again_as_root(&kstamp);
        }
        signals::catch()?;
        let options = Options {
            control: self.control_delay.clone(),
            ..Options::default()
        };
        let topology = self.topology();
        let lab = Lab::up(topology, &options)?;
        lab::describe(&lab);
        let status = match topology.network() {
            Some(network) => controller::run(self, &lab, network, &kstamp)?,
            None if self.compare.wanted() => self.compare(&lab, &kstamp)?,
            None => self.measure(&lab, &kstamp)?,
        };
        if self.keep {
            lab.keep()?;
            eprintln!("lab: it stays; cargo xtask lab down removes it");
        } else {
            lab.down()?;
        }
        Ok(exit_code(status))
    }

    fn topology(&self) -> Topology {
        let default = if self.compare.wanted() {
            Topology::Veth
        } else {
            Topology::Vxlan
        };
        self.topology.unwrap_or(default)
    }

    fn duration(&self) -> Duration {
        let default = Duration::from_secs(if self.compare.wanted() { 10 } else { 20 });
        self.duration.map_or(default, Duration::from)
    }

    /// Runs both agents to their end; the status of the near one, or of the far one if that failed.
    fn measure(&self, lab: &Lab, kstamp: &Path) -> Result<ExitStatus> {
        let [near, far, ..] = lab.agents() else {
            bail!("a lab without two agents")
        };
        let logs = lab.scratch()?;
        let (out, err) = (logs.join("far.out"), logs.join("far.err"));
        let mut command = self.agent(lab, kstamp, far, self.duration() + LONGER);
        command.stdout(create(&out)?).stderr(create(&err)?);
        let mut far_agent = Agent::start(command)?;
        let mut near_agent = Agent::start(self.agent(lab, kstamp, near, self.duration()))?;

        let status = match near_end(&mut near_agent, &mut far_agent)? {
            Ok(status) => status,
            Err(status) => {
                show(&format!("{} failed ({status})", far.namespace), &[&out, &err]);
                return Ok(status);
            }
        };
        let far_status = far_agent.finish()?;
        if far_status.success() {
            self.print_summary(far, &out)?;
            return Ok(status);
        }
        show(&format!("{} failed ({far_status})", far.namespace), &[&out, &err]);
        Ok(if status.success() { far_status } else { status })
    }

    fn agent(&self, lab: &Lab, kstamp: &Path, place: &AgentNs, duration: Duration) -> Command {
        let mut command = lab.command(&place.namespace, kstamp, ["agent", "--iface", &place.interface]);
        command.arg("--family").arg(name_of(self.family));
        command.arg("--format").arg(name_of(self.format));
        command
            .arg("--duration")
            .arg(humantime::format_duration(duration).to_string());
        if let Some(interval) = self.interval {
            command.arg("--interval").arg(interval.to_string());
        }
        command.args(&self.extra);
        command
    }

    /// Prints the end of what the far agent printed: its summary. Lines of JSON are the near agent's alone on stdout.
    fn print_summary(&self, far: &AgentNs, out: &Path) -> Result<()> {
        let text = fs::read_to_string(out).with_context(|| format!("cannot read {}", out.display()))?;
        let heading = format!("== {} ({}, {}) ==", far.namespace, far.interface, far.v4);
        match self.format {
            Format::Text => println!("\n{heading}\n{}", summary_of(&text)),
            Format::Jsonl => {
                eprintln!("{heading}");
                let summaries = text.lines().filter(|line| line.contains(r#""type":"summary""#));
                summaries.for_each(|line| eprintln!("{line}"));
            }
        }
        Ok(())
    }
}

/// Waits for the near agent, hands a signal on to it, and gives up should the far one fail meanwhile: then the error is
/// that one's status.
fn near_end(near: &mut Agent, far: &mut Agent) -> Result<Result<ExitStatus, ExitStatus>> {
    let mut told = false;
    loop {
        if let Some(status) = near.ended()? {
            return Ok(Ok(status));
        }
        if let Some(status) = far.ended()?.filter(|status| !status.success()) {
            near.finish()?;
            return Ok(Err(status));
        }
        if signals::received().is_some() && !std::mem::replace(&mut told, true) {
            near.tell(Signal::SIGTERM);
        }
        thread::sleep(POLL);
    }
}

/// A running kstamp, killed if it is forgotten.
struct Agent {
    child: Child,
}

impl Agent {
    /// Starts it in a process group of its own: Ctrl-C is handed on once, by us.
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::line(&command)))?;
        Ok(Self { child })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for kstamp")
    }

    fn tell(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Ended meanwhile is as good.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to end, lets it print its summary, and waits.
    fn finish(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.tell(Signal::SIGTERM);
        if let Some(status) = exec::wait_within(&mut self.child, GRACE)? {
            return Ok(status);
        }
        self.tell(Signal::SIGKILL);
        self.child.wait().context("cannot wait for kstamp")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kstamp at `path`, or else one that is built now.
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

/// The same once more as root: only the lab needs it, building is the user's.
fn again_as_root(kstamp: &Path) -> Result<ExitCode> {
    let mut command = privilege::as_root(workspace::xtask_binary()?)?;
    command.arg("run").arg("--built").arg(kstamp);
    command.args(env::args_os().skip_while(|argument| argument != "run").skip(1));
    eprintln!("run: the lab needs root; going on with sudo");
    let status = command.status().context("cannot start sudo")?;
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A choice as it is written on the command line.
fn name_of(choice: impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

fn show(heading: &str, files: &[&PathBuf]) {
    eprintln!("== {heading} ==");
    for file in files {
        eprint!("{}", fs::read_to_string(file).unwrap_or_default());
    }
}

/// From the last line that begins with `Summary`; where there is none, what stands after the last empty line.
fn summary_of(text: &str) -> &str {
    let text = text.trim_end();
    let start = text.rfind("\nSummary").or_else(|| text.rfind("\n\n"));
    start.map_or(text, |start| text[start..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_all_from_its_heading() {
        assert_eq!(
            summary_of("window\n\nSummary: x\nrtt\n\nParts\n\n"),
            "Summary: x\nrtt\n\nParts"
        );
        assert_eq!(summary_of("window\n\nother\nrtt\n"), "other\nrtt");
        assert_eq!(summary_of("Summary\n"), "Summary");
        assert_eq!(summary_of(""), "");
    }
}
