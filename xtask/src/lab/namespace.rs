//! Network namespaces, named and placed as by `ip netns`: created, entered, configured, deleted.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io, ptr, thread};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exec;
use crate::lab::topology::{AgentNs, Families};

/// Time from SIGTERM to SIGKILL.
const TERMINATION_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

pub(crate) fn exists(name: &str) -> bool {
    path(name).exists()
}

/// The error if a namespace exists already.
pub(crate) fn taken(name: &str) -> Error {
    anyhow!("namespace {name} exists; a lab is up (cargo xtask lab down removes it) or it belongs to another program")
}

/// Creates the namespace and brings its loopback up.
pub(crate) fn create(name: &str) -> Result<()> {
    exec::run("ip", ["netns", "add", name])?;
    ip(name, "link set lo up")
}

/// Ends the processes in the namespace and deletes it; does nothing if it does not exist.
pub(crate) fn delete(name: &str) -> Result<()> {
    if !exists(name) {
        return Ok(());
    }
    end_processes(name)?;
    exec::run("ip", ["netns", "delete", name]).map(drop)
}

pub(crate) fn ip(name: &str, arguments: &str) -> Result<()> {
    exec::run("ip", ["-n", name].into_iter().chain(arguments.split(' '))).map(drop)
}

pub(crate) fn tc(name: &str, arguments: &str) -> Result<()> {
    exec::run("tc", ["-n", name].into_iter().chain(arguments.split(' '))).map(drop)
}

/// Gives the agent's port its addresses of `families`, and the route of IPv4 multicast.
pub(crate) fn configure_port(agent: &AgentNs, families: Families, mtu: Option<&str>) -> Result<()> {
    let AgentNs {
        namespace, interface, ..
    } = agent;
    if let Some(mtu) = mtu {
        ip(namespace, &format!("link set {interface} mtu {mtu}"))?;
    }
    add_addresses(agent, families)?;
    if families != Families::V6 {
        ip(namespace, &format!("route add 224.0.0.0/4 dev {interface}"))?;
    }
    Ok(())
}

/// Brings a port up with its addresses of `families`.
pub(crate) fn add_addresses(port: &AgentNs, families: Families) -> Result<()> {
    let AgentNs {
        namespace,
        interface,
        v4,
        v6,
    } = port;
    ip(namespace, &format!("link set {interface} up"))?;
    if families != Families::V6 {
        ip(namespace, &format!("addr add {v4}/24 dev {interface}"))?;
    }
    if families != Families::V4 {
        ip(namespace, &format!("addr add {v6}/64 dev {interface} nodad"))?;
    }
    Ok(())
}

/// Sets sysctls below `/proc/sys/net` in the namespace.
pub(crate) fn set_sysctls(name: &str, settings: &[(&str, &str)]) -> Result<()> {
    within(name, || {
        for (key, value) in settings {
            let path = Path::new("/proc/sys/net").join(key);
            fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))?;
        }
        Ok(())
    })
}

pub(crate) fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = fs::File::open(path(name)).with_context(|| format!("cannot open namespace {name}"))?;
    let enter_and_work = || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter namespace {name}"))?;
        work()
    };
    // A namespace is entered per thread: this thread stays where it is.
    thread::scope(|scope| scope.spawn(enter_and_work).join()).unwrap_or_else(|_| bail!("a panic in namespace {name}"))
}

/// A command that runs in the namespace; the kernel kills it when the thread that starts it ends.
pub(crate) fn command<S: AsRef<OsStr>>(
    name: &str,
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    enter(&mut command, name);
    end_with_parent(&mut command);
    command
}

/// Makes `command` run in the namespace, as `ip netns exec` does: with a `/sys` that shows its interfaces. The child
/// itself enters, so its process id is the program's own.
pub(crate) fn enter(command: &mut Command, name: &str) {
    let path = CString::new(path(name).as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: between fork and exec the closure makes system calls only, on memory prepared before the fork.
    unsafe { command.pre_exec(move || enter_now(&path)) };
}

/// Makes the kernel kill the child when the thread that starts it ends.
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: one system call between fork and exec, no memory touched.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)));
    }
}

/// The processes in the namespace, without this one.
pub(crate) fn processes(name: &str) -> Vec<Pid> {
    let Ok(namespace) = fs::metadata(path(name)) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = Pid::this();
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("ns/net"))))
        .map(|(pid, link)| (Pid::from_raw(pid), link))
        .filter(|(pid, _)| *pid != own)
        .filter(|(_, link)| {
            fs::metadata(link).is_ok_and(|of| of.ino() == namespace.ino() && of.dev() == namespace.dev())
        })
        .map(|(pid, _)| pid)
        .collect()
}

/// Terminates every process in the namespace, and kills those that do not end.
fn end_processes(name: &str) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for pid in processes(name) {
            // It fails if the process has ended.
            let _ = kill(pid, signal);
        }
        if exec::wait_until(TERMINATION_TIMEOUT, || processes(name).is_empty()) {
            return Ok(());
        }
    }
    bail!("processes in namespace {name} do not end: {:?}", processes(name));
}

/// Does what `ip netns exec` does before it runs the program. Called between fork and exec.
fn enter_now(path: &CString) -> io::Result<()> {
    const SYS: *const libc::c_char = c"/sys".as_ptr();
    // SAFETY: plain system calls on constant or owned, NUL-terminated strings.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        check(fd)?;
        check(libc::setns(fd, libc::CLONE_NEWNET))?;
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let slave = libc::MS_SLAVE | libc::MS_REC;
        check(libc::mount(
            c"".as_ptr(),
            c"/".as_ptr(),
            c"none".as_ptr(),
            slave,
            ptr::null(),
        ))?;
        libc::umount2(SYS, libc::MNT_DETACH);
        check(libc::mount(c"sysfs".as_ptr(), SYS, c"sysfs".as_ptr(), 0, ptr::null()))
    }
}

fn check(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_where_ip_netns_keeps_them() {
        assert_eq!(path("agent1"), Path::new("/run/netns/agent1"));
        assert!(!exists("kstamp-no-such-namespace"));
        assert!(processes("kstamp-no-such-namespace").is_empty());
    }
}
