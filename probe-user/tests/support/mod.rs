//! Two namespaces with a veth pair between them, and kstamp started in them.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

pub mod ethtool;
pub mod http;
pub mod ovs;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub const KSTAMP: &str = env!("CARGO_BIN_EXE_kstamp");

/// A release build, for tests of cost: the one that `KSTAMP_BUILT` names, or this one. Prints a note if there is none.
pub fn release_binary() -> Option<PathBuf> {
    let built = std::env::var_os("KSTAMP_BUILT").map(PathBuf::from);
    let binary = built.or_else(|| (!cfg!(debug_assertions)).then(|| KSTAMP.into()));
    if binary.is_none() {
        println!(
            "SKIPPED: measures a release build, by `cargo xtask test --everywhere` or with its path in KSTAMP_BUILT"
        );
    }
    binary
}

/// Whether namespaces can be created and programs loaded; prints a note if not.
pub fn can_run() -> bool {
    // `cargo xtask test --no-root` sets it.
    let refused = std::env::var_os("KSTAMP_NO_ROOT").is_some();
    let can_run = nix::unistd::geteuid().is_root() && !refused;
    if !can_run {
        println!("SKIPPED: needs root for namespaces and eBPF");
    }
    can_run
}

/// Whether TC programs are attached by links (Linux 6.6 and later).
pub fn has_tcx() -> bool {
    aya::util::KernelVersion::current().unwrap() >= aya::util::KernelVersion::new(6, 6, 0)
}

/// Moves only this thread into a namespace.
pub fn in_namespace(namespace: &str) {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

/// A command from a line with a space between each two words.
pub fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

/// Runs a command that must succeed.
pub fn run(line: &str) -> String {
    let output = command(line).output().expect(line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `ip` on a namespace.
pub fn ip(namespace: &str, arguments: &str) -> String {
    run(&format!("ip -n {namespace} {arguments}"))
}

/// Namespaces `near` and `far`, joined by a veth pair `port1`–`port2`; removed when dropped.
pub struct Pair {
    pub near: String,
    pub far: String,
    files: TempDir,
}

pub const NEAR_V4: &str = "10.1.1.5";
pub const FAR_V4: &str = "10.1.1.6";

impl Pair {
    /// `None` without permission, which is printed.
    pub fn new() -> Option<Self> {
        if !can_run() {
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("kt{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let pair = Self {
            near: format!("{id}n"),
            far: format!("{id}f"),
            files: TempDir::new().unwrap(),
        };
        run(&format!("ip netns add {}", pair.near));
        run(&format!("ip netns add {}", pair.far));
        pair.connect();
        Some(pair)
    }

    /// Creates the veth pair, also after it was deleted.
    pub fn connect(&self) {
        let (near, far) = (&self.near, &self.far);
        run(&format!(
            "ip link add port1 netns {near} type veth peer name port2 netns {far}"
        ));
        for (namespace, port, v4, v6) in [(near, "port1", NEAR_V4, "fd01::5"), (far, "port2", FAR_V4, "fd01::6")] {
            ip(namespace, &format!("address add {v4}/24 dev {port}"));
            ip(namespace, &format!("address add {v6}/64 dev {port} nodad"));
            ip(namespace, &format!("link set {port} up"));
        }
    }

    /// `kstamp ping ARGUMENTS…` at the near end: exit code, records, and standard error.
    pub fn ping(&self, arguments: &str) -> (Option<i32>, Vec<Value>, String) {
        let output = self.output(&self.near, &format!("ping --format jsonl {arguments}"));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let records = stdout.lines().map(|line| serde_json::from_str(line).expect(line));
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), records.collect(), stderr)
    }

    /// `kstamp ARGUMENTS…` in a namespace, run to its end.
    pub fn output(&self, namespace: &str, arguments: &str) -> Output {
        let line = format!("ip netns exec {namespace} {KSTAMP} {arguments}");
        command(&line).output().unwrap()
    }

    /// `kstamp ARGUMENTS… --format jsonl` in a namespace, left running.
    pub fn start(&self, namespace: &str, arguments: &str) -> Running {
        let line = format!("ip netns exec {namespace} {KSTAMP} {arguments} --format jsonl");
        self.spawn(&mut command(&line))
    }

    /// Starts kstamp by `command`, with its outputs in files.
    pub fn spawn(&self, command: &mut Command) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = |what: &str| self.files.path().join(format!("{id}.{what}"));
        let (out, err) = (file("out"), file("err"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        Running {
            child: command.spawn().unwrap(),
            out,
            err,
        }
    }

    /// As [`Pair::start`], after its start record.
    pub fn started(&self, namespace: &str, arguments: &str) -> Running {
        let running = self.start(namespace, arguments);
        running.await_type("start");
        running
    }

    /// A reflector at the far end, after its start record.
    pub fn reflector(&self, arguments: &str) -> Running {
        self.started(&self.far, &format!("reflect --iface port2 {arguments}"))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// A running kstamp.
pub struct Running {
    child: Child,
    out: std::path::PathBuf,
    err: std::path::PathBuf,
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    pub fn records(&self) -> Vec<Value> {
        let text = read(&self.out);
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// Waits until `number` records satisfy `wanted`; returns the last of them.
    pub fn await_record(&self, number: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let found: Vec<_> = self.records().into_iter().filter(&wanted).collect();
            if found.len() >= number {
                return found[number - 1].clone();
            }
            assert!(
                Instant::now() < end,
                "no {what}: {:#?}\n{}",
                self.records(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn await_type(&self, kind: &str) -> Value {
        self.await_record(1, kind, |record| record["type"] == kind)
    }

    pub fn wait(mut self) -> (ExitStatus, Vec<Value>, String) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.records(), self.stderr());
            }
            assert!(Instant::now() < end, "it did not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stop(self) -> (ExitStatus, Vec<Value>, String) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Renders a page in headless Chromium, if installed; prints a note if not.
pub fn render(page: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join("chromium").exists()) {
        println!("SKIPPED: needs chromium to render the page; apt-get install chromium");
        return;
    }
    let picture = page.with_extension("png");
    let profile = page.with_extension("profile");
    let output = command("timeout 60 chromium --headless --no-sandbox --disable-gpu --window-size=1200,2400")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    // A blank page of this size takes about 8 kB.
    assert!(fs::metadata(&picture).unwrap().len() > 40_000, "{stderr}");
}

/// A file with a key that only its owner may read.
pub fn key_file(secret: &[u8]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, secret).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    (directory, path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

pub fn summary<'a>(records: &'a [Value], peer: &str, path: &str) -> &'a Value {
    let mut summaries = records.iter().filter(|record| record["type"] == "summary");
    summaries
        .find(|record| record["peer"] == peer && record["path"] == path)
        .unwrap_or_else(|| panic!("no summary of {peer} by {path}: {records:#?}"))
}

pub fn count(record: &Value, field: &str) -> u64 {
    record[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field}: {record:#}"))
}

pub fn counters(records: &[Value]) -> &Value {
    records
        .iter()
        .rfind(|record| record["type"] == "counters")
        .expect("counters")
}
