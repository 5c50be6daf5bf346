//! Shared by the whole-run tests: labs, kstamps that run in them, and their results.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

pub mod browser;
pub mod links;
pub mod switch;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::exec::{self, KillOnDrop};
use xtask::forward::Impairment;
use xtask::lab::{AgentNs, CONTROLLER, DelayLine, Lab, Options, SWITCHES, Topology};
use xtask::setup::{Foreign, ensure_foreign};
use xtask::{privilege, workspace};

/// Whether a lab can be built; prints why not.
pub fn can_run() -> bool {
    let why_not = privilege::why_no_root_tests();
    if let Some(why) = why_not {
        println!("SKIPPED: {why}");
    }
    why_not.is_none()
}

/// Whether another program is here or can be installed; prints why not.
pub fn can_have(program: Foreign) -> bool {
    let found = ensure_foreign(program);
    if let Err(error) = &found {
        println!("SKIPPED: no {program:?}: {error:#}");
    }
    found.is_ok()
}

/// A lab, if one can be built.
pub fn lab(topology: Topology) -> Option<Lab> {
    lab_with(topology, &Options::default())
}

/// Of [`Topology::Delay`]: 3 ms in both directions, and a tenth lost on the way from the first agent.
pub fn three_milliseconds() -> Options {
    let direction = |loss| Impairment {
        delay: Duration::from_millis(3),
        loss,
    };
    Options {
        delay: DelayLine {
            left_to_right: direction(0.1),
            right_to_left: direction(0.0),
            seed: 7,
        },
        ..Options::default()
    }
}

/// A lab with options, if one can be built.
pub fn lab_with(topology: Topology, options: &Options) -> Option<Lab> {
    can_run().then(|| Lab::up(topology, options).unwrap())
}

/// Whether this is a guest of `cargo xtask test --vm`. Its CPUs are emulated: programs take ten times as long or more,
/// while netem and the clock keep their time.
pub fn is_emulated() -> bool {
    std::env::var_os(xtask::vm::guest::EMULATED).is_some()
}

/// The binary of this build, or the one that a test run names.
pub fn kstamp() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(built) = std::env::var_os(xtask::vm::guest::BUILT) {
                return built.into();
            }
            let status = workspace::cargo()
                .args(["build", "--quiet", "-p", "probe-user"])
                .status();
            assert!(status.unwrap().success(), "kstamp does not build");
            workspace::target_directory().join("debug/kstamp")
        })
        .clone()
}

/// Starts a command that ends with the test.
pub fn start(command: &mut Command) -> KillOnDrop {
    KillOnDrop(command.stdin(Stdio::null()).spawn().unwrap())
}

/// Runs a command; it must succeed.
pub fn run(command: &mut Command) -> String {
    exec::capture(command).unwrap()
}

/// A kstamp in a namespace of a lab, writing JSON lines to a file.
pub struct Agent {
    child: KillOnDrop,
    out: PathBuf,
    err: PathBuf,
    name: String,
}

impl Agent {
    /// Starts `kstamp COMMAND --iface PORT --format jsonl ARGUMENTS…` at `place`.
    pub fn start(lab: &Lab, place: &AgentNs, command: &str, arguments: &str) -> Self {
        let process = lab.command(&place.namespace, kstamp(), [command, "--iface", &place.interface]);
        Self::spawn(&lab.scratch().unwrap(), &place.namespace, process, arguments)
    }

    /// Starts `kstamp reflect` at the second agent, for IPv4, and waits until it is attached.
    pub fn reflector(lab: &Lab, limit: Duration) -> Self {
        let reflector = Self::start(lab, lab.pair()[1], "reflect", "--family v4");
        reflector.await_start(limit);
        reflector
    }

    /// Starts `kstamp controller --format jsonl ARGUMENTS…` for the switches of a lab, with a tap at every port of a link.
    pub fn controller(lab: &Lab, arguments: &str) -> Self {
        let mut process = lab.command(SWITCHES, kstamp(), ["controller", "--listen", CONTROLLER]);
        for port in lab.topology().network().unwrap().ports() {
            process.args(["--tap", &port]);
        }
        Self::spawn(&lab.scratch().unwrap(), SWITCHES, process, arguments)
    }

    /// Runs `kstamp agent` at the first agent, which probes the second by unicast `count` times; it must end within `limit`.
    pub fn probe(lab: &Lab, interval: &str, count: u64, options: &str, limit: Duration) -> Finished {
        let [near, far] = lab.pair();
        let fixed = format!("--family v4 --no-group --peer {}", far.v4);
        let arguments = format!("{fixed} --interval {interval} --count {count} {options}");
        Self::start(lab, near, "agent", &arguments).wait(limit).assert_success()
    }

    /// Starts `process` with `--format jsonl ARGUMENTS…`; its output goes to files in `scratch`.
    pub fn spawn(scratch: &Path, namespace: &str, mut process: Command, arguments: &str) -> Self {
        let name = format!("{namespace}-{}", number());
        let (out, err) = (scratch.join(format!("{name}.out")), scratch.join(format!("{name}.err")));
        process.args(["--format", "jsonl"]).args(arguments.split_whitespace());
        process
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        Self {
            child: start(&mut process),
            out,
            err,
            name,
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end, for at most `limit`.
    pub fn wait(mut self, limit: Duration) -> Finished {
        let status = exec::wait_within(&mut self.child, limit).unwrap();
        let status = status.unwrap_or_else(|| panic!("{} did not end within {limit:?}: {}", self.name, self.stderr()));
        Finished {
            status,
            records: self.records(),
            stderr: self.stderr(),
        }
    }

    /// Sends SIGTERM and waits for its end.
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(if is_emulated() { 30 } else { 5 }))
    }

    /// The records that it has written so far.
    pub fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// Waits for its start record: it is attached or listens then.
    pub fn await_start(&self, limit: Duration) {
        self.await_record(limit, "start", |record| record["type"] == "start");
    }

    /// Waits for a record that is `wanted`, and returns it.
    pub fn await_record(&self, limit: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        loop {
            if let Some(record) = self.records().into_iter().find(&wanted) {
                return record;
            }
            assert!(
                Instant::now() < end,
                "{}: no {what} within {limit:?}; records: {:#?}; stderr: {}",
                self.name,
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

/// A number that no other agent of this process has.
fn number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A kstamp that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub records: Vec<Value>,
    pub stderr: String,
}

impl Finished {
    pub fn of_type(&self, kind: &str) -> Vec<&Value> {
        self.records.iter().filter(|record| record["type"] == kind).collect()
    }

    pub fn start(&self) -> &Value {
        self.of_type("start")
            .first()
            .copied()
            .unwrap_or_else(|| panic!("no start: {self:#?}"))
    }

    pub fn summary(&self, peer: &str, path: &str) -> &Value {
        let mut summaries = self.of_type("summary").into_iter();
        summaries
            .find(|summary| summary["peer"] == peer && summary["path"] == path)
            .unwrap_or_else(|| panic!("no summary of {peer} by {path}: {self:#?}"))
    }

    /// The final value of a counter.
    pub fn counter(&self, name: &str) -> u64 {
        self.of_type("counters")
            .last()
            .unwrap_or_else(|| panic!("no counters: {self:#?}"))[name]
            .as_u64()
            .unwrap()
    }

    /// Its exit status is success, and its records are consistent.
    pub fn assert_success(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self.assert_consistent();
        self
    }

    /// `sent = received + lost + pending` in every window and summary, losses of both directions add up to `lost`,
    /// windows add up to the summary, and no distribution has more samples than there were replies.
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

    /// Nothing was lost: on the wire, in the collector or in sending.
    pub fn assert_no_loss(&self, peer: &str, path: &str) {
        let summary = self.summary(peer, path);
        for field in ["lost", "late", "duplicates", "collector_lost", "send_failed", "pending"] {
            assert_eq!(count(summary, field), 0, "{field}: {summary:#}\n{}", self.stderr);
        }
    }
}

/// Runs two agents: the first for `seconds`, the second until the first has ended, which would count its end as loss.
pub fn run_both(lab: &Lab, seconds: u64, arguments: &str) -> [Finished; 2] {
    let start =
        |place, duration: u64| Agent::start(lab, place, "agent", &format!("{arguments} --duration {duration}s"));
    let [near, far] = lab.pair();
    let far = start(far, seconds + 20);
    let near = start(near, seconds).wait(Duration::from_secs(seconds + 12));
    [near, far.stop()].map(Finished::assert_success)
}

/// A delay that a lab adds, and what kstamp reports.
pub struct Delay {
    /// Peer, path, and field.
    pub what: String,
    /// Of the round trip 2, else 1.
    pub directions: f64,
    pub added_ms: f64,
    pub p50_ms: f64,
}

/// How much a reported delay may exceed the added one in each direction.
pub const TOLERANCE_MS: f64 = 1.0;

/// Round-trip and one-way delays that both agents report in [`Topology::Delay`], always in the same order.
pub fn delays(lab: &Lab, agents: &[Finished; 2]) -> Vec<Delay> {
    let [first, second] = lab.pair();
    let sides = [(&agents[0], second, 20.0, 30.0), (&agents[1], first, 30.0, 20.0)];
    let mut delays = Vec::new();
    for (agent, peer, forward_ms, backward_ms) in sides {
        for peer in [peer.v4.to_string(), peer.v6.to_string()] {
            for path in ["unicast", "group"] {
                let summary = agent.summary(&peer, path);
                for (field, directions, added_ms) in [
                    ("rtt_ns", 2.0, 50.0),
                    ("forward_ns", 1.0, forward_ms),
                    ("backward_ns", 1.0, backward_ms),
                ] {
                    delays.push(Delay {
                        what: format!("{peer} {path} {field}"),
                        directions,
                        added_ms,
                        p50_ms: ms(summary, field, "p50"),
                    });
                }
            }
        }
    }
    delays
}

/// Sets netem's options for frames of each direction of [`Topology::Delay`], seen from agent1.
pub fn set_netem(lab: &Lab, forward: &str, backward: &str) {
    // Frames from agent1 leave the line through port22.
    for (port, options) in [("port22", forward), ("port12", backward)] {
        let arguments = format!("qdisc replace dev {port} root netem limit 100000 {options}");
        run(&mut lab.command("agent3", "tc", arguments.split(' ')));
    }
}

pub fn count(record: &Value, field: &str) -> u64 {
    record[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no {field}: {record:#}"))
}

/// A quantile or moment of a distribution in a record, in milliseconds.
pub fn ms(record: &Value, distribution: &str, what: &str) -> f64 {
    let ns = record[distribution][what].as_i64();
    ns.unwrap_or_else(|| panic!("no {distribution}.{what}: {record:#}")) as f64 / 1e6
}

/// The round trips in ping's output, in milliseconds.
pub fn ping_rtts(text: &str) -> Vec<f64> {
    let rtt = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
    text.lines().filter_map(rtt).collect()
}
