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

/// Which hooks see probes (by direction, one bit each): those that saw any in this window, or in the last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    current: [u16; 2],
    last: [u16; 2],
}

impl Expected {
    /// Notes where an answered probe was seen. Returns its traversals with all that is expected now.
    pub fn note(&mut self, traversals: Traversals) -> Traversals {
        self.current[0] |= traversals.forward.seen;
        self.current[1] |= traversals.backward.seen;
        self.of(traversals)
    }

    /// The traversals of a probe with what is expected of them.
    pub fn of(&self, mut traversals: Traversals) -> Traversals {
        traversals.forward.expected = self.current[0] | self.last[0];
        traversals.backward.expected = self.current[1] | self.last[1];
        traversals
    }

    /// A window with answered probes has ended.
    pub fn roll(&mut self) {
        if self.current != [0; 2] {
            self.last = std::mem::take(&mut self.current);
        }
    }
}

/// One direction through one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traversal {
    /// Hooks that saw the packet.
    seen: u16,
    /// The leg that is next to the tunnel or NIC.
    leg_ns: Option<u64>,
    tunnel_ns: Option<u64>,
    /// The NIC that is next to the underlay.
    nic_ns: Option<u64>,
    /// Hooks that see such packets.
    expected: u16,
    roles: Roles,
}

impl Traversal {
    /// `is_out`: the packet leaves the host.
    fn new(stamps: &Stamps, roles: Roles, direction: Direction, is_out: bool) -> Self {
        let mut traversal = Self {
            seen: 0,
            leg_ns: None,
            tunnel_ns: None,
            nic_ns: None,
            expected: 0,
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
                Role::Leg => (&mut traversal.leg_ns, is_out),
                Role::Tunnel => (&mut traversal.tunnel_ns, !is_out),
                Role::Nic => (&mut traversal.nic_ns, is_out),
            };
            let at_ns = best.unwrap_or(mark.at_ns);
            *best = Some(if is_latest {
                at_ns.max(mark.at_ns)
            } else {
                at_ns.min(mark.at_ns)
            });
        }
        traversal
    }

    /// Where the host's part ends: at the outermost device that sees such packets. `None` if it did not see this one.
    pub fn edge_ns(&self) -> Option<u64> {
        if self.nic_ns.is_some() || self.expects(Role::Nic) {
            self.nic_ns
        } else {
            self.switch_ns()
        }
    }

    /// Where the switch's part ends, as seen from the port: at the tunnel device, or at the edge if no tunnel device sees such
    /// packets. `None` if it did not see this one.
    pub fn switch_ns(&self) -> Option<u64> {
        if self.tunnel_ns.is_some() || self.expects(Role::Tunnel) {
            self.tunnel_ns
        } else if self.nic_ns.is_some() || self.expects(Role::Nic) {
            self.nic_ns
        } else {
            self.leg_ns
        }
    }

    /// At the tunnel device and at the NIC.
    pub fn encapsulation_ns(&self) -> Option<(u64, u64)> {
        self.tunnel_ns.zip(self.nic_ns)
    }

    /// Whether it was seen by a device of this role.
    pub fn is_at(&self, role: Role) -> bool {
        self.seen & self.of_role(role) != 0
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
