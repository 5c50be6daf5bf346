//! One round trip, split into the segments of its path.

use crate::direction::Direction;
use crate::hops::stamp::{Part, Segment};

/// Where a round trip spent its time. The durations of [`Split::parts`] and `rest_ns` add up to `elapsed_ns`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// T4 − T1, residence included.
    pub elapsed_ns: u64,
    /// [`Split::hosts`], by direction.
    hosts: [[Option<u64>; HOST_SEGMENTS.len()]; 2],
    /// Both ways over the underlay.
    pub underlay_ns: Option<u64>,
    /// T3 − T2.
    pub reflector_ns: Option<u64>,
    /// What is not split: without the far half, all beyond this host's devices except the residence.
    pub rest_ns: u64,
    /// The underlay forward and backward, which add up to `underlay_ns`, in as far as the clocks of both hosts agree: by the
    /// clocks as they are.
    pub underlay_by_clocks_ns: Option<[i64; 2]>,
    /// The same by the estimate of the peer's clock.
    pub underlay_estimated_ns: Option<[i64; 2]>,
}

const HOST_SEGMENTS: [Segment; 4] = [
    Segment::OwnSwitch,
    Segment::OwnEncapsulation,
    Segment::FarSwitch,
    Segment::FarEncapsulation,
];

impl Split {
    /// Each part that is known, and its duration.
    pub fn parts(&self) -> impl Iterator<Item = (Part, u64)> {
        let of_hosts = [Direction::Forward, Direction::Backward]
            .into_iter()
            .zip(self.hosts)
            .flat_map(|(direction, durations)| {
                HOST_SEGMENTS
                    .into_iter()
                    .zip(durations)
                    .map(move |(segment, duration)| {
                        let direction = Some(direction);
                        (Part { segment, direction }, duration)
                    })
            });
        let of_both = [
            (Segment::Underlay, self.underlay_ns),
            (Segment::Reflector, self.reflector_ns),
        ];
        let of_both = of_both.map(|(segment, duration)| {
            let direction = None;
            (Part { segment, direction }, duration)
        });
        of_hosts
            .chain(of_both)
            .filter_map(|(part, duration)| Some((part, duration?)))
    }
}
