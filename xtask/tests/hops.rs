//! Hop stamps on a path of two hosts with a switch each and a VXLAN tunnel between them: what the lab does to a segment is
//! found there.
//!
//! In a guest, the switches have the kernel's datapath, and so tunnel devices.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

#[path = "hops/phases.rs"]
mod phases;
#[path = "hops/run.rs"]
mod run;
mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::net::if_::if_nameindex;
use nix::sys::signal::Signal;
use phases::{Measured, delay};
use run::{LIMIT, Running, hop_options, median_ns, part_ns};
use serde_json::Value;
use support::{Agent, Finished, can_run, count, kstamp, lab_with, ms};
use xtask::exec;
use xtask::lab::{Lab, Options, Segment, Topology};

fn assert_delay_is_found(hurt: Segment) {
    let Some(measured) = Measured::with(hurt) else {
        return;
    };
    let delay_ns = delay().as_nanos() as u64;
    let (before, after) = (measured.unhurt(), measured.delayed(hurt));
    let is_found = |probe: &&&Value| part_ns(probe, &hurt.field()) >= delay_ns;
    let found = after.iter().filter(is_found).count();
    println!("found in {found} of {} probes", after.len());
    for &segment in &measured.segments {
        let field = segment.field();
        let [before, after] = [&before, &after].map(|probes| median_ns(probes, &field) as f64 / 1e3);
        println!("  {field}: median {before:.1} µs, with the delay {after:.1} µs");
        let added_us = if segment == hurt { delay_ns as f64 / 1e3 } else { 0.0 };
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
    let Some(measured) = Measured::with(hurt) else {
        return;
    };
    let lost = measured.lost(hurt);
    let (found, elsewhere): (Vec<&Value>, Vec<_>) = lost
        .iter()
        .partition(|probe| probe["lost_segment"] == hurt.field() && probe["lost_direction"] == "forward");
    println!("{} of {} losses found there", found.len(), lost.len());
    assert!(lost.len() > 150, "{} lost", lost.len());
    assert!(
        found.len() * 100 >= lost.len() * 99,
        "{} of {}: {elsewhere:#?}",
        found.len(),
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
    const SLOW_NS: u64 = 20_000_000;
    let Some(measured) = Measured::get() else { return };
    let Some(stalls_ns) = &measured.far_switch_stalls_ns else {
        println!("SKIPPED: the kernel's datapath forwards known flows without ovs-vswitchd");
        return;
    };
    // Sent so early that they come to the switch in time, and wait there long enough.
    let waited = stalls_ns.iter().map(|sent_ns| sent_ns.start..sent_ns.end - 2 * SLOW_NS);
    let probes = measured.split(&waited.collect::<Vec<_>>());
    let is_slow = |segment: &str| probes.iter().filter(|probe| part_ns(probe, segment) > SLOW_NS).count();
    let [own, underlay, far] = ["own_switch", "underlay", "far_switch"].map(is_slow);
    println!(
        "{} probes waited: own switch {own}, underlay {underlay}, far switch {far}",
        probes.len()
    );
    assert!(
        far >= 30 && far * 100 >= probes.len() * 99 && (own + underlay) * 100 <= far,
        "{own} {underlay} {far}"
    );
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

fn peer_without_hop_stamps_gives_one_half(lab: &Lab) {
    let run = Running::start(lab, "").end();
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
