//! A private Open vSwitch instance in a namespace of its own: the machine's own one is not touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::namespace;
use crate::exec;

/// How long a daemon may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Which of Open vSwitch's datapaths forwards the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel's (`datapath_type=system`).
    Kernel,
    /// The one inside ovs-vswitchd (`datapath_type=netdev`), where the kernel has none.
    Userspace,
}

impl Datapath {
    /// The kernel's, if its module is there or can be loaded.
    pub fn detect() -> Self {
        let loaded = || Path::new("/sys/module/openvswitch").exists();
        let load = || exec::output(Command::new("modprobe").args(["-q", "openvswitch"]));
        if loaded() || (load().is_ok_and(|output| output.status.success()) && loaded()) {
            Self::Kernel
        } else {
            Self::Userspace
        }
    }

    /// As ovs-vsctl calls it.
    pub fn ovs_type(self) -> &'static str {
        match self {
            Self::Kernel => "system",
            Self::Userspace => "netdev",
        }
    }

    /// In words, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kernel => "Open vSwitch, kernel datapath",
            Self::Userspace => "Open vSwitch, userspace datapath",
        }
    }
}

/// A running instance.
#[derive(Debug)]
pub(crate) struct Switch {
    namespace: String,
    directory: PathBuf,
    datapath: Datapath,
}

impl Switch {
    /// Starts ovsdb-server and ovs-vswitchd in `namespace`, with all their files in `directory`, which exists.
    pub(crate) fn start(namespace: &str, directory: &Path, datapath: Datapath) -> Result<Self> {
        let switch = Self {
            namespace: namespace.to_owned(),
            directory: directory.to_owned(),
            datapath,
        };
        let at = |name: &str| directory.join(name).display().to_string();
        let remote = format!("unix:{}", at("db.sock"));
        exec::capture(switch.program("ovsdb-tool").arg("create").arg(at("conf.db")))?;
        exec::capture(switch.program("ovsdb-server").args([
            at("conf.db"),
            format!("--remote=p{remote}"),
            format!("--pidfile={}", at("ovsdb-server.pid")),
            format!("--log-file={}", at("ovsdb-server.log")),
            "--detach".to_owned(),
        ]))?;
        switch.configure(["--no-wait", "init"])?;
        exec::capture(switch.program("ovs-vswitchd").args([
            remote,
            format!("--pidfile={}", at("ovs-vswitchd.pid")),
            format!("--log-file={}", at("ovs-vswitchd.log")),
            "--detach".to_owned(),
        ]))?;
        Ok(switch)
    }

    /// Runs ovs-vsctl with `words`, several commands joined by `--`, and waits until they are carried out.
    pub(crate) fn configure<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
        exec::capture(
            self.program("ovs-vsctl")
                .args(vsctl_options(&self.directory))
                .args(words),
        )
        .map(drop)
    }

    /// The words that make a bridge of this instance's datapath type.
    pub(crate) fn bridge(&self, name: &str) -> Vec<String> {
        words(&format!(
            "-- add-br {name} -- set bridge {name} datapath_type={}",
            self.datapath.ovs_type()
        ))
    }

    /// Brings the bridge's own port up.
    pub(crate) fn bring_up(&self, bridge: &str) -> Result<()> {
        exec::run("ip", ["-n", &self.namespace, "link", "set", bridge, "up"]).map(drop)
    }

    /// Moves the internal port to another namespace.
    pub(crate) fn hand_over(&self, port: &str, namespace: &str) -> Result<()> {
        exec::run("ip", ["-n", &self.namespace, "link", "set", port, "netns", namespace]).map(drop)
    }

    fn program(&self, name: &str) -> Command {
        program(name, &self.namespace, &self.directory)
    }
}

/// The words of an ovs-vsctl command line.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Stops the instance in `directory`: bridges first, since a killed ovs-vswitchd leaves its taps behind.
pub(crate) fn stop(namespace: &str, directory: &Path) -> Result<()> {
    let switchd = running(directory, "ovs-vswitchd");
    if switchd.is_some() && namespace::exists(namespace) {
        // What is left of bridges goes with their namespace.
        let _ = delete_bridges(namespace, directory);
    }
    for pid in [switchd, running(directory, "ovsdb-server")].into_iter().flatten() {
        end(pid);
    }
    Ok(())
}

fn delete_bridges(namespace: &str, directory: &Path) -> Result<()> {
    let vsctl = || {
        let mut command = program("ovs-vsctl", namespace, directory);
        command.args(vsctl_options(directory));
        command
    };
    let bridges = exec::capture(vsctl().arg("list-br"))?;
    let deletions = bridges.lines().flat_map(|bridge| ["--", "del-br", bridge]);
    exec::capture(vsctl().args(deletions)).map(drop)
}

fn program(name: &str, namespace: &str, directory: &Path) -> Command {
    let mut command = Command::new(name);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, directory);
    }
    namespace::enter(&mut command, namespace);
    command
}

fn vsctl_options(directory: &Path) -> [String; 2] {
    [
        format!("--db=unix:{}", directory.join("db.sock").display()),
        "--timeout=10".to_owned(),
    ]
}

/// The daemon's process, if the one in its pid file is indeed this instance's.
fn running(directory: &Path, daemon: &str) -> Option<Pid> {
    let pid = fs::read_to_string(directory.join(format!("{daemon}.pid"))).ok()?;
    let pid: i32 = pid.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command);
    (command.contains(daemon) && command.contains(&directory.display().to_string())).then_some(Pid::from_raw(pid))
}

fn end(pid: Pid) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // Gone meanwhile is as good.
        let _ = kill(pid, signal);
        if exec::wait_until(GRACE, || !lives(pid)) {
            return;
        }
    }
}

/// Whether the process runs. One that ended is of no interest, even if nobody has asked for its status yet.
fn lives(pid: Pid) -> bool {
    let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = line
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
