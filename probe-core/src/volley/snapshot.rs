//! The counts and delays of a run up to a point in time.

use crate::volley::Histogram;

/// The counts of a run or of a part of it. Of a run, `sent = received + lost + pending`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub sent: u64,
    pub received: u64,
    /// Of `received`: replies without a delay, because their residence is longer than the round trip.
    pub implausible: u64,
    /// Probes without a reply within the timeout.
    pub lost: u64,
    pub lost_forward: u64,
    pub lost_backward: u64,
    pub lost_unknown: u64,
    /// Probes still waiting for a reply; of a difference, at its end.
    pub pending: u64,
    /// Replies after the timeout; their probes stay lost.
    pub late: u64,
    /// Replies beyond the first to the same probe (RFC 5560).
    pub duplicates: u64,
    /// Replies to a probe sent before one that was answered already (RFC 4737).
    pub reordered: u64,
    /// Samples for which the ring buffer had no room; their probes are counted all the same.
    pub samples_lost: u64,
    pub refused: Refused,
}

/// Packets with the ports of a reply that answer no probe, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// From another host, or to another address.
    pub not_from_peer: u64,
    pub bad_checksum: u64,
    /// Another length, a tag, options, fragments.
    pub malformed: u64,
    /// To a number that was not sent, or too long ago.
    pub unknown: u64,
    /// With another T1 than the probe's.
    pub wrong_t1: u64,
}

impl Refused {
    pub fn total(&self) -> u64 {
        self.not_from_peer + self.bad_checksum + self.malformed + self.unknown + self.wrong_t1
    }
}

/// The counts and delays of a run up to a point in time, or between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`; of a difference, its end.
    pub at_ns: u64,
    pub totals: Totals,
    /// Round-trip delay less the reflector's residence (RFC 2681).
    pub rtt: Histogram,
    /// T3 − T2.
    pub residence: Histogram,
    /// One-way delays, if both ends read one clock.
    pub forward: Option<Histogram>,
    pub backward: Option<Histogram>,
    /// By how much this host's wall clock was stepped since the run began, if one-way delays are left out for that.
    pub clock_step_ns: Option<i64>,
}

impl Snapshot {
    /// Leaves out the one-way delays if this host's wall clock was stepped by `step_ns` since the run began: T2 and T3 follow
    /// the step, T1 and T4 do not. Round trips and residences are differences of stamps of one clock.
    pub fn without_stepped(self, step_ns: Option<i64>) -> Self {
        let Some(step_ns) = step_ns.filter(|_| self.forward.is_some() || self.backward.is_some()) else {
            return self;
        };
        Self {
            forward: None,
            backward: None,
            clock_step_ns: Some(step_ns),
            ..self
        }
    }
}

/// What happened between two snapshots of one run: a row of a time series.
///
/// Replies count when they come, and losses when the timeout ends, so a row can have replies to probes of the row before. Its
/// `sent` plus the `pending` of the row before is `received + lost + pending`.
pub fn difference(later: &Snapshot, earlier: &Snapshot) -> Snapshot {
    let both = |later: &Option<Histogram>, earlier: &Option<Histogram>| {
        let (later, earlier) = (later.as_ref()?, earlier.as_ref()?);
        Some(later.since(earlier))
    };
    Snapshot {
        at_ns: later.at_ns,
        totals: later.totals.since(&earlier.totals),
        rtt: later.rtt.since(&earlier.rtt),
        residence: later.residence.since(&earlier.residence),
        forward: both(&later.forward, &earlier.forward),
        backward: both(&later.backward, &earlier.backward),
        clock_step_ns: later.clock_step_ns,
    }
}

impl Totals {
    /// Each count less the earlier one; `pending` as it is now. Later replies can correct the direction of earlier losses, so
    /// the differences are clamped: no count is below zero, and the directions add up to `lost`.
    fn since(&self, earlier: &Self) -> Self {
        let refused = Refused {
            not_from_peer: self.refused.not_from_peer.saturating_sub(earlier.refused.not_from_peer),
            bad_checksum: self.refused.bad_checksum.saturating_sub(earlier.refused.bad_checksum),
            malformed: self.refused.malformed.saturating_sub(earlier.refused.malformed),
            unknown: self.refused.unknown.saturating_sub(earlier.refused.unknown),
            wrong_t1: self.refused.wrong_t1.saturating_sub(earlier.refused.wrong_t1),
        };
        let lost = self.lost.saturating_sub(earlier.lost);
        let lost_forward = self.lost_forward.saturating_sub(earlier.lost_forward).min(lost);
        let lost_backward = self
            .lost_backward
            .saturating_sub(earlier.lost_backward)
            .min(lost - lost_forward);
        Self {
            sent: self.sent.saturating_sub(earlier.sent),
            received: self.received.saturating_sub(earlier.received),
            implausible: self.implausible.saturating_sub(earlier.implausible),
            lost,
            lost_forward,
            lost_backward,
            lost_unknown: lost - lost_forward - lost_backward,
            pending: self.pending,
            late: self.late.saturating_sub(earlier.late),
            duplicates: self.duplicates.saturating_sub(earlier.duplicates),
            reordered: self.reordered.saturating_sub(earlier.reordered),
            samples_lost: self.samples_lost.saturating_sub(earlier.samples_lost),
            refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(at_ns: u64, sent: u64, received: u64, (forward, backward): (u64, u64)) -> Snapshot {
        let lost = forward + backward;
        Snapshot {
            at_ns,
            totals: Totals {
                sent,
                received,
                lost,
                lost_forward: forward,
                lost_backward: backward,
                pending: sent - received - lost,
                implausible: received / 20,
                duplicates: received / 10,
                ..Totals::default()
            },
            rtt: Histogram::default(),
            residence: Histogram::default(),
            forward: None,
            backward: None,
            clock_step_ns: None,
        }
    }

    #[test]
    fn a_step_of_the_clock_leaves_out_one_way_delays_and_nothing_else() {
        let delays = |value| {
            let mut delays = Histogram::default();
            delays.record(value);
            delays
        };
        let (near, far) = (Some(delays(1_000)), Some(delays(2_000)));
        // The step, whether one-way delays are kept, whether they are left in, the step in the result.
        let table = [
            (None, true, true, None),
            (Some(1), true, false, Some(1)),
            (Some(-5_000_000), true, false, Some(-5_000_000)),
            (None, false, false, None),
            (Some(1), false, false, None),
        ];
        for (step_ns, is_kept, is_left_in, clock_step_ns) in table {
            let run = Snapshot {
                rtt: delays(3_000),
                residence: delays(500),
                forward: near.clone().filter(|_| is_kept),
                backward: far.clone().filter(|_| is_kept),
                ..snapshot(9, 40, 40, (0, 0))
            };
            let before = Snapshot {
                forward: is_kept.then(Histogram::default),
                backward: is_kept.then(Histogram::default),
                ..snapshot(5, 30, 30, (0, 0))
            };
            let stepped = run.clone().without_stepped(step_ns);
            let want = Snapshot {
                forward: near.clone().filter(|_| is_left_in),
                backward: far.clone().filter(|_| is_left_in),
                clock_step_ns,
                ..run
            };
            assert_eq!(stepped, want, "{step_ns:?}");
            let row = difference(&stepped, &before);
            assert_eq!(
                (row.forward.is_some(), row.backward.is_some(), row.clock_step_ns),
                (is_left_in, is_left_in, clock_step_ns),
                "{step_ns:?}"
            );
            let counts = (row.rtt.count(), row.residence.count(), row.totals.received);
            assert_eq!(counts, (1, 1, 10), "{step_ns:?}");
        }
    }

    #[test]
    fn a_row_has_what_came_between_and_what_waits_at_its_end() {
        let row = difference(&snapshot(9, 100, 80, (7, 3)), &snapshot(5, 60, 50, (2, 1)));
        let want = Totals {
            sent: 40,
            received: 30,
            lost: 7,
            lost_forward: 5,
            lost_backward: 2,
            pending: 10,
            implausible: 2,
            duplicates: 3,
            ..Totals::default()
        };
        assert_eq!((row.at_ns, row.totals), (9, want));
        assert_eq!((row.forward, row.backward), (None, None));
    }

    #[test]
    fn a_direction_that_was_corrected_leaves_the_sum_right() {
        // Forward losses turn out to be backward ones: the row has no negative number.
        let row = difference(&snapshot(9, 100, 90, (1, 6)), &snapshot(5, 90, 84, (5, 0))).totals;
        assert_eq!(
            (row.lost, row.lost_forward, row.lost_backward, row.lost_unknown),
            (2, 0, 2, 0)
        );
    }
}
