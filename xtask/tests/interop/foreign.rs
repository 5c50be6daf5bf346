//! Programs of others in a lab: started, read, and ended.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::lab::{AgentNs, Lab};
use xtask::setup::{Foreign, ensure_foreign, ensure_stamp_suite};
use xtask::workspace;

use crate::support;

/// How long a program is given to do what it should.
const LIMIT: Duration = Duration::from_secs(20);

/// A process that ends with the test.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// `scripts/asyncio_agent.py` on the interface of `place`.
    pub fn older_agent(lab: &Lab, place: &AgentNs, group: &str, more: &[&str]) -> Self {
        let script = workspace::root().join("scripts/asyncio_agent.py");
        let script = script.to_str().unwrap();
        let mut command = lab.command(&place.namespace, "python3", [script, "--iface", &place.interface]);
        command.args(["--group", group]).args(more);
        let agent = Self::start(command);
        agent.await_port(1910);
        agent
    }

    /// Waits until it listens on a UDP port.
    fn await_port(&self, port: u16) {
        let begin = Instant::now();
        let wanted = format!(":{port:04X} ");
        let listens = || {
            ["udp", "udp6"].iter().any(|table| {
                let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.0.id()));
                table.is_ok_and(|table| table.contains(&wanted))
            })
        };
        while !listens() {
            assert!(begin.elapsed() < LIMIT, "nobody listens on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has printed, once it has ended by itself.
    pub fn finish(mut self) -> String {
        let begin = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < LIMIT, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut printed = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        printed
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether there is a Python; says so if not.
pub fn python() -> bool {
    let found = ensure_foreign(Foreign::Python);
    if let Err(error) = &found {
        println!("SKIPPED: python3 is missing: {error:#}");
    }
    found.is_ok()
}

/// stamp-suite, of crates.io.
pub struct StampSuite(PathBuf);

impl StampSuite {
    /// Where its reflectors listen.
    pub const PORT: u16 = 8620;
    /// How many probes its senders send.
    pub const COUNT: u64 = 20;

    /// It is built if it is not there; `None`, said, where no lab can be made or it cannot be had.
    pub fn obtain() -> Option<Self> {
        if !support::can_run() {
            return None;
        }
        match ensure_stamp_suite() {
            Ok(path) => Some(Self(path)),
            Err(error) => {
                println!("SKIPPED: stamp-suite is missing: {error:#}");
                None
            }
        }
    }

    /// A reflector at the far end that answers at `address`.
    pub fn reflector(&self, lab: &Lab, address: &str, more: &[&str]) -> Background {
        let place = &lab.agents()[1];
        let port = Self::PORT.to_string();
        let mut command = lab.command(&place.namespace, &self.0, ["-i", "-S", address, "-o", &port]);
        command.args(more);
        let reflector = Background::start(command);
        reflector.await_port(Self::PORT);
        reflector
    }

    /// A sender at the near end.
    pub fn sender(&self, lab: &Lab, to: &str, port: u16, more: &[&str]) -> Sender {
        let place = &lab.agents()[0];
        let any = if to.contains(':') { "::" } else { "0.0.0.0" };
        let mut command = lab.command(
            &place.namespace,
            &self.0,
            ["-r", to, "-S", any, "-p", &port.to_string()],
        );
        command.args([
            "-c",
            &Self::COUNT.to_string(),
            "-d",
            "5",
            "-L",
            "2",
            "--output-format",
            "json",
        ]);
        command.args(more);
        Sender(Background::start(command), format!("{to} {more:?}"))
    }
}

/// A sender of stamp-suite.
pub struct Sender(Background, String);

impl Sender {
    /// Its summary.
    pub fn finish(self) -> Report {
        let printed = self.0.finish();
        let summary = printed.lines().find(|line| line.starts_with(r#"{"type":"summary""#));
        let summary = summary.unwrap_or_else(|| panic!("{}: no summary: {printed}", self.1));
        Report(serde_json::from_str(summary).unwrap(), self.1)
    }
}

/// What a sender of stamp-suite has seen.
pub struct Report(Value, String);

impl Report {
    /// Nothing was lost, and no TLV came back with a flag.
    pub fn assert_all_came_back(&self) {
        let Self(report, what) = self;
        let counts = ["packets_sent", "packets_received", "packets_lost"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(counts, [StampSuite::COUNT, StampSuite::COUNT, 0], "{what}: {report:#}");
        let median_ms = report["median_rtt_ms"].as_f64().unwrap();
        // Its stamps are those of a process where the kernel's are late; the path takes microseconds.
        assert!((0.0..100.0).contains(&median_ms), "{what}: {report:#}");
        let tlvs = &report["measurements"]["tlv_validation"];
        for flag in ["unrecognized", "malformed", "integrity_failed"] {
            assert_eq!(tlvs["flags"][flag], 0, "{what}: {tlvs:#}");
        }
        assert_eq!(tlvs["rejected_replies"], 0, "{what}: {tlvs:#}");
    }
}

/// A finished `kstamp ping` of ten probes.
#[derive(Debug)]
pub struct Ping {
    records: Vec<Value>,
    status: Option<i32>,
    stderr: String,
}

impl Ping {
    /// Probes `to` from the near end.
    pub fn run(lab: &Lab, to: &str, port: u16, more: &str) -> Self {
        let place = &lab.agents()[0];
        let port = port.to_string();
        let arguments = ["ping", to, "-p", &port, "-c", "10", "-i", "10ms", "--format", "jsonl"];
        let mut command = lab.command(&place.namespace, support::kstamp(), arguments);
        let output = command.args(more.split_whitespace()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Self {
            records: text
                .lines()
                .map(|line| serde_json::from_str(line).expect(line))
                .collect(),
            status: output.status.code(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn samples(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.records.iter().filter(|record| record["type"] == "sample")
    }

    fn summary(&self) -> &Value {
        self.records.last().unwrap()
    }

    /// Nothing was lost.
    pub fn assert_all_came_back(&self) {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{self:#?}");
        let counts = ["sent", "received", "lost", "duplicates"].map(|name| support::count(self.summary(), name));
        assert_eq!(counts, [10, 10, 0, 0], "{self:#?}");
        let forged = self.samples().filter(|sample| sample["reply"]["tlvs_forged"] == true);
        assert_eq!(forged.count(), 0, "{self:#?}");
    }

    /// Median round trip.
    pub fn median_ns(&self) -> u64 {
        self.summary()["rtt_ns"]["p50"].as_u64().unwrap()
    }

    /// Flags of each TLV of the last reply.
    pub fn flags_of_last(&self) -> Vec<&str> {
        let last = self.samples().next_back().unwrap();
        let tlvs = last["reply"]["tlvs"].as_array().unwrap();
        tlvs.iter().map(|tlv| tlv["flags"].as_str().unwrap()).collect()
    }

    /// T1 and T3 of each probe.
    fn stamps(&self) -> Vec<[u64; 2]> {
        self.samples()
            .map(|sample| ["t1_ns", "t3_ns"].map(|name| sample[name].as_u64().unwrap()))
            .collect()
    }
}

/// tshark, listening at the near end.
pub struct Capture(Background);

/// Packets of a [`Ping`] and its replies.
const PACKETS: usize = 20;

impl Capture {
    /// Begins to capture on the interface of `place`.
    pub fn start(lab: &Lab, place: &AgentNs) -> Self {
        let arguments = [
            "-i",
            &place.interface,
            "-l",
            "-n",
            "-f",
            "udp port 1910",
            "-d",
            "udp.port==1910,twamp.test",
        ];
        let mut command = lab.command(&place.namespace, "tshark", arguments);
        command.args([
            "-c",
            &PACKETS.to_string(),
            "-a",
            "duration:15",
            "-t",
            "u",
            "-T",
            "fields",
        ]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        let mut capture = Background::start(command);
        // It says so once its capture runs.
        let mut said = Vec::new();
        let stderr = capture.0.stderr.as_mut().unwrap();
        let mut byte = [0];
        while !String::from_utf8_lossy(&said).contains("Capturing on") {
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        // The line comes just before the socket is open.
        std::thread::sleep(Duration::from_millis(500));
        Self(capture)
    }

    /// Each probe and each reply has the right numbers and stamps.
    pub fn assert_decoded(self, ping: &Ping) {
        let printed = self.0.finish();
        let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(rows.len(), PACKETS, "{printed}");
        let (probes, replies): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row[0] == "1910");
        let stamps = ping.stamps();
        for (number, probe) in probes.iter().enumerate() {
            assert_eq!(probe[1], number.to_string(), "{printed}");
            assert!(is_at(probe[2], stamps[number][0]), "{probe:?} {:?}", stamps[number]);
        }
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(
                (reply[1], reply[3]),
                (&*number.to_string(), &*number.to_string()),
                "{printed}"
            );
            assert!(is_at(reply[2], stamps[number][1]), "{reply:?} {:?}", stamps[number]);
            assert!(is_at(reply[4], stamps[number][0]), "{reply:?} {:?}", stamps[number]);
        }
    }
}

/// What is read of each packet.
const FIELDS: [&str; 5] = [
    "udp.dstport",
    "twamp.test.seq_number",
    "twamp.test.timestamp",
    "twamp.test.sender_seq_number",
    "twamp.test.sender_timestamp",
];

/// Whether tshark's `Nov 21, 2026 15:30:47.123456789 UTC` is this time of the day, within NTP's resolution twice rounded.
fn is_at(text: &str, unix_ns: u64) -> bool {
    const DAY_NS: u64 = 86_400_000_000_000;
    let time = text.split_whitespace().find(|word| word.contains(':'));
    let parts: Vec<&str> = time
        .unwrap_or_else(|| panic!("no time in {text}"))
        .split([':', '.'])
        .collect();
    let [hours, minutes, seconds, ns] = parts
        .iter()
        .map(|part| part.parse::<u64>().unwrap())
        .collect::<Vec<_>>()[..]
    else {
        panic!("{text}")
    };
    let day_ns = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + ns;
    day_ns.abs_diff(unix_ns % DAY_NS) <= 2
}
