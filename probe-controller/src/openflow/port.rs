//! Ports of a switch and their changes (OpenFlow 1.3.5 §7.2.1, §7.4.3).

use probe_core::text::plain;

use crate::openflow::id::{MacAddress, PortNumber};
use crate::openflow::wire::{DecodeError, Reader, Writer};

/// Taken down by the administrator (`OFPPC_PORT_DOWN`), in [`Port::config`].
pub const CONFIG_DOWN: u32 = 1;
/// The switch forwards no packets to it (`OFPPC_NO_FWD`), in [`Port::config`].
pub const CONFIG_NO_FORWARD: u32 = 0x20;
/// No carrier (`OFPPS_LINK_DOWN`), in [`Port::state`].
pub const STATE_LINK_DOWN: u32 = 1;
/// Blocked by the switch itself (`OFPPS_BLOCKED`), in [`Port::state`].
pub const STATE_BLOCKED: u32 = 2;
/// Live for fast failover (`OFPPS_LIVE`), in [`Port::state`]; many switches never set it.
pub const STATE_LIVE: u32 = 4;

/// Length of `ofp_port`, in bytes.
pub(in crate::openflow) const PORT_LEN: usize = 64;
const NAME_LEN: usize = 16;

/// `ofp_port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub number: PortNumber,
    pub mac: MacAddress,
    /// Printable and one line; the rest is replaced.
    pub name: String,
    /// Set by the administrator: `CONFIG_…`.
    pub config: u32,
    /// `STATE_…`.
    pub state: u32,
    /// Current bit rate in kbit/s as the switch reports it; 0 if unknown.
    pub speed_kbps: u32,
}

impl Port {
    /// Whether it is an ordinary port that can carry frames now.
    pub const fn is_up(&self) -> bool {
        self.number.is_ordinary()
            && self.config & (CONFIG_DOWN | CONFIG_NO_FORWARD) == 0
            && self.state & (STATE_LINK_DOWN | STATE_BLOCKED) == 0
    }

    pub(in crate::openflow) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut from = from.part(PORT_LEN, "a port")?;
        let number = PortNumber(from.u32()?);
        from.skip(4)?;
        let mac = MacAddress(from.array()?);
        from.skip(2)?;
        let name = name_of(&from.array::<NAME_LEN>()?);
        let (config, state) = (from.u32()?, from.u32()?);
        from.skip(4 * 4)?;
        let speed_kbps = from.u32()?;
        from.skip(4)?;
        from.end()?;
        Ok(Self {
            number,
            mac,
            name,
            config,
            state,
            speed_kbps,
        })
    }

    pub(in crate::openflow) fn encode(&self, to: &mut Writer) {
        to.u32(self.number.0);
        to.zeros(4);
        to.bytes(&self.mac.0);
        to.zeros(2);
        // The last byte stays zero.
        let name = &self.name.as_bytes()[..self.name.len().min(NAME_LEN - 1)];
        to.bytes(name);
        to.zeros(NAME_LEN - name.len());
        to.u32(self.config);
        to.u32(self.state);
        to.zeros(4 * 4);
        to.u32(self.speed_kbps);
        to.zeros(4);
    }
}

/// `ofp_port_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortReason {
    Add,
    Delete,
    /// Its configuration or state changed.
    Modify,
}

fn name_of(bytes: &[u8; NAME_LEN]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
    plain(&String::from_utf8_lossy(&bytes[..end]), 3 * NAME_LEN)
}
