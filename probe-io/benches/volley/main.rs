//! `cargo bench -p probe-io --bench volley [-- SECONDS [MILLIONS]]`: the highest rates of volleys and trains on a veth pair
//! with native XDP at both ends, their CPU time, and the delay that they add to other traffic; then the counts of MILLIONS of
//! probes over a line that drops, copies and overtakes them. Ends with exit code 1 if counts do not agree. Nothing else should
//! run on the machine.

#![allow(clippy::unwrap_used, reason = "a bench ends where something is not as it must be")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use probe_common::ntp::ErrorEstimate;
use probe_core::attach::AttachMode;
use probe_core::volley::{Mode, Plan, PlanInputs, Snapshot, plan};
use probe_host::cpu::Spent;
use probe_io::volley::{Volley, VolleyConfig, capabilities};

use crate::injector::{Every, Injector};
use crate::line::{FAR_V4, Line, command, target};

#[path = "../../tests/volley_programs/injector.rs"]
mod injector;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../../tests/volley_programs/line.rs"]
mod line;

/// Pings on another veth pair.
const BYSTANDER: &str = "ping -q -i 0.002 -c 400 10.9.9.2";

fn main() -> ExitCode {
    let numbers: Vec<f64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let seconds = numbers.first().copied().unwrap_or(10.0);
    let outcome = speeds(seconds).and_then(|()| match numbers.get(1) {
        Some(&millions) => accounting((millions * 1e6) as u64),
        None => Ok(()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

/// `Err` says in one line which rows have counts that do not add up.
fn speeds(seconds: f64) -> Result<(), String> {
    let Some(line) = Line::new() else { return Ok(()) };
    line.bystander();
    let _far = line.reflector(AttachMode::XdpNative);
    let quiet = line.near(async || bystander_us());
    let (before, start) = (Spent::now().unwrap(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let others = busy_s(&before) / start.elapsed().as_secs_f64();
    println!("{others:.2} processors are busy with something else");
    println!("{seconds} s each; a bystander's round trip without a run: {quiet:.1} us on average");
    println!(
        "{:<22} {:>9} {:>10} {:>6} {:>9} {:>9} {:>8} {:>8} {:>12}",
        "row", "probes/s", "sent", "lost", "CPU s/M", "process", "RTT p50", "p99.9", "bystander us"
    );
    let default = PlanInputs::default();
    let rows = [
        ("train paced 1.5 M/s", Mode::Train, Some(1_500_000), default.balls),
        ("train paced 0.5 M/s", Mode::Train, Some(500_000), default.balls),
        ("volley in bursts", Mode::Volley, None, default.balls),
        ("volley, 1 ball", Mode::Volley, None, 1),
        ("volley 100,000/s", Mode::Volley, Some(100_000), default.balls),
        ("sendmmsg 150,000/s", Mode::Sendmmsg, Some(150_000), default.balls),
    ];
    let mut wrong = Vec::new();
    for (name, mode, rate_per_s, balls) in rows {
        let inputs = PlanInputs {
            mode: Some(mode),
            rate_per_s,
            balls,
            timeout_ns: 500_000_000,
            ..default.clone()
        };
        let row = line.near(async || measure(&inputs, seconds).await);
        let bystander = line.near(async || beside(&inputs).await);
        let totals = row.snapshot.totals;
        if totals.sent != totals.received + totals.lost || row.pending != 0 {
            wrong.push(format!("{name}: {} pending, {totals:?}", row.pending));
        }
        println!(
            "{name:<22} {:>9.0} {:>10} {:>6} {:>9.3} {:>9.3} {:>8} {:>8} {:>+12.1}",
            totals.received as f64 / row.seconds,
            totals.sent,
            totals.lost,
            row.cpu_s * 1e6 / totals.received as f64,
            row.own_s * 1e6 / totals.received as f64,
            row.snapshot.rtt.quantile(0.5).unwrap(),
            row.snapshot.rtt.quantile(0.999).unwrap(),
            bystander - quiet,
        );
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("the counts do not add up: {}", wrong.join("; "))),
    }
}

/// One copy in this many has a dropped or copied reply.
const ONE_OF_COPIES: u64 = 3_300;

/// Sends `probes` over a line that drops, copies and overtakes some of them. `Err` says in one line which counts do not agree
/// with those of the line.
fn accounting(probes: u64) -> Result<(), String> {
    let Some(line) = Line::new() else { return Ok(()) };
    // Six different primes, so that faults of probes and of replies seldom coincide.
    let right = Every {
        dropped: 10_007,
        copied: 10_009,
        overtaken: 997,
    };
    let left = Every {
        dropped: 10_037,
        copied: 10_039,
        overtaken: 991,
    };
    let injector = Injector::between(&line, right, left);
    let _far = line.reflector(AttachMode::XdpNative);
    let inputs = PlanInputs {
        mode: Some(Mode::Volley),
        timeout_ns: 500_000_000,
        ..PlanInputs::default()
    };
    let (sent_before, pending, took, snapshot) = line.near(async || {
        let mut volley = open(&inputs, 3_600.0).await;
        let start = Instant::now();
        while volley.snapshot().totals.sent < probes && !volley.is_over() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = start.elapsed();
        let snapshot = injector.end(&mut volley).await;
        (volley.sent_before(), volley.pending_in_ring(), took, snapshot)
    });
    let [right, left] = injector.done();
    let totals = snapshot.totals;
    println!(
        "\n{} sent = {} received + {} lost + {pending} pending; {:.0} s",
        totals.sent,
        totals.received,
        totals.lost,
        took.as_secs_f64(),
    );
    println!(
        "lost forward {}, the line dropped {}; backward {}, dropped {}; duplicates {}, copied {}; reordered {}, overtaken {}; \
         late {}, refused {}",
        totals.lost_forward,
        right.dropped,
        totals.lost_backward,
        left.dropped,
        totals.duplicates,
        right.copied + left.copied,
        totals.reordered,
        injector.overtaken(),
        totals.late,
        totals.refused.total(),
    );
    if pending != 0 || totals.sent < probes {
        return Err(format!("{pending} pending after {} of {probes} probes", totals.sent));
    }
    let twice = 5 + 4 * right.copied / ONE_OF_COPIES;
    injector.agree(&totals, sent_before, twice)
}

struct Row {
    snapshot: Snapshot,
    /// At the end, by the slots of the ring.
    pending: u64,
    seconds: f64,
    /// Of the whole machine, softirqs included.
    cpu_s: f64,
    /// Of this process, with the softirqs that run on its behalf, unless the kernel leaves them to ksoftirqd.
    own_s: f64,
}

async fn open(inputs: &PlanInputs, seconds: f64) -> Volley {
    let able = capabilities("port1", FAR_V4.parse().unwrap()).await.unwrap();
    let plan: Plan = plan(inputs, None, &able).unwrap();
    let config = VolleyConfig {
        interface: "port1".to_owned(),
        target: target(FAR_V4),
        source_port: None,
        plan,
        duration_ns: Some((seconds * 1e9) as u64),
        sample_every: None,
        one_way: false,
        error: ErrorEstimate(1),
    };
    let mut volley = Volley::open(config).await.unwrap();
    volley.start(false).await.unwrap();
    volley
}

async fn measure(inputs: &PlanInputs, seconds: f64) -> Row {
    let mut volley = open(inputs, seconds).await;
    let (before, own, start) = (Spent::now().unwrap(), own_s(), Instant::now());
    while !volley.is_over() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (cpu_s, own_s, seconds) = (busy_s(&before), own_s() - own, start.elapsed().as_secs_f64());
    assert_eq!(volley.failure(), None);
    let snapshot = volley.stop(false).await;
    Row {
        snapshot,
        pending: volley.pending_in_ring(),
        seconds,
        cpu_s,
        own_s,
    }
}

/// The bystander's round trip beside a run, in microseconds.
async fn beside(inputs: &PlanInputs) -> f64 {
    let mut volley = open(inputs, 60.0).await;
    let us = tokio::task::spawn_blocking(bystander_us).await.unwrap();
    volley.stop(true).await;
    us
}

/// The average of the whole round, in microseconds.
fn bystander_us() -> f64 {
    let output = command(BYSTANDER);
    let average = output.rsplit_once("= ").and_then(|(_, times)| times.split('/').nth(1));
    average.unwrap().parse::<f64>().unwrap() * 1e3
}

/// CPU time that this process has spent, in seconds.
fn own_s() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// CPU time that this machine has spent since `before`, in seconds.
fn busy_s(before: &Spent) -> f64 {
    Spent::now().unwrap().used_since(before).unwrap().as_secs_f64()
}
