//! kstamp under a service manager: readiness, reload, watchdog, and a restart without a gap.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::io::IoSliceMut;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use support::{KSTAMP, Pair, Running, ip};
use tempfile::TempDir;

/// The first descriptor that a service gets (`SD_LISTEN_FDS_START`).
const FIRST_FD: RawFd = 3;

/// What systemd does for a service of `Type=notify` with `FileDescriptorStoreMax=`: sd_notify(3), sd_listen_fds(3).
struct Manager {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
    receiver: Option<JoinHandle<()>>,
    _directory: TempDir,
}

#[derive(Default)]
struct State {
    /// The lines of all messages, in order.
    lines: Vec<String>,
    store: Vec<(String, OwnedFd)>,
}

impl State {
    fn take(&mut self, message: &str, descriptors: Vec<OwnedFd>) {
        let lines: Vec<&str> = message.lines().collect();
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        if lines.contains(&"FDSTORE=1") {
            for descriptor in descriptors {
                // systemd drops a descriptor with an error or a hang-up at once.
                let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::empty())];
                poll(&mut polled, PollTimeout::ZERO).unwrap();
                let has_failed = polled[0].revents().is_some_and(|events| !events.is_empty());
                if lines.contains(&"FDPOLL=0") || !has_failed {
                    self.store.push((name.unwrap_or("stored").to_owned(), descriptor));
                }
            }
        }
        if lines.contains(&"FDSTOREREMOVE=1") {
            self.store.retain(|(stored, _)| Some(stored.as_str()) != name);
        }
        self.lines.extend(lines.into_iter().map(str::to_owned));
    }
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (state, is_over) = (Arc::<Mutex<State>>::default(), Arc::<AtomicBool>::default());
        let receiver = thread::spawn({
            let (state, is_over) = (Arc::clone(&state), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    if let Some((message, descriptors)) = receive(&socket) {
                        state.lock().unwrap().take(&message, descriptors);
                    }
                }
            }
        });
        Self {
            path,
            state,
            is_over,
            receiver: Some(receiver),
            _directory: directory,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// `kstamp ARGUMENTS…` in a namespace, with the descriptors in the store. It is not ready yet.
    fn start(&self, pair: &Pair, namespace: &str, arguments: &str) -> Running {
        let mut state = self.state();
        state.lines.clear();
        // Beyond those that it gets, so that none is overwritten before it is passed.
        let passed: Vec<OwnedFd> = state.store.iter().map(|(_, stored)| high(stored)).collect();
        let names: Vec<&str> = state.store.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "LISTEN_PID=$$ exec \"$@\"",
                "sh",
                "ip",
                "netns",
                "exec",
                namespace,
                KSTAMP,
            ])
            .args(arguments.split_whitespace())
            .args(["--format", "jsonl"])
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "2000000")
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        let numbers: Vec<RawFd> = passed.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
        let pass = move || {
            for (number, place) in numbers.iter().zip(FIRST_FD..) {
                // SAFETY: a system call on numbers, in the child, which has only this thread.
                if unsafe { libc::dup2(*number, place) } < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: the closure calls only dup2, which is safe after a fork.
        unsafe { command.pre_exec(pass) };
        pair.spawn(&mut command)
    }

    /// As [`Manager::start`], after the service is ready.
    fn started(&self, pair: &Pair, namespace: &str, arguments: &str) -> Running {
        let running = self.start(pair, namespace, arguments);
        self.await_lines("readiness", &running, |lines| count(lines, "READY=1") == 1);
        running
    }

    fn await_lines(&self, what: &str, running: &Running, wanted: impl Fn(&[String]) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !wanted(&self.state().lines) {
            let lines = self.state().lines.clone();
            assert!(Instant::now() < end, "no {what}: {lines:#?}\n{}", running.stderr());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(receiver) = self.receiver.take() {
            receiver.join().unwrap();
        }
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut control = nix::cmsg_space!([RawFd; 8]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just opened them for this process.
            descriptors.extend(
                numbers
                    .into_iter()
                    .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
            );
        }
    }
    let length = message.bytes;
    Some((String::from_utf8(bytes[..length].to_vec()).unwrap(), descriptors))
}

/// A copy with a high number, closed in children.
fn high(descriptor: &OwnedFd) -> OwnedFd {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(200)).unwrap();
    // SAFETY: it has just been opened.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn count(lines: &[String], line: &str) -> usize {
    lines.iter().filter(|found| *found == line).count()
}

const REFLECT: &str = "reflect --iface port2 --family v4";

#[test]
fn the_manager_learns_readiness_status_reloads_and_the_end() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.near, "link set lo up");
    let table = [
        (REFLECT, &pair.far, "STATUS=answering on port2 (xdp-"),
        (
            "agent --iface port1 --family v4",
            &pair.near,
            "STATUS=measuring on port1 (xdp-",
        ),
        (
            "controller --listen 127.0.0.1:0",
            &pair.near,
            "STATUS=listening for switches on 127.0.0.1:",
        ),
    ];
    for (arguments, namespace, status) in table {
        let manager = Manager::new();
        let running = manager.started(&pair, namespace, arguments);
        let lines = manager.state().lines.clone();
        assert!(
            lines.iter().any(|line| line.starts_with(status)),
            "{arguments}: {lines:#?}"
        );
        assert_eq!(count(&lines, "STOPPING=1"), 0);
        // Nothing is written to a file here: only without a manager is this the end.
        running.signal(Signal::SIGHUP);
        manager.await_lines("reload", &running, |lines| count(lines, "READY=1") == 2);
        let lines = manager.state().lines.clone();
        let reload = lines.iter().position(|line| line == "RELOADING=1").unwrap();
        assert!(lines[reload + 1].starts_with("MONOTONIC_USEC="), "{lines:#?}");
        manager.await_lines("food", &running, |lines| count(lines, "WATCHDOG=1") >= 2);
        let (status, _, stderr) = running.stop();
        assert!(status.success(), "{stderr}");
        assert_eq!(count(&manager.state().lines, "STOPPING=1"), 1);
        assert_eq!(stderr, "");
    }
}

#[test]
fn a_process_that_does_not_run_feeds_no_watchdog() {
    let Some(pair) = Pair::new() else { return };
    let manager = Manager::new();
    let running = manager.started(&pair, &pair.far, REFLECT);
    let fed = || count(&manager.state().lines, "WATCHDOG=1");
    manager.await_lines("food", &running, |lines| count(lines, "WATCHDOG=1") >= 1);
    running.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(100));
    let before = fed();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(fed(), before);
    running.signal(Signal::SIGCONT);
    manager.await_lines("food", &running, |lines| count(lines, "WATCHDOG=1") > before);
    assert!(running.stop().0.success());
}
