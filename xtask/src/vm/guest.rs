//! The first process inside a guest: it prepares the system, runs the suite and switches the machine off. In a guest with
//! Debian ([`debian`]) it prepares the system for systemd, which starts it again to run the suite.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::vm::debian;
use crate::{exec, workspace};

/// The list of test binaries ([`Run`]), inside the guest.
pub(super) const SUITE: &str = "/suite.json";

/// The serial line for reports. It is not the console's, so that kernel messages do not split lines.
const REPORT: &str = "/dev/ttyS1";

/// How lines start that report progress.
const MARK: &str = "guest: ";

/// Open vSwitch 3.1 counts no processors, and then handles no upcalls, if the machine has been up for less than 10 s
/// (`lib/ovs-thread.c`, `count_cpu_cores`: the time of the last count starts at zero).
const MIN_OVS_UPTIME: Duration = Duration::from_secs(11);

/// One test binary to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Whether its tests build the lab, and so start Open vSwitch.
    pub(super) in_lab: bool,
    pub(super) userland: Userland,
}

/// What runs on a guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Userland {
    /// The suite with the programs that it calls, and nothing else.
    Bare,
    /// Debian, with systemd as the first process.
    Debian,
}

impl Userland {
    /// Arguments of the first process.
    pub(super) fn arguments(self) -> &'static str {
        match self {
            Self::Bare => "guest",
            Self::Debian => "guest boot-debian",
        }
    }

    /// A directory's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Debian => "debian",
        }
    }

    /// The directory with the suite: the initial file system.
    fn root(self) -> &'static Path {
        Path::new(match self {
            Self::Bare => "/",
            Self::Debian => debian::INITIAL,
        })
    }

    /// The path of what has this path in the initial file system.
    fn path(self, path: &Path) -> PathBuf {
        self.root().join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// What the guest reports about the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// A test binary starts.
    Begin(String),
    /// A test binary has ended, with success or without.
    End(String, bool),
    /// All have ended.
    Done,
}

impl Progress {
    fn line(&self) -> String {
        match self {
            Self::Begin(name) => format!("{MARK}begin {name}"),
            Self::End(name, true) => format!("{MARK}passed {name}"),
            Self::End(name, false) => format!("{MARK}failed {name}"),
            Self::Done => format!("{MARK}done"),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let (what, name) = line
            .strip_prefix(MARK)?
            .split_once(' ')
            .unwrap_or((&line[MARK.len()..], ""));
        match what {
            "begin" => Some(Self::Begin(name.to_owned())),
            "passed" => Some(Self::End(name.to_owned(), true)),
            "failed" => Some(Self::End(name.to_owned(), false)),
            "done" => Some(Self::Done),
            _ => None,
        }
    }
}

/// A failure that must be noticed outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Failure {
    /// The kernel panics, because its first process ends.
    Panic,
    /// It prints nothing more.
    Silence,
    /// It prints forever.
    Endless,
}

/// What this process does in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Runs the suite as the first process.
    Suite,
    /// Makes the systemd of the Debian on the disk the first process.
    BootDebian,
    /// Runs the suite as a service in Debian.
    SuiteInDebian,
}

/// Runs in a guest.
#[derive(Clone, Debug, Args)]
pub struct GuestArguments {
    #[arg(value_enum, default_value = "suite")]
    role: Role,
    /// Fail on purpose instead of running the suite.
    #[arg(long, value_enum, value_name = "HOW")]
    fail: Option<Failure>,
}

impl GuestArguments {
    /// Fails outside of a guest. Other errors are printed on the guest's console.
    pub fn run(&self) -> Result<()> {
        let (userland, is_there) = match self.role {
            Role::SuiteInDebian => (Userland::Debian, true),
            Role::Suite | Role::BootDebian => (Userland::Bare, Pid::this().as_raw() == 1),
        };
        anyhow::ensure!(
            is_there && userland.path(Path::new(SUITE)).exists(),
            "this runs only inside of `cargo xtask test --vm`"
        );
        if let Err(error) = self.act(userland) {
            println!("{MARK}{error:#}");
        }
        // The serial line's buffer is sent before the machine is off.
        let _ = exec::run("sleep", ["0.3"]);
        reboot(RebootMode::RB_POWER_OFF).context("cannot switch off").map(drop)
    }

    fn act(&self, userland: Userland) -> Result<()> {
        if self.role != Role::SuiteInDebian {
            prepare()?;
        }
        match (self.role, self.fail) {
            (Role::BootDebian, _) => match debian::boot("guest suite-in-debian")? {},
            (_, Some(failure)) => fail(failure, &mut report()?),
            (_, None) => run_suite(userland, &mut report()?),
        }
    }
}

fn prepare() -> Result<()> {
    let mounts = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("bpf", "/sys/fs/bpf"),
    ];
    for (kind, path) in mounts {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {path}"))?;
    }
    // devtmpfs has no links.
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(target, Path::new("/dev").join(link)).with_context(|| format!("cannot make /dev/{link}"))?;
    }
    nix::unistd::sethostname("guest").context("cannot set the host name")?;
    exec::run("ip", ["link", "set", "lo", "up"])?;
    // Not all users of these modules load them.
    exec::run("modprobe", ["-a", "tun", "8021q"])?;
    Ok(())
}

/// Opens the serial line for reports, and reports that the guest is up.
fn report() -> Result<File> {
    let mut report = OpenOptions::new()
        .write(true)
        .open(REPORT)
        .with_context(|| format!("cannot open {REPORT}"))?;
    let release = nix::sys::utsname::uname().context("cannot read the kernel release")?;
    writeln!(
        report,
        "guest is up after {:.1?}: Linux {}",
        uptime()?,
        release.release().display()
    )?;
    Ok(report)
}

fn fail(failure: Failure, report: &mut File) -> Result<()> {
    match failure {
        Failure::Panic => process::exit(1),
        Failure::Silence => loop {
            thread::park();
        },
        Failure::Endless => loop {
            writeln!(report, "guest goes on")?;
        },
    }
}

fn run_suite(userland: Userland, report: &mut File) -> Result<()> {
    let text = fs::read(userland.path(Path::new(SUITE))).with_context(|| format!("cannot read {SUITE}"))?;
    let runs: Vec<Run> = serde_json::from_slice(&text).with_context(|| format!("{SUITE} is damaged"))?;
    for run in runs.into_iter().filter(|run| run.userland == userland) {
        if run.in_lab {
            thread::sleep(MIN_OVS_UPTIME.saturating_sub(uptime()?));
        }
        writeln!(report, "{}", Progress::Begin(run.name.clone()).line())?;
        let output = || -> io::Result<Stdio> { Ok(report.try_clone()?.into()) };
        let status = Command::new(userland.path(&run.program))
            .args(&run.arguments)
            .env(BUILT, userland.path(&workspace::kstamp_binary()))
            .env(PACKAGES, userland.path(Path::new(PACKAGES_DIRECTORY)))
            .env(EMULATED, "1")
            .env(PACKETS.0, PACKETS.1)
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .status();
        if let Err(error) = &status {
            writeln!(report, "{}: {error}", run.program.display())?;
        }
        let success = status.is_ok_and(|status| status.success());
        writeln!(report, "{}", Progress::End(run.name, success).line())?;
    }
    writeln!(report, "{}", Progress::Done.line())?;
    Ok(())
}

/// The variable with the path of a built kstamp; a guest has no cargo to build it.
pub const BUILT: &str = "KSTAMP_BUILT";

/// The variable that is set in guests, whose CPUs are emulated.
pub const EMULATED: &str = "KSTAMP_EMULATED";

/// The variable with the directory of the packages that tests of services install, in the order of their versions.
pub const PACKAGES: &str = "KSTAMP_PACKAGES";

/// That directory.
pub(super) const PACKAGES_DIRECTORY: &str = "/packages";

/// Fewer mutated packets for the programs than elsewhere: processors are emulated.
const PACKETS: (&str, &str) = ("KSTAMP_PACKETS", "2500");

fn uptime() -> Result<Duration> {
    let text = fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Ok(Duration::from_secs_f64(seconds.context("/proc/uptime has no number")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_parsed_as_it_was_reported() {
        for progress in [
            Progress::Begin("a".into()),
            Progress::End("a b".into(), true),
            Progress::End("c".into(), false),
            Progress::Done,
        ] {
            assert_eq!(Progress::parse(&progress.line()), Some(progress));
        }
        for line in ["test a ... ok", "guest: ", "guest: nothing", ""] {
            assert_eq!(Progress::parse(line), None, "{line}");
        }
    }
}
