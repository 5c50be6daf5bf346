//! A private Open vSwitch instance in a namespace; the machine's own instance is not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exec;
use crate::lab::namespace::{self, ip};

/// The file name of the socket of the database.
pub(crate) const DATABASE: &str = "db.sock";

/// Time from SIGTERM to SIGKILL.
const TERMINATION_TIMEOUT: Duration = Duration::from_secs(3);

/// The datapath that forwards packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel module's (`datapath_type=system`).
    Kernel,
    /// That of ovs-vswitchd (`datapath_type=netdev`).
    Userspace,
}

impl Datapath {
    /// The kernel's if its module is loaded or can be loaded.
    pub fn detect() -> Self {
        let loaded = || Path::new("/sys/module/openvswitch").exists();
        let load = || exec::output(Command::new("modprobe").args(["-q", "openvswitch"]));
        if loaded() || (load().is_ok_and(|output| output.status.success()) && loaded()) {
            Self::Kernel
        } else {
            Self::Userspace
        }
    }

    fn ovs_type(self) -> &'static str {
        match self {
            Self::Kernel => "system",
            Self::Userspace => "netdev",
        }
    }

    /// Name for users.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kernel => "Open vSwitch, kernel datapath",
            Self::Userspace => "Open vSwitch, userspace datapath",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Switch {
    namespace: String,
    directory: PathBuf,
    datapath: Datapath,
}

impl Switch {
    /// Starts ovsdb-server and ovs-vswitchd in `namespace` with all their files in `directory`.
    pub(crate) fn start(namespace: &str, directory: &Path, datapath: Datapath) -> Result<Self> {
        let switch = Self {
            namespace: namespace.to_owned(),
            directory: directory.to_owned(),
            datapath,
        };
        let at = |name: &str| directory.join(name).display().to_string();
        let remote = format!("unix:{}", at(DATABASE));
        exec::capture(switch.program("ovsdb-tool").arg("create").arg(at("conf.db")))?;
        exec::capture(switch.program("ovsdb-server").args([
            at("conf.db"),
            format!("--remote=p{remote}"),
            format!("--pidfile={}", at("ovsdb-server.pid")),
            format!("--log-file={}", at("ovsdb-server.log")),
            "--detach".to_owned(),
        ]))?;
        switch.configure("--no-wait init")?;
        exec::capture(switch.program("ovs-vswitchd").args([
            remote,
            format!("--pidfile={}", at("ovs-vswitchd.pid")),
            format!("--log-file={}", at("ovs-vswitchd.log")),
            "--detach".to_owned(),
        ]))?;
        Ok(switch)
    }

    /// Runs ovs-vsctl on commands joined by `--`, and waits until the switch has executed them.
    pub(crate) fn configure(&self, commands: &str) -> Result<()> {
        let mut vsctl = self.program("ovs-vsctl");
        vsctl.args(vsctl_options(&self.directory));
        exec::capture(vsctl.args(commands.split_whitespace())).map(drop)
    }

    /// Executes `commands`, adds internal ports (bridge, port, namespace to move it to), and brings the bridges up.
    pub(crate) fn add_ports(&self, commands: &str, ports: &[(&str, &str, &str)]) -> Result<()> {
        let mut commands = commands.to_owned();
        for (bridge, port, _) in ports {
            commands += &format!(" -- add-port {bridge} {port} -- set interface {port} type=internal");
        }
        self.configure(&commands)?;
        for (bridge, port, namespace) in ports {
            ip(&self.namespace, &format!("link set {bridge} up"))?;
            ip(&self.namespace, &format!("link set {port} netns {namespace}"))?;
        }
        Ok(())
    }

    /// The ovs-vsctl commands that create a bridge of this instance's datapath type.
    pub(crate) fn add_bridge(&self, name: &str) -> String {
        let datapath = self.datapath.ovs_type();
        format!(" -- add-br {name} -- set bridge {name} datapath_type={datapath}")
    }

    /// Of its files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process that forwards frames, or handles upcalls of the kernel's datapath.
    pub(crate) fn process(&self) -> Result<Pid> {
        running(&self.directory, "ovs-vswitchd").context("ovs-vswitchd has ended")
    }

    fn program(&self, name: &str) -> Command {
        program(name, &self.namespace, &self.directory)
    }
}

/// Stops the instance in `directory`: bridges first, because ovs-vswitchd leaves its taps behind when it is killed.
pub(crate) fn stop(namespace: &str, directory: &Path) -> Result<()> {
    let switchd = running(directory, "ovs-vswitchd");
    if switchd.is_some() && namespace::exists(namespace) {
        // If that fails, bridges are deleted with their namespace.
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
        format!("--db=unix:{}", directory.join(DATABASE).display()),
        "--timeout=10".to_owned(),
    ]
}

/// The daemon's process, if the process in its pid file belongs to this instance.
fn running(directory: &Path, daemon: &str) -> Option<Pid> {
    let pid = fs::read_to_string(directory.join(format!("{daemon}.pid"))).ok()?;
    let pid: i32 = pid.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command);
    (command.contains(daemon) && command.contains(&directory.display().to_string())).then_some(Pid::from_raw(pid))
}

fn end(pid: Pid) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It fails if the process has ended.
        let _ = kill(pid, signal);
        if exec::wait_until(TERMINATION_TIMEOUT, || !is_running(pid)) {
            return;
        }
    }
}

/// Whether the process exists and is no zombie.
fn is_running(pid: Pid) -> bool {
    let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = line
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
