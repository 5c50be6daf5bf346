//! Upcalls of Open vSwitch's kernel datapath are tied to the probes that waited, and cold probes pay them; without that
//! datapath, cold probes are only told apart from others.
//!
//! All clocks here are `CLOCK_MONOTONIC`, so each wait is checked against the times between which it ended.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use probe_core::direction::Direction;
use probe_core::hops::Upcall;
use probe_io::hops::HopConfig;
use probe_io::hops::upcalls::Upcalls;
use serde_json::Value;
use support::switch::Switch;
use support::{Agent, Finished, can_run, count, ms};
use xtask::lab::{AgentNs, Datapath, Lab, Topology};

/// Probes that wait, and as many that do not.
const PROBES: u32 = 100;

const SSID: u16 = 4711;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// From when a probe is sent until its upcall begins, on an emulated machine.
const MARGIN_NS: u64 = 20_000_000;

/// For a packet to arrive on an emulated machine.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn waits_are_tied_to_their_probes() {
    if can_run() && Datapath::detect() != Datapath::Kernel {
        println!("SKIPPED: this kernel has no openvswitch module");
        return;
    }
    let Some(lab) = support::lab(Topology::Vxlan) else {
        return;
    };
    let [near, far] = lab.pair();
    let switches = [near, far].map(|agent| Switch::of(&lab, agent));
    switches.iter().for_each(Switch::tell_ports_apart);
    let mut upcalls = Upcalls::attach(&HopConfig {
        host_netns: None,
        port: near.interface.clone(),
        addresses: vec![near.v4.into()],
        test_ports: vec![stamp::PORT],
    })
    .unwrap();
    let receiver = Port::open(&lab, far, stamp::PORT);
    receiver.0.set_read_timeout(Some(LIMIT)).unwrap();
    let warm = Port::open(&lab, near, 40_000);
    // It gets a flow of its own in both datapaths.
    warm.probe(u32::MAX, far, &receiver);
    upcalls.drain(drop);

    let mut waits = BTreeMap::new();
    let mut unexpected = 0;
    for seq in 0..PROBES {
        let switch = &switches[seq as usize % 2];
        let cold = Port::open(&lab, near, 41_000 + u16::try_from(seq).unwrap());
        switch.signal(Signal::SIGSTOP);
        let sent_ns = now_ns();
        cold.send(seq, far);
        sleep(Duration::from_millis(30 + u64::from(seq % 20)));
        // A probe with a flow passes the stopped switch.
        warm.probe(PROBES + seq, far, &receiver);
        let resumed_ns = now_ns();
        switch.signal(Signal::SIGCONT);
        assert_eq!(receiver.receive(), seq);
        let received_ns = now_ns();
        upcalls.drain(|upcall| {
            let ended_ns = upcall.mono_ns + upcall.wait_ns;
            assert_eq!((upcall.prober, upcall.reflector), (near.v4.into(), far.v4.into()));
            assert_eq!(
                (upcall.ssid, upcall.direction),
                (SSID, Direction::Forward),
                "{upcall:?}"
            );
            if upcall.seq != seq || upcall.mono_ns < sent_ns || ended_ns > received_ns {
                unexpected += 1;
                println!("not of probe {seq}, {sent_ns} to {received_ns}: {upcall:?}");
            } else if ended_ns >= resumed_ns && upcall.mono_ns < resumed_ns {
                waits.insert(seq, upcall);
            }
        });
    }
    assert_eq!(upcalls.lost().unwrap(), 0);
    describe(&waits);
    let found = waits.len();
    println!("{found} of {PROBES} waits found, {unexpected} upcalls of others");
    assert!(found * 100 >= PROBES as usize * 95);
    assert!(unexpected * 100 <= PROBES);
    lab.down().unwrap();
}

fn describe(waits: &BTreeMap<u32, Upcall>) {
    let mut waits: Vec<_> = waits.values().map(|upcall| upcall.wait_ns / 1_000).collect();
    waits.sort_unstable();
    if let [shortest, .., longest] = waits[..] {
        println!("waits of {shortest} to {longest} µs");
    }
}

fn now_ns() -> u64 {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into();
    u64::try_from(now.as_nanos()).unwrap()
}

/// A socket of a lab's agent.
struct Port(UdpSocket);

impl Port {
    fn open(lab: &Lab, agent: &AgentNs, port: u16) -> Self {
        Self(
            lab.within(&agent.namespace, || Ok(UdpSocket::bind((agent.v4, port))?))
                .unwrap(),
        )
    }

    fn send(&self, seq: u32, to: &AgentNs) {
        let probe = stamp::probe(seq, ErrorEstimate::new(false, 0), SSID);
        self.0.send_to(&probe, (to.v4, stamp::PORT)).unwrap();
    }

    /// Sends a probe and waits until it has arrived.
    fn probe(&self, seq: u32, to: &AgentNs, receiver: &Self) {
        self.send(seq, to);
        assert_eq!(receiver.receive(), seq);
    }

    /// The sequence number of the next probe.
    fn receive(&self) -> u32 {
        let mut packet = [0; stamp::BASE_LEN];
        self.0.recv(&mut packet).unwrap();
        u32::from_be_bytes(*packet.first_chunk().unwrap())
    }
}

/// A probe that takes longer is an outlier. An emulated machine needs a tenth of it.
const OUTLIER: Duration = Duration::from_millis(100);

/// Cold probes are sent every 200 ms, so each stall holds up one for longer than [`OUTLIER`].
const STALL: Duration = Duration::from_millis(500);

const STALLS: usize = 8;

#[test]
fn cold_probes_are_apart_from_others_and_wait_for_upcalls() {
    let Some(lab) = support::lab(Topology::Vxlan) else {
        return;
    };
    let has_upcalls = !lab.has_userspace_datapath();
    let [near, far] = lab.pair();
    // Both hosts are of one machine, so waits in both switches would add up.
    let own_switch = Switch::of(&lab, near);
    own_switch.tell_ports_apart();
    let hops = |agent| format!("--family v4 --hops --host-netns {}", lab.host_netns(agent).display());
    let reflector = Agent::start(&lab, far, "reflect", &hops(far));
    reflector.await_start(START_TIMEOUT);
    let options = format!(
        "{} --no-group --peer {} --interval 20ms --report 1s --cold 5 --outlier {}ms",
        hops(near),
        far.v4,
        OUTLIER.as_millis()
    );
    let prober = Agent::start(&lab, near, "agent", &options);
    prober.await_record(START_TIMEOUT, "split of cold probes", |record| {
        is_cold(record) && record["type"] == "hops" && count(record, "both_halves") > 0
    });
    let mut stalls_ns = Vec::new();
    if has_upcalls {
        for _ in 0..STALLS {
            stalls_ns.push(own_switch.stall(STALL));
            // The switch takes all that waits.
            sleep(STALL);
        }
    }
    // Until the last probes are split.
    sleep(Duration::from_secs(3));
    let prober = prober.stop().assert_success();
    assert!(reflector.stop().status.success());
    assert_cold_probes_are_apart(&prober, &far.v4.to_string());
    if has_upcalls {
        assert_cold_probes_are_slower(&prober);
        assert_waits_are_explained(&prober, &stalls_ns);
    }
    lab.down().unwrap();
}

fn is_cold(record: &Value) -> bool {
    record["path"] == "cold"
}

fn assert_cold_probes_are_apart(prober: &Finished, peer: &str) {
    let [cold, warm] = ["cold", "unicast"].map(|path| prober.summary(peer, path));
    let [cold_sent, warm_sent] = [cold, warm].map(|summary| count(summary, "sent"));
    println!("{cold_sent} cold probes, {warm_sent} others");
    // 5 and 50 a second.
    assert!(cold_sent >= 10, "{cold:#}");
    assert!(warm_sent > 5 * cold_sent, "{warm:#}");
    for (path, summary) in [("cold", cold), ("unicast", warm)] {
        let windows = prober.of_type("hops").into_iter().filter(|hops| hops["path"] == path);
        let halves = |hops| ["both_halves", "own_half", "no_half"].map(|half| count(hops, half));
        let split: u64 = windows.flat_map(halves).sum();
        assert_eq!(split, count(summary, "received"), "{path}: {summary:#}");
    }
}

/// The first packet of a flow makes an upcall.
fn assert_cold_probes_are_slower(prober: &Finished) {
    let quartile = |of_cold: bool| {
        let windows = prober.of_type("window").into_iter();
        let answered = windows.filter(|window| is_cold(window) == of_cold && count(window, "received") > 0);
        let mut medians: Vec<_> = answered.map(|window| ms(window, "rtt_ns", "p50")).collect();
        medians.sort_by(f64::total_cmp);
        // Without the windows with stalls.
        medians[medians.len() / 4]
    };
    let [cold, warm] = [true, false].map(quartile);
    println!("round trips of {cold:.2} ms if cold, else of {warm:.2} ms");
    assert!(cold > warm, "{cold} {warm}");
}

/// Cold probes that were sent while the switch stood still have waited for it, and others have not.
fn assert_waits_are_explained(prober: &Finished, stalls_ns: &[Range<u64>]) {
    let outliers = prober.of_type("outlier");
    let has_waited = |outlier: &Value| outlier["cause"] == "upcall";
    let mut waits = 0;
    for stall_ns in stalls_ns {
        let mut cold = outliers.clone();
        cold.retain(|outlier| is_cold(outlier) && stall_ns.contains(&sent_ns(outlier)));
        assert!(!cold.is_empty(), "no outlier in {stall_ns:?}: {outliers:#?}");
        waits += cold.len();
        for outlier in cold {
            assert!(has_waited(outlier), "{outlier:#}");
            assert_eq!(outlier["upcall_host"], "own", "{outlier:#}");
            assert_eq!(outlier["largest_segment"], "own_switch", "{outlier:#}");
            assert_eq!(outlier["largest_direction"], "forward", "{outlier:#}");
            let wait_ns = count(outlier, "upcall_wait_ns");
            // The switch still stood still for so long.
            assert!(wait_ns + MARGIN_NS >= stall_ns.end - sent_ns(outlier), "{outlier:#}");
            assert!(wait_ns <= count(outlier, "elapsed_ns"), "{outlier:#}");
        }
    }
    println!("{waits} of {} outliers waited for an upcall", outliers.len());
    let first_ns = stalls_ns[0].start;
    let false_ones: Vec<_> = outliers
        .iter()
        .filter(|outlier| !is_cold(outlier) && has_waited(outlier) && sent_ns(outlier) >= first_ns)
        .collect();
    assert!(false_ones.is_empty(), "other probes have flows: {false_ones:#?}");
}

fn sent_ns(outlier: &Value) -> u64 {
    let time = humantime::parse_rfc3339(outlier["time"].as_str().unwrap()).unwrap();
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}
