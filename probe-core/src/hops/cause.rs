//! The cause of an outlier.

use crate::direction::Direction;
use crate::hops::event::{Cause, Excess};
use crate::hops::stamp::{Part, Segment};
use crate::hops::stamps::Stamps;
use crate::hops::traversal::{Stretch, Traversals};

/// What one host has seen of the probe and its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub stamps: Stamps,
    pub traversals: Traversals,
}

/// Why `largest` took long. An upcall that explains it goes before a late processor. `own` and `far`: this host and the
/// reflector's, `None` if their devices did not see the probe.
pub(super) fn cause(largest: Excess, own: Option<&Seen>, far: Option<&Seen>) -> Cause {
    let upcall = match largest.part.segment {
        Segment::OwnSwitch => upcall(largest, own, false),
        Segment::FarSwitch => upcall(largest, far, true),
        _ => None,
    };
    let other = match largest.part.segment {
        Segment::OwnSwitch | Segment::OwnEncapsulation => Cause::Queue,
        Segment::Underlay => Cause::Underlay,
        Segment::FarSwitch | Segment::FarEncapsulation => Cause::FarSwitch,
        Segment::Reflector => Cause::Reflector,
    };
    upcall
        .or_else(|| cpu(largest, own, false))
        .or_else(|| cpu(largest, far, true))
        .unwrap_or(other)
}

/// The wait for ovs-vswitchd, if it explains the excess. `far`: `seen` is of the reflector's host.
fn upcall(largest: Excess, seen: Option<&Seen>, far: bool) -> Option<Cause> {
    let direction = largest.part.direction?;
    let wait_ns = u64::from(seen?.stamps.upcall_ns(direction));
    (explains(largest, wait_ns) && wait_ns <= largest.took_ns).then_some(Cause::Upcall {
        wait_ns,
        direction,
        far,
    })
}

/// A wait for a processor that lies in the largest part, if it explains the excess. `far`: `seen` is of the reflector's host.
fn cpu(largest: Excess, seen: Option<&Seen>, far: bool) -> Option<Cause> {
    let seen = seen?;
    [Direction::Forward, Direction::Backward]
        .into_iter()
        .find_map(|direction| {
            let (mark, wait_ns) = seen.stamps.softirq(direction)?;
            let segment = match (seen.traversals.at(direction).stretch_before(mark.at_ns)?, far) {
                (Stretch::Underlay, _) => Segment::Underlay,
                (Stretch::Encapsulation, false) => Segment::OwnEncapsulation,
                (Stretch::Encapsulation, true) => Segment::FarEncapsulation,
                (Stretch::Switch, false) => Segment::OwnSwitch,
                (Stretch::Switch, true) => Segment::FarSwitch,
            };
            let wait_ns = u64::from(wait_ns);
            let Part {
                segment: of_largest,
                direction: of_direction,
            } = largest.part;
            let is_there = segment == of_largest && of_direction.is_none_or(|other| other == direction);
            (is_there && explains(largest, wait_ns)).then_some(Cause::Cpu {
                // The probe may have come during the wait.
                wait_ns: wait_ns.min(largest.took_ns),
                direction,
                far,
            })
        })
}

/// A wait explains a delay if it is at least half of the excess. A peer may report any wait, but only of its own host.
fn explains(largest: Excess, wait_ns: u64) -> bool {
    let excess_ns = largest.took_ns.saturating_sub(largest.ordinary_ns.unwrap_or(0));
    wait_ns > 0 && wait_ns >= excess_ns / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hops::stamp::{Hook, HookId, Mark, Role};
    use crate::hops::traversal::Roles;

    const FORWARD: Option<Direction> = Some(Direction::Forward);
    const BACKWARD: Option<Direction> = Some(Direction::Backward);

    /// A leg, a tunnel device and a NIC. `waits`: by direction, the wait for the processor before the stamp at each of them.
    fn seen(waits: [[u64; 3]; 2], is_own: bool) -> Seen {
        let roles = [Role::Leg, Role::Tunnel, Role::Nic].map(|role| Hook {
            device: String::new(),
            role,
        });
        let mut stamps = Stamps::default();
        for (direction, waits) in [Direction::Forward, Direction::Backward].into_iter().zip(waits) {
            let is_out = is_own == (direction == Direction::Forward);
            for (hook, wait_ns) in waits.into_iter().enumerate() {
                let after = if is_out { hook } else { 2 - hook } as u64;
                let mark = Mark {
                    hook: HookId(hook as u8),
                    egress: is_out && hook > 0,
                    direction,
                    at_ns: 1_000_000 + 10 * after,
                };
                stamps.note(mark);
                stamps.note_softirq(mark, wait_ns);
            }
        }
        let traversals = match is_own {
            true => Traversals::own(&stamps, Roles::of(&roles)),
            false => Traversals::far(&stamps, Roles::of(&roles)),
        };
        Seen { stamps, traversals }
    }

    fn largest(segment: Segment, direction: Option<Direction>, took_ns: u64) -> Excess {
        Excess {
            part: Part { segment, direction },
            took_ns,
            ordinary_ns: Some(8),
        }
    }

    #[test]
    fn the_cause_is_an_upcall_only_if_the_wait_explains_the_excess() {
        let none = seen([[0; 3]; 2], true);
        let mut waited = none;
        waited.stamps.note_upcall(Direction::Forward, 500);
        let upcall = |far| Cause::Upcall {
            wait_ns: 500,
            direction: Direction::Forward,
            far,
        };
        let table = [
            (Segment::OwnSwitch, FORWARD, 1_008, upcall(false)),
            (Segment::OwnSwitch, FORWARD, 1_011, Cause::Queue),
            (Segment::FarSwitch, FORWARD, 500, upcall(true)),
            (Segment::FarSwitch, FORWARD, 499, Cause::FarSwitch),
            (Segment::OwnSwitch, BACKWARD, 1_008, Cause::Queue),
            (Segment::OwnEncapsulation, FORWARD, 1_008, Cause::Queue),
            (Segment::FarSwitch, FORWARD, 1_008, upcall(true)),
            (Segment::FarEncapsulation, FORWARD, 1_008, Cause::FarSwitch),
            (Segment::Underlay, None, 1_008, Cause::Underlay),
            (Segment::Reflector, None, 1_008, Cause::Reflector),
        ];
        for (segment, direction, took_ns, want) in table {
            let largest = largest(segment, direction, took_ns);
            assert_eq!(cause(largest, Some(&waited), Some(&waited)), want, "{largest:?}");
            let without = cause(largest, Some(&none), None);
            assert!(!matches!(without, Cause::Upcall { .. }), "{without:?}");
        }
    }

    #[test]
    fn the_cause_is_a_processor_only_where_the_wait_ended_and_if_it_explains_the_excess() {
        const WAIT: u64 = 500;
        let at = |direction: Direction, hook: usize| {
            let mut waits = [[0; 3]; 2];
            waits[direction as usize][hook] = WAIT;
            waits
        };
        let (forward, backward) = (Direction::Forward, Direction::Backward);
        // In the order in which the probe and its reply pass them.
        let places = [
            (false, forward, 0, Segment::OwnSwitch),
            (true, forward, 2, Segment::Underlay),
            (true, forward, 1, Segment::FarEncapsulation),
            (true, forward, 0, Segment::FarSwitch),
            (true, backward, 0, Segment::FarSwitch),
            (false, backward, 2, Segment::Underlay),
            (false, backward, 1, Segment::OwnEncapsulation),
            (false, backward, 0, Segment::OwnSwitch),
        ];
        let none = [[0; 3]; 2];
        for (far, direction, hook, segment) in places {
            let waits = at(direction, hook);
            let own = seen(if far { none } else { waits }, true);
            let reflector = seen(if far { waits } else { none }, false);
            let is_cpu = |segment, direction, took_ns| {
                let found = cause(largest(segment, direction, took_ns), Some(&own), Some(&reflector));
                match found {
                    Cause::Cpu {
                        wait_ns,
                        direction: of_wait,
                        far: of_host,
                    } => {
                        assert_eq!(
                            (wait_ns, of_host),
                            (WAIT.min(took_ns), far),
                            "{direction:?} {segment:?}"
                        );
                        direction.is_none_or(|direction| direction == of_wait)
                    }
                    _ => false,
                }
            };
            for other in Segment::ALL {
                for toward in [forward, backward] {
                    let want = other == segment && toward == direction;
                    assert_eq!(
                        is_cpu(other, Some(toward), 1_008),
                        want,
                        "{far} {direction:?} {hook}: {other:?} {toward:?}"
                    );
                }
            }
            assert!(is_cpu(segment, Some(direction), WAIT), "all of it");
            assert!(is_cpu(segment, Some(direction), 100), "the probe came during the wait");
            assert!(!is_cpu(segment, Some(direction), 1_011), "less than half of the excess");
            assert_eq!(is_cpu(Segment::Underlay, None, 1_008), segment == Segment::Underlay);
        }
    }

    #[test]
    fn an_upcall_is_named_before_a_processor() {
        let mut own = seen([[500, 0, 0], [0; 3]], true);
        own.stamps.note_upcall(Direction::Forward, 500);
        let found = cause(largest(Segment::OwnSwitch, FORWARD, 1_008), Some(&own), None);
        assert!(matches!(found, Cause::Upcall { .. }), "{found:?}");
    }
}
