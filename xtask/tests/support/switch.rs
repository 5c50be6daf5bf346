//! The Open vSwitch of one host of [`Topology::Vxlan`](xtask::lab::Topology::Vxlan).

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::lab::{AgentNs, Lab};

use super::run;

pub struct Switch {
    directory: PathBuf,
    bridge: String,
    process: Pid,
}

impl Switch {
    /// The one with the port of `agent`.
    pub fn of(lab: &Lab, agent: &AgentNs) -> Self {
        let directory = lab.ovsdb(agent).parent().unwrap().to_owned();
        let pid = fs::read_to_string(directory.join("ovs-vswitchd.pid")).unwrap();
        Self {
            bridge: agent.namespace.replace("agent", "ovs"),
            process: Pid::from_raw(pid.trim().parse().unwrap()),
            directory,
        }
    }

    /// Makes the kernel's flows differ by source port: an ordinary switch looks at MAC addresses alone.
    pub fn tell_ports_apart(&self) {
        let socket = self.directory.join(format!("{}.mgmt", self.bridge));
        let flow = "priority=1,udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],NORMAL";
        run(Command::new("ovs-ofctl")
            .arg("add-flow")
            .arg(format!("unix:{}", socket.display()))
            .arg(flow));
    }

    /// Lets it wait for no ordinary process. The forwarders of a lab do not either.
    pub fn use_realtime(&self) {
        run(Command::new("chrt")
            .args(["--all-tasks", "--fifo", "--pid", "1"])
            .arg(self.process.to_string()));
    }

    /// Stops or resumes all threads of ovs-vswitchd.
    pub fn signal(&self, signal: Signal) {
        kill(self.process, signal).unwrap();
        if signal == Signal::SIGSTOP {
            let tasks = format!("/proc/{}/task", self.process);
            while !all_stopped(Path::new(&tasks)) {
                sleep(Duration::from_millis(1));
            }
        }
    }

    /// Stands still for `time`. Returns when, in UTC since 1970.
    pub fn stall(&self, time: Duration) -> Range<u64> {
        self.signal(Signal::SIGSTOP);
        let begin_ns = utc_ns();
        sleep(time);
        let end_ns = utc_ns();
        self.signal(Signal::SIGCONT);
        begin_ns..end_ns
    }
}

pub fn utc_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

fn all_stopped(tasks: &Path) -> bool {
    let mut tasks = fs::read_dir(tasks).unwrap();
    tasks.all(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status"));
        // A thread may have ended.
        status.is_ok_and(|status| status.contains("State:\tT"))
    })
}
