//! A real Open vSwitch, in a namespace of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{can_run, command, ethtool, run};

/// Whether Open vSwitch can be run; prints why not.
pub fn can_switch() -> bool {
    let installed = Program::new("ovs-vswitchd").arg("--version").output().is_ok();
    if !installed {
        println!("SKIPPED: needs ovs-vswitchd");
    }
    can_run() && installed
}

/// A namespace with Open vSwitch in it.
pub struct OpenVSwitch {
    pub namespace: String,
    directory: TempDir,
}

impl OpenVSwitch {
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("kto{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let switch = Self {
            namespace,
            directory: TempDir::new().unwrap(),
        };
        run(&format!("ip netns add {}", switch.namespace));
        switch.run("ip link set lo up");
        let file = |name: &str| switch.directory.path().join(name).display().to_string();
        let (database, socket) = (file("conf.db"), file("db.sock"));
        switch.run(&format!(
            "ovsdb-tool create {database} /usr/share/openvswitch/vswitch.ovsschema"
        ));
        let (pid, log) = (file("ovsdb.pid"), file("ovsdb.log"));
        switch.run(&format!(
            "ovsdb-server {database} --remote=punix:{socket} --private-key=db:Open_vSwitch,SSL,private_key \
             --certificate=db:Open_vSwitch,SSL,certificate --bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert \
             --pidfile={pid} --detach --log-file={log}"
        ));
        switch.vsctl("--no-wait init");
        let (pid, log) = (file("ovs-vswitchd.pid"), file("vswitchd.log"));
        switch.run(&format!(
            "ovs-vswitchd unix:{socket} --pidfile={pid} --detach --log-file={log}"
        ));
        switch
    }

    /// The socket of the database.
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("db.sock")
    }

    /// Runs a command in the namespace.
    pub fn run(&self, line: &str) -> String {
        let directory = self.directory.path().display().to_string();
        let output = command(&format!("ip netns exec {} {line}", self.namespace))
            .envs(["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"].map(|name| (name, &directory)))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn vsctl(&self, arguments: &str) {
        self.run(&format!(
            "ovs-vsctl --db=unix:{} --timeout=20 {arguments}",
            self.database().display()
        ));
    }
}

impl Drop for OpenVSwitch {
    fn drop(&mut self) {
        for name in ["ovs-vswitchd.pid", "ovsdb.pid"] {
            let pid = fs::read_to_string(self.directory.path().join(name)).ok();
            if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = Program::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

/// Makes a veth complete the checksums of what it sends, as the switch forwards frames as they are.
pub fn disable_offload(namespace: &str, interface: &str) {
    ethtool::set(namespace, interface, ethtool::STXCSUM, 0);
}
