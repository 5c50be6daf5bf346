//! A run ends when it is stopped and when its process is killed, and no packet can add balls.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe_core::attach::AttachMode;
use probe_core::volley::{Burst, Mode, PlanInputs};

use crate::injector::{Every, Injector};
use crate::line::{FAR_V4, Line, command, enter, is_emulated, runtime, scaled};
use crate::run::{assert_sound, open};

const LONG: Duration = Duration::from_secs(60);
/// ARP, ND and MLD of the two hosts.
const OTHER_FRAMES: u64 = 10;

fn continuous(balls: u32) -> PlanInputs {
    PlanInputs {
        mode: Some(Mode::Volley),
        continuous: true,
        balls,
        ..PlanInputs::default()
    }
}

/// Frames that have arrived at the far end.
fn arrived(far: &str) -> u64 {
    let text = command(&format!("ip -n {far} -s -j link show port2"));
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

fn assert_silent(far: &str) {
    let before = arrived(far);
    std::thread::sleep(Duration::from_millis(100));
    let more = arrived(far) - before;
    assert!(more <= OTHER_FRAMES, "{more} frames still came");
}

#[test]
fn stopped_balls_land_within_100_ms() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    for mode in [
        continuous(8),
        PlanInputs {
            mode: Some(Mode::Train),
            ..PlanInputs::default()
        },
    ] {
        let (took, snapshot) = line.near(async || {
            let mut volley = open(FAR_V4, &mode, LONG).await;
            volley.start(false).await.unwrap();
            while volley.snapshot().totals.received < scaled(1_000) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let start = Instant::now();
            let snapshot = volley.stop(true).await;
            (start.elapsed(), snapshot)
        });
        // An emulated machine pauses for longer.
        assert!(took < Duration::from_millis(100) || is_emulated(), "{took:?}");
        assert_sound(&snapshot, "stopped");
        assert_silent(&line.far);
    }
}

#[test]
fn a_dropped_run_detaches_and_its_balls_land() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    line.near(async || {
        let mut volley = open(FAR_V4, &continuous(8), LONG).await;
        volley.start(false).await.unwrap();
        drop(volley);
    });
    assert_silent(&line.far);
    let link = command(&format!("ip -n {} link show port1", line.near));
    assert!(!link.contains("prog/xdp"), "{link}");
}

/// The namespace of the process that is to be killed.
const NEAR: &str = "KSTAMP_VOLLEY_NEAR";

/// The process that [`a_killed_process_leaves_no_ball_in_the_air`] starts.
#[test]
fn runs_until_it_is_killed() {
    let Ok(near) = std::env::var(NEAR) else { return };
    enter(&near);
    runtime().block_on(async {
        let mut volley = open(FAR_V4, &continuous(8), LONG).await;
        volley.start(false).await.unwrap();
        println!("begun");
        tokio::time::sleep(LONG).await;
    });
}

#[test]
fn a_killed_process_leaves_no_ball_in_the_air() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "safety::runs_until_it_is_killed", "--nocapture"])
        .env(NEAR, &line.near)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .any(|line| line.unwrap().contains("begun"));
    assert!(begun, "it has not begun");
    let before = arrived(&line.far);
    std::thread::sleep(Duration::from_millis(50));
    assert!(arrived(&line.far) > before + scaled(1_000), "balls fly");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_silent(&line.far);
    child.wait().unwrap();
}

#[test]
fn one_loss_does_not_stall_the_only_ball() {
    let Some(line) = Line::new() else { return };
    let right = Every {
        dropped: 50,
        ..Every::default()
    };
    let _injector = Injector::between(&line, right, Every::default());
    let _far = line.reflector(AttachMode::XdpNative);
    let snapshot = line.near(async || {
        let mut volley = open(FAR_V4, &continuous(1), LONG).await;
        volley.start(false).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        volley.stop(true).await
    });
    // A ball that waited for the loss of each 50th probe would have sent 100.
    assert!(snapshot.totals.sent > scaled(1_000), "{:?}", snapshot.totals);
    assert!(snapshot.totals.lost > 0, "{:?}", snapshot.totals);
}

#[test]
fn copies_do_not_become_balls() {
    let Some(line) = Line::new() else { return };
    let copied = Every {
        copied: 2,
        ..Every::default()
    };
    let _injector = Injector::between(&line, copied, copied);
    let _far = line.reflector(AttachMode::XdpNative);
    let snapshot = line.near(async || {
        let mut volley = open(FAR_V4, &continuous(2), LONG).await;
        volley.start(false).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            // On a machine that stands still, balls are replaced; probes that were replaced stay pending.
            let flying = volley.flying_in_ring();
            assert!(flying <= 2, "{flying} balls in the air");
        }
        volley.stop(false).await
    });
    assert_sound(&snapshot, "copies");
    assert!(
        snapshot.totals.duplicates > snapshot.totals.received / 2,
        "{:?}",
        snapshot.totals
    );
    assert_eq!(snapshot.totals.lost, 0, "{:?}", snapshot.totals);
}

#[test]
fn a_rate_is_not_exceeded() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    // After a pause, four bursts are made up for. Long ones keep up with the rate on a busy machine, too.
    let long = Burst {
        probes: 20,
        period_ns: 2_000_000,
    };
    for mode in Mode::ALL {
        for burst in [None, Some(long)] {
            let inputs = PlanInputs {
                mode: Some(mode),
                rate_per_s: Some(10_000),
                burst,
                ..PlanInputs::default()
            };
            let (took, burst, sent) = line.near(async || {
                let mut volley = open(FAR_V4, &inputs, LONG).await;
                volley.start(false).await.unwrap();
                // Around both readings of the count, so that no pause of this thread makes the rate look higher.
                let start = Instant::now();
                let before = volley.snapshot().totals.sent;
                tokio::time::sleep(Duration::from_millis(500)).await;
                let sent = volley.snapshot().totals.sent - before;
                let took = start.elapsed();
                volley.stop(true).await;
                (took, volley.plan().burst.probes, sent as f64)
            });
            // One burst more may leave at once.
            let most = took.as_secs_f64() * 10_000.0 + 5.0 * f64::from(burst);
            println!("{mode} in bursts of {burst}: {sent} of at most {most:.0}");
            assert!(sent <= most && sent > most / 10.0, "{mode}: {sent} of at most {most}");
        }
    }
}
