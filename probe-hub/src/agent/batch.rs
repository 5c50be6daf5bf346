//! Makes batches of the windows of an interval.

use probe_core::stats::native::NativeHistogram;
use probe_core::stats::report::{Path, Report, Summary};
use probe_host::wall::WallOffset;
use prost::Message as _;

use crate::agent::probes::Picked;
use crate::agent::recorder::{Interval, Measured};
use crate::message::windows::{Batch, Clock, Delay, Histogram, Probe, Window, address_bytes};

/// About the most bytes of one batch. A server accepts 1 MiB by default.
const MAX_BATCH_LEN: usize = 256 << 10;

/// The windows of one interval.
pub fn windows(interval: &Interval, wall: &WallOffset) -> Vec<Window> {
    let window = |Measured { report, port, probes }: &Measured| Window {
        probes: single_probes(probes, wall),
        ..without_probes(report, port.as_ref().map(ToString::to_string).unwrap_or_default())
    };
    interval.windows.iter().map(window).collect()
}

fn without_probes(report: &Report, peer: String) -> Window {
    let (clock, clock_bound_ns) = Clock::of(report.clock);
    let plain = |summary: &Option<Summary>| summary.as_ref().map(|summary| Delay::new(summary, None));
    let rtt_histogram = report.delays.as_ref().map(|delays| Histogram::from(&delays.rtt));
    Window {
        address: address_bytes(report.peer),
        peer,
        group: report.path == Path::Group,
        counts: Some(report.counts.into()),
        rtt: report.rtt_ns.as_ref().map(|rtt| Delay::new(rtt, rtt_histogram)),
        residence: plain(&report.residence_ns),
        forward: plain(&report.forward_ns),
        backward: plain(&report.backward_ns),
        clock: clock.into(),
        clock_bound_ns,
        probes: Vec::new(),
    }
}

fn single_probes(picked: &Picked, wall: &WallOffset) -> Vec<Probe> {
    let slowest = picked.slowest.iter().map(|reply| Probe {
        seq: reply.seq,
        t1_ns: reply.t1_ns,
        t2_ns: reply.t2_ns,
        t3_ns: reply.t3_ns,
        t4_ns: reply.t4_ns,
        rtt_ns: reply.rtt_ns().unwrap_or_default(),
    });
    let lost = picked.lost.iter().map(|lost| Probe {
        seq: lost.seq,
        t1_ns: wall.wall_ns(lost.sent_ns),
        ..Probe::default()
    });
    slowest.chain(lost).collect()
}

/// The distribution of a roll-up.
pub fn delay(summary: &Summary, histogram: &NativeHistogram) -> Delay {
    Delay::new(summary, Some(histogram.into()))
}

/// Splits windows into batches that a server takes. `number` gives each its number.
pub fn batches(
    windows: Vec<Window>,
    (start_ns, end_ns): (u64, u64),
    boot: u64,
    mut number: impl FnMut() -> u64,
) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut len = 0;
    for window in windows {
        let window_len = window.encoded_len();
        len += window_len;
        match batches.last_mut().filter(|_| len <= MAX_BATCH_LEN) {
            Some(batch) => batch.windows.push(window),
            None => {
                len = window_len;
                batches.push(Batch {
                    boot,
                    number: number(),
                    start_ns,
                    end_ns,
                    windows: vec![window],
                });
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use probe_core::stats::report::Counts;

    use super::*;
    use crate::agent::probes::LostProbe;
    use crate::agent::test_data::{reply, report};

    const WALL: fn() -> WallOffset = || WallOffset::between(0, 1_000_000, 0);

    #[test]
    fn a_window_has_what_was_measured() {
        let picked = Picked {
            slowest: Some(reply(7, 50)),
            lost: vec![LostProbe { seq: 9, sent_ns: 90 }],
        };
        let interval = Interval {
            start_ns: 0,
            end_ns: 100,
            windows: vec![Measured {
                report: report(&[10, 20, 30]),
                port: Some("h2/p".parse().unwrap()),
                probes: picked,
            }],
        };
        let [window] = &windows(&interval, &WALL())[..] else {
            panic!("one window");
        };
        assert_eq!(window.address(), Some("10.0.0.2".parse().unwrap()));
        assert_eq!((window.peer.as_str(), window.path()), ("h2/p", Path::Unicast));
        assert_eq!(window.counts.unwrap().received, Counts::default().received + 3);
        let rtt = window.rtt.as_ref().unwrap();
        assert_eq!((rtt.min, rtt.max, rtt.mean, rtt.count), (10, 30, 20, 3));
        assert_eq!(rtt.histogram.as_ref().unwrap().native().unwrap().count(), 3);
        let forward = window.forward.as_ref().unwrap();
        assert_eq!((forward.count, &forward.histogram), (3, &None));
        assert_eq!((window.clock(), window.clock_bound_ns), (Clock::Synced, 5));
        let probes: Vec<_> = window
            .probes
            .iter()
            .map(|probe| (probe.seq, probe.t1_ns, probe.rtt_ns))
            .collect();
        assert_eq!(probes, [(7, 1_000_007, 50), (9, 1_000_090, 0)]);
    }

    #[test]
    fn many_windows_are_several_batches() {
        let window = without_probes(&report(&[10, 20, 3_000_000]), "h2/p".to_owned());
        let fit = MAX_BATCH_LEN / window.encoded_len();
        let mut last = 0;
        let mut number = || {
            last += 1;
            last
        };
        let all = batches(vec![window.clone(); 2 * fit + 1], (1, 2), 5, &mut number);
        let sizes: Vec<_> = all.iter().map(|batch| (batch.number, batch.windows.len())).collect();
        assert_eq!(sizes, [(1, fit), (2, fit), (3, 1)]);
        assert!(
            all.iter()
                .all(|batch| batch.encoded_len() < MAX_BATCH_LEN + 10 * fit + 100)
        );
        assert_eq!(batches(Vec::new(), (1, 2), 5, &mut number), []);
    }
}
