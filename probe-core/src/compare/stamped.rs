//! The method `socket`: joins the kernel's stamps to round trips.

use std::collections::HashMap;

use crate::compare::ledger::RoundTrip;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampedProbe {
    pub seq: u32,
    /// T1, UTC, if the device stamps.
    pub t1_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampedReply {
    pub seq: u32,
    /// T2, UTC of the far host.
    pub t2_ns: Option<u64>,
    /// T4, UTC.
    pub t4_ns: Option<u64>,
    /// Sequence number and T3 of an earlier reply.
    pub previous: Option<(u32, u64)>,
}

/// Round trips `(T4 − T1) − (T3 − T2)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joined {
    /// One per reply; without a time if a stamp is missing or contradicts the others.
    pub arrivals: Vec<RoundTrip>,
    /// The near device stamped nothing that it sent.
    pub no_t1: bool,
    /// The far device stamped nothing that it sent.
    pub no_t3: bool,
}

/// The T3 of a reply is in a later one, so the last probe has no round trip.
pub fn join(departures: &[StampedProbe], replies: &[StampedReply]) -> Joined {
    let t1: HashMap<u32, u64> = departures
        .iter()
        .filter_map(|departure| Some((departure.seq, departure.t1_ns?)))
        .collect();
    let t3: HashMap<u32, u64> = replies.iter().filter_map(|reply| reply.previous).collect();
    let arrival = |reply: &StampedReply| {
        let rtt_ns = (|| {
            let away_ns = reply.t4_ns?.checked_sub(*t1.get(&reply.seq)?)?;
            let residence_ns = t3.get(&reply.seq)?.checked_sub(reply.t2_ns?)?;
            away_ns.checked_sub(residence_ns)
        })();
        RoundTrip { seq: reply.seq, rtt_ns }
    };
    Joined {
        arrivals: replies.iter().map(arrival).collect(),
        no_t1: t1.is_empty() && !departures.is_empty(),
        no_t3: t3.is_empty() && replies.len() > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(seq: u32, previous: Option<(u32, u64)>) -> StampedReply {
        let base = 1_000 * u64::from(seq);
        StampedReply {
            seq,
            t2_ns: Some(base + 700_000),
            t4_ns: Some(base + 160),
            previous,
        }
    }

    fn departures(count: u32) -> Vec<StampedProbe> {
        let t1_ns = |seq| Some(1_000 * u64::from(seq) + 100);
        (0..count).map(|seq| StampedProbe { seq, t1_ns: t1_ns(seq) }).collect()
    }

    #[test]
    fn a_round_trip_needs_the_next_reply() {
        let replies = [
            reply(0, None),
            reply(1, Some((0, 700_020))),
            reply(2, Some((1, 701_050))),
        ];
        let joined = join(&departures(3), &replies);
        let rtts: Vec<_> = joined.arrivals.iter().map(|arrival| arrival.rtt_ns).collect();
        assert_eq!(rtts, [Some(40), Some(10), None]);
        assert!(!joined.no_t1 && !joined.no_t3);
    }

    #[test]
    fn a_device_without_stamps_is_named_and_nothing_made_up() {
        let silent: Vec<_> = departures(2)
            .into_iter()
            .map(|departure| StampedProbe {
                t1_ns: None,
                ..departure
            })
            .collect();
        let joined = join(&silent, &[reply(0, None), reply(1, Some((0, 700_020)))]);
        assert!(joined.no_t1 && !joined.no_t3);
        assert!(joined.arrivals.iter().all(|arrival| arrival.rtt_ns.is_none()));
        let joined = join(&departures(2), &[reply(0, None), reply(1, None)]);
        assert!(!joined.no_t1 && joined.no_t3);
        assert_eq!(join(&[], &[]), Joined::default());
    }

    #[test]
    fn a_stepped_clock_gives_no_round_trip() {
        let replies = [reply(0, None), reply(1, Some((0, 699_000)))];
        assert_eq!(join(&departures(2), &replies).arrivals[0].rtt_ns, None);
        let replies = [reply(0, None), reply(1, Some((0, 900_000)))];
        assert_eq!(join(&departures(2), &replies).arrivals[0].rtt_ns, None);
    }
}
