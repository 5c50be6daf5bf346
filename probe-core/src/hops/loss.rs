//! Where a probe was lost: after the last hook that saw it, before the next that did not.

use crate::direction::Direction;
use crate::hops::stamp::{Part, Role, Segment};
use crate::hops::traversal::Traversals;

/// What one host knows about a lost probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knowledge {
    pub traversals: Traversals,
    /// A hook that has no stamp did not see it.
    pub is_complete: bool,
}

/// A device role on the path, in one direction at one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    is_own: bool,
    direction: Direction,
    role: Role,
}

/// In the order in which a probe and its reply pass them.
const POINTS: [Point; 12] = {
    const fn point(is_own: bool, direction: Direction, role: Role) -> Point {
        Point {
            is_own,
            direction,
            role,
        }
    }
    use Direction::{Backward, Forward};
    use Role::{Leg, Nic, Tunnel};
    [
        point(true, Forward, Leg),
        point(true, Forward, Tunnel),
        point(true, Forward, Nic),
        point(false, Forward, Nic),
        point(false, Forward, Tunnel),
        point(false, Forward, Leg),
        point(false, Backward, Leg),
        point(false, Backward, Tunnel),
        point(false, Backward, Nic),
        point(true, Backward, Nic),
        point(true, Backward, Tunnel),
        point(true, Backward, Leg),
    ]
};

/// `None` if it is unknown. T1 was stamped: the probe left the port.
pub(super) fn place(own: &Knowledge, far: Option<&Knowledge>) -> Option<Part> {
    let of = |point: &Point| if point.is_own { Some(own) } else { far };
    let traversal = |point: &Point| of(point).map(|host| host.traversals.at(point.direction));
    let saw = |point: &Point| {
        traversal(point).is_some_and(|traversal| match (point.direction, point.role) {
            // Behind the last of them is the reflector.
            (Direction::Forward, Role::Leg) => traversal.is_at_all_legs(),
            _ => traversal.is_at(point.role),
        })
    };
    let last = POINTS.iter().rposition(saw);
    let rest = &POINTS[last.map_or(0, |last| last + 1)..];
    let next = rest
        .iter()
        .find(|point| traversal(point).is_some_and(|traversal| traversal.expects(point.role)));
    // Nothing is known of a far host between the two that did not say.
    let is_far_silent = far.is_none() && rest.first().is_some_and(|point| !is_behind_far(point));
    let is_conclusive = next.is_none_or(|next| of(next).is_some_and(|host| host.is_complete));
    if !is_conclusive {
        return None;
    }
    let last = last.map(|last| POINTS[last]);
    match next {
        Some(next) if next.is_own && next.direction == Direction::Forward => of_own_way_out(last, *next),
        _ if is_far_silent => None,
        next => beyond(last, next.copied()),
    }
}

fn is_behind_far(point: &Point) -> bool {
    point.is_own && point.direction == Direction::Backward
}

fn of_own_way_out(last: Option<Point>, next: Point) -> Option<Part> {
    let is_at_tunnel = last.is_some_and(|last| last.role == Role::Tunnel);
    let segment = match next.role {
        Role::Nic if is_at_tunnel => Segment::OwnEncapsulation,
        _ => Segment::OwnSwitch,
    };
    part(segment, Direction::Forward)
}

/// The probe had left this host's outermost hook, unless no hook sees its probes.
fn beyond(last: Option<Point>, next: Option<Point>) -> Option<Part> {
    use Direction::{Backward, Forward};
    let last = last?;
    let (segment, direction) = match (last.is_own, last.direction, next) {
        (true, Forward, Some(next)) if !next.is_own && next.direction == Forward => (Segment::Underlay, Forward),
        (false, Forward, Some(next)) if !next.is_own && next.direction == Forward => match (last.role, next.role) {
            (Role::Nic, Role::Tunnel) => (Segment::FarEncapsulation, Forward),
            _ => (Segment::FarSwitch, Forward),
        },
        // The next hook is behind the reflector. Without a leg, the switch is between the last hook and the port.
        (false, Forward, Some(next)) if !next.is_own => match last.role {
            Role::Leg => return Some(REFLECTOR),
            _ => (Segment::FarSwitch, Forward),
        },
        (false, Backward, Some(next)) if !next.is_own => match (last.role, next.role) {
            (Role::Tunnel, Role::Nic) => (Segment::FarEncapsulation, Backward),
            _ => (Segment::FarSwitch, Backward),
        },
        (false, Backward, Some(_)) => (Segment::Underlay, Backward),
        (true, Backward, next) => match (last.role, next.map(|next| next.role)) {
            (Role::Nic, Some(Role::Tunnel)) => (Segment::OwnEncapsulation, Backward),
            _ => (Segment::OwnSwitch, Backward),
        },
        _ => return None,
    };
    part(segment, direction)
}

const REFLECTOR: Part = Part {
    segment: Segment::Reflector,
    direction: None,
};

fn part(segment: Segment, direction: Direction) -> Option<Part> {
    let direction = Some(direction);
    Some(Part { segment, direction })
}

#[cfg(test)]
mod tests;
