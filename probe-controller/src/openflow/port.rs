//! A switch's port and its changes (OpenFlow 1.3.5 §7.2.1, §7.4.3).

mod wire;

pub(super) use wire::PORT_LEN;

use crate::openflow::id::{MacAddress, PortNumber};

/// Taken down by the administrator (`OFPPC_PORT_DOWN`), in [`Port::config`].
pub const CONFIG_DOWN: u32 = 1;
/// Nothing is forwarded to it (`OFPPC_NO_FWD`), in [`Port::config`].
pub const CONFIG_NO_FORWARD: u32 = 0x20;
/// No carrier (`OFPPS_LINK_DOWN`), in [`Port::state`].
pub const STATE_LINK_DOWN: u32 = 1;
/// Blocked by the switch itself (`OFPPS_BLOCKED`), in [`Port::state`].
pub const STATE_BLOCKED: u32 = 2;
/// Live for fast failover (`OFPPS_LIVE`), in [`Port::state`]; many switches never set it.
pub const STATE_LIVE: u32 = 4;

/// `ofp_port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: PortNumber,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its name, at most 15 bytes; what is not UTF-8 or is a control character is replaced.
    pub name: String,
    /// What the administrator set: `CONFIG_…`.
    pub config: u32,
    /// What is: `STATE_…`.
    pub state: u32,
    /// Current bit rate in kbit/s, as the switch tells; 0 where it does not know.
    pub speed_kbps: u32,
}

impl Port {
    /// Whether it is an ordinary port that can carry frames now.
    pub const fn is_up(&self) -> bool {
        self.number.is_ordinary()
            && self.config & (CONFIG_DOWN | CONFIG_NO_FORWARD) == 0
            && self.state & (STATE_LINK_DOWN | STATE_BLOCKED) == 0
    }
}

/// What happened to a port (`ofp_port_reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortReason {
    /// It is new.
    Add,
    /// It is gone.
    Delete,
    /// Its configuration or state changed.
    Modify,
}
