//! Splits a round trip of the method `userspace` at six stamps into five parts, which add up to the round trip.

use crate::stats::distribution::Distribution;

/// The stamps of one probe, in nanoseconds of `CLOCK_MONOTONIC`: the first two and the last two of this host, the others
/// of the far host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// Just before the send call.
    pub called_ns: u64,
    /// The probe left the near port (TC egress).
    pub near_egress_ns: u64,
    /// The probe reached the far port (TC ingress).
    pub far_ingress_ns: u64,
    /// The reply left the far port (TC egress).
    pub far_egress_ns: u64,
    /// The reply reached the near port (TC ingress).
    pub near_ingress_ns: u64,
    /// Just after the receive call returned.
    pub returned_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// From the send call to the near port's egress.
    pub send_ns: u64,
    /// Between the ports, in both directions.
    pub path_ns: Transit,
    /// From the far port's ingress to its egress: waking the far process, its work, its send call.
    pub far_ns: u64,
    /// From the near port's ingress to the return of the receive call: waking the near process.
    pub receive_ns: u64,
}

/// The time between the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transit {
    /// Both ends read one clock, so each direction is known.
    Apart { forward_ns: u64, backward_ns: u64 },
    /// Both directions together.
    Together(u64),
}

impl Parts {
    /// `None` if the stamps contradict each other, as forged ones do.
    pub fn of(stamps: &Stamps, same_clock: bool) -> Option<Self> {
        let far_ns = stamps.far_egress_ns.checked_sub(stamps.far_ingress_ns)?;
        let away_ns = stamps.near_ingress_ns.checked_sub(stamps.near_egress_ns)?;
        let path_ns = if same_clock {
            Transit::Apart {
                forward_ns: stamps.far_ingress_ns.checked_sub(stamps.near_egress_ns)?,
                backward_ns: stamps.near_ingress_ns.checked_sub(stamps.far_egress_ns)?,
            }
        } else {
            Transit::Together(away_ns.checked_sub(far_ns)?)
        };
        Some(Self {
            send_ns: stamps.near_egress_ns.checked_sub(stamps.called_ns)?,
            path_ns,
            far_ns,
            receive_ns: stamps.returned_ns.checked_sub(stamps.near_ingress_ns)?,
        })
    }

    pub fn sum_ns(&self) -> u64 {
        let path_ns = match self.path_ns {
            Transit::Apart {
                forward_ns,
                backward_ns,
            } => forward_ns + backward_ns,
            Transit::Together(path_ns) => path_ns,
        };
        self.send_ns + path_ns + self.far_ns + self.receive_ns
    }
}

/// A distribution of each part over the watched probes of a phase.
#[derive(Debug, Clone, Default)]
pub struct Anatomy {
    /// Send call to egress.
    pub send: Distribution,
    /// Forward path, if both ends read one clock.
    pub forward: Distribution,
    /// Wait and work in the far process.
    pub far: Distribution,
    /// Backward path, if both ends read one clock.
    pub backward: Distribution,
    /// Both directions together, if not.
    pub path: Distribution,
    /// Arrival to the return of the receive call.
    pub receive: Distribution,
    /// Round trips of the same probes.
    pub watched: Distribution,
    /// Round trips of the other probes: the difference is the cost of watching.
    pub unwatched: Distribution,
    /// Watched probes whose stamps contradict each other.
    pub refused: u64,
    trips: Vec<Parts>,
}

impl Anatomy {
    pub fn record(&mut self, stamps: &Stamps, same_clock: bool) {
        match Parts::of(stamps, same_clock) {
            Some(parts) => self.add(parts),
            None => self.refused += 1,
        }
    }

    /// Without the quarter with the longest round trips and the quarter with the shortest, so that the means of the parts
    /// are typical and still add up.
    pub fn middle_half(&self) -> Self {
        let mut trips = self.trips.clone();
        trips.sort_by_key(Parts::sum_ns);
        let quarter = trips.len() / 4;
        let mut half = Self::default();
        trips
            .drain(quarter..trips.len() - quarter)
            .for_each(|parts| half.add(parts));
        half
    }

    fn add(&mut self, parts: Parts) {
        let record = |distribution: &mut Distribution, ns: u64| distribution.record(ns as i64);
        record(&mut self.send, parts.send_ns);
        match parts.path_ns {
            Transit::Apart {
                forward_ns,
                backward_ns,
            } => {
                record(&mut self.forward, forward_ns);
                record(&mut self.backward, backward_ns);
            }
            Transit::Together(path_ns) => record(&mut self.path, path_ns),
        }
        record(&mut self.far, parts.far_ns);
        record(&mut self.receive, parts.receive_ns);
        record(&mut self.watched, parts.sum_ns());
        self.trips.push(parts);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_part_lies_between_its_two_moments() {
        let stamps = Stamps {
            called_ns: 100,
            near_egress_ns: 103,
            far_ingress_ns: 110,
            far_egress_ns: 140,
            near_ingress_ns: 155,
            returned_ns: 255,
        };
        let parts = Parts::of(&stamps, true).unwrap();
        let apart = Transit::Apart {
            forward_ns: 7,
            backward_ns: 15,
        };
        assert_eq!(
            (parts.send_ns, parts.path_ns, parts.far_ns, parts.receive_ns),
            (3, apart, 30, 100)
        );
        let parts = Parts::of(&stamps, false).unwrap();
        assert_eq!((parts.path_ns, parts.sum_ns()), (Transit::Together(22), 155));
    }

    #[test]
    fn stamps_that_contradict_each_other_are_counted_and_not_used() {
        let mut anatomy = Anatomy::default();
        let stamps = Stamps {
            called_ns: 100,
            near_egress_ns: 99,
            far_ingress_ns: 110,
            far_egress_ns: 140,
            near_ingress_ns: 155,
            returned_ns: 255,
        };
        anatomy.record(&stamps, true);
        assert_eq!((anatomy.refused, anatomy.send.count()), (1, 0));
    }

    #[test]
    fn the_middle_half_has_neither_the_longest_nor_the_shortest() {
        let mut anatomy = Anatomy::default();
        assert_eq!(anatomy.middle_half().watched.count(), 0);
        for returned_ns in [50, 1_000_000, 60, 51, 80, 62, 49, 9_000] {
            let stamps = Stamps {
                called_ns: 0,
                near_egress_ns: 10,
                far_ingress_ns: 20,
                far_egress_ns: 30,
                near_ingress_ns: 40,
                returned_ns,
            };
            anatomy.record(&stamps, true);
        }
        let half = anatomy.middle_half().watched.summary().unwrap();
        assert_eq!((half.count, half.min, half.max), (4, 51, 80));
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_round_trip(
            start in 0..u64::MAX / 4,
            parts in prop::array::uniform5(0..10_000_000_000_u64),
            ahead in any::<u64>(),
            same_clock: bool,
        ) {
            // The far clock may be anywhere, unless it is the same.
            let ahead = if same_clock { 0 } else { ahead / 4 };
            let [send, forward, far, backward, _] = parts;
            let stamps = Stamps {
                called_ns: start,
                near_egress_ns: start + send,
                far_ingress_ns: start + send + forward + ahead,
                far_egress_ns: start + send + forward + far + ahead,
                near_ingress_ns: start + send + forward + far + backward,
                returned_ns: start + parts.iter().sum::<u64>(),
            };
            let round_trip = stamps.returned_ns - stamps.called_ns;
            prop_assert_eq!(Parts::of(&stamps, same_clock).map(|parts| parts.sum_ns()), Some(round_trip));
        }
    }
}
