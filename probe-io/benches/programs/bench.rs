//! Runs every subject in every round, on objects that are loaded and set up alike.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, TestRun as _, TestRunOptions, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use probe_common::abi::{
    ABI_VERSION, ALLOWED_V4, ALLOWED_V6, Address, Allowed, COUNTER_NAMES, Counter, DESTINATION_OWN, InFlight,
    InFlightRecord, Limit, SessionRing, Settings,
};
use probe_common::compare;
use probe_common::frame::{ETHERNET_LEN, IPV4_LEN, UDP_LEN};
use probe_common::hops::HopSettings;
use probe_common::reflect::V6_FRAME;
use probe_core::rings::Rings;
use probe_io::backend::ebpf::object::{Object, XDP};
use probe_io::compare::watch::Watch;

use crate::figures::{REPEAT, ROUNDS, SINGLES, Singles, median};
use crate::subject::{
    EMPTY_XDP, In, OWN_MAC, OWN_V4, OWN_V6, PEER_V4, PEER_V6, PROBE_SSID, REPLY_SSID, RESPONDER_PORT, SENDER_PORT,
    Subject, TEST_PORT, WATCH_IN, WATCH_OUT, WATCHED_PORT, subjects,
};

/// The objects; the two that reflect are set up alike.
pub(crate) struct Bench {
    kstamp: Object,
    bench: Ebpf,
    watch: Watch,
    hops: Ebpf,
    samples: RingBuf<MapData>,
    hop_records: RingBuf<MapData>,
    pub(crate) subjects: Vec<Subject>,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        let mut kstamp = Object::load(0, Rings::ONE)?;
        let samples = kstamp.take_samples()?;
        let mut hops = load_hops()?;
        let hop_records = RingBuf::try_from(hops.take_map("HOP_RECORDS").context("no map HOP_RECORDS")?)?;
        let mut bench = Self {
            kstamp,
            bench: load_bench()?,
            // The responder's port as well, so that each of the two programs recognises the probes.
            watch: Watch::load(WATCHED_PORT, [RESPONDER_PORT; 2])?,
            hops,
            samples,
            hop_records,
            subjects: subjects()?,
        };
        for ebpf in [bench.kstamp.ebpf_mut(), &mut bench.bench] {
            let mut rings: Array<_, SessionRing> = map(ebpf, "SESSION_RINGS")?;
            for (place, ssid) in (0..).zip([REPLY_SSID, PROBE_SSID]) {
                rings.set(ssid.into(), SessionRing::new(place * (RING_MASK + 1), 1), 0)?;
            }
            let mut settings: Array<_, Settings> = map(ebpf, "SETTINGS")?;
            settings.set(0, settings_of_bench(), 0)?;
            let mut destinations: HashMap<_, Address, u32> = map(ebpf, "DESTINATIONS")?;
            destinations.insert(Address::from_v4(OWN_V4), DESTINATION_OWN, 0)?;
            destinations.insert(Address::from_bytes(OWN_V6), DESTINATION_OWN, 0)?;
            let mut allowed: LpmTrie<_, Address, Allowed> = map(ebpf, "ALLOWED")?;
            for (length, source, own, kind) in [
                (96 + 24, Address::from_v4(PEER_V4), Address::from_v4(OWN_V4), ALLOWED_V4),
                (
                    64,
                    Address::from_bytes(PEER_V6),
                    Address::from_bytes(OWN_V6),
                    ALLOWED_V6,
                ),
            ] {
                allowed.insert(&Key::new(length, source), Allowed { own, kind, reserved: 0 }, 0)?;
            }
        }
        let sent = InFlight {
            t1_mono_ns: 1,
            t1_wire: 1,
            destination: Address::from_v4(PEER_V4),
            replies: 0,
            reserved: 0,
        };
        let (index, id) = SessionRing::new(0, 1).record(1, RING_MASK).context("no ring")?;
        bench.kstamp.in_flight()?.set(index, InFlightRecord { id, sent }, 0)?;
        bench.check_stamps()?;
        Ok(bench)
    }

    /// The watching programs have no counters: one run of each shows that it stamps the right packets only.
    fn check_stamps(&mut self) -> Result<()> {
        for index in 0..self.subjects.len() {
            let Subject { name, program, .. } = self.subjects[index];
            if !matches!(program.0, In::Watch) {
                continue;
            }
            let mut out = vec![0; self.subjects[index].frame.len()];
            self.run(index, 1, Some(&mut out))?;
            let payload = &out[ETHERNET_LEN + IPV4_LEN + UDP_LEN..];
            let stamped = |at| compare::stamp(payload, at).is_some();
            let (out, into) = (stamped(compare::NEAR_EGRESS), stamped(compare::FAR_INGRESS));
            ensure!(
                (out, into) == (name == WATCH_OUT, name == WATCH_IN),
                "{name}: stamped at egress: {out}, at ingress: {into}"
            );
        }
        Ok(())
    }

    /// Nanoseconds per packet, by subject and round.
    pub(crate) fn rounds(&mut self) -> Result<Vec<Vec<f64>>> {
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

    /// One batch. Counters prove that every pass took the intended path.
    pub(crate) fn measure(&mut self, index: usize) -> Result<f64> {
        let Subject {
            name,
            program,
            expected: (verdict, counter),
            gives_hop,
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
        let result = self.run(index, REPEAT, None)?;
        let ns = cpu_ns()? - start;
        let after = self.counters(program.0)?;
        let changed = COUNTER_NAMES
            .iter()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after);
        for (counted, (before, after)) in changed {
            let expected = counter.is_some_and(|counter| COUNTER_NAMES[counter as usize] == *counted);
            let beside = [Counter::SessionStarted, Counter::SourceStarted, Counter::Padded];
            let started = beside.iter().any(|&beside| *counted == COUNTER_NAMES[beside as usize]);
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
        let hops = std::iter::from_fn(|| self.hop_records.next().map(drop)).count();
        ensure!(
            hops == if gives_hop { REPEAT as usize } else { 0 },
            "{name}: {hops} hop records of {REPEAT} passes"
        );
        Ok(ns as f64 / f64::from(REPEAT))
    }

    /// The kernel's own timing of single runs on fresh packets, by program: the empty one, and the real `kstamp_xdp`.
    pub(crate) fn singles(&mut self) -> Result<Singles> {
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
                let result = test_run(self.object(object), program, &frame, 1, None);
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

    fn run(&mut self, index: usize, repeat: u32, out: Option<&mut [u8]>) -> Result<TestRunResult> {
        let (object, program) = self.subjects[index].program;
        let frame = std::mem::take(&mut self.subjects[index].frame);
        let result = test_run(self.object(object), program, &frame, repeat, out);
        self.subjects[index].frame = frame;
        result
    }

    pub(crate) fn counters(&mut self, object: In) -> Result<Vec<u64>> {
        if matches!(object, In::Watch | In::Hops) {
            return Ok(Vec::new());
        }
        let counts: PerCpuArray<_, u64> = map(self.object(object), "COUNTS")?;
        let sum = |index| Ok(counts.get(&index, 0)?.iter().sum());
        (0..COUNTER_NAMES.len() as u32).map(sum).collect()
    }

    pub(crate) fn object(&mut self, object: In) -> &mut Ebpf {
        match object {
            In::Kstamp => self.kstamp.ebpf_mut(),
            In::Bench => &mut self.bench,
            In::Watch => self.watch.ebpf_mut(),
            In::Hops => &mut self.hops,
        }
    }
}

/// Records of each session, less one: the longest ring that an agent with some peers gives a session.
const RING_MASK: u32 = 16_383;

/// More than any machine can send.
const AMPLE: Limit = Limit {
    interval_ns: 1,
    burst_ns: 1_000_000_000,
};

pub(crate) fn settings_of_bench() -> Settings {
    Settings {
        abi_version: ABI_VERSION,
        interface: 1,
        unix_offset_ns: 1_795_000_000_000_000_000,
        test_ports: [TEST_PORT, 862, 0, 0],
        sender_port_v4: SENDER_PORT,
        sender_port_v6: SENDER_PORT,
        error_estimate: 1,
        cold_ports: 0,
        mac: OWN_MAC,
        partial_checksums: 0,
        ingress_is_second: 0,
        own_v4: Address::from_v4(OWN_V4),
        own_v6: Address::from_bytes(OWN_V6),
        // No packet is refused, but all buckets are charged.
        policy_generation: 1,
        port_batch: 64,
        max_replies: u32::MAX,
        ring_mask: RING_MASK,
        source_limit: AMPLE,
        group_limit: AMPLE,
        port_limit: AMPLE,
    }
}

fn load_bench() -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &0_u8, false);
    load("kstamp-bench-programs", &mut loader)
}

/// The observers of hop stamps, with a ring buffer that has room for the records of a round.
fn load_hops() -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("HOP_RECORDS", 1 << 22);
    let mut ebpf = load("kstamp-hops-programs", &mut loader)?;
    let mut settings: Array<_, HopSettings> = map(&mut ebpf, "HOP_SETTINGS")?;
    let test_ports = settings_of_bench().test_ports;
    let abi_version = ABI_VERSION;
    settings.set(
        0,
        HopSettings {
            abi_version,
            test_ports,
        },
        0,
    )?;
    let mut addresses: HashMap<_, Address, u32> = map(&mut ebpf, "HOP_ADDRESSES")?;
    for own in [Address::from_v4(OWN_V4), Address::from_bytes(OWN_V6)] {
        addresses.insert(own, 0, 0)?;
    }
    Ok(ebpf)
}

/// Read at run time, so that the crate also builds if the eBPF build is skipped.
fn load(object: &str, loader: &mut EbpfLoader<'_>) -> Result<Ebpf> {
    let path = Path::new(env!("OUT_DIR")).join(object);
    let bytes =
        fs::read(&path).with_context(|| format!("cannot read {}; was the eBPF build skipped?", path.display()))?;
    let mut ebpf = loader.load(&bytes)?;
    for (name, program) in ebpf.programs_mut() {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::RawTracePoint(program) => program.load(),
            _ => bail!("{name} is of no expected type"),
        };
        loaded.with_context(|| format!("cannot load {name}"))?;
    }
    Ok(ebpf)
}

pub(crate) fn map<'a, M>(ebpf: &'a mut Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<&'a mut Map, Error = aya::maps::MapError>,
{
    Ok(M::try_from(
        ebpf.map_mut(name).with_context(|| format!("no map {name}"))?,
    )?)
}

fn test_run(
    ebpf: &mut Ebpf,
    program: &str,
    frame: &[u8],
    repeat: u32,
    out: Option<&mut [u8]>,
) -> Result<TestRunResult> {
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: out,
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

/// CPU time of this thread, which excludes other processes.
pub(crate) fn cpu_ns() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
