//! Reads a frame that may be anybody's.

use crate::openflow::id::{Dpid, PortNumber};
use crate::openflow::lldp::key::MAC_LEN;
use crate::openflow::lldp::tlv::{
    CHASSIS_ID, CHASSIS_LOCAL, CHASSIS_PREFIX, END, ETHERNET_LEN, ORGANISATION, OUI, PORT_COMPONENT, PORT_ID,
    SIGNED_LEN, STAMP_TLV_LEN, SUBTYPE, TTL,
};
use crate::openflow::lldp::{ETH_TYPE, ETH_TYPE_BOUNCE, Key, Kind, Probe};

/// Why a frame is not one of this run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Neither LLDP nor a frame that bounces.
    #[error("not LLDP")]
    Other,
    /// LLDP of another station, or of another controller, or of another run of this one.
    #[error("LLDP of another station or controller")]
    Foreign,
    /// It says that it is this run's, and its MAC is wrong: forged, or changed on its way.
    #[error("LLDP in this controller's name with a wrong signature")]
    Forged,
    /// It is not well-formed.
    #[error("malformed LLDP: {0}")]
    Malformed(&'static str),
}

/// A TLV, and where its value starts in the frame.
struct Tlv<'a> {
    kind: u8,
    value: &'a [u8],
    at: usize,
}

pub(super) fn decode(key: &Key, frame: &[u8]) -> Result<Probe, NotOurs> {
    let Some(&[high, low]) = frame.get(12..ETHERNET_LEN) else {
        return Err(NotOurs::Other);
    };
    let eth_type = u16::from_be_bytes([high, low]);
    if eth_type != ETH_TYPE && eth_type != ETH_TYPE_BOUNCE {
        return Err(NotOurs::Other);
    }
    let mut rest = frame.len().min(ETHERNET_LEN);
    let chassis = next(frame, &mut rest)?;
    let port = next(frame, &mut rest)?;
    let ttl = next(frame, &mut rest)?;
    if (chassis.kind, port.kind, ttl.kind) != (CHASSIS_ID, PORT_ID, TTL) {
        return Err(NotOurs::Malformed("chassis id, port id and TTL must come first"));
    }
    if chassis.value.len() < 2 || port.value.len() < 2 || ttl.value.len() < 2 {
        return Err(NotOurs::Malformed("a mandatory TLV is too short"));
    }
    loop {
        let tlv = next(frame, &mut rest)?;
        match tlv.kind {
            END => return Err(NotOurs::Foreign),
            ORGANISATION if is_stamp(&tlv) => {
                return signed(key, frame, &tlv).and_then(|stamp| probe(&chassis, &port, stamp, eth_type));
            }
            _ => {}
        }
    }
}

fn next<'a>(frame: &'a [u8], rest: &mut usize) -> Result<Tlv<'a>, NotOurs> {
    let cut = NotOurs::Malformed("it ends within a TLV, or has no end");
    let start = *rest;
    let &[high, low] = frame.get(start..start + 2).ok_or(cut)? else {
        return Err(cut);
    };
    let header = u16::from_be_bytes([high, low]);
    let (kind, len) = ((header >> 9) as u8, usize::from(header & 0x1ff));
    let at = start + 2;
    let value = frame.get(at..at + len).ok_or(cut)?;
    *rest = at + len;
    Ok(Tlv { kind, value, at })
}

fn is_stamp(tlv: &Tlv<'_>) -> bool {
    tlv.value.len() == STAMP_TLV_LEN && tlv.value.starts_with(&OUI) && tlv.value[OUI.len()] == SUBTYPE
}

/// The contents of our TLV behind OUI and subtype, once it is known to be of this run and signed by it.
fn signed<'a>(key: &Key, frame: &[u8], tlv: &Tlv<'a>) -> Result<&'a [u8], NotOurs> {
    let contents = &tlv.value[OUI.len() + 1..SIGNED_LEN];
    if number(&contents[1..9]) != key.run() {
        return Err(NotOurs::Foreign);
    }
    let mac: [u8; MAC_LEN] = std::array::from_fn(|i| tlv.value[SIGNED_LEN + i]);
    let covered = &frame[ETHERNET_LEN..tlv.at + SIGNED_LEN];
    if key.verify(covered, &mac) {
        Ok(contents)
    } else {
        Err(NotOurs::Forged)
    }
}

fn probe(chassis: &Tlv<'_>, port: &Tlv<'_>, stamp: &[u8], eth_type: u16) -> Result<Probe, NotOurs> {
    let kind = Kind::from_number(stamp[0]).ok_or(NotOurs::Malformed("unknown kind"))?;
    // The signature does not cover the Ethernet header.
    if kind.eth_type() != eth_type {
        return Err(NotOurs::Forged);
    }
    Ok(Probe {
        kind,
        dpid: dpid(chassis.value).ok_or(NotOurs::Malformed("chassis id is not a datapath"))?,
        port: port_number(port.value).ok_or(NotOurs::Malformed("port id is not a port number"))?,
        sent_ns: number(&stamp[9..17]),
        sequence: number(&stamp[17..25]),
    })
}

fn dpid(chassis: &[u8]) -> Option<Dpid> {
    let digits = chassis.strip_prefix(&[CHASSIS_LOCAL])?.strip_prefix(CHASSIS_PREFIX)?;
    if digits.len() != 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok().map(Dpid)
}

fn port_number(port: &[u8]) -> Option<PortNumber> {
    match *port {
        [PORT_COMPONENT, a, b, c, d] => Some(PortNumber(u32::from_be_bytes([a, b, c, d]))),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
