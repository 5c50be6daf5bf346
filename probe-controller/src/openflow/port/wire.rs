//! `ofp_port` on the wire.

use crate::openflow::id::{MacAddress, PortNumber};
use crate::openflow::port::Port;
use crate::openflow::wire::{DecodeError, Reader, Writer};

/// Length of `ofp_port`, in bytes.
pub(in crate::openflow) const PORT_LEN: usize = 64;
const NAME_LEN: usize = 16;

impl Port {
    pub(in crate::openflow) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut from = from.part(PORT_LEN, "a port")?;
        let number = PortNumber(from.u32()?);
        from.skip(4)?;
        let mac = MacAddress(from.array()?);
        from.skip(2)?;
        let name = printable(&from.array::<NAME_LEN>()?);
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

/// A name that may be written to a terminal, whatever the switch says.
fn printable(name: &[u8; NAME_LEN]) -> String {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
    String::from_utf8_lossy(&name[..end])
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}
