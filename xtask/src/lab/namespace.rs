//! Network namespaces: made, entered, looked into, removed. Names and places are those of `ip netns`.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    ptr, thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::exec;

/// How long a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Where `ip netns` keeps the namespace called `name`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Whether there is a namespace called `name`.
pub(crate) fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Makes the namespace and brings its loopback up.
pub(crate) fn create(name: &str) -> Result<()> {
    exec::run("ip", ["netns", "add", name])?;
    exec::run("ip", ["-n", name, "link", "set", "lo", "up"])?;
    Ok(())
}

/// Ends what runs in the namespace, then removes it. No namespace of that name is no error.
pub(crate) fn delete(name: &str) -> Result<()> {
    if !exists(name) {
        return Ok(());
    }
    end_processes(name)?;
    exec::run("ip", ["netns", "delete", name])?;
    Ok(())
}

/// Sets sysctls below `/proc/sys/net` as they are inside the namespace.
pub(crate) fn set_sysctls(name: &str, settings: &[(&str, &str)]) -> Result<()> {
    within(name, || {
        for (key, value) in settings {
            let path = Path::new("/proc/sys/net").join(key);
            fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))?;
        }
        Ok(())
    })
}

/// Does `work` inside the namespace.
pub(crate) fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = fs::File::open(path(name)).with_context(|| format!("cannot open namespace {name}"))?;
    let enter_and_work = || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter namespace {name}"))?;
        work()
    };
    // A namespace is entered thread by thread: one of its own leaves this one where it is.
    thread::scope(|scope| scope.spawn(enter_and_work).join())
        .unwrap_or_else(|_| bail!("what was to be done in namespace {name} panicked"))
}

/// Makes `command` run inside the namespace, as `ip netns exec` would: with a `/sys` that shows its interfaces.
/// The child itself enters, so that its process id and the signals sent to it are the program's own.
pub(crate) fn enter(command: &mut Command, name: &str) {
    let path = CString::new(path(name).as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: between fork and exec the closure makes system calls only, on memory prepared before the fork.
    unsafe { command.pre_exec(move || enter_now(&path)) };
}

/// Makes the kernel kill the child when the thread that started it ends.
pub(crate) fn end_with_parent(command: &mut Command) {
    // SAFETY: one system call between fork and exec, no memory touched.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)));
    }
}

/// The processes that run in the namespace, without this one.
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

/// Asks every process in the namespace to end, and kills what does not.
fn end_processes(name: &str) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for pid in processes(name) {
            // Gone meanwhile is as good.
            let _ = kill(pid, signal);
        }
        if exec::wait_until(GRACE, || processes(name).is_empty()) {
            return Ok(());
        }
    }
    bail!("processes in namespace {name} do not end: {:?}", processes(name));
}

/// What `ip netns exec` does before it runs the program. Called between fork and exec.
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
    fn a_name_is_where_ip_netns_keeps_it() {
        assert_eq!(path("agent1"), Path::new("/run/netns/agent1"));
        assert!(!exists("kstamp-no-such-namespace"));
        assert!(processes("kstamp-no-such-namespace").is_empty());
    }
}
