//! Other programs in a lab.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use xtask::exec::{self, KillOnDrop};
use xtask::lab::{AgentNs, Lab};
use xtask::setup::ensure_stamp_suite_for_tests;
use xtask::workspace;

use crate::support;

const LIMIT: Duration = Duration::from_secs(20);

/// A process that ends with the test.
#[derive(Debug)]
pub struct Background(KillOnDrop);

impl Background {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(support::start(&mut command))
    }

    /// `scripts/asyncio_agent.py` on the interface of `place`.
    pub fn legacy_agent(lab: &Lab, place: &AgentNs, group: &str, more: &[&str]) -> Self {
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
        let wanted = format!(":{port:04X} ");
        let listens = || {
            ["udp", "udp6"].iter().any(|table| {
                let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.0.id()));
                table.is_ok_and(|table| table.contains(&wanted))
            })
        };
        assert!(exec::wait_until(LIMIT, listens), "nothing listens on port {port}");
    }

    /// Waits until it ends by itself, and returns what it printed.
    pub fn finish(mut self) -> String {
        let status = exec::wait_within(&mut self.0, LIMIT).unwrap();
        assert!(status.is_some(), "it does not end");
        let mut printed = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        printed
    }
}

/// stamp-suite, of crates.io.
pub struct StampSuite(PathBuf);

impl StampSuite {
    /// Of its reflectors.
    pub const PORT: u16 = 8620;
    /// Probes of each sender.
    pub const COUNT: u64 = 20;

    /// Builds it if it is missing; `None` if no lab or no stamp-suite can be had.
    pub fn obtain() -> Option<Self> {
        if !support::can_run() {
            return None;
        }
        match ensure_stamp_suite_for_tests() {
            Ok(path) => Some(Self(path)),
            Err(error) => {
                println!("SKIPPED: stamp-suite is missing: {error:#}");
                None
            }
        }
    }

    /// A reflector at the far end that answers at `address`.
    pub fn reflector(&self, lab: &Lab, address: &str, more: &[&str]) -> Background {
        let [_, place] = lab.pair();
        let port = Self::PORT.to_string();
        let mut command = lab.command(&place.namespace, &self.0, ["-i", "-S", address, "-o", &port]);
        command.args(more);
        let reflector = Background::start(command);
        reflector.await_port(Self::PORT);
        reflector
    }

    /// A sender at the near end.
    pub fn sender(&self, lab: &Lab, to: &str, port: u16, more: &[&str]) -> Sender {
        let [place, _] = lab.pair();
        let any = if to.contains(':') { "::" } else { "0.0.0.0" };
        let mut command = lab.command(
            &place.namespace,
            &self.0,
            ["-r", to, "-S", any, "-p", &port.to_string()],
        );
        command.args(["-c", &Self::COUNT.to_string()]);
        command
            .args(["-d", "5", "-L", "2", "--output-format", "json"])
            .args(more);
        Sender(Background::start(command), format!("{to} {more:?}"))
    }
}

/// A sender of stamp-suite, and its arguments.
pub struct Sender(Background, String);

impl Sender {
    pub fn finish(self) -> Report {
        let printed = self.0.finish();
        let summary = printed.lines().find(|line| line.starts_with(r#"{"type":"summary""#));
        let summary = summary.unwrap_or_else(|| panic!("{}: no summary: {printed}", self.1));
        Report(serde_json::from_str(summary).unwrap(), self.1)
    }
}

/// The summary of a sender of stamp-suite, and its arguments.
pub struct Report(Value, String);

impl Report {
    /// Nothing was lost, and no TLV came back with a flag.
    pub fn assert_all_came_back(&self) {
        let Self(report, arguments) = self;
        let counts = ["packets_sent", "packets_received", "packets_lost"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(
            counts,
            [StampSuite::COUNT, StampSuite::COUNT, 0],
            "{arguments}: {report:#}"
        );
        let median_ms = report["median_rtt_ms"].as_f64().unwrap();
        // Where the kernel's stamps are late it uses its own.
        assert!((0.0..100.0).contains(&median_ms), "{arguments}: {report:#}");
        let tlvs = &report["measurements"]["tlv_validation"];
        for flag in ["unrecognized", "malformed", "integrity_failed"] {
            assert_eq!(tlvs["flags"][flag], 0, "{arguments}: {tlvs:#}");
        }
        assert_eq!(tlvs["rejected_replies"], 0, "{arguments}: {tlvs:#}");
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
        let [place, _] = lab.pair();
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

/// tshark, capturing at the near end.
pub struct Capture(Background);

/// Packets of a [`Ping`] and its replies.
const PACKETS: usize = 20;

impl Capture {
    /// Captures on the interface of `place`.
    pub fn start(lab: &Lab, place: &AgentNs) -> Self {
        let mut command = lab.command(&place.namespace, "tshark", ["-i", &place.interface, "-l", "-n"]);
        command.args(["-f", "udp port 1910", "-d", "udp.port==1910,twamp.test"]);
        command.args(["-c", &PACKETS.to_string(), "-a", "duration:15"]);
        command.args(["-t", "u", "-T", "fields"]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        let mut capture = Background::start(command);
        let mut printed = Vec::new();
        let stderr = capture.0.stderr.as_mut().unwrap();
        let mut byte = [0];
        while !String::from_utf8_lossy(&printed).contains("Capturing on") {
            let length = stderr.read(&mut byte).unwrap();
            assert_eq!(length, 1, "{}", String::from_utf8_lossy(&printed));
            printed.push(byte[0]);
        }
        // It prints the line just before it opens its socket.
        std::thread::sleep(Duration::from_millis(500));
        Self(capture)
    }

    /// Each probe and each reply has the right sequence numbers and stamps.
    pub fn assert_decoded(self, ping: &Ping) {
        let printed = self.0.finish();
        let rows: Vec<Vec<&str>> = printed.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(rows.len(), PACKETS, "{printed}");
        let (probes, replies): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row[0] == "1910");
        let stamps = ping.stamps();
        assert_eq!([probes.len(), replies.len()], [stamps.len(); 2], "{printed}");
        for (number, ((probe, reply), [t1_ns, t3_ns])) in (0..).zip(probes.iter().zip(&replies).zip(stamps)) {
            let number: u32 = number;
            assert_eq!([probe[1], reply[1], reply[3]], [&*number.to_string(); 3], "{printed}");
            for (text, ns) in [(probe[2], t1_ns), (reply[2], t3_ns), (reply[4], t1_ns)] {
                assert!(is_at(text, ns), "{text} is not {ns}: {probe:?} {reply:?}");
            }
        }
    }
}

/// The fields that tshark prints of each packet.
const FIELDS: [&str; 5] = [
    "udp.dstport",
    "twamp.test.seq_number",
    "twamp.test.timestamp",
    "twamp.test.sender_seq_number",
    "twamp.test.sender_timestamp",
];

/// Whether tshark's `Nov 21, 2026 15:30:47.123456789 UTC` is this time of the day, within 2 ns of NTP rounding.
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
