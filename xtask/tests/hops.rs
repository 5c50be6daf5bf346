//! Hop stamps on a path of two hosts with a switch each and a VXLAN tunnel between them: what the lab does to a segment is
//! found there.
//!
//! In a guest, the switches have the kernel's datapath, and so tunnel devices.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use clap::ValueEnum as _;
use nix::net::if_::if_nameindex;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Agent, Finished, can_run, count, is_emulated, kstamp, lab_with, ms};
use xtask::exec;
use xtask::lab::{Harm, Hurt, Lab, Options, Segment, Topology};

/// For an agent to start or to end.
const LIMIT: Duration = Duration::from_secs(30);

/// Emulated processors need longer for everything.
fn delay() -> Duration {
    Duration::from_millis(if is_emulated() { 40 } else { 5 })
}

fn lab() -> Option<Lab> {
    lab_with(Topology::Vxlan, &Options::default())
}

fn hurt_lab(segment: Segment, harm: Harm) -> Option<Lab> {
    let options = Options {
        hurts: vec![Hurt { segment, harm }],
        ..Options::default()
    };
    lab_with(Topology::Vxlan, &options)
}

fn hop_options(lab: &Lab, number: usize) -> String {
    format!("--hops --host-netns {}", lab.host_netns(lab.pair()[number]).display())
}

/// What agent1 has measured.
struct Run {
    near: Finished,
    /// Records of single probes by type.
    samples: BTreeMap<String, Vec<Value>>,
}

impl Run {
    /// Probes agent2 from agent1 `probes` times.
    fn new(lab: &Lab, far_options: &str, interval: &str, probes: u64) -> Self {
        let limit = Duration::from_secs(30);
        let far = Agent::start(lab, lab.pair()[1], "reflect", &format!("--family v4 {far_options}"));
        far.await_start(limit);
        let file = lab.scratch().unwrap().join("samples");
        let options = format!("--samples {} --report 2s {}", file.display(), hop_options(lab, 0));
        let near = Agent::probe(lab, interval, probes, &options, Duration::from_secs(120));
        let far = far.stop();
        assert!(far.status.success(), "{far:#?}");
        Self {
            near,
            samples: read(&file),
        }
    }

    fn hop_samples(&self) -> &[Value] {
        self.samples.get("hop_sample").map_or(&[], Vec::as_slice)
    }

    /// The answered probes with stamps of both hosts, but for the first ones, which switches and agents have yet to learn.
    fn split(&self) -> Vec<&Value> {
        let answered = self.hop_samples().iter().filter(|probe| probe["state"] == "ok");
        let split: Vec<_> = answered
            .clone()
            .filter(|probe| probe["far_half"] == true && probe["rest_ns"] == 0)
            .collect();
        let answered = answered.count();
        assert!(
            split.len() * 100 >= answered * 95 && answered > 0,
            "{} of {answered} have both halves; {:#?}",
            split.len(),
            self.near
        );
        split
    }

    /// The segments of each probe add up to its round trip to the nanosecond.
    fn assert_sums(&self) {
        let n = |record: &Value, field: &str| {
            record[field]
                .as_u64()
                .unwrap_or_else(|| panic!("no {field}: {record:#}"))
        };
        let samples: BTreeMap<u64, &Value> = self.samples["sample"]
            .iter()
            .filter(|sample| sample["state"] == "ok")
            .map(|sample| (n(sample, "seq"), sample))
            .collect();
        let mut compared = 0;
        for probe in self.hop_samples().iter().filter(|probe| probe["state"] == "ok") {
            let parts = probe["parts"].as_array().unwrap();
            let sum: u64 = parts.iter().map(|part| n(part, "delay_ns")).sum();
            assert_eq!(sum + n(probe, "rest_ns"), n(probe, "elapsed_ns"), "{probe:#}");
            let sample = samples[&n(probe, "seq")];
            assert_eq!(
                n(probe, "elapsed_ns"),
                n(sample, "rtt_ns") + n(sample, "residence_ns"),
                "{sample:#}"
            );
            if probe["far_half"] == true {
                assert_eq!(part_ns(probe, "reflector"), n(sample, "residence_ns"), "{probe:#}");
            }
            compared += 1;
        }
        assert_eq!(compared, samples.len(), "each answered probe is split");
    }

    /// Losses by segment and direction add up to those of each window, and those of the windows to the lost probes.
    fn assert_losses_add_up(&self) {
        let mut lost = 0;
        let windows = self.near.of_type("hops");
        for hops in &windows {
            let parts = hops["parts"].as_array().unwrap();
            let placed: u64 = parts.iter().map(|part| count(part, "lost")).sum();
            assert_eq!(
                placed + count(hops, "lost_late") + count(hops, "lost_unknown"),
                count(hops, "lost"),
                "{hops:#}"
            );
            let window = self.near.records.iter().find(|record| {
                record["type"] == "window" && record["start"] == hops["start"] && record["path"] == hops["path"]
            });
            let window = window.unwrap_or_else(|| panic!("no window of {hops:#}"));
            assert_eq!(count(window, "lost"), count(hops, "lost"), "{hops:#} {window:#}");
            lost += count(hops, "lost");
        }
        let records = self
            .hop_samples()
            .iter()
            .filter(|probe| probe["state"] == "lost")
            .count() as u64;
        assert_eq!(lost, records, "{windows:#?}");
    }
}

fn read(file: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut records = BTreeMap::<String, Vec<Value>>::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let record: Value = serde_json::from_str(line).expect(line);
        records
            .entry(record["type"].as_str().unwrap().to_owned())
            .or_default()
            .push(record);
    }
    records
}

/// How long a probe was in a segment, in both directions together.
fn part_ns(probe: &Value, segment: &str) -> u64 {
    let parts = probe["parts"].as_array().unwrap().iter();
    let of_it = parts.filter(|part| part["segment"] == segment);
    of_it.map(|part| part["delay_ns"].as_u64().unwrap()).sum()
}

fn median_ns(probes: &[&Value], segment: &str) -> u64 {
    let mut values: Vec<_> = probes.iter().map(|probe| part_ns(probe, segment)).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

const INTERVAL: &str = "5ms";
const PROBES: u64 = 800;

/// What is measured while nothing is hurt.
struct Baseline {
    run: Run,
    segments: Vec<Segment>,
}

impl Baseline {
    /// `None` if `segment` cannot be hurt here.
    fn for_segment(segment: Segment) -> Option<&'static Self> {
        static BASELINE: OnceLock<Option<Baseline>> = OnceLock::new();
        let baseline = BASELINE.get_or_init(Self::measure).as_ref()?;
        if !baseline.segments.contains(&segment) {
            println!("SKIPPED: the userspace datapath has no tunnel devices");
            return None;
        }
        Some(baseline)
    }

    fn measure() -> Option<Self> {
        let lab = lab()?;
        let is_encapsulation =
            |segment: &Segment| [Segment::OwnEncapsulation, Segment::FarEncapsulation].contains(segment);
        let is_here = |segment: &Segment| !(lab.has_userspace_datapath() && is_encapsulation(segment));
        let segments = Segment::value_variants().iter().copied().filter(is_here).collect();
        let run = Run::new(&lab, &hop_options(&lab, 1), INTERVAL, PROBES);
        lab.down().unwrap();
        run.assert_sums();
        Some(Self { run, segments })
    }
}

fn assert_delay_is_found(hurt: Segment) {
    let Some(baseline) = Baseline::for_segment(hurt) else {
        return;
    };
    let delay_ns = delay().as_nanos() as u64;
    let lab = hurt_lab(hurt, Harm::Delay(delay())).unwrap();
    let run = Run::new(&lab, &hop_options(&lab, 1), INTERVAL, PROBES);
    lab.down().unwrap();
    run.assert_sums();
    let (before, after) = (baseline.run.split(), run.split());
    let is_found = |probe: &&&Value| part_ns(probe, &hurt.field()) >= delay_ns;
    let found = after.iter().filter(is_found).count();
    println!("found in {found} of {} probes", after.len());
    for &segment in &baseline.segments {
        let field = segment.field();
        let [before, after] = [&before, &after].map(|probes| median_ns(probes, &field) as f64 / 1e3);
        println!("  {field}: median {before:.1} µs, with the delay {after:.1} µs");
        let added_us = if segment == hurt { delay_ns as f64 / 1e3 } else { 0.0 };
        // A forwarder and another bridge are in the path of the hurt segment.
        let noise_us = delay_ns as f64 / 1e3 / 5.0;
        assert!((after - before - added_us).abs() < noise_us, "{field}");
    }
    assert!(found * 100 >= after.len() * 99, "{found} of {}", after.len());
}

#[test]
fn delay_of_the_own_switch_is_found_there() {
    assert_delay_is_found(Segment::OwnSwitch);
}

#[test]
fn delay_of_the_own_encapsulation_is_found_there() {
    assert_delay_is_found(Segment::OwnEncapsulation);
}

#[test]
fn delay_of_the_underlay_is_found_there() {
    assert_delay_is_found(Segment::Underlay);
}

#[test]
fn delay_of_the_far_encapsulation_is_found_there() {
    assert_delay_is_found(Segment::FarEncapsulation);
}

#[test]
fn delay_of_the_far_switch_is_found_there() {
    assert_delay_is_found(Segment::FarSwitch);
}

fn assert_loss_is_found(hurt: Segment) {
    const PROBES: u64 = 2500;
    if Baseline::for_segment(hurt).is_none() {
        return;
    }
    let lab = hurt_lab(hurt, Harm::Loss(0.1)).unwrap();
    let run = Run::new(&lab, &hop_options(&lab, 1), "4ms", PROBES);
    lab.down().unwrap();
    run.assert_losses_add_up();
    // Agents have yet to learn at which devices they see probes.
    const LEARNING: u64 = 250;
    let lost: Vec<_> = run
        .hop_samples()
        .iter()
        .filter(|probe| probe["state"] == "lost" && count(probe, "seq") >= LEARNING)
        .collect();
    let found = lost
        .iter()
        .filter(|probe| probe["lost_segment"] == hurt.field() && probe["lost_direction"] == "forward");
    let found = found.count();
    println!("{found} of {} losses found there", lost.len());
    assert!(lost.len() > 150, "{} of {PROBES} lost: {:#?}", lost.len(), run.near);
    let elsewhere: Vec<_> = lost
        .iter()
        .filter(|probe| probe["lost_segment"] != hurt.field())
        .collect();
    assert!(
        found * 100 >= lost.len() * 99,
        "{found} of {}: {elsewhere:#?}",
        lost.len()
    );
}

#[test]
fn loss_in_the_own_switch_is_found_there() {
    assert_loss_is_found(Segment::OwnSwitch);
}

#[test]
fn loss_in_the_own_encapsulation_is_found_there() {
    assert_loss_is_found(Segment::OwnEncapsulation);
}

#[test]
fn loss_in_the_underlay_is_found_there() {
    assert_loss_is_found(Segment::Underlay);
}

#[test]
fn loss_in_the_far_encapsulation_is_found_there() {
    assert_loss_is_found(Segment::FarEncapsulation);
}

#[test]
fn loss_in_the_far_switch_is_found_there() {
    assert_loss_is_found(Segment::FarSwitch);
}

#[test]
fn stall_is_found_in_its_switch() {
    let Some(lab) = hurt_lab(Segment::FarSwitch, Harm::Stall(Duration::from_millis(100))) else {
        return;
    };
    if !lab.has_userspace_datapath() {
        println!("SKIPPED: the kernel's datapath forwards known flows without ovs-vswitchd");
        return;
    }
    let run = Run::new(&lab, &hop_options(&lab, 1), INTERVAL, 1000);
    run.assert_sums();
    let is_slow = |segment: &str| {
        run.split()
            .iter()
            .filter(|probe| part_ns(probe, segment) > 20_000_000)
            .count()
    };
    let [own, underlay, far] = ["own_switch", "underlay", "far_switch"].map(is_slow);
    println!("slow: own switch {own}, underlay {underlay}, far switch {far}");
    assert!(far >= 30 && (own + underlay) * 100 <= far, "{own} {underlay} {far}");
    lab.down().unwrap();
}

/// They share a lab, which takes longer to build than to use.
#[test]
fn runs_without_harm() {
    let Some(lab) = lab_with(Topology::Vxlan, &Options::default()) else {
        return;
    };
    path_shows_segments_and_forwarding_and_ends_clean(&lab);
    peer_without_hop_stamps_gives_one_half(&lab);
    killed_agent_leaves_no_programs_at_devices(&lab);
    lab.down().unwrap();
}

fn path_shows_segments_and_forwarding_and_ends_clean(lab: &Lab) {
    let [near, far] = lab.pair();
    let reflector = Agent::start(lab, far, "reflect", &format!("--family v4 {}", hop_options(lab, 1)));
    reflector.await_start(LIMIT);
    let path = |options: &str| {
        let fixed = format!(
            "--peer {} --interval 20ms --host-netns {} --ovsdb {}",
            far.v4,
            lab.host_netns(near).display(),
            lab.ovsdb(near).display()
        );
        Agent::start(lab, near, "path", &format!("{fixed} {options}"))
    };
    let only = |path: &Finished, kind: &str| match path.of_type(kind)[..] {
        [record] => record.clone(),
        _ => panic!("not one {kind}: {path:#?}"),
    };
    let whole = path("--count 40").wait(LIMIT);
    assert!(whole.status.success(), "{whole:#?}");
    assert_names_of_switch(&only(&whole, "start"), "port1", "ovs1", "172.31.1.2");
    let summary = only(&whole, "summary");
    assert_eq!(count(&summary, "sent"), 40, "{summary:#}");
    let hops = only(&whole, "hops");
    assert!(count(&hops, "both_halves") >= 30, "{whole:#?}");
    let parts = hops["parts"].as_array().unwrap().iter();
    let segments: BTreeSet<_> = parts.map(|part| part["segment"].as_str().unwrap()).collect();
    for segment in ["own_switch", "underlay", "far_switch", "reflector"] {
        assert!(segments.contains(segment), "{segment}: {hops:#}");
    }
    let forwarding = only(&whole, "forwarding");
    assert_eq!(forwarding["bridges"][0], "ovs1", "{forwarding:#}");
    let tunnel = if lab.has_userspace_datapath() {
        "tnl_push("
    } else {
        "set(tunnel("
    };
    assert!(
        forwarding["actions"].to_string().contains(tunnel),
        "{tunnel}: {forwarding:#}"
    );

    let interrupted = path("--count 10000");
    interrupted.await_start(LIMIT);
    sleep(Duration::from_millis(1_500));
    interrupted.signal(Signal::SIGINT);
    let interrupted = interrupted.wait(LIMIT);
    assert!(interrupted.status.success(), "{interrupted:#?}");
    let summary = only(&interrupted, "summary");
    let n = |field| count(&summary, field);
    assert!((20..500).contains(&n("sent")), "{summary:#}");
    assert_eq!(n("sent"), n("received") + n("lost") + n("pending"), "{summary:#}");
    assert!(
        count(&only(&interrupted, "hops"), "both_halves") > 0,
        "{interrupted:#?}"
    );
    for namespace in ["agent1", "host1"] {
        assert_no_programs(lab, namespace);
    }
    assert!(reflector.stop().status.success());
}

fn peer_without_hop_stamps_gives_one_half(lab: &Lab) {
    let run = Run::new(lab, "", INTERVAL, 400);
    run.assert_sums();
    assert!(run.hop_samples().iter().all(|probe| probe["far_half"] == false));
    let mut hops = run.near.of_type("hops");
    // The last window may be short.
    hops.retain(|window| count(window, "own_half") > 0);
    assert!(!hops.is_empty(), "{:#?}", run.near);
    for window in hops {
        assert_eq!(count(window, "both_halves"), 0, "{window:#}");
        assert!(window["far_devices"].is_null(), "{window:#}");
        assert!(ms(window, "rest_ns", "p50") > 0.0, "{window:#}");
        let segments: Vec<_> = window["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| &part["segment"])
            .collect();
        assert!(
            segments
                .iter()
                .all(|&segment| segment != "underlay" && segment != "far_switch"),
            "{window:#}"
        );
    }
}

/// The programs at the devices of a namespace.
fn programs(lab: &Lab, namespace: &str) -> usize {
    let hooks = [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")];
    let count = || {
        let mut count = 0;
        for interface in &if_nameindex()? {
            let device = interface.name().to_str()?;
            for (hook, name) in hooks {
                if programs_are_filters() {
                    let filters = exec::run("tc", ["filter", "show", "dev", device, name])?;
                    count += filters.matches(" bpf ").count();
                } else {
                    count += SchedClassifier::query_tcx(device, hook)?.1.len();
                }
            }
        }
        Ok(count)
    };
    lab.within(namespace, count).unwrap()
}

fn killed_agent_leaves_no_programs_at_devices(lab: &Lab) {
    if programs_are_filters() {
        // A killed agent leaves filters; the next one removes them.
        return;
    }
    assert_eq!(programs(lab, "host1"), 0);
    let agent = Agent::start(lab, lab.pair()[0], "agent", &hop_options(lab, 0));
    agent.await_start(LIMIT);
    assert!(programs(lab, "host1") > 0, "{}", agent.stderr());
    agent.signal(Signal::SIGKILL);
    agent.wait(Duration::from_secs(5));
    assert_no_programs(lab, "host1");
}

fn assert_no_programs(lab: &Lab, namespace: &str) {
    let none = exec::wait_until(Duration::from_secs(5), || programs(lab, namespace) == 0);
    assert!(none, "{} programs are left in {namespace}", programs(lab, namespace));
}

/// Before Linux 6.6.
fn programs_are_filters() -> bool {
    let release = nix::sys::utsname::uname()
        .unwrap()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(6), Some(6))
}

#[test]
fn run_says_whether_a_delay_was_found_and_names_the_switches() {
    if !can_run() {
        return;
    }
    let ms = delay().as_millis();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args("run --hops --format jsonl --duration 8s --interval 10ms --built".split(' '));
    command.arg(kstamp()).args(["--hurt", &format!("underlay:{ms}ms")]);
    let output = exec::output(&mut command).unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{stderr}");
    let records: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_type = |kind: &str| {
        records
            .iter()
            .filter(|record| record["type"] == kind)
            .collect::<Vec<_>>()
    };
    let split = of_type("hops")
        .iter()
        .any(|hops| hops["peer"] == "10.1.1.6" && count(hops, "both_halves") > 0);
    assert!(split, "{stdout}");
    let [near, far] = of_type("start")[..] else {
        panic!("not two agents: {stdout}");
    };
    assert_names_of_switch(near, "port1", "ovs1", "172.31.1.2");
    assert_names_of_switch(far, "port2", "ovs2", "172.31.1.1");
    let finding = stderr.lines().last().unwrap();
    let expected = format!("lab: --hurt underlay:{ms}ms: found there in ");
    assert!(finding.starts_with(&expected), "{stderr}");
    let share = finding.rsplit(['(', ' ']).nth(1).unwrap();
    assert!(share.parse::<f64>().unwrap() > 95.0, "{finding}");
}

/// The port, its bridge and its tunnel have the names that the switch's database has.
fn assert_names_of_switch(start: &Value, port: &str, bridge: &str, remote: &str) {
    let ovs = &start["ovs"];
    assert_eq!(ovs["port"], port, "{start:#}");
    assert_eq!(ovs["bridge"], bridge, "{start:#}");
    let tunnel = &ovs["tunnels"][0];
    assert_eq!(tunnel["name"], "vxlan0", "{start:#}");
    assert_eq!(tunnel["key"], "42", "{start:#}");
    assert_eq!(tunnel["remote_ip"], remote, "{start:#}");
}
