//! A run ends when it is stopped, at its deadline although its process is suspended, and when its process is killed. No packet can
//! add balls.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use probe_core::attach::AttachMode;
use probe_core::volley::{Burst, Mode, PlanInputs};

use crate::injector::{Every, Injector};
use crate::line::{FAR_V4, Line, command, enter, is_emulated, runtime, scaled};
use crate::run::{assert_sound, open, whole};

const LONG: Duration = Duration::from_secs(60);
/// Long enough to stop a process in it.
const SHORT: Duration = Duration::from_secs(2);
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

/// Waits until many more frames have arrived.
fn assert_flying(far: &str, within: Duration) {
    let (before, start) = (arrived(far), Instant::now());
    while arrived(far) <= before + scaled(1_000) {
        assert!(start.elapsed() < within, "nothing flies");
    }
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

/// The namespace of the process that is to be suspended or killed.
const NEAR: &str = "KSTAMP_VOLLEY_NEAR";

/// The process that [`a_killed_process_leaves_no_ball_in_the_air`] starts.
#[test]
fn runs_until_it_is_killed() {
    run_to_be_killed(&continuous(8));
}

/// The process that [`an_interface_works_after_a_process_was_killed_in_mode_sendmmsg`] starts.
#[test]
fn sends_datagrams_until_it_is_killed() {
    run_to_be_killed(&datagrams());
}

fn datagrams() -> PlanInputs {
    PlanInputs {
        mode: Some(Mode::Sendmmsg),
        rate_per_s: Some(scaled(50_000)),
        ..PlanInputs::default()
    }
}

fn run_to_be_killed(inputs: &PlanInputs) {
    let Ok(near) = std::env::var(NEAR) else { return };
    enter(&near);
    runtime().block_on(async {
        let mut volley = open(FAR_V4, inputs, LONG).await;
        volley.start(false).await.unwrap();
        println!("begun");
        tokio::time::sleep(LONG).await;
    });
}

/// The process that [`balls_of_a_suspended_process_end_at_the_deadline`] starts.
#[test]
fn runs_for_a_short_time() {
    let Ok(near) = std::env::var(NEAR) else { return };
    enter(&near);
    runtime().block_on(async {
        let mut volley = open(FAR_V4, &continuous(8), SHORT).await;
        volley.start(false).await.unwrap();
        println!("begun");
        while !volley.is_over() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(volley.failure(), None);
        let snapshot = volley.stop(false).await;
        assert_sound(&snapshot, "stopped process");
        assert_eq!(snapshot.totals.received, snapshot.totals.sent, "{:?}", snapshot.totals);
    });
}

/// A process with a run in the near namespace; killed when dropped.
struct Runner {
    child: Child,
    /// Kept open, because the process writes to it until it ends.
    output: BufReader<ChildStdout>,
}

impl Runner {
    /// Starts the process of a test of this module, and waits until its run has begun.
    fn begun(line: &Line, test: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("safety::{test}"), "--nocapture"])
            .env(NEAR, &line.near)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut runner = Self { child, output };
        let begun = runner
            .output
            .by_ref()
            .lines()
            .any(|line| line.unwrap().contains("begun"));
        assert!(begun, "it has not begun");
        runner
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_process_leaves_no_ball_in_the_air() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    let mut runner = Runner::begun(&line, "runs_until_it_is_killed");
    assert_flying(&line.far, Duration::from_millis(50));
    runner.signal(Signal::SIGKILL);
    std::thread::sleep(Duration::from_millis(100));
    assert_silent(&line.far);
    runner.end();
}

/// Before Linux 6.6, a TC filter of the killed process stays.
#[test]
fn an_interface_works_after_a_process_was_killed_in_mode_sendmmsg() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    let mut runner = Runner::begun(&line, "sends_datagrams_until_it_is_killed");
    assert_flying(&line.far, Duration::from_secs(1));
    runner.signal(Signal::SIGKILL);
    runner.end();
    assert_silent(&line.far);
    for inputs in [datagrams(), continuous(8)] {
        let mode = inputs.mode.unwrap();
        let snapshot = line.near(async || whole(open(FAR_V4, &inputs, Duration::from_millis(300)).await).await);
        assert_sound(&snapshot, mode.name());
        let totals = snapshot.totals;
        assert!(totals.sent > scaled(1_000), "{mode}: {totals:?}");
        assert_eq!(totals.received, totals.sent, "{mode}: {totals:?}");
        assert_eq!(
            (totals.duplicates, totals.refused.total()),
            (0, 0),
            "{mode}: {totals:?}"
        );
        assert_silent(&line.far);
    }
}

#[test]
fn balls_of_a_suspended_process_end_at_the_deadline() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    let mut runner = Runner::begun(&line, "runs_for_a_short_time");
    let begun = Instant::now();
    // The thread that sends the balls has run.
    assert_flying(&line.far, Duration::from_secs(1));
    runner.signal(Signal::SIGSTOP);
    let stopped = waitpid(runner.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(stopped, WaitStatus::Stopped(runner.pid(), Signal::SIGSTOP));
    // The kernel turns balls around without the process, until the deadline.
    std::thread::sleep((SHORT / 2).saturating_sub(begun.elapsed()));
    assert_flying(&line.far, Duration::from_secs(1));
    std::thread::sleep((SHORT + Duration::from_millis(50)).saturating_sub(begun.elapsed()));
    assert_silent(&line.far);
    let stopped = waitpid(runner.pid(), Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG)).unwrap();
    assert_eq!(stopped, WaitStatus::StillAlive, "it is still stopped");
    runner.signal(Signal::SIGCONT);
    let status = runner.end();
    assert!(status.success(), "{status}");
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
