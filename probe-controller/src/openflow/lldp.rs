//! Frames that discover and time links: LLDP (IEEE 802.1AB-2016 §8) with a signed stamp, and bounce frames with the same
//! contents.
//!
//! A frame carries its egress port, its stamp and its sequence number, and is signed with the key of this run. The
//! signature does not prevent replay: the receiver must accept each sequence number once.

mod key;
#[cfg(test)]
mod tests;

use crate::openflow::id::{Dpid, MacAddress, PortNumber};
pub use crate::openflow::lldp::key::Key;
use crate::openflow::lldp::key::MAC_LEN;

/// Destination of LLDP (§7.1, nearest bridge).
pub const DESTINATION: MacAddress = MacAddress([0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e]);
/// EtherType of LLDP.
pub const ETH_TYPE: u16 = 0x88cc;
/// EtherType of bounce and baseline frames: IEEE 802 local experimental EtherType 1.
pub const ETH_TYPE_BOUNCE: u16 = 0x88b5;
/// Destination of bounce frames: locally administered, unicast.
pub const BOUNCE_DESTINATION: MacAddress = MacAddress([0x02, 0x6b, 0x73, 0x74, 0x70, 0x01]);

/// TLV types (802.1AB-2016 table 8-1).
const END: u8 = 0;
const CHASSIS_ID: u8 = 1;
const PORT_ID: u8 = 2;
const TTL: u8 = 3;
const ORGANISATION: u8 = 127;

/// Chassis id subtype "locally assigned" (table 8-2).
const CHASSIS_LOCAL: u8 = 7;
/// Port id subtype "port component" (table 8-3).
const PORT_COMPONENT: u8 = 2;
/// Prefix of the chassis id; 16 hexadecimal digits follow.
const CHASSIS_PREFIX: &[u8] = b"dpid:";

/// Our organisation, locally administered, and the subtype of our TLV.
const OUI: [u8; 3] = [0x02, 0x6b, 0x73];
const SUBTYPE: u8 = 1;

/// Our TLV: OUI, subtype, kind, run u64, stamp u64, sequence u64, MAC.
const SIGNED_LEN: usize = 3 + 1 + 1 + 8 + 8 + 8;
const STAMP_TLV_LEN: usize = SIGNED_LEN + MAC_LEN;

/// Destination, source and EtherType.
const ETHERNET_LEN: usize = 14;
/// Shortest frame without FCS.
const MIN_FRAME: usize = 60;
/// Time for which receivers keep our LLDP; the default of 802.1AB-2016 §9.2.5.5.
const LIFETIME_S: u16 = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Discovery and one-way time: LLDP, to [`DESTINATION`] and of [`ETH_TYPE`].
    Discovery,
    /// Out, back by the far switch's rule, and to the controller: to [`BOUNCE_DESTINATION`], of [`ETH_TYPE_BOUNCE`].
    Bounce,
    /// From the controller to the switch and straight back: addressed as [`Kind::Bounce`].
    Baseline,
}

impl Kind {
    pub const fn eth_type(self) -> u16 {
        match self {
            Self::Discovery => ETH_TYPE,
            Self::Bounce | Self::Baseline => ETH_TYPE_BOUNCE,
        }
    }

    pub const fn destination(self) -> MacAddress {
        match self {
            Self::Discovery => DESTINATION,
            Self::Bounce | Self::Baseline => BOUNCE_DESTINATION,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Discovery => 1,
            Self::Bounce => 2,
            Self::Baseline => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Discovery),
            2 => Some(Self::Bounce),
            3 => Some(Self::Baseline),
            _ => None,
        }
    }
}

/// Contents of our frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LldpProbe {
    pub kind: Kind,
    pub dpid: Dpid,
    /// The egress port.
    pub port: PortNumber,
    /// `CLOCK_MONOTONIC` of the controller's host, in ns, at the write of the packet-out.
    pub sent_ns: u64,
    pub sequence: u64,
}

impl LldpProbe {
    /// The whole frame without FCS, padded to 60 bytes or more, from a port's address.
    pub fn encode(&self, key: &Key, source: MacAddress) -> Vec<u8> {
        encode(self, key, source)
    }

    /// Reads a frame of this run.
    pub fn decode(key: &Key, frame: &[u8]) -> Result<Self, NotOurs> {
        decode(key, frame)
    }
}

/// Why a frame is not one of this run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Neither LLDP nor a bounce frame.
    #[error("not LLDP")]
    Other,
    /// LLDP of another device, another controller, or another run of this one.
    #[error("LLDP of another device or controller")]
    Foreign,
    /// The frame names this run but its MAC is wrong: forged, or changed in transit.
    #[error("LLDP in this controller's name with a wrong signature")]
    Forged,
    #[error("malformed LLDP: {0}")]
    Malformed(&'static str),
}

fn encode(probe: &LldpProbe, key: &Key, source: MacAddress) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.extend_from_slice(&probe.kind.destination().0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&probe.kind.eth_type().to_be_bytes());

    let chassis = format!("dpid:{}", probe.dpid);
    header(&mut frame, CHASSIS_ID, 1 + chassis.len());
    frame.push(CHASSIS_LOCAL);
    frame.extend_from_slice(chassis.as_bytes());

    header(&mut frame, PORT_ID, 1 + 4);
    frame.push(PORT_COMPONENT);
    frame.extend_from_slice(&probe.port.0.to_be_bytes());

    header(&mut frame, TTL, 2);
    frame.extend_from_slice(&LIFETIME_S.to_be_bytes());

    header(&mut frame, ORGANISATION, STAMP_TLV_LEN);
    frame.extend_from_slice(&OUI);
    frame.push(SUBTYPE);
    frame.push(probe.kind.number());
    frame.extend_from_slice(&key.run().to_be_bytes());
    frame.extend_from_slice(&probe.sent_ns.to_be_bytes());
    frame.extend_from_slice(&probe.sequence.to_be_bytes());
    let mac = key.sign(&frame[ETHERNET_LEN..]);
    frame.extend_from_slice(&mac);

    header(&mut frame, END, 0);
    frame.resize(frame.len().max(MIN_FRAME), 0);
    frame
}

/// Type in the upper 7 bits, length in the lower 9 (§8.4).
fn header(frame: &mut Vec<u8>, kind: u8, len: usize) {
    debug_assert!(len < 512, "a TLV of {len} bytes");
    frame.extend_from_slice(&(u16::from(kind) << 9 | len as u16).to_be_bytes());
}

/// A TLV, and where its value starts in the frame.
struct Tlv<'a> {
    kind: u8,
    value: &'a [u8],
    at: usize,
}

fn decode(key: &Key, frame: &[u8]) -> Result<LldpProbe, NotOurs> {
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
    let cut = NotOurs::Malformed("it ends within a TLV, or has no end TLV");
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

/// Verifies our TLV, and returns its contents behind OUI and subtype.
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

fn probe(chassis: &Tlv<'_>, port: &Tlv<'_>, stamp: &[u8], eth_type: u16) -> Result<LldpProbe, NotOurs> {
    let kind = Kind::from_number(stamp[0]).ok_or(NotOurs::Malformed("unknown kind"))?;
    // The signature does not cover the Ethernet header.
    if kind.eth_type() != eth_type {
        return Err(NotOurs::Forged);
    }
    Ok(LldpProbe {
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
