//! Runs while the interface or the next hop goes away.

use std::time::{Duration, Instant};

use probe_core::attach::AttachMode;
use probe_core::volley::{Mode, PlanInputs};
use probe_host::clock::monotonic_ns;
use probe_host::wall::WallOffset;
use probe_io::volley::Volley;

use crate::line::{FAR_V4, Line, command};
use crate::run::{assert_sound, open};

async fn begun(mode: Mode, rate_per_s: u64) -> Volley {
    let inputs = PlanInputs {
        mode: Some(mode),
        rate_per_s: Some(rate_per_s),
        timeout_ns: 100_000_000,
        ..PlanInputs::default()
    };
    let mut volley = open(FAR_V4, &inputs, Duration::from_secs(60)).await;
    volley.start(false).await.unwrap();
    volley
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_run_ends_when_its_interface_is_deleted() {
    for mode in Mode::ALL {
        let Some(line) = Line::new() else { return };
        let _far = line.reflector(AttachMode::XdpNative);
        let (failure, snapshot) = line.near(async || {
            let mut volley = begun(mode, 2_000).await;
            wait_for("replies", || volley.snapshot().totals.received > 10).await;
            command(&format!("ip -n {} link delete port1", line.near));
            wait_for(&format!("the end of a run in mode {mode}"), || volley.is_over()).await;
            (volley.failure(), volley.stop(false).await)
        });
        let failure = failure.unwrap();
        assert_eq!(failure, "the interface has left this network namespace", "{mode}");
        assert_sound(&snapshot, mode.name());
        assert_eq!(snapshot.totals.pending, 0, "{mode}: {:?}", snapshot.totals);
    }
}

/// The kernel keeps packets until the next hop has answered, so they get T1 long after they were sent.
#[test]
fn probes_that_wait_for_the_next_hop_are_lost_in_the_end() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    let snapshot = line.near(async || {
        let mut volley = begun(Mode::Sendmmsg, 1_000).await;
        wait_for("replies", || volley.snapshot().totals.received > 10).await;
        command(&format!("ip -n {} link set port2 arp off", line.far));
        command(&format!("ip -n {} neighbour flush dev port1", line.near));
        tokio::time::sleep(Duration::from_millis(400)).await;
        let before = volley.snapshot().totals;
        // No host has this address, so these probes are lost.
        command(&format!(
            "ip -n {} neighbour replace {FAR_V4} lladdr 02:00:00:00:00:99 dev port1",
            line.near
        ));
        wait_for("probes", || volley.snapshot().totals.sent >= before.sent + 50).await;
        volley.stop(false).await
    });
    assert_sound(&snapshot, "behind the next hop");
    assert!(snapshot.totals.lost >= 50, "{:?}", snapshot.totals);
    assert_eq!(snapshot.totals.pending, 0, "{:?}", snapshot.totals);
}

#[test]
fn one_way_delays_are_left_out_after_a_step_of_the_clock() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    for mode in Mode::ALL {
        let (before, stepped, whole) = line.near(async || {
            let mut volley = begun(mode, 1_000).await;
            wait_for("replies", || volley.snapshot().totals.received > 10).await;
            let before = volley.snapshot();
            // As if the clock had been 5 ms behind when the run began.
            let (now_ns, ahead_ns) = (monotonic_ns(), WallOffset::now().ahead_ns());
            let wall_ns = now_ns.wrapping_add_signed(ahead_ns) - 5_000_000;
            volley.set_wall(WallOffset::between(now_ns, wall_ns, now_ns));
            let stepped = volley.snapshot();
            // As if it had been set back again.
            volley.set_wall(WallOffset::now());
            (before, stepped, volley.stop(false).await)
        });
        assert_eq!(before.clock_step_ns, None, "{mode}");
        assert!(before.forward.is_some() && before.backward.is_some(), "{mode}");
        for snapshot in [stepped, whole] {
            let step_ns = snapshot.clock_step_ns.unwrap();
            assert!(step_ns.abs_diff(5_000_000) < 1_000_000, "{mode}: {step_ns}");
            assert_eq!((&snapshot.forward, &snapshot.backward), (&None, &None), "{mode}");
            assert!(snapshot.totals.received >= before.totals.received, "{mode}");
            assert_eq!(snapshot.rtt.count(), snapshot.totals.received, "{mode}");
        }
    }
}
