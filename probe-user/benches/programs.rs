//! What the kernel programs cost a packet, in nanoseconds, beside an empty program in the same run.
//!
//! `cargo bench -p probe-user --bench programs [-- --json FILE]`, as root.
//!
//! Every subject runs in every round, one after the other, so that whatever disturbs the machine disturbs all of them.
//! A figure is a difference within a round; printed are the median and the least over the rounds.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, HashMap, Map, PerCpuArray, RingBuf};
use aya::programs::{Program, TestRun as _, TestRunOptions, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use etherparse::PacketBuilder;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use probe_common::abi::{
    ABI_VERSION, Address, COUNTER_NAMES, Counter, DESTINATION_OWN, InFlight, InFlightKey, Settings,
};
use probe_common::ntp::ErrorEstimate;
use probe_common::reflect::V6_FRAME;
use probe_common::stamp;
use probe_user::engine::ebpf::object::{EGRESS, INGRESS, Object, XDP};
use serde_json::json;

const ROUNDS: usize = 21;
/// Packets per subject and round: some milliseconds each, and no more replies than the ring buffer holds.
const REPEAT: u32 = 40_000;
/// Single runs for the cross-check.
const SINGLES: usize = 4_000;

const TEST_PORT: u16 = 1910;
const SENDER_PORT: u16 = 40_000;
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 6];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
const OWN_V4: [u8; 4] = [10, 1, 1, 6];
const PEER_V4: [u8; 4] = [10, 1, 1, 5];
const OWN_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
const PEER_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];

const REFLECT_LIMIT_NS: f64 = 200.0;
const BYSTANDER_LIMIT_NS: f64 = 10.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let json = json_file()?;
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return Ok(());
    }
    stay_on_one_cpu()?;
    let mut bench = Bench::new()?;
    let rounds = bench.rounds()?;
    let singles = bench.singles()?;
    let report = Report::new(&bench.subjects, &rounds, &singles);
    report.print();
    if let Some((path, mut file)) = json {
        writeln!(file, "{:#}", report.json()).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// The file behind `--json`, created before anything is measured. `cargo bench` itself adds `--bench`.
fn json_file() -> Result<Option<(String, File)>> {
    let mut file = None;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--json", Some(path)) => {
                let created = File::create(&path).with_context(|| format!("cannot create {path}"))?;
                file = Some((path, created));
            }
            _ => bail!("usage: cargo bench --bench programs [-- --json FILE]"),
        }
    }
    Ok(file)
}

fn stay_on_one_cpu() -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .context("no CPU")?;
    let mut only = CpuSet::new();
    only.set(last)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}

/// Which object a program is in.
#[derive(Debug, Clone, Copy)]
enum In {
    /// The one that `kstamp` loads.
    Kstamp,
    /// `kstamp-bench-programs`.
    Bench,
}

/// One program on one packet.
struct Subject {
    name: &'static str,
    program: (In, &'static str),
    frame: Vec<u8>,
    /// The verdict, and the counter that every pass must add to.
    expected: (i32, Option<Counter>),
    /// The subject that does everything but what is to be measured.
    baseline: &'static str,
    /// Above the baseline, in nanoseconds.
    limit_ns: Option<f64>,
}

const EMPTY_XDP: &str = "empty XDP";
const EMPTY_TC: &str = "empty TC";
const PASS: i32 = 2;
const DROP: i32 = 1;
const TX: i32 = 3;
const UNSPEC: i32 = -1;

fn subjects() -> Result<Vec<Subject>> {
    let probe_v4 = v4(PEER_V4, OWN_V4, (SENDER_PORT, TEST_PORT), &probe())?;
    let probe_v6 = v6((SENDER_PORT, TEST_PORT), &probe())?;
    let own_probe = v4(
        OWN_V4,
        PEER_V4,
        (SENDER_PORT, TEST_PORT),
        &stamp::probe(1, ErrorEstimate(1), 2),
    )?;
    let reply = v4(PEER_V4, OWN_V4, (TEST_PORT, SENDER_PORT), &reply())?;
    let mut tcp = Vec::new();
    PacketBuilder::ethernet2(PEER_MAC, OWN_MAC)
        .ipv4(PEER_V4, OWN_V4, 64)
        .tcp(443, 50_000, 1, 1000)
        .write(&mut tcp, &[0; 512])?;
    let udp_v4 = v4(PEER_V4, OWN_V4, (443, 50_000), &[0; 512])?;
    let udp_v6 = v6((443, 50_000), &[0; 512])?;
    let mut arp = probe_v4.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);

    let bench = |name, program, frame: &[u8], verdict, counter, baseline| Subject {
        name,
        program: (In::Bench, program),
        frame: frame.to_vec(),
        expected: (verdict, counter),
        baseline,
        limit_ns: None,
    };
    let kstamp = |name, program, frame: &[u8], verdict, counter, baseline| Subject {
        program: (In::Kstamp, program),
        ..bench(name, program, frame, verdict, counter, baseline)
    };
    let bystander = |name, program, frame: &[u8], verdict, baseline| Subject {
        limit_ns: Some(BYSTANDER_LIMIT_NS),
        ..kstamp(name, program, frame, verdict, None, baseline)
    };
    let reflector = |subject: Subject| Subject {
        limit_ns: Some(REFLECT_LIMIT_NS),
        ..subject
    };
    Ok(vec![
        bench(EMPTY_XDP, "empty_xdp", &tcp, PASS, None, EMPTY_XDP),
        bench(EMPTY_TC, "empty_tc", &tcp, UNSPEC, None, EMPTY_TC),
        bench("clock, monotonic", "clock_monotonic", &tcp, PASS, None, EMPTY_XDP),
        bench("clock, TAI", "clock_tai", &tcp, PASS, None, EMPTY_XDP),
        bystander("bystander TCP v4", XDP, &tcp, PASS, EMPTY_XDP),
        bystander("bystander UDP v4", XDP, &udp_v4, PASS, EMPTY_XDP),
        bystander("bystander UDP v6", XDP, &udp_v6, PASS, EMPTY_XDP),
        bystander("bystander ARP", XDP, &arp, PASS, EMPTY_XDP),
        bystander("bystander TCP v4, TC ingress", INGRESS, &tcp, UNSPEC, EMPTY_TC),
        bystander("bystander UDP v4, TC ingress", INGRESS, &udp_v4, UNSPEC, EMPTY_TC),
        bystander("bystander TCP v4, TC egress", EGRESS, &tcp, UNSPEC, EMPTY_TC),
        bystander("bystander UDP v4, TC egress", EGRESS, &udp_v4, UNSPEC, EMPTY_TC),
        bench("restore v4", "restore", &probe_v4, PASS, None, EMPTY_XDP),
        reflector(bench(
            "reflect v4",
            "restore_and_receive",
            &probe_v4,
            TX,
            Some(Counter::Reflected),
            "restore v4",
        )),
        bench("restore v6", "restore", &probe_v6, PASS, None, EMPTY_XDP),
        reflector(bench(
            "reflect v6",
            "restore_and_receive",
            &probe_v6,
            TX,
            Some(Counter::Reflected),
            "restore v6",
        )),
        kstamp("collect v4", XDP, &reply, DROP, Some(Counter::Collected), EMPTY_XDP),
        kstamp(
            "stamp v4, one probe",
            EGRESS,
            &own_probe,
            UNSPEC,
            Some(Counter::EgressStamped),
            EMPTY_TC,
        ),
        bench("next v4", "next", &own_probe, UNSPEC, None, EMPTY_TC),
        bench(
            "stamp v4, ever new probes",
            "next_and_stamp",
            &own_probe,
            UNSPEC,
            Some(Counter::EgressStamped),
            "next v4",
        ),
    ])
}

fn probe() -> [u8; stamp::BASE_LEN] {
    stamp::probe(1, ErrorEstimate(1), 1)
}

/// A reply to the probe that [`Bench::new`] puts in flight.
fn reply() -> [u8; stamp::BASE_LEN] {
    let mut reply = probe();
    reply[stamp::SENDER_SEQUENCE..][..4].copy_from_slice(&1_u32.to_be_bytes());
    reply[stamp::SENDER_TIMESTAMP..][..8].copy_from_slice(&1_u64.to_be_bytes());
    reply
}

fn v4(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC).ipv4(source, destination, 64);
    ip.udp(ports.0, ports.1).write(&mut frame, payload)?;
    Ok(frame)
}

fn v6(ports: (u16, u16), payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC).ipv6(PEER_V6, OWN_V6, 64);
    ip.udp(ports.0, ports.1).write(&mut frame, payload)?;
    Ok(frame)
}

/// Both objects, loaded and set up alike.
struct Bench {
    kstamp: Object,
    bench: Ebpf,
    samples: RingBuf<aya::maps::MapData>,
    subjects: Vec<Subject>,
}

impl Bench {
    fn new() -> Result<Self> {
        let mut kstamp = Object::load(0)?;
        let samples = kstamp.take_samples()?;
        let mut bench = Self {
            kstamp,
            bench: load_bench()?,
            samples,
            subjects: subjects()?,
        };
        for ebpf in [bench.kstamp.ebpf_mut(), &mut bench.bench] {
            let mut settings: Array<_, Settings> = map(ebpf, "SETTINGS")?;
            settings.set(0, settings_of_bench(), 0)?;
            let mut destinations: HashMap<_, Address, u32> = map(ebpf, "DESTINATIONS")?;
            destinations.insert(Address::from_v4(OWN_V4), DESTINATION_OWN, 0)?;
            destinations.insert(Address::from_bytes(OWN_V6), DESTINATION_OWN, 0)?;
        }
        let sent = InFlight {
            t1_mono_ns: 1,
            t1_wire: 1,
            destination: Address::from_v4(PEER_V4),
        };
        bench.kstamp.in_flight()?.insert(
            InFlightKey {
                seq: 1,
                ssid: 1,
                reserved: 0,
            },
            sent,
            0,
        )?;
        Ok(bench)
    }

    /// Nanoseconds per packet, by subject and round.
    fn rounds(&mut self) -> Result<Vec<Vec<f64>>> {
        let mut figures = vec![Vec::with_capacity(ROUNDS); self.subjects.len()];
        for round in 0..=ROUNDS {
            for (index, of_subject) in figures.iter_mut().enumerate() {
                let ns = self.measure(index)?;
                // The first round warms caches, branch predictors and the clock frequency.
                if round > 0 {
                    of_subject.push(ns);
                }
            }
        }
        Ok(figures)
    }

    /// One batch, proven to have gone the intended way on every pass.
    fn measure(&mut self, index: usize) -> Result<f64> {
        let Subject {
            name,
            program,
            expected: (verdict, counter),
            ..
        } = self.subjects[index];
        if name.starts_with("reflect") || name.starts_with("restore") {
            let mut original = [0; V6_FRAME];
            let frame = &self.subjects[index].frame;
            original[..frame.len()].copy_from_slice(frame);
            let mut map: Array<_, [u8; V6_FRAME]> = map(&mut self.bench, "ORIGINAL")?;
            map.set(0, original, 0)?;
        }
        let before = self.counters(program.0)?;
        let start = cpu_ns()?;
        let result = self.run(index, REPEAT)?;
        let ns = cpu_ns()? - start;
        let after = self.counters(program.0)?;
        let changed = COUNTER_NAMES
            .iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after);
        for (counted, (before, after)) in changed {
            let expected = counter.is_some_and(|counter| COUNTER_NAMES[counter as usize] == *counted);
            let started = *counted == COUNTER_NAMES[Counter::SessionStarted as usize];
            ensure!(
                expected || started,
                "{name}: {} passes were counted as {counted}",
                after - before
            );
        }
        if let Some(counter) = counter {
            let counted = after[counter as usize] - before[counter as usize];
            ensure!(
                counted == u64::from(REPEAT),
                "{name}: only {counted} of {REPEAT} passes took the path"
            );
        }
        let got = result.return_value as i32;
        ensure!(got == verdict, "{name}: verdict {got}, not {verdict}");
        while self.samples.next().is_some() {}
        Ok(ns as f64 / f64::from(REPEAT))
    }

    /// The kernel's own timing of single runs on fresh packets, by program: the empty one, and the real `kstamp_xdp`.
    fn singles(&mut self) -> Result<Singles> {
        let find = |name: &str| self.subjects.iter().position(|subject| subject.name == name);
        let (Some(empty), Some(v4), Some(v6)) = (find(EMPTY_XDP), find("reflect v4"), find("reflect v6")) else {
            bail!("a subject is missing")
        };
        let subjects = [
            (In::Bench, "empty_xdp", empty),
            (In::Kstamp, XDP, v4),
            (In::Kstamp, XDP, v6),
        ];
        let mut figures = [const { Vec::new() }; 3];
        for _ in 0..SINGLES {
            for (of_subject, (object, program, subject)) in figures.iter_mut().zip(subjects) {
                let frame = std::mem::take(&mut self.subjects[subject].frame);
                let result = test_run(self.object(object), program, &frame, 1);
                self.subjects[subject].frame = frame;
                of_subject.push(result?.duration.as_nanos() as f64);
            }
        }
        let [empty, v4, v6] = figures.map(|figures| median(&figures));
        Ok(Singles {
            empty,
            v4: v4 - empty,
            v6: v6 - empty,
        })
    }

    fn run(&mut self, index: usize, repeat: u32) -> Result<TestRunResult> {
        let (object, program) = self.subjects[index].program;
        let frame = std::mem::take(&mut self.subjects[index].frame);
        let result = test_run(self.object(object), program, &frame, repeat);
        self.subjects[index].frame = frame;
        result
    }

    fn counters(&mut self, object: In) -> Result<Vec<u64>> {
        let counts: PerCpuArray<_, u64> = map(self.object(object), "COUNTS")?;
        let sum = |index| Ok(counts.get(&index, 0)?.iter().sum());
        (0..COUNTER_NAMES.len() as u32).map(sum).collect()
    }

    fn object(&mut self, object: In) -> &mut Ebpf {
        match object {
            In::Kstamp => self.kstamp.ebpf_mut(),
            In::Bench => &mut self.bench,
        }
    }
}

/// Medians of the repeat=1 measurement.
struct Singles {
    empty: f64,
    /// Above the empty program.
    v4: f64,
    v6: f64,
}

fn settings_of_bench() -> Settings {
    Settings {
        abi_version: ABI_VERSION,
        interface: 1,
        tai_offset_ns: 37_000_000_000,
        test_port: TEST_PORT,
        sender_port_v4: SENDER_PORT,
        sender_port_v6: SENDER_PORT,
        error_estimate: 1,
        mac: OWN_MAC,
        partial_checksums: 0,
        ingress_is_second: 0,
        own_v4: Address::from_v4(OWN_V4),
        own_v6: Address::from_bytes(OWN_V6),
        own_v6_link_local: Address::NONE,
    }
}

/// Read when it is needed, so that the crate also builds where the eBPF build is skipped.
fn load_bench() -> Result<Ebpf> {
    const PATH: &str = concat!(env!("OUT_DIR"), "/kstamp-bench-programs");
    let bytes = fs::read(PATH).with_context(|| format!("cannot read {PATH}; was the eBPF build skipped?"))?;
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &0_u8, false);
    let mut ebpf = loader.load(&bytes)?;
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => bail!("{name} is of no expected type"),
        };
        loaded.with_context(|| format!("cannot load {name}"))?;
    }
    Ok(ebpf)
}

fn map<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<&'a mut Map, Error = aya::maps::MapError>,
{
    Ok(M::try_from(
        ebpf.map_mut(name).with_context(|| format!("no map {name}"))?,
    )?)
}

fn test_run(ebpf: &mut Ebpf, program: &str, frame: &[u8], repeat: u32) -> Result<TestRunResult> {
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat,
        ..TestRunOptions::new()
    };
    let result = match ebpf
        .program_mut(program)
        .with_context(|| format!("no program {program}"))?
    {
        Program::Xdp(program) => program.test_run(options),
        Program::SchedClassifier(program) => program.test_run(options),
        _ => bail!("{program} is of no expected type"),
    };
    result.with_context(|| format!("cannot run {program}"))
}

/// CPU time of this thread: what others do on the machine meanwhile does not count.
fn cpu_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// One subject's figures, in nanoseconds per packet.
struct Row {
    name: &'static str,
    median: f64,
    min: f64,
    baseline: &'static str,
    above: f64,
    /// Of `above` and the empty program of the same hook, over the empty program.
    ratio: f64,
    limit: Option<f64>,
}

struct Report {
    rows: Vec<Row>,
    singles: [(&'static str, f64); 3],
}

impl Report {
    fn new(subjects: &[Subject], rounds: &[Vec<f64>], singles: &Singles) -> Self {
        let of = |name: &str| {
            let index = subjects
                .iter()
                .position(|subject| subject.name == name)
                .unwrap_or_default();
            &rounds[index]
        };
        let row = |(subject, figures): (&Subject, &Vec<f64>)| {
            let differences: Vec<f64> = figures.iter().zip(of(subject.baseline)).map(|(a, b)| a - b).collect();
            let is_tc = matches!(subject.expected.0, UNSPEC);
            let empty = median(of(if is_tc { EMPTY_TC } else { EMPTY_XDP }));
            let above = median(&differences);
            Row {
                name: subject.name,
                median: median(figures),
                min: figures.iter().copied().fold(f64::INFINITY, f64::min),
                baseline: subject.baseline,
                above,
                ratio: (empty + above) / empty,
                limit: subject.limit_ns,
            }
        };
        Self {
            rows: subjects.iter().zip(rounds).map(row).collect(),
            singles: [
                ("empty XDP", singles.empty),
                ("reflect v4, above empty", singles.v4),
                ("reflect v6, above empty", singles.v6),
            ],
        }
    }

    fn print(&self) {
        println!("ns per packet, {ROUNDS} rounds of {REPEAT} packets, CPU time of BPF_PROG_TEST_RUN");
        println!(
            "{:30} {:>8} {:>8} {:>8}  {:14} {:>9}  target",
            "", "median", "min", "above", "baseline", "x empty"
        );
        for row in &self.rows {
            let target = row.limit.map_or(String::new(), |limit| {
                format!("<= {limit:.0}: {}", if row.above <= limit { "met" } else { "MISSED" })
            });
            println!(
                "{:30} {:8.1} {:8.1} {:8.1}  {:14} {:9.1}  {target}",
                row.name, row.median, row.min, row.above, row.baseline, row.ratio
            );
        }
        println!("\nCross-check: the kernel's timing of {SINGLES} single runs of kstamp_xdp on fresh packets, median");
        for (name, ns) in self.singles {
            println!("{name:30} {ns:8.1}");
        }
    }

    fn json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "median_ns": row.median,
                "min_ns": row.min,
                "baseline": row.baseline,
                "above_baseline_ns": row.above,
                "ratio_to_empty": row.ratio,
                "limit_ns": row.limit,
                "met": row.limit.map(|limit| row.above <= limit),
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let singles: Vec<_> = self
            .singles
            .iter()
            .map(|(name, ns)| json!({ "name": name, "median_ns": ns }))
            .collect();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        json!({
            "kernel": kernel.trim(),
            "rounds": ROUNDS,
            "packets_per_round": REPEAT,
            "programs": rows,
            "single_runs": singles,
        })
    }
}
