//! The results of the probes of one method in one phase.

use std::collections::HashSet;

use crate::stats::distribution::Distribution;

/// An answered probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    pub seq: u32,
    /// `None` if a stamp is missing.
    pub rtt_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentProbe {
    pub seq: u32,
    /// Since the start of the phase.
    pub at_ns: u64,
}

/// One round trip of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Send time of the probe, since the start of the phase.
    pub at_ns: u64,
    pub rtt_ns: u64,
}

/// The result of one method in one phase: `sent = received + lost`.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub sent: u64,
    /// In time.
    pub received: u64,
    pub lost: u64,
    pub rtt: Distribution,
    /// The samples of `rtt` in sending order.
    pub series: Vec<Point>,
}

impl Tally {
    /// Duplicates, and round trips longer than `timeout_ns`, do not count.
    pub fn new(departures: &[SentProbe], arrivals: &[RoundTrip], timeout_ns: u64) -> Self {
        let mut tally = Self {
            sent: departures.len() as u64,
            ..Self::default()
        };
        let mut answered = HashSet::new();
        // Both in sending order.
        let mut arrivals: Vec<_> = arrivals.iter().collect();
        arrivals.sort_by_key(|arrival| arrival.seq);
        for arrival in arrivals {
            let Ok(place) = departures.binary_search_by_key(&arrival.seq, |departure| departure.seq) else {
                continue;
            };
            let is_late = arrival.rtt_ns.is_some_and(|rtt_ns| rtt_ns > timeout_ns);
            if is_late || !answered.insert(arrival.seq) {
                continue;
            }
            tally.received += 1;
            if let Some(rtt_ns) = arrival.rtt_ns {
                tally.rtt.record(rtt_ns as i64);
                let at_ns = departures[place].at_ns;
                tally.series.push(Point { at_ns, rtt_ns });
            }
        }
        tally.lost = tally.sent - tally.received;
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(seqs: std::ops::Range<u32>) -> Vec<SentProbe> {
        seqs.map(|seq| SentProbe {
            seq,
            at_ns: u64::from(seq) * 10,
        })
        .collect()
    }

    fn came(seq: u32, rtt_ns: u64) -> RoundTrip {
        let rtt_ns = Some(rtt_ns);
        RoundTrip { seq, rtt_ns }
    }

    #[test]
    fn sent_is_received_and_lost() {
        let arrivals = [
            came(12, 300),
            came(10, 100),
            came(12, 301), // a copy
            came(13, 5_001),
            came(99, 1), // of no probe of this phase
            RoundTrip { seq: 14, rtt_ns: None },
        ];
        let tally = Tally::new(&sent(10..16), &arrivals, 5_000);
        assert_eq!((tally.sent, tally.received, tally.lost), (6, 3, 3));
        assert_eq!(tally.rtt.count(), 2);
        let points: Vec<_> = tally.series.iter().map(|point| (point.at_ns, point.rtt_ns)).collect();
        assert_eq!(points, [(100, 100), (120, 300)]);
    }

    #[test]
    fn nothing_sent_is_nothing_lost() {
        let tally = Tally::new(&[], &[came(0, 1)], 5);
        assert_eq!((tally.sent, tally.received, tally.lost), (0, 0, 0));
        assert!(tally.rtt.summary().is_none());
    }
}
