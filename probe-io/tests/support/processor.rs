//! Which processor runs what, for tests of late processors. Several crates share this file.

use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Lets one processor receive what arrives at a device.
pub fn steer(namespace: &str, device: &str, processor: usize) {
    let steered = Command::new("ip")
        .args(["netns", "exec", namespace, "sh", "-c"])
        .arg(format!(
            "echo {} > /sys/class/net/{device}/queues/rx-0/rps_cpus",
            1 << processor
        ))
        .status();
    assert!(steered.unwrap().success());
}

/// Keeps this thread on one processor.
pub fn stay_on(processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
}

/// Gives this thread a real-time priority, so that it runs before all ordinary ones.
pub fn go_first() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is valid for the call.
    let status = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    assert_eq!(status, 0);
}
