//! Replies and reports for tests.

use std::collections::BTreeMap;

use probe_core::observation::Reply;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::{ClockSteps, Counts, Delays, OneWayClock, Path, Patterns, Report};

/// A reply to a probe that was sent at `sent_ns`, which is also its number.
pub fn reply(sent_ns: u64, rtt_ns: u64) -> Reply {
    Reply {
        peer: "10.0.0.2".parse().unwrap(),
        ssid: 1,
        seq: sent_ns as u32,
        reflector_seq: sent_ns as u32,
        sent_mono_ns: sent_ns,
        received_mono_ns: sent_ns + rtt_ns,
        t1_ns: 1_000_000 + sent_ns,
        t2_ns: 0,
        t3_ns: 0,
        t4_ns: 1_000_000 + sent_ns + rtt_ns,
        reflector_error_ns: None,
        own_error_ns: None,
        wrong_z: false,
        clock_set: false,
    }
}

/// A window with these delays, in each direction and in all.
pub fn report(samples: &[i64]) -> Report {
    let mut delays = Distribution::default();
    samples.iter().for_each(|ns| delays.record(*ns));
    let (summary, native) = (delays.summary(), delays.native());
    let received = samples.len() as u64;
    Report {
        peer: "10.0.0.2".parse().unwrap(),
        path: Path::Unicast,
        start_ns: 0,
        end_ns: 100,
        counts: Counts {
            sent: received,
            received,
            ..Counts::default()
        },
        failures: BTreeMap::new(),
        rtt_ns: summary,
        residence_ns: summary,
        forward_ns: summary,
        backward_ns: summary,
        pdv_ns: None,
        ipdv_ns: None,
        forward_pdv_ns: None,
        backward_pdv_ns: None,
        clock: Some(OneWayClock::Synced { bound_ns: 5 }),
        steps: ClockSteps::default(),
        patterns: Patterns::default(),
        delays: Some(Box::new(Delays {
            rtt: native.clone(),
            residence: native.clone(),
            forward: native.clone(),
            backward: native,
        })),
    }
}
