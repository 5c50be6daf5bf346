//! Every probe is accounted for while the line drops, duplicates and reorders: sent = received + lost + pending, exactly.

use std::time::{Duration, Instant};

use probe_core::attach::AttachMode;
use probe_core::volley::{Mode, PlanInputs, Snapshot};

use crate::injector::{Done, Every, Injector};
use crate::line::{FAR_V4, FAR_V6, Line, scaled};
use crate::run::{assert_sound, open};

/// At least this many probes are sent in each mode, fewer on emulated processors.
const PROBES: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

const RIGHT: Every = Every {
    dropped: 1_009,
    copied: 1_013,
    overtaken: 89,
};
const LEFT: Every = Every {
    dropped: 1_019,
    copied: 1_021,
    overtaken: 97,
};

#[test]
fn every_probe_of_a_volley_is_accounted_for() {
    assert_accounted(Mode::Volley, FAR_V4);
}

#[test]
fn every_probe_of_a_train_is_accounted_for() {
    assert_accounted(Mode::Train, FAR_V6);
}

fn assert_accounted(mode: Mode, address: &str) {
    let Some(line) = Line::new() else { return };
    let injector = Injector::between(&line, RIGHT, LEFT);
    let _far = line.reflector(AttachMode::XdpNative);
    let inputs = PlanInputs {
        mode: Some(mode),
        rate_per_s: Some(scaled(300_000)),
        timeout_ns: 500_000_000,
        ..PlanInputs::default()
    };
    let (sent_before, snapshot) = line.near(async || {
        let mut volley = open(address, &inputs, PATIENCE).await;
        volley.start(false).await.unwrap();
        let start = Instant::now();
        loop {
            let now = volley.snapshot();
            let totals = now.totals;
            assert_eq!(
                totals.sent,
                totals.received + totals.lost + totals.pending,
                "{totals:?}"
            );
            if totals.sent >= scaled(PROBES) || start.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let snapshot = volley.stop(false).await;
        assert_eq!(volley.pending_in_ring(), snapshot.totals.pending);
        (volley.sent_before(), snapshot)
    });
    let done = injector.done();
    println!("{mode}: {:?} after {sent_before}\n{done:?}", snapshot.totals);
    assert_agree(&snapshot, sent_before, done, mode);
}

/// Asserts that the counts of the run are those of the line. None of the few probes before the run is dropped there.
fn assert_agree(snapshot: &Snapshot, sent_before: u64, [right, left]: [Done; 2], mode: Mode) {
    assert_sound(snapshot, mode.name());
    let totals = &snapshot.totals;
    assert!(totals.sent >= scaled(PROBES), "{totals:?}");
    assert_eq!(totals.pending, 0);
    assert_eq!(totals.sent + sent_before, right.seen, "{totals:?}");
    // One of a thousand replies to copies is dropped, too, which loses no probe.
    for (lost, dropped) in [
        (totals.lost_forward, right.dropped),
        (totals.lost_backward, left.dropped),
    ] {
        assert!(
            lost.abs_diff(dropped) <= 3,
            "{lost} lost, {dropped} dropped; {totals:?}"
        );
    }
    assert!(totals.reordered > 0, "{totals:?}");
}
