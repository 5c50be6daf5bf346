//! The controller's delays of a triangle's links, by each method, against what the links really do.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use support::links::{assert_only_edges_are_used, is_edge, links_between};
use support::observer::Observer;
use support::{Agent, Finished, can_run};
use xtask::lab::{ControlDelay, Lab, Link, Options, SWITCHES, Topology};

/// Reports before this many of a link are not looked at: windows fill.
const WARM_UP: usize = 5;

/// How long accuracy is measured.
const MEASURE: Duration = Duration::from_secs(18);

/// The most that the median error of a method may be, in ms; in a guest, that of the better half.
struct Limits {
    lldp_echo: f64,
    bounce: f64,
    kernel: f64,
}

#[test]
fn every_method_is_as_near_to_the_truth_as_promised() {
    if !can_run() {
        return;
    }
    let finished = measure_triangle(&Options::default(), &limits());
    for (left, right, state) in [
        ("s1", "s2", "valid"),
        ("s2", "s3", "valid"),
        ("s1", "s3", "below_resolution"),
    ] {
        for link in links_between(&finished.records, left, right).skip(WARM_UP) {
            if support::is_emulated() {
                // There the error may be larger than any of these delays.
                assert!(is_edge(link), "{link:#}");
            } else {
                assert_eq!(link["state"], state, "{link:#}");
            }
        }
    }
}

#[test]
fn neither_a_lopsided_control_channel_nor_load_misleads() {
    if !can_run() {
        return;
    }
    if support::is_emulated() {
        println!("SKIPPED: busy loops leave an emulated machine no time to forward");
        return;
    }
    let options = Options {
        control: vec!["s1:10ms:30ms".parse::<ControlDelay>().unwrap()],
        ..Options::default()
    };
    let _load = Load::start(4);
    let limits = Limits {
        lldp_echo: 3.0,
        bounce: 3.0,
        kernel: 3.0,
    };
    measure_triangle(&options, &limits);
}

/// What is promised where nothing else goes on; in a guest, sixteen times that.
fn limits() -> Limits {
    let slower = if support::is_emulated() { 16.0 } else { 1.0 };
    Limits {
        lldp_echo: 1.5 * slower,
        bounce: 0.5 * slower,
        // On a quiet machine 0.04 to 0.10. Frames are seen by packet sockets before, and stamped by TC after, they have
        // waited for a softirq: on a busy one that alone came to 0.07 on the bare cable, and to 0.15 on a link.
        kernel: 0.25 * slower,
    }
}

/// Measures a triangle, holds each method against what packet sockets say of the links, and against its limit.
fn measure_triangle(options: &Options, limits: &Limits) -> Finished {
    let network = Topology::Triangle.network().unwrap();
    support::kstamp();
    let lab = Lab::up(Topology::Triangle, options).unwrap();
    let observer = Observer::start(SWITCHES);
    let controller = Agent::controller(&lab, &["--report", "1s"]);
    sleep(MEASURE);
    let finished = controller.stop();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_only_edges_are_used(&finished.records);
    let mut errors = Vec::new();
    for link in network.links {
        let truth_ms = round_trip_ms(&lab, &observer, link);
        for (method, limit) in [
            ("lldp_echo", limits.lldp_echo),
            ("bounce", limits.bounce),
            ("kernel", limits.kernel),
        ] {
            let reports = links_between(&finished.records, link.left, link.right).skip(WARM_UP);
            let mut off: Vec<_> = reports
                .filter_map(|report| Some((report["rtt_ns"][method].as_i64()? as f64 / 1e6 - truth_ms).abs()))
                .collect();
            assert!(off.len() >= 5, "{} by {method}: {off:?} of {finished:#?}", link.name());
            if method == "kernel" && !support::is_emulated() {
                // It tells the median of the very frames that the truth is the median of, once it has seen them all:
                // before, frames of other moments would be compared, and the delay line itself is not that steady.
                off.drain(..off.len() - 1);
            }
            off.sort_by(f64::total_cmp);
            // An emulated machine pauses, for seconds on end; what it says between is held against netem's delays.
            let off = off[off.len() / if support::is_emulated() { 4 } else { 2 }];
            println!(
                "{:<6} {method:<10} off by {off:6.3} ms of {truth_ms:.3} ms",
                link.name()
            );
            if off > limit {
                errors.push(format!("{} by {method}: {off} ms, not {limit}", link.name()));
            }
        }
    }
    assert!(errors.is_empty(), "{errors:#?}");
    lab.down().unwrap();
    finished
}

/// What a link really does to a round trip.
fn round_trip_ms(lab: &Lab, observer: &Observer, link: &Link) -> f64 {
    // netem delays behind the place where packet sockets see what goes out.
    if lab.links().is_some_and(|words| words.contains("by netem")) {
        return 2.0 * link.delay.as_secs_f64() * 1e3;
    }
    let [left, right] = link.ports();
    (observer.delay_ns(&left, &right) + observer.delay_ns(&right, &left)) as f64 / 1e6
}

/// Busy loops.
struct Load {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(loops: usize) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let busy = |_| {
            let end = Arc::clone(&end);
            std::thread::spawn(move || while !end.load(Ordering::Relaxed) {})
        };
        let threads = (0..loops).map(busy).collect();
        Self { end, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
