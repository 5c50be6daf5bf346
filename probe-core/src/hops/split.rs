//! One round trip, split into the segments of its path.

use crate::direction::Direction;
use crate::hops::stamp::{Part, Segment};
use crate::hops::traversal::Traversals;
use crate::observation::Reply;
use crate::stats::report::OneWayClock;

/// Where a round trip spent its time. The durations of [`Split::parts`] and `rest_ns` add up to `elapsed_ns`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// T4 − T1, residence included.
    pub elapsed_ns: u64,
    /// By direction.
    pub(super) own: [Host; 2],
    /// By direction.
    pub(super) far: [Host; 2],
    /// Both directions over the underlay together. If it is known, both halves are.
    pub underlay_ns: Option<u64>,
    /// T3 − T2.
    pub reflector_ns: Option<u64>,
    /// The rest, which is not split: without the far half, all beyond this host's devices except the residence.
    pub rest_ns: u64,
    /// The underlay forward and backward, as true as the clocks of both hosts: by the clocks as they are.
    pub underlay_by_clocks_ns: Option<[i64; 2]>,
    /// The same by the estimate of the peer's clock.
    pub underlay_estimated_ns: Option<[i64; 2]>,
    /// Some stamps contradict each other, as when a clock was set. Their half is not used.
    pub is_contradictory: bool,
}

/// One direction through one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Host {
    switch_ns: Option<u64>,
    encapsulation_ns: Option<u64>,
}

/// The stamps of an answered probe at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trip {
    /// T1 and T4, monotonic.
    pub sent_ns: u64,
    pub received_ns: u64,
    /// T2 and T3, if the reflector wrote both and they are consistent.
    reflector: Option<(u64, u64)>,
    /// One-way delays by the clocks as they are.
    by_clocks_ns: [i64; 2],
    estimated_ns: Option<[i64; 2]>,
}

impl Trip {
    pub fn new(reply: &Reply, estimated_ns: Option<[i64; 2]>) -> Self {
        Self {
            sent_ns: reply.sent_mono_ns,
            received_ns: reply.received_mono_ns,
            reflector: reply.residence_ns().map(|_| (reply.t2_ns, reply.t3_ns)),
            by_clocks_ns: [reply.forward_ns(), reply.backward_ns()],
            estimated_ns,
        }
    }

    pub fn elapsed_ns(&self) -> u64 {
        self.received_ns.saturating_sub(self.sent_ns)
    }

    pub fn split(&self, own: &Traversals, far: Option<&Traversals>) -> Split {
        let elapsed_ns = self.elapsed_ns();
        let mut split = Split {
            elapsed_ns,
            rest_ns: elapsed_ns,
            ..Split::default()
        };
        let own_half = self.own(own).map(|own| Split { own, ..split });
        let Some((half, rest_ns)) = own_half.and_then(|half| Some((half, self.rest(&half)?))) else {
            split.is_contradictory = true;
            return split;
        };
        split = Split { rest_ns, ..half };
        let residence_ns = self.reflector.map(|(t2_ns, t3_ns)| t3_ns - t2_ns);
        match rest_ns.checked_sub(residence_ns.unwrap_or(0)) {
            Some(rest_ns) => (split.reflector_ns, split.rest_ns) = (residence_ns, rest_ns),
            // It does not fit between the stamps of this host.
            None => split.is_contradictory = true,
        }
        if let Some(far) = far {
            match self.with_far(split, own, far) {
                Some(whole) => split = whole,
                None => split.is_contradictory = true,
            }
        }
        split
    }

    fn own(&self, own: &Traversals) -> Option<[Host; 2]> {
        let Traversals { forward, backward } = own;
        let is_ordered = |(before, after): (u64, u64)| before <= after;
        if !forward.edge_ns().zip(backward.edge_ns()).is_none_or(is_ordered) {
            return None;
        }
        let leaves = Host {
            switch_ns: between(Some(self.sent_ns), forward.switch_ns())?,
            encapsulation_ns: apart(forward.encapsulation_ns())?,
        };
        let returns = Host {
            switch_ns: between(backward.switch_ns(), Some(self.received_ns))?,
            encapsulation_ns: apart(
                backward
                    .encapsulation_ns()
                    .map(|(tunnel_ns, nic_ns)| (nic_ns, tunnel_ns)),
            )?,
        };
        Some([leaves, returns])
    }

    /// `None` if the far half contradicts what is known.
    fn with_far(&self, without: Split, own: &Traversals, far: &Traversals) -> Option<Split> {
        let mut split = without;
        let Traversals { forward, backward } = far;
        let (t2_ns, t3_ns) = self.reflector.unzip();
        split.far = [
            Host {
                switch_ns: between(forward.switch_ns(), t2_ns)?,
                encapsulation_ns: apart(
                    forward
                        .encapsulation_ns()
                        .map(|(tunnel_ns, nic_ns)| (nic_ns, tunnel_ns)),
                )?,
            },
            Host {
                switch_ns: between(t3_ns, backward.switch_ns())?,
                encapsulation_ns: apart(backward.encapsulation_ns())?,
            },
        ];
        let at_own = between(own.forward.edge_ns(), own.backward.edge_ns())?;
        let at_far = between(forward.edge_ns(), backward.edge_ns())?;
        if let Some((at_own_ns, at_far_ns)) = at_own.zip(at_far) {
            split.underlay_ns = at_own_ns.checked_sub(at_far_ns);
            if split.underlay_ns.is_none() {
                // Both ends are on one host, and both see the whole path.
                return Some(without);
            }
        }
        split.rest_ns = self.rest(&split)?;
        // Each host's part, from T1 or T2 or T3 or T4 to the edge, whether its segments are known or not.
        let [own_forward, own_backward] = [
            between(Some(self.sent_ns), own.forward.edge_ns())?,
            between(own.backward.edge_ns(), Some(self.received_ns))?,
        ];
        let [far_forward, far_backward] = [between(forward.edge_ns(), t2_ns)?, between(t3_ns, backward.edge_ns())?];
        if let Some(((own_forward, own_backward), (far_forward, far_backward))) =
            own_forward.zip(own_backward).zip(far_forward.zip(far_backward))
        {
            let less = |[forward, backward]: [i64; 2]| {
                [
                    forward.wrapping_sub_unsigned(own_forward.wrapping_add(far_forward)),
                    backward.wrapping_sub_unsigned(own_backward.wrapping_add(far_backward)),
                ]
            };
            split.underlay_by_clocks_ns = Some(less(self.by_clocks_ns));
            split.underlay_estimated_ns = self.estimated_ns.map(less);
        }
        Some(split)
    }

    /// What the parts leave of the round trip; `None` if they are longer.
    fn rest(&self, split: &Split) -> Option<u64> {
        let known = split
            .parts()
            .try_fold(0u64, |sum, (_, took_ns)| sum.checked_add(took_ns))?;
        split.elapsed_ns.checked_sub(known)
    }
}

/// From one stamp to the next: the inner value is `None` if one of them is missing, the outer if they are in the wrong order.
fn between(from_ns: Option<u64>, to_ns: Option<u64>) -> Option<Option<u64>> {
    apart(from_ns.zip(to_ns))
}

/// As [`between`].
fn apart(stamps: Option<(u64, u64)>) -> Option<Option<u64>> {
    match stamps {
        Some((from_ns, to_ns)) => to_ns.checked_sub(from_ns).map(Some),
        None => Some(None),
    }
}

/// Number of the parts that a split can have.
pub(super) const PARTS: usize = 10;

impl Split {
    /// Each part that is known, and its duration, in the order of [`Part`].
    pub fn parts(&self) -> impl Iterator<Item = (Part, u64)> {
        let known = |(part, took_ns): (Part, Option<u64>)| Some((part, took_ns?));
        self.all().into_iter().filter_map(known)
    }

    /// Each part, known or not, in the order of [`Part`].
    pub(super) fn all(&self) -> [(Part, Option<u64>); PARTS] {
        let ([own_f, own_b], [far_f, far_b]) = (self.own, self.far);
        let (forward, backward) = (Some(Direction::Forward), Some(Direction::Backward));
        [
            (Segment::OwnSwitch, forward, own_f.switch_ns),
            (Segment::OwnSwitch, backward, own_b.switch_ns),
            (Segment::OwnEncapsulation, forward, own_f.encapsulation_ns),
            (Segment::OwnEncapsulation, backward, own_b.encapsulation_ns),
            (Segment::Underlay, None, self.underlay_ns),
            (Segment::FarEncapsulation, forward, far_f.encapsulation_ns),
            (Segment::FarEncapsulation, backward, far_b.encapsulation_ns),
            (Segment::FarSwitch, forward, far_f.switch_ns),
            (Segment::FarSwitch, backward, far_b.switch_ns),
            (Segment::Reflector, None, self.reflector_ns),
        ]
        .map(|(segment, direction, took_ns)| (Part { segment, direction }, took_ns))
    }

    /// How long one part took.
    pub fn get(&self, segment: Segment, direction: Option<Direction>) -> Option<u64> {
        let part = Part { segment, direction };
        self.parts()
            .find(|(other, _)| *other == part)
            .map(|(_, took_ns)| took_ns)
    }

    /// The underlay forward and backward in nanoseconds, as `clock` has them.
    pub(super) fn underlay_by(&self, clock: OneWayClock) -> Option<[i64; 2]> {
        match clock {
            OneWayClock::SameClock | OneWayClock::Synced { .. } => self.underlay_by_clocks_ns,
            OneWayClock::Estimated { .. } => self.underlay_estimated_ns,
        }
    }

    /// Whether the devices of this host saw the probe and its reply.
    pub fn has_own_half(&self) -> bool {
        self.own.iter().all(|host| *host != Host::default())
    }

    /// Whether the devices of both hosts did.
    pub fn has_both_halves(&self) -> bool {
        self.underlay_ns.is_some()
    }
}

#[cfg(test)]
mod tests;
