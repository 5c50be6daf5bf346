//! Matches, actions and flow mods on the wire.

use crate::openflow::flow::{Action, FlowCommand, FlowMod, Match, NO_BUFFER};
use crate::openflow::id::{MacAddress, PortNumber};
use crate::openflow::message::kind::NO_BUFFER_ID;
use crate::openflow::wire::{DecodeError, Reader, Writer};

/// `OFPMT_OXM`.
const MATCH_OXM: u16 = 1;
/// `OFPXMC_OPENFLOW_BASIC`, in the upper half of an OXM header.
const CLASS_BASIC: u16 = 0x8000;
/// `oxm_ofb_match_fields`, shifted to where an OXM header has them; bit 0 says that a mask follows.
const FIELD_IN_PORT: u8 = 0 << 1;
const FIELD_ETH_DST: u8 = 3 << 1;
const FIELD_ETH_SRC: u8 = 4 << 1;
const FIELD_ETH_TYPE: u8 = 5 << 1;
const HAS_MASK: u8 = 1;
/// `OFPIT_APPLY_ACTIONS`.
const APPLY_ACTIONS: u16 = 4;
/// `OFPAT_OUTPUT`, and the length of such an action.
const OUTPUT: u16 = 0;
const OUTPUT_LEN: u16 = 16;

/// How to handle match fields that kstamp does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openflow) enum UnknownFields {
    /// In a packet-in they are extra information.
    Skip,
    /// In a rule they are part of its meaning.
    Refuse,
}

impl Match {
    pub(in crate::openflow) fn encode(&self, to: &mut Writer) {
        let start = to.len();
        to.u16(MATCH_OXM);
        to.u16(0);
        if let Some(port) = self.in_port {
            oxm(to, FIELD_IN_PORT, &port.0.to_be_bytes(), &[]);
        }
        if let Some((mac, mask)) = self.eth_dst {
            if mask == MacAddress::BROADCAST {
                oxm(to, FIELD_ETH_DST, &mac.0, &[]);
            } else {
                oxm(to, FIELD_ETH_DST, &mac.0, &mask.0);
            }
        }
        if let Some(mac) = self.eth_src {
            oxm(to, FIELD_ETH_SRC, &mac.0, &[]);
        }
        if let Some(eth_type) = self.eth_type {
            oxm(to, FIELD_ETH_TYPE, &eth_type.to_be_bytes(), &[]);
        }
        let len = to.len() - start;
        to.set_u16(start + 2, len);
        to.pad_to_8(start);
    }

    pub(in crate::openflow) fn decode(from: &mut Reader<'_>, unknown: UnknownFields) -> Result<Self, DecodeError> {
        let kind = from.u16()?;
        if kind != MATCH_OXM {
            return Err(DecodeError::Value {
                what: "a match of type",
                value: kind.into(),
            });
        }
        let len = usize::from(from.u16()?);
        let mut fields = from.part(len.checked_sub(4).ok_or_else(|| from.size_error())?, "a match")?;
        from.skip(len.next_multiple_of(8) - len)?;
        let mut found = Self::default();
        while !fields.is_empty() {
            found.decode_field(&mut fields, unknown)?;
        }
        Ok(found)
    }

    fn decode_field(&mut self, from: &mut Reader<'_>, unknown: UnknownFields) -> Result<(), DecodeError> {
        let (class, field) = (from.u16()?, from.u8()?);
        let len = from.u8()?;
        let mut value = from.part(len.into(), "a field of a match")?;
        match (class, field) {
            (CLASS_BASIC, FIELD_IN_PORT) => once(&mut self.in_port, PortNumber(value.u32()?))?,
            (CLASS_BASIC, FIELD_ETH_DST) => {
                once(&mut self.eth_dst, (MacAddress(value.array()?), MacAddress::BROADCAST))?;
            }
            (CLASS_BASIC, field) if field == FIELD_ETH_DST | HAS_MASK => {
                once(
                    &mut self.eth_dst,
                    (MacAddress(value.array()?), MacAddress(value.array()?)),
                )?;
            }
            (CLASS_BASIC, FIELD_ETH_SRC) => once(&mut self.eth_src, MacAddress(value.array()?))?,
            (CLASS_BASIC, FIELD_ETH_TYPE) => once(&mut self.eth_type, value.u16()?)?,
            _ if unknown == UnknownFields::Skip => return Ok(()),
            _ => {
                return Err(DecodeError::Value {
                    what: "a match field",
                    value: u64::from(class) << 16 | u64::from(field) << 8,
                });
            }
        }
        value.end()
    }
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::Content("a match that has a field twice")),
    }
}

fn oxm(to: &mut Writer, field: u8, value: &[u8], mask: &[u8]) {
    to.u16(CLASS_BASIC);
    to.u8(if mask.is_empty() { field } else { field | HAS_MASK });
    // At most two Ethernet addresses.
    to.u8((value.len() + mask.len()) as u8);
    to.bytes(value);
    to.bytes(mask);
}

impl Action {
    pub(in crate::openflow) fn encode_all(actions: &[Self], to: &mut Writer) {
        for Self::Output(port) in actions {
            to.u16(OUTPUT);
            to.u16(OUTPUT_LEN);
            to.u32(port.0);
            to.u16(NO_BUFFER);
            to.zeros(6);
        }
    }

    pub(in crate::openflow) fn decode_all(mut from: Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut actions = Vec::new();
        while !from.is_empty() {
            let (kind, len) = (from.u16()?, from.u16()?);
            if (kind, len) != (OUTPUT, OUTPUT_LEN) {
                return Err(DecodeError::Value {
                    what: "an action",
                    value: u64::from(kind) << 16 | u64::from(len),
                });
            }
            actions.push(Self::Output(PortNumber(from.u32()?)));
            from.skip(2 + 6)?;
        }
        Ok(actions)
    }
}

impl FlowCommand {
    const fn number(self) -> u8 {
        match self {
            Self::Add => 0,
            Self::Modify => 1,
            Self::ModifyStrict => 2,
            Self::Delete => 3,
            Self::DeleteStrict => 4,
        }
    }

    fn from_number(number: u8) -> Result<Self, DecodeError> {
        [
            Self::Add,
            Self::Modify,
            Self::ModifyStrict,
            Self::Delete,
            Self::DeleteStrict,
        ]
        .into_iter()
        .find(|command| command.number() == number)
        .ok_or(DecodeError::Value {
            what: "a flow mod's command",
            value: number.into(),
        })
    }
}

impl FlowMod {
    pub(in crate::openflow) fn encode(&self, to: &mut Writer) {
        to.u64(self.cookie);
        to.u64(self.cookie_mask);
        to.u8(self.table);
        to.u8(self.command.number());
        to.u16(self.idle_timeout_s);
        to.u16(self.hard_timeout_s);
        to.u16(self.priority);
        to.u32(NO_BUFFER_ID);
        // Any port and any group: no further condition on what is deleted.
        to.u32(PortNumber::ANY.0);
        to.u32(PortNumber::ANY.0);
        to.u16(self.flags);
        to.zeros(2);
        self.matching.encode(to);
        if !self.actions.is_empty() {
            let start = to.len();
            to.u16(APPLY_ACTIONS);
            to.u16(0);
            to.zeros(4);
            Action::encode_all(&self.actions, to);
            let len = to.len() - start;
            to.set_u16(start + 2, len);
        }
    }

    pub(in crate::openflow) fn decode(mut from: Reader<'_>) -> Result<Self, DecodeError> {
        let (cookie, cookie_mask) = (from.u64()?, from.u64()?);
        let (table, command) = (from.u8()?, FlowCommand::from_number(from.u8()?)?);
        let (idle_timeout_s, hard_timeout_s, priority) = (from.u16()?, from.u16()?, from.u16()?);
        from.skip(3 * 4)?;
        let flags = from.u16()?;
        from.skip(2)?;
        let matching = Match::decode(&mut from, UnknownFields::Refuse)?;
        let mut actions = Vec::new();
        if !from.is_empty() {
            let (kind, len) = (from.u16()?, usize::from(from.u16()?));
            if kind != APPLY_ACTIONS {
                return Err(DecodeError::Value {
                    what: "an instruction",
                    value: kind.into(),
                });
            }
            from.skip(4)?;
            let len = len.checked_sub(8).ok_or_else(|| from.size_error())?;
            actions = Action::decode_all(from.part(len, "actions")?)?;
            from.end()?;
        }
        Ok(Self {
            cookie,
            cookie_mask,
            table,
            command,
            idle_timeout_s,
            hard_timeout_s,
            priority,
            flags,
            matching,
            actions,
        })
    }
}
