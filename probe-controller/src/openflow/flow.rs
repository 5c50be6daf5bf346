//! Matches, actions and flow mods, as far as kstamp needs them (OpenFlow 1.3.5 §7.2.2–7.2.5, §7.3.4.1).

mod wire;

pub(super) use crate::openflow::flow::wire::UnknownFields;
use crate::openflow::id::{MacAddress, PortNumber};

/// `max_len` of an output to the controller that asks for the whole frame, unbuffered (`OFPCML_NO_BUFFER`).
pub const NO_BUFFER: u16 = 0xffff;
/// All tables, in a delete (`OFPTT_ALL`).
pub const ALL_TABLES: u8 = 0xff;
/// The highest priority.
pub const PRIORITY_LLDP: u16 = 65_535;
pub const ETH_TYPE_LLDP: u16 = 0x88cc;

/// Packets that a rule matches; `None` matches everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Match {
    pub in_port: Option<PortNumber>,
    /// Destination and mask.
    pub eth_dst: Option<(MacAddress, MacAddress)>,
    pub eth_src: Option<MacAddress>,
    pub eth_type: Option<u16>,
}

impl Match {
    /// Matches everything.
    pub fn any() -> Self {
        Self::default()
    }

    pub fn in_port(self, port: PortNumber) -> Self {
        Self {
            in_port: Some(port),
            ..self
        }
    }

    pub fn eth_dst(self, mac: MacAddress) -> Self {
        self.eth_dst_masked(mac, MacAddress::BROADCAST)
    }

    /// Adds a masked destination. Address bits outside the mask must be zero.
    pub fn eth_dst_masked(self, mac: MacAddress, mask: MacAddress) -> Self {
        Self {
            eth_dst: Some((mac, mask)),
            ..self
        }
    }

    /// Adds all group destinations, multicast and broadcast.
    pub fn eth_dst_group(self) -> Self {
        let group_bit = MacAddress([1, 0, 0, 0, 0, 0]);
        self.eth_dst_masked(group_bit, group_bit)
    }

    pub fn eth_src(self, mac: MacAddress) -> Self {
        Self {
            eth_src: Some(mac),
            ..self
        }
    }

    pub fn eth_type(self, eth_type: u16) -> Self {
        Self {
            eth_type: Some(eth_type),
            ..self
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Sends the packet out of a port; the whole packet to [`PortNumber::CONTROLLER`]. A switch sends a packet out of its
    /// ingress port only by [`PortNumber::IN_PORT`].
    Output(PortNumber),
}

/// `ofp_flow_mod_command`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowCommand {
    /// Adds a rule, or replaces the rule with the same match and priority.
    Add,
    /// Changes the actions of all rules that the match covers.
    Modify,
    /// Changes the actions of the rule of exactly this match and priority.
    ModifyStrict,
    /// Deletes all rules that the match covers.
    Delete,
    /// Deletes the rule of exactly this match and priority.
    DeleteStrict,
}

/// A change of the switch's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMod {
    /// See [`crate::openflow::cookie`].
    pub cookie: u64,
    /// Bits of `cookie` that a rule must share to be modified or deleted; ignored when adding.
    pub cookie_mask: u64,
    pub table: u8,
    pub command: FlowCommand,
    /// Seconds without a packet after which the rule is deleted; 0: never.
    pub idle_timeout_s: u16,
    /// Seconds after which the rule is deleted; 0: never.
    pub hard_timeout_s: u16,
    /// The rule with the highest priority applies.
    pub priority: u16,
    /// `OFPFF_…`.
    pub flags: u16,
    pub matching: Match,
    /// `OFPIT_APPLY_ACTIONS`; packets are dropped without actions.
    pub actions: Vec<Action>,
}

impl FlowMod {
    /// Adds a rule to table 0, without timeouts.
    pub fn add(cookie: u64, priority: u16, matching: Match, actions: Vec<Action>) -> Self {
        Self {
            cookie,
            cookie_mask: 0,
            table: 0,
            command: FlowCommand::Add,
            idle_timeout_s: 0,
            hard_timeout_s: 0,
            priority,
            flags: 0,
            matching,
            actions,
        }
    }

    /// Changes the actions of the rule of exactly this match and priority, if its cookie is this one. A switch does nothing
    /// if there is none.
    pub fn modify_strict(cookie: u64, priority: u16, matching: Match, actions: Vec<Action>) -> Self {
        Self {
            cookie_mask: u64::MAX,
            command: FlowCommand::ModifyStrict,
            ..Self::add(cookie, priority, matching, actions)
        }
    }

    /// Deletes the rule of exactly this match and priority, if its cookie is this one.
    pub fn delete_strict(cookie: u64, priority: u16, matching: Match) -> Self {
        Self {
            cookie_mask: u64::MAX,
            command: FlowCommand::DeleteStrict,
            ..Self::add(cookie, priority, matching, Vec::new())
        }
    }

    /// Deletes the rules of all tables whose cookies equal `cookie` in the bits of the mask.
    pub fn delete_by_cookie(cookie: u64, mask: u64) -> Self {
        Self {
            cookie_mask: mask,
            table: ALL_TABLES,
            command: FlowCommand::Delete,
            ..Self::add(cookie, 0, Match::any(), Vec::new())
        }
    }
}
