//! The fit against a model of two clocks and a path whose truth is known.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

const NONE: [i64; 0] = [];
const MS: i64 = 1_000_000;
const S: u64 = 1_000_000_000;
const UTC: i64 = 1_700_000_000_000_000_000;

/// Repeatable random numbers (splitmix64), from 0 to 1.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A peer's clock and the path to it.
#[derive(Clone, Copy)]
struct World {
    /// The peer's clock less UTC when our monotonic clock is 0.
    offset_ns: i64,
    skew: f64,
    /// Smallest delays forward and backward, and the largest delay that queues add.
    delays_ns: (i64, i64),
    jitter_ns: f64,
}

impl World {
    fn theta_ns(&self, mono_ns: u64) -> i64 {
        UTC + self.offset_ns + (self.skew * mono_ns as f64) as i64
    }

    fn reply(&self, sent_ns: u64, dice: &mut Dice) -> Reply {
        // Squared: most delays are near the smallest, as with queues.
        let mut queue = || (self.jitter_ns * dice.roll().powi(2)) as i64;
        let arrived_ns = sent_ns.strict_add_signed(self.delays_ns.0 + queue());
        let left_ns = arrived_ns + 2_000;
        let received_ns = left_ns.strict_add_signed(self.delays_ns.1 + queue());
        let peer_clock = |mono_ns: u64| mono_ns.strict_add_signed(self.theta_ns(mono_ns));
        Reply {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ssid: 1,
            seq: 0,
            reflector_seq: 0,
            sent_mono_ns: sent_ns,
            received_mono_ns: received_ns,
            t1_ns: sent_ns.strict_add_signed(UTC),
            t2_ns: peer_clock(arrived_ns),
            t3_ns: peer_clock(left_ns),
            t4_ns: received_ns.strict_add_signed(UTC),
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        }
    }
}

const EVEN: World = World {
    offset_ns: 10 * MS,
    skew: 50e-6,
    delays_ns: (20 * MS, 30 * MS),
    jitter_ns: 0.0,
};

/// Feeds replies to probes sent every `interval_ns` in `seconds`; the steps that were noticed.
fn feed(fit: &mut ClockFit, world: &World, interval_ns: u64, seconds: std::ops::Range<u64>) -> Vec<i64> {
    let mut dice = Dice(seconds.start + 1);
    let sent = (seconds.start * S..seconds.end * S).step_by(interval_ns as usize);
    sent.filter_map(|sent_ns| fit.observe(&world.reply(sent_ns, &mut dice)))
        .collect()
}

/// Estimated less true offset, and the bound.
fn error_ns(fit: &ClockFit, world: &World, at_s: u64) -> (i64, i64) {
    let estimate = fit.estimate.unwrap();
    let error = estimate.offset_ns(at_s * S) - world.theta_ns(at_s * S);
    (error, estimate.bound_ns().cast_signed())
}

#[test]
fn offset_and_skew_are_recovered_to_within_the_asymmetry() {
    for (jitter_ns, skew_tolerance_ppb) in [(0.0, 10), (5e6, 3_000)] {
        for (offset_ns, skew) in [(10 * MS, 50e-6), (-3_600 * 1_000 * MS, -200e-6), (0, 0.0)] {
            let world = World {
                offset_ns,
                skew,
                jitter_ns,
                ..EVEN
            };
            let mut fit = ClockFit::default();
            assert_eq!(feed(&mut fit, &world, S / 10, 0..120), NONE);
            let (error, bound) = error_ns(&fit, &world, 120);
            let skew_error = fit.estimate.unwrap().skew_ppb() - (skew * 1e9) as i64;
            // The path is 10 ms longer backward, which neither end can know.
            assert!((error + 5 * MS).abs() < MS / 10, "{error} with {jitter_ns}");
            assert!(error.abs() <= bound, "{error} within {bound}");
            assert!(bound < 26 * MS, "{bound}: RTTmin / 2 is 25 ms");
            assert!(
                skew_error.abs() <= skew_tolerance_ppb,
                "{skew_error} ppb with {jitter_ns}"
            );
        }
    }
}

#[test]
fn the_bound_holds_from_the_first_estimate_on_with_any_queues() {
    for seed in 0..crate::cases(8).min(40).into() {
        let mut dice = Dice(seed);
        let world = World {
            offset_ns: ((dice.roll() - 0.5) * 1e12) as i64,
            skew: (dice.roll() - 0.5) * 900e-6,
            delays_ns: ((dice.roll() * 40e6) as i64, (dice.roll() * 40e6) as i64),
            jitter_ns: dice.roll() * 30e6,
        };
        let mut fit = ClockFit::default();
        for sent_ns in (0..300 * S).step_by(S as usize / 2) {
            let reply = world.reply(sent_ns, &mut dice);
            assert_eq!(fit.observe(&reply), None, "no step, seed {seed}");
            if let Some(estimate) = fit.estimate {
                let error = estimate.offset_ns(estimate.at_ns) - world.theta_ns(estimate.at_ns);
                assert!(
                    error.abs() <= estimate.bound_ns().cast_signed() + 2,
                    "seed {seed}: {error} {estimate:?}"
                );
            }
        }
    }
}

#[test]
fn one_way_delays_rest_on_the_estimate() {
    let mut fit = ClockFit::default();
    let world = World {
        delays_ns: (20 * MS, 20 * MS),
        ..EVEN
    };
    feed(&mut fit, &world, S / 2, 0..60);
    let queued = World {
        delays_ns: (27 * MS, 21 * MS),
        ..world
    };
    let reply = queued.reply(60 * S, &mut Dice(1));
    let estimate = fit.estimate_for(&reply).unwrap();
    assert!((estimate.forward_ns(&reply) - 27 * MS).abs() < MS / 100);
    assert!((estimate.backward_ns(&reply) - 21 * MS).abs() < MS / 100);
}

#[test]
fn a_step_of_the_peers_clock_is_noticed_and_the_fit_restarts() {
    for step in [10 * MS, -3 * MS, 86_400_000 * MS, -86_400_000 * MS] {
        let mut fit = ClockFit::default();
        let before = World { jitter_ns: 1e6, ..EVEN };
        assert_eq!(feed(&mut fit, &before, S / 2, 0..60), NONE);
        let after = World {
            offset_ns: before.offset_ns + step,
            ..before
        };
        let reply = after.reply(60 * S, &mut Dice(1));
        assert_eq!(fit.estimate_for(&reply), None, "no delay uses the old estimate");
        let steps = feed(&mut fit, &after, S / 2, 60..120);
        let [noticed] = *steps else { panic!("{step}: {steps:?}") };
        assert!((noticed - step).abs() < MS, "{noticed} for {step}");
        let (error, bound) = error_ns(&fit, &after, 120);
        assert!(error.abs() <= bound && bound < 27 * MS, "{error} within {bound}");
    }
}

#[test]
fn a_change_of_the_path_is_no_step() {
    for delays_ns in [
        (60 * MS, 30 * MS),
        (20 * MS, 90 * MS),
        (5 * MS, 30 * MS),
        (2 * MS, 3 * MS),
    ] {
        let mut fit = ClockFit::default();
        assert_eq!(feed(&mut fit, &EVEN, S / 2, 0..60), NONE);
        assert_eq!(feed(&mut fit, &World { delays_ns, ..EVEN }, S / 2, 60..120), NONE);
    }
}

#[test]
fn a_clock_that_is_slewed_is_followed() {
    let mut fit = ClockFit::default();
    let mut world = World {
        delays_ns: (50_000, 50_000),
        ..EVEN
    };
    feed(&mut fit, &world, S / 10, 0..60);
    // 50 ppm slower from then on: with so short a path no straight line passes both.
    world.skew = 0.0;
    world.offset_ns += 3 * MS;
    assert_eq!(feed(&mut fit, &world, S / 10, 60..400), NONE);
    let (error, bound) = error_ns(&fit, &world, 400);
    assert!(error.abs() <= bound && bound < 60_000, "{error} within {bound}");
}

#[test]
fn memory_is_bounded() {
    let mut fit = ClockFit::default();
    feed(&mut fit, &EVEN, 2 * S, 0..3_600);
    assert!(fit.minima.forward().count() <= 64);
}
