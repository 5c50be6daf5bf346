//! Every probe is accounted for while the line drops, duplicates and reorders. The line counts what it does, and the counts of
//! the run must be those: the sum sent = received + lost + pending alone would hold by construction, because `pending` is the
//! difference.

use std::time::{Duration, Instant};

use probe_core::attach::AttachMode;
use probe_core::volley::{Mode, PlanInputs, Snapshot};
use probe_io::volley::Volley;

use crate::injector::{Every, Injector};
use crate::line::{FAR_V4, FAR_V6, Line, is_emulated, scaled};
use crate::run::{assert_sound, open};

/// At least this many probes are sent with all faults, fewer on emulated processors.
const PROBES: u64 = 1_000_000;
/// A socket takes longer.
const DATAGRAMS: u64 = 300_000;
/// With few faults at once.
const FEW: u64 = 150_000;
const PATIENCE: Duration = Duration::from_secs(60);

const RIGHT: Every = Every {
    dropped: 1_009,
    copied: 1_013,
    overtaken: 89,
};
/// Seldom, so that hardly a reply to a copy is dropped or copied.
const LEFT: Every = Every {
    dropped: 9_973,
    copied: 4_999,
    overtaken: 97,
};
/// With [`RIGHT`] and [`LEFT`], a dropped or copied reply to a copied probe is expected 0.4 times in a million probes.
const TWICE: u64 = 3;

#[test]
fn every_probe_of_a_volley_is_accounted_for() {
    assert_accounted(Mode::Volley, FAR_V4, PROBES, [RIGHT, LEFT], TWICE);
}

#[test]
fn every_probe_of_a_train_is_accounted_for() {
    assert_accounted(Mode::Train, FAR_V6, PROBES, [RIGHT, LEFT], TWICE);
}

#[test]
fn every_datagram_is_accounted_for() {
    assert_accounted(Mode::Sendmmsg, FAR_V4, DATAGRAMS, [RIGHT, LEFT], TWICE);
}

/// No reply to a copied probe is dropped or copied, so each count is predicted exactly.
#[test]
fn losses_and_copies_are_those_of_the_line() {
    let there = [
        Every {
            dropped: 101,
            copied: 103,
            overtaken: 89,
        },
        Every {
            dropped: 0,
            copied: 0,
            overtaken: 97,
        },
    ];
    let back = [
        Every {
            dropped: 101,
            copied: 0,
            overtaken: 89,
        },
        Every {
            dropped: 107,
            copied: 109,
            overtaken: 97,
        },
    ];
    for mode in Mode::ALL {
        assert_accounted(mode, FAR_V6, FEW, there, 0);
        assert_accounted(mode, FAR_V4, FEW, back, 0);
    }
}

/// A reply that is copied although it answers a copy is the third reply to its probe. The reflector has counted only two.
#[test]
fn replies_copied_twice_leave_the_direction_of_losses() {
    let right = Every {
        dropped: 101,
        copied: 103,
        overtaken: 89,
    };
    let left = Every {
        dropped: 0,
        copied: 109,
        overtaken: 97,
    };
    for mode in Mode::ALL {
        assert_accounted(mode, FAR_V6, FEW, [right, left], 0);
    }
}

/// At least `probes` are sent. `twice`: see [`Injector::agree`].
fn assert_accounted(mode: Mode, address: &str, probes: u64, [right, left]: [Every; 2], twice: u64) {
    let Some(line) = Line::new() else { return };
    let injector = Injector::between(&line, right, left);
    let _far = line.reflector(AttachMode::XdpNative);
    let inputs = PlanInputs {
        mode: Some(mode),
        rate_per_s: Some(scaled(if mode == Mode::Sendmmsg { 100_000 } else { 300_000 })),
        timeout_ns: 500_000_000,
        ..PlanInputs::default()
    };
    let (sent_before, snapshot) = line.near(async || {
        let mut volley = open(address, &inputs, PATIENCE).await;
        volley.start(false).await.unwrap();
        let start = Instant::now();
        while assert_pending(&mut volley).totals.sent < scaled(probes) && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let snapshot = injector.end(&mut volley).await;
        assert_eq!(volley.pending_in_ring(), snapshot.totals.pending);
        (volley.sent_before(), snapshot)
    });
    let totals = snapshot.totals;
    let what = format!("{mode}: {totals:?} after {sent_before}\n{:?}", injector.done());
    println!("{what}, {} overtaken", injector.overtaken());
    assert_sound(&snapshot, mode.name());
    assert!(totals.sent >= scaled(probes), "{what}");
    if let Err(wrong) = injector.agree(&totals, sent_before, twice) {
        panic!("{wrong}\n{what}");
    }
    assert_reordered(&injector, mode, totals.reordered);
}

/// Asserts that no more probes are waiting than the counts allow, by the slots of the ring, which are independent of them.
fn assert_pending(volley: &mut Volley) -> Snapshot {
    let before = volley.snapshot();
    let pending = volley.pending_in_ring();
    let after = volley.snapshot();
    // Each processor may have entered a probe into its slot that it has not counted yet.
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    let most = after.totals.sent + processors - before.totals.received - before.totals.lost;
    assert!(
        pending <= most,
        "{pending} pending, at most {most}: {:?} and {:?}",
        before.totals,
        after.totals
    );
    after
}

/// Asserts that the probes that others overtook are counted as reordered, and no others.
fn assert_reordered(injector: &Injector, mode: Mode, reordered: u64) {
    let overtaken = injector.overtaken();
    if is_emulated() {
        // Most bursts are a single probe, which seldom meets others.
        assert!(reordered > 0 || mode == Mode::Sendmmsg || overtaken < 100);
        return;
    }
    // The kernel handles probes of a socket one by one, so most return from the detour before the next one leaves. Of frames
    // that a program sends at once, only the last ones are not overtaken.
    let least = if mode == Mode::Sendmmsg { 0 } else { overtaken / 2 };
    assert!(
        (least..=overtaken).contains(&reordered),
        "{mode}: {reordered} reordered of {overtaken}"
    );
}
