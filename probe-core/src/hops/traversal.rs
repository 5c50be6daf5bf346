//! How a packet traversed one host: which devices saw it, and when.

use crate::direction::Direction;
use crate::hops::stamp::{Hook, Role};
use crate::hops::stamps::Stamps;

/// The hooks of a host by role, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Roles {
    legs: u16,
    tunnels: u16,
    nics: u16,
}

impl Roles {
    pub fn of(hooks: &[Hook]) -> Self {
        let mut roles = Self::default();
        for (place, hook) in hooks.iter().enumerate().take(u16::BITS as usize) {
            let of_role = match hook.role {
                Role::Leg => &mut roles.legs,
                Role::Tunnel => &mut roles.tunnels,
                Role::Nic => &mut roles.nics,
            };
            *of_role |= 1 << place;
        }
        roles
    }

    fn role(&self, hook: u8) -> Option<Role> {
        let roles = [
            (self.legs, Role::Leg),
            (self.tunnels, Role::Tunnel),
            (self.nics, Role::Nic),
        ];
        let is_in = |(hooks, _): &(u16, Role)| hooks & 1u16.checked_shl(hook.into()).unwrap_or(0) != 0;
        roles.into_iter().find(is_in).map(|(_, role)| role)
    }
}

/// Hooks of a host (by direction, one bit each).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Noted {
    /// Those that saw a packet.
    seen: [u16; 2],
    /// Those next to the underlay: several devices of a host may see packets in their tunnel, such as the NIC and the bridge
    /// in front of it.
    edges: [u16; 2],
}

/// Which hooks see probes: those that saw any in this window, or in the last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    current: Noted,
    last: Noted,
}

impl Expected {
    /// Notes where an answered probe was seen, by all hooks that see such probes. Returns its traversals with all that is
    /// expected now.
    pub fn note(&mut self, traversals: Traversals) -> Traversals {
        for (direction, traversal) in [traversals.forward, traversals.backward].into_iter().enumerate() {
            self.current.seen[direction] |= traversal.seen;
            self.current.edges[direction] |= traversal.edge.map_or(0, |(hook, _)| 1 << hook);
        }
        self.of(traversals)
    }

    /// The traversals of a probe with what is expected of them.
    pub fn of(&self, mut traversals: Traversals) -> Traversals {
        for (direction, traversal) in [&mut traversals.forward, &mut traversals.backward]
            .into_iter()
            .enumerate()
        {
            traversal.expected = self.current.seen[direction] | self.last.seen[direction];
            traversal.edges = self.current.edges[direction] | self.last.edges[direction];
        }
        traversals
    }

    /// A window with answered probes has ended.
    pub fn roll(&mut self) {
        if self.current != Noted::default() {
            self.last = std::mem::take(&mut self.current);
        }
    }
}

/// The stretch of the path that a packet passed before it came in by a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stretch {
    Underlay,
    Encapsulation,
    Switch,
}

/// One direction through one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traversal {
    /// Hooks that saw the packet.
    seen: u16,
    /// The leg that is next to the tunnel or NIC, of those that saw the packet, and when.
    leg: Option<(u8, u64)>,
    tunnel: Option<(u8, u64)>,
    /// The NIC that is next to the underlay.
    edge: Option<(u8, u64)>,
    /// Hooks that see such packets.
    expected: u16,
    /// NICs that are next to the underlay for such packets; 0 while none is known.
    edges: u16,
    is_out: bool,
    roles: Roles,
}

impl Traversal {
    /// `is_out`: the packet leaves the host.
    fn new(stamps: &Stamps, roles: Roles, direction: Direction, is_out: bool) -> Self {
        let mut traversal = Self {
            seen: 0,
            leg: None,
            tunnel: None,
            edge: None,
            expected: 0,
            edges: 0,
            is_out,
            roles,
        };
        for mark in stamps.marks().filter(|mark| mark.direction == direction) {
            let Some(role) = roles.role(mark.hook.0) else { continue };
            // A leg also sees outgoing packets at its ingress.
            if role != Role::Leg && mark.egress != is_out {
                continue;
            }
            traversal.seen |= 1 << mark.hook.0;
            let (best, is_latest) = match role {
                Role::Leg => (&mut traversal.leg, is_out),
                Role::Tunnel => (&mut traversal.tunnel, !is_out),
                Role::Nic => (&mut traversal.edge, is_out),
            };
            let is_better = |(_, at_ns)| match is_latest {
                true => mark.at_ns > at_ns,
                false => mark.at_ns < at_ns,
            };
            if best.is_none_or(is_better) {
                *best = Some((mark.hook.0, mark.at_ns));
            }
        }
        traversal
    }

    /// When the packet passed the NIC that is next to the underlay; `None` if that has no stamp.
    fn nic_ns(&self) -> Option<u64> {
        let is_edge = |hook: u8| self.edges == 0 || self.edges & (1 << hook) != 0;
        at_ns(self.edge.filter(|&(hook, _)| is_edge(hook)))
    }

    /// Where the host's part ends: at the outermost device that sees such packets. `None` if it did not see this one.
    pub fn edge_ns(&self) -> Option<u64> {
        if self.edge.is_some() || self.expects(Role::Nic) {
            self.nic_ns()
        } else {
            self.switch_ns()
        }
    }

    /// Where the switch's part ends, as seen from the port: at the tunnel device, or at the edge if no tunnel device sees such
    /// packets. `None` if it did not see this one.
    pub fn switch_ns(&self) -> Option<u64> {
        if self.tunnel.is_some() || self.expects(Role::Tunnel) {
            at_ns(self.tunnel)
        } else if self.edge.is_some() || self.expects(Role::Nic) {
            self.nic_ns()
        } else {
            at_ns(self.leg)
        }
    }

    /// The stretch that ends at the stamp `at_ns` or contains it; `None` if it is not known.
    pub fn stretch_before(&self, at_ns: u64) -> Option<Stretch> {
        let (edge_ns, switch_ns) = (self.edge_ns()?, self.switch_ns()?);
        match self.is_out {
            true if at_ns <= switch_ns => Some(Stretch::Switch),
            true if at_ns <= edge_ns => Some(Stretch::Encapsulation),
            true => None,
            false if at_ns <= edge_ns => Some(Stretch::Underlay),
            false if at_ns <= switch_ns => Some(Stretch::Encapsulation),
            false => Some(Stretch::Switch),
        }
    }

    /// At the tunnel device and at the NIC.
    pub fn encapsulation_ns(&self) -> Option<(u64, u64)> {
        at_ns(self.tunnel).zip(self.nic_ns())
    }

    /// Whether it was seen by a device of this role; of NICs, by one that is next to the underlay.
    pub fn is_at(&self, role: Role) -> bool {
        match role {
            Role::Nic => self.nic_ns().is_some(),
            Role::Leg | Role::Tunnel => self.seen & self.of_role(role) != 0,
        }
    }

    /// Whether devices of this role see such packets.
    pub fn expects(&self, role: Role) -> bool {
        self.expected & self.of_role(role) != 0
    }

    /// Whether all legs saw it that see such packets.
    pub fn is_at_all_legs(&self) -> bool {
        self.is_at(Role::Leg) && self.expected & self.roles.legs & !self.seen == 0
    }

    fn of_role(&self, role: Role) -> u16 {
        match role {
            Role::Leg => self.roles.legs,
            Role::Tunnel => self.roles.tunnels,
            Role::Nic => self.roles.nics,
        }
    }
}

fn at_ns(seen: Option<(u8, u64)>) -> Option<u64> {
    seen.map(|(_, at_ns)| at_ns)
}

/// Both directions through one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traversals {
    pub forward: Traversal,
    pub backward: Traversal,
}

impl Traversals {
    /// Of the prober, whose probes leave.
    pub fn own(stamps: &Stamps, roles: Roles) -> Self {
        Self {
            forward: Traversal::new(stamps, roles, Direction::Forward, true),
            backward: Traversal::new(stamps, roles, Direction::Backward, false),
        }
    }

    /// Of the reflector.
    pub fn far(stamps: &Stamps, roles: Roles) -> Self {
        Self {
            forward: Traversal::new(stamps, roles, Direction::Forward, false),
            backward: Traversal::new(stamps, roles, Direction::Backward, true),
        }
    }

    pub fn at(&self, direction: Direction) -> &Traversal {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        }
    }
}
