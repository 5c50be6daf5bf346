//! Whole runs.

use std::time::Duration;

use probe_common::ntp::ErrorEstimate;
use probe_core::attach::AttachMode;
use probe_core::volley::{Capabilities, Mode, PlanInputs, Snapshot, plan};
use probe_io::volley::{Volley, VolleyConfig, capabilities};

use crate::line::{FAR_V4, FAR_V6, Line, scaled, target};

/// A run of `inputs` to `address`, not begun.
pub(crate) async fn open(address: &str, inputs: &PlanInputs, duration: Duration) -> Volley {
    let able = capabilities("port1", address.parse().unwrap()).await.unwrap();
    open_as(address, inputs, &able, duration).await
}

/// The same for a device that is able to do this.
pub(crate) async fn open_as(address: &str, inputs: &PlanInputs, able: &Capabilities, duration: Duration) -> Volley {
    Volley::open(VolleyConfig {
        interface: "port1".to_owned(),
        target: target(address),
        source_port: None,
        plan: plan(inputs, None, able).unwrap(),
        duration_ns: Some(duration.as_nanos() as u64),
        sample_every: Some(1000),
        one_way: true,
        error: ErrorEstimate(0x8001),
    })
    .await
    .unwrap()
}

/// Runs to the end.
pub(crate) async fn whole(mut volley: Volley) -> Snapshot {
    volley.start(false).await.unwrap();
    while !volley.is_over() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(volley.failure(), None);
    let snapshot = volley.stop(false).await;
    assert_eq!(volley.pending_in_ring(), snapshot.totals.pending);
    snapshot
}

pub(crate) fn assert_sound(snapshot: &Snapshot, what: &str) {
    let totals = &snapshot.totals;
    assert_eq!(
        totals.sent,
        totals.received + totals.lost + totals.pending,
        "{what}: {totals:?}"
    );
    assert_eq!(
        totals.lost,
        totals.lost_forward + totals.lost_backward + totals.lost_unknown,
        "{what}"
    );
    assert_eq!(snapshot.rtt.count(), totals.received, "{what}");
    assert_eq!(snapshot.residence.count(), totals.received, "{what}");
    assert_eq!(snapshot.forward.as_ref().unwrap().count(), totals.received, "{what}");
}

#[test]
fn every_mode_measures_with_both_ip_versions() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    for mode in Mode::ALL {
        for address in [FAR_V4, FAR_V6] {
            let what = format!("{mode} to {address}");
            let inputs = PlanInputs {
                mode: Some(mode),
                rate_per_s: Some(scaled(20_000)),
                ..PlanInputs::default()
            };
            let snapshot = line.near(async || whole(open(address, &inputs, Duration::from_millis(500)).await).await);
            println!("{what}: {:?} {:?}", snapshot.totals, snapshot.rtt.summary());
            assert_sound(&snapshot, &what);
            let totals = snapshot.totals;
            assert!(
                (scaled(5_000)..=scaled(10_100)).contains(&totals.sent),
                "{what}: {totals:?}"
            );
            assert_eq!(totals.received, totals.sent, "{what}: {totals:?}");
            assert_eq!((totals.duplicates, totals.refused.total()), (0, 0), "{what}");
            let (rtt, forward) = (
                snapshot.rtt.summary().unwrap(),
                snapshot.forward.unwrap().summary().unwrap(),
            );
            // A round trip takes longer than both programs, and their clocks are one.
            assert!((300..20_000_000).contains(&rtt.p50), "{what}: {rtt:?}");
            assert!(forward.p50 < rtt.max, "{what}: {forward:?}");
        }
    }
}
