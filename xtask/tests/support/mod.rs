//! What the whole-run tests share: a built kstamp, agents started in a lab, and their results read back.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

pub mod links;
pub mod observer;
pub mod pair;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::lab::{AgentNs, CONTROLLER, Lab, SWITCHES};
use xtask::{privilege, workspace};

/// Whether a lab can be made; says so if not.
pub fn can_run() -> bool {
    let why_not = privilege::why_no_root_tests();
    if let Some(why) = why_not {
        println!("SKIPPED: {why}");
    }
    why_not.is_none()
}

/// Whether this is a guest of `cargo xtask test --vm`: its processors are emulated, so all that a program does takes ten
/// times as long and more, while netem and the clock keep their time.
pub fn is_emulated() -> bool {
    std::env::var_os(xtask::vm::guest::BUILT).is_some()
}

/// The release binary, built once per test run.
pub fn kstamp() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(built) = std::env::var_os(xtask::vm::guest::BUILT) {
                return built.into();
            }
            let status = workspace::cargo()
                .args(["build", "--quiet", "--release", "-p", "probe-user"])
                .status();
            assert!(status.unwrap().success(), "kstamp does not build");
            workspace::kstamp_binary()
        })
        .clone()
}

/// A kstamp in a namespace of a lab, writing JSON lines to a file.
pub struct Agent {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    what: String,
}

impl Agent {
    /// Starts `kstamp COMMAND --iface PORT --format jsonl ARGUMENTS…` at `place`.
    pub fn start(lab: &Lab, place: &AgentNs, command: &str, arguments: &[&str]) -> Self {
        let process = lab.command(&place.namespace, kstamp(), [command, "--iface", &place.interface]);
        Self::spawn(lab, &place.namespace, process, arguments)
    }

    /// Starts `kstamp controller --format jsonl ARGUMENTS…` for the switches of a lab, with a tap at every port of a link.
    pub fn controller(lab: &Lab, arguments: &[&str]) -> Self {
        let mut process = lab.command(SWITCHES, kstamp(), ["controller", "--listen", CONTROLLER]);
        for port in lab.topology().network().unwrap().ports() {
            process.args(["--tap", &port]);
        }
        Self::spawn(lab, SWITCHES, process, arguments)
    }

    fn spawn(lab: &Lab, name: &str, mut process: Command, arguments: &[&str]) -> Self {
        let what = format!("{name}-{}", number());
        let scratch = lab.scratch().unwrap();
        let (out, err) = (scratch.join(format!("{what}.out")), scratch.join(format!("{what}.err")));
        process.args(["--format", "jsonl"]).args(arguments).stdin(Stdio::null());
        process
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        Self {
            child: process.spawn().unwrap(),
            out,
            err,
            what,
        }
    }

    /// Asks it to end.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(mut self, limit: Duration) -> Finished {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < end,
                "{} did not end within {limit:?}: {}",
                self.what,
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        Finished {
            status,
            records: self.records(),
            stderr: self.stderr(),
        }
    }

    /// SIGTERM, then [`Agent::wait`].
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(5))
    }

    /// What it has written so far.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// Waits until a record satisfies `wanted`, and returns it.
    pub fn await_record(&self, limit: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        loop {
            if let Some(record) = self.records().into_iter().find(&wanted) {
                return record;
            }
            assert!(
                Instant::now() < end,
                "{}: no {what} within {limit:?}; records: {:#?}; stderr: {}",
                self.what,
                self.records(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that no other agent of this process has.
fn number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An agent that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub records: Vec<Value>,
    pub stderr: String,
}

impl Finished {
    /// All records of a type.
    pub fn of_type(&self, kind: &str) -> Vec<&Value> {
        self.records.iter().filter(|record| record["type"] == kind).collect()
    }

    /// The start record.
    pub fn start(&self) -> &Value {
        self.of_type("start")
            .first()
            .copied()
            .unwrap_or_else(|| panic!("no start: {self:#?}"))
    }

    /// The summary of one peer and path.
    pub fn summary(&self, peer: &str, path: &str) -> &Value {
        let mut summaries = self.of_type("summary").into_iter();
        summaries
            .find(|summary| summary["peer"] == peer && summary["path"] == path)
            .unwrap_or_else(|| panic!("no summary of {peer} by {path}: {self:#?}"))
    }

    /// The counters at the end.
    pub fn counter(&self, name: &str) -> u64 {
        self.of_type("counters")
            .last()
            .unwrap_or_else(|| panic!("no counters: {self:#?}"))[name]
            .as_u64()
            .unwrap()
    }

    /// `sent = received + lost + pending` in every window and summary, directions add up, windows add up to the
    /// summary, and no distribution has more samples than there were replies.
    pub fn assert_consistent(&self) {
        for kind in ["window", "summary"] {
            for record in self.of_type(kind) {
                let n = |field: &str| count(record, field);
                assert_eq!(n("sent"), n("received") + n("lost") + n("pending"), "{record:#}");
                assert_eq!(
                    n("lost"),
                    n("lost_forward") + n("lost_backward") + n("lost_unknown"),
                    "{record:#}"
                );
                let samples = record["rtt_ns"]["count"].as_u64().unwrap_or(0);
                assert!(samples <= n("received"), "{record:#}");
            }
        }
        for summary in self.of_type("summary") {
            let windows = self.of_type("window").into_iter();
            let own = windows.filter(|window| window["peer"] == summary["peer"] && window["path"] == summary["path"]);
            let sent: u64 = own.map(|window| count(window, "sent")).sum();
            assert_eq!(sent, count(summary, "sent"), "windows add up: {self:#?}");
        }
    }

    /// Nothing was lost on the wire, in the collector or on the way out.
    pub fn assert_no_loss(&self, peer: &str, path: &str) {
        let summary = self.summary(peer, path);
        for field in ["lost", "late", "duplicates", "collector_lost", "send_failed", "pending"] {
            assert_eq!(count(summary, field), 0, "{field}: {summary:#}\n{}", self.stderr);
        }
    }
}

/// A count of a record.
pub fn count(record: &Value, field: &str) -> u64 {
    record[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field}: {record:#}"))
}

/// A percentile or moment of a distribution of a record, in milliseconds.
pub fn ms(record: &Value, distribution: &str, what: &str) -> f64 {
    let ns = record[distribution][what].as_i64();
    ns.unwrap_or_else(|| panic!("no {distribution}.{what}: {record:#}")) as f64 / 1e6
}
