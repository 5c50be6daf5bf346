//! kstamp under a service manager: readiness, reload, watchdog, and a restart without a gap.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aya::programs::loaded_programs;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::Value;
use support::{
    FAR_V4, KSTAMP, NEAR_V4, Pair, Running, count as number, counters, has_tcx, in_namespace, ip, run, summary,
};
use tempfile::TempDir;

/// The first descriptor that a service gets (`SD_LISTEN_FDS_START`).
const FIRST_FD: RawFd = 3;

/// The maps in the store.
const MAPS: [&str; 3] = ["SESSION_SLOTS", "REFLECTOR_SESSIONS", "COUNTS"];

/// The test port.
const PORT: u16 = 1910;

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
                // systemd drops a descriptor with an error or a hang-up at once, and one that it has by whatever name.
                let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::empty())];
                poll(&mut polled, PollTimeout::ZERO).unwrap();
                let has_failed = polled[0].revents().is_some_and(|events| !events.is_empty());
                let is_kept = self.store.iter().any(|(_, kept)| is_same(kept, &descriptor));
                if (lines.contains(&"FDPOLL=0") || !has_failed) && !is_kept {
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
        let mut command = self.command(namespace, arguments);
        if !passed.is_empty() {
            command
                .env("LISTEN_FDS", passed.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
        }
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

    /// `kstamp ARGUMENTS…` in a namespace, as a service of this manager.
    fn command(&self, namespace: &str, arguments: &str) -> Command {
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
            .env("WATCHDOG_USEC", "2000000");
        command
    }

    /// As [`Manager::start`], after the service is ready.
    fn started(&self, pair: &Pair, namespace: &str, arguments: &str) -> Running {
        let running = self.start(pair, namespace, arguments);
        self.await_lines("readiness", &running, |lines| count(lines, "READY=1") == 1);
        running
    }

    /// Ends the service by `signal`, and starts it again with the descriptors in the store.
    fn restarted(&self, pair: &Pair, former: Running, signal: Signal, namespace: &str, arguments: &str) -> Running {
        former.signal(signal);
        let (status, _, stderr) = former.wait();
        assert!(status.success() || signal == Signal::SIGKILL, "{stderr}");
        self.started(pair, namespace, arguments)
    }

    /// As at a stop: systemd closes all that it has kept.
    fn forget(&self) {
        self.state().store.clear();
    }

    fn await_empty(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.state().store.is_empty() {
            assert!(Instant::now() < end, "kept: {:?}", self.state().store);
            thread::sleep(Duration::from_millis(5));
        }
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

/// Whether two descriptors are of one open file (kcmp(2)).
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let process = std::process::id();
    // SAFETY: a system call on numbers.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            process,
            process,
            KCMP_FILE,
            one.as_raw_fd(),
            other.as_raw_fd(),
        )
    };
    assert!(order >= 0, "kcmp: {}", std::io::Error::last_os_error());
    order == 0
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

/// The kernel's ids of the programs that a process has loaded.
fn programs_of(running: &Running) -> Vec<u32> {
    let directory = std::fs::read_dir(format!("/proc/{}/fdinfo", running.pid())).unwrap();
    let infos = directory
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
    let ids = infos.filter_map(|info| {
        info.lines()
            .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    });
    let ids: Vec<u32> = ids.collect();
    assert!(!ids.is_empty());
    ids
}

/// The kernel frees programs some time after the last link has gone.
fn await_unloaded(programs: &[u32]) {
    let end = Instant::now() + Duration::from_secs(10);
    let is_loaded = || {
        loaded_programs()
            .flatten()
            .any(|program| programs.contains(&program.id()))
    };
    while is_loaded() {
        assert!(Instant::now() < end, "programs stay in the kernel");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Standard error. Before TCX, a killed process leaves a filter, which the next one removes and reports.
fn stderr_of(running: &Running) -> String {
    let stderr = running.stderr();
    let lines = stderr
        .lines()
        .filter(|line| has_tcx() || !line.ends_with("that a killed kstamp had left"));
    lines.collect()
}

/// A session-sender by hand, which sees the counter of the reflector.
struct Sender(UdpSocket);

impl Sender {
    fn new(pair: &Pair) -> Self {
        let namespace = pair.near.clone();
        let open = move || {
            in_namespace(&namespace);
            UdpSocket::bind((NEAR_V4, 0)).unwrap()
        };
        let socket = thread::spawn(open).join().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect((FAR_V4, PORT)).unwrap();
        Self(socket)
    }

    /// The sequence number of the reply to a probe.
    fn probe(&self) -> u32 {
        let mut packet = [0; 44];
        self.0.send(&packet).unwrap();
        self.0.recv(&mut packet).unwrap();
        u32::from_be_bytes(*packet.first_chunk().unwrap())
    }
}

fn answered(record: &Value) -> bool {
    record["type"] == "window" && record["path"] == "unicast" && number(record, "received") > 0
}

/// 1,000 probes a second.
fn probing(pair: &Pair, arguments: &str) -> Running {
    let line = format!("agent --iface port1 --family v4 --peer {FAR_V4} --interval 1ms --report 500ms {arguments}");
    let near = pair.started(&pair.near, &line);
    near.await_record(1, "results", answered);
    near
}

/// Ends the agent of [`probing`] after another window. Nothing was lost. Returns the number of replies.
fn assert_no_loss(near: Running, what: &str) -> u64 {
    let before = near.records().iter().filter(|record| answered(record)).count();
    near.await_record(before + 2, "results at the end", answered);
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{what}: {stderr}");
    let summary = summary(&records, FAR_V4, "unicast");
    for record in records.iter().filter(|record| record["type"] == "summary") {
        assert_eq!(number(record, "lost"), 0, "{what}: {record:#}");
    }
    for field in ["lost", "send_failed", "duplicates"] {
        assert_eq!(number(summary, field), 0, "{what}, {field}: {summary:#}\n{stderr}");
    }
    assert!(number(summary, "received") > 100, "{what}: {summary:#}");
    let downs = records
        .iter()
        .filter(|record| record["type"] == "peer" && record["event"] == "down");
    assert_eq!(downs.count(), 0, "{what}: {records:#?}");
    number(summary, "received")
}

/// Without a filter at TC ingress, which is no link before TCX.
const REFLECT_BY_XDP: &str = "reflect --iface port2 --family v4 --attach xdp-native";
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
        running.signal(Signal::SIGTERM);
        manager.await_lines("the end", &running, |lines| count(lines, "STOPPING=1") >= 1);
        let (status, _, stderr) = running.wait();
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

/// Restarts a service at the far end by each of `signals`, under the probes of an agent.
fn restart_under_probes(pair: &Pair, arguments: &str, near: &str, signals: &[Signal]) {
    let manager = Manager::new();
    let mut far = manager.started(pair, &pair.far, arguments);
    let near = probing(pair, near);
    let sender = Sender::new(pair);
    assert_eq!(sender.probe(), 0);
    for (number, signal) in (1..).zip(signals) {
        far = manager.restarted(pair, far, *signal, &pair.far, arguments);
        let start = far.await_type("start");
        let reason = start["attach_reason"].as_str().unwrap();
        assert!(
            arguments.contains("--attach") || reason.contains("taken over"),
            "{start:#}"
        );
        assert_eq!(stderr_of(&far), "", "{arguments}");
        assert_eq!(sender.probe(), number, "{arguments}");
    }
    let received = assert_no_loss(near, arguments);
    let programs = programs_of(&far);
    let (_, records, _) = far.stop();
    // The replies of all processes, and of the time between them.
    assert!(number(counters(&records), "reflected") >= received, "{arguments}");
    manager.await_empty();
    await_unloaded(&programs);
}

const FIVE_TIMES: [Signal; 5] = [
    Signal::SIGUSR2,
    Signal::SIGKILL,
    Signal::SIGUSR2,
    Signal::SIGKILL,
    Signal::SIGUSR2,
];

#[test]
fn probes_of_restarts_are_answered_and_sessions_go_on() {
    let Some(pair) = Pair::new() else { return };
    restart_under_probes(&pair, REFLECT, "", &FIVE_TIMES);
}

#[test]
fn an_agent_is_restarted_without_a_lost_probe_too() {
    let Some(pair) = Pair::new() else { return };
    restart_under_probes(&pair, "agent --iface port2 --family v4", "", &FIVE_TIMES);
}

#[test]
fn a_restart_by_native_xdp_and_by_tc_loses_no_probe() {
    let Some(pair) = Pair::new() else { return };
    restart_under_probes(&pair, REFLECT_BY_XDP, "--attach xdp-native", &FIVE_TIMES[..2]);
    if !has_tcx() {
        println!("SKIPPED: TC filters are no links before TCX");
        return;
    }
    restart_under_probes(
        &pair,
        &format!("{REFLECT} --attach tc"),
        "--attach tc",
        &FIVE_TIMES[..2],
    );
}

#[test]
fn nothing_stays_attached_after_a_stop_or_a_lost_store() {
    let Some(pair) = Pair::new() else { return };
    let manager = Manager::new();
    let is_attached = || ip(&pair.far, "link show port2").contains("prog/xdp");
    let former = manager.started(&pair, &pair.far, REFLECT_BY_XDP);
    let programs = programs_of(&former);
    let killed = manager.restarted(&pair, former, Signal::SIGUSR2, &pair.far, REFLECT_BY_XDP);
    await_unloaded(&programs);
    let programs = programs_of(&killed);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    assert!(is_attached());
    manager.forget();
    await_unloaded(&programs);
    assert!(!is_attached());
    let stopped = manager.started(&pair, &pair.far, REFLECT_BY_XDP);
    assert_eq!(stopped.stderr(), "");
    let programs = programs_of(&stopped);
    assert!(stopped.stop().0.success());
    // The manager still has the descriptors for a moment, but the programs are detached.
    assert!(!is_attached());
    manager.await_empty();
    await_unloaded(&programs);
}

/// The kernel deactivates a device for a moment when its clsact qdisc is added or removed, and may drop replies then.
#[test]
fn a_qdisc_stays_until_the_last_process_ends() {
    if has_tcx() {
        println!("SKIPPED: this kernel has TCX and needs no qdisc");
        return;
    }
    let Some(pair) = Pair::new() else { return };
    let tc = |arguments: &str| run(&format!("tc -n {} {arguments}", pair.far));
    let has_qdisc = || tc("qdisc show dev port2").contains("clsact");
    let has_filter = || tc("filter show dev port2 ingress").contains("kstamp");
    let table: [(&str, &[Signal]); 2] = [
        (REFLECT, &[Signal::SIGUSR2, Signal::SIGKILL]),
        ("agent --iface port2 --family v4", &[Signal::SIGUSR2]),
    ];
    for (arguments, signals) in table {
        let manager = Manager::new();
        let mut far = manager.started(&pair, &pair.far, arguments);
        for signal in signals.iter().copied() {
            far.signal(signal);
            far.wait();
            assert_eq!(
                (has_qdisc(), has_filter()),
                (true, signal == Signal::SIGKILL),
                "{arguments}, {signal}"
            );
            far = manager.started(&pair, &pair.far, arguments);
            assert!(has_filter(), "{arguments}, {signal}");
        }
        assert!(far.stop().0.success());
        assert!(!has_qdisc(), "{arguments}");
        manager.await_empty();
    }
    // The last process needs none.
    let manager = Manager::new();
    let far = manager.started(&pair, &pair.far, REFLECT);
    let far = manager.restarted(&pair, far, Signal::SIGUSR2, &pair.far, REFLECT_BY_XDP);
    assert!(!has_qdisc());
    assert!(far.stop().0.success());
    // It was there before.
    tc("qdisc add dev port2 clsact");
    let far = manager.started(&pair, &pair.far, REFLECT);
    let far = manager.restarted(&pair, far, Signal::SIGUSR2, &pair.far, REFLECT);
    assert!(far.stop().0.success());
    assert!(has_qdisc());
}

#[test]
fn a_host_stays_a_member_of_its_group_from_one_process_to_the_next() {
    let Some(pair) = Pair::new() else { return };
    let manager = Manager::new();
    let is_member = || ip(&pair.far, "maddress show dev port2").contains("239.255.255.250");
    let far = manager.started(&pair, &pair.far, REFLECT);
    far.signal(Signal::SIGUSR2);
    far.wait();
    assert!(is_member());
    let far = manager.started(&pair, &pair.far, REFLECT);
    manager.await_lines("removal", &far, |lines| count(lines, "FDSTOREREMOVE=1") == 1);
    assert!(is_member());
    assert!(far.stop().0.success());
    assert!(!is_member());
}

#[test]
fn a_store_that_does_not_fit_is_reported_and_costs_no_probe() {
    let Some(pair) = Pair::new() else { return };
    type Change = fn(&mut Vec<(String, OwnedFd)>);
    let table: [(&str, Change, &str); 3] = [
        (
            "another version of the layouts",
            |store| {
                // Of the maps: nothing else has a layout.
                for (name, _) in store {
                    let parts: Vec<&str> = name.split('/').collect();
                    if MAPS.contains(&parts[3]) {
                        *name = format!("kstamp/4000/{}", parts[2..].join("/"));
                    }
                }
            },
            "the programs before were of version 4000 of the layouts",
        ),
        (
            "half of the descriptors",
            |store| store.retain(|(name, _)| !name.contains("REFLECTOR_SESSIONS")),
            "the service manager had no REFLECTOR_SESSIONS",
        ),
        (
            "another map",
            |store| {
                let other = store
                    .iter()
                    .find(|(name, _)| name.contains("COUNTS"))
                    .unwrap()
                    .1
                    .try_clone()
                    .unwrap();
                let wrong = store
                    .iter_mut()
                    .find(|(name, _)| name.contains("SESSION_SLOTS"))
                    .unwrap();
                wrong.1 = other;
            },
            "SESSION_SLOTS of the process before has another layout",
        ),
    ];
    for (what, change, reported) in table {
        let manager = Manager::new();
        let far = manager.started(&pair, &pair.far, REFLECT);
        let near = probing(&pair, "");
        let sender = Sender::new(&pair);
        assert_eq!((sender.probe(), sender.probe()), (0, 1));
        far.signal(Signal::SIGUSR2);
        far.wait();
        change(&mut manager.state().store);
        let far = manager.started(&pair, &pair.far, REFLECT);
        let stderr = far.stderr();
        assert!(
            stderr.contains(reported) && stderr.lines().count() == 1,
            "{what}: {stderr}"
        );
        assert_eq!(sender.probe(), 0, "{what}");
        assert_no_loss(near, what);
        // The next one finds nothing of the old ones.
        let far = manager.restarted(&pair, far, Signal::SIGKILL, &pair.far, REFLECT);
        assert_eq!(stderr_of(&far), "", "{what}");
        assert_eq!(sender.probe(), 1, "{what}");
        assert!(far.stop().0.success());
    }
}

#[test]
fn descriptors_of_other_interfaces_are_not_taken_over() {
    let Some(pair) = Pair::new() else { return };
    let manager = Manager::new();
    let other = manager.started(&pair, &pair.near, "reflect --iface port1 --family v4");
    let programs = programs_of(&other);
    other.signal(Signal::SIGUSR2);
    other.wait();
    // The far end may have the same index: it is in another namespace.
    let far = manager.started(&pair, &pair.far, REFLECT);
    assert!(far.stderr().contains("starting afresh"), "{}", far.stderr());
    assert_eq!(Sender::new(&pair).probe(), 0);
    await_unloaded(&programs);
    far.signal(Signal::SIGKILL);
    far.wait();
    // Deleted, and created anew.
    ip(&pair.far, "link delete port2");
    pair.connect();
    let far = manager.started(&pair, &pair.far, REFLECT);
    assert!(far.stderr().contains("starting afresh"), "{}", far.stderr());
    assert_eq!(Sender::new(&pair).probe(), 0);
    assert!(far.stop().0.success());
    manager.await_empty();
}

#[test]
fn descriptors_that_the_manager_only_claims_to_pass_are_not_taken() {
    let Some(pair) = Pair::new() else { return };
    let manager = Manager::new();
    let mut command = manager.command(&pair.far, REFLECT);
    // These numbers are the first that the process opens for itself.
    command.env("LISTEN_FDS", "3").env("LISTEN_FDNAMES", "a:b:c");
    let far = pair.spawn(&mut command);
    manager.await_lines("readiness", &far, |lines| count(lines, "READY=1") == 1);
    let stderr = far.stderr();
    assert!(
        stderr.contains("cannot take the descriptors of the service manager: Bad file descriptor")
            && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert_eq!(Sender::new(&pair).probe(), 0);
    assert!(far.stop().0.success());
}

#[test]
fn without_a_manager_the_programs_go_with_the_process() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4");
    let programs = programs_of(&far);
    far.signal(Signal::SIGUSR2);
    let (status, records, stderr) = far.wait();
    assert!(status.success(), "{stderr}");
    assert_eq!(records.last().unwrap()["type"], "counters");
    await_unloaded(&programs);
}
