//! Layout of the frames, and how they are made.

use crate::openflow::id::MacAddress;
use crate::openflow::lldp::key::MAC_LEN;
use crate::openflow::lldp::{Key, Kind, Probe};

/// TLV types (802.1AB-2016 table 8-1).
pub(super) const END: u8 = 0;
pub(super) const CHASSIS_ID: u8 = 1;
pub(super) const PORT_ID: u8 = 2;
pub(super) const TTL: u8 = 3;
pub(super) const ORGANISATION: u8 = 127;

/// Chassis id subtype "locally assigned" (table 8-2).
pub(super) const CHASSIS_LOCAL: u8 = 7;
/// Port id subtype "port component" (table 8-3).
pub(super) const PORT_COMPONENT: u8 = 2;
/// What the chassis id starts with; 16 hexadecimal digits follow.
pub(super) const CHASSIS_PREFIX: &[u8] = b"dpid:";

/// Our organisation, locally administered, and the subtype of our TLV.
pub(super) const OUI: [u8; 3] = [0x02, 0x6b, 0x73];
pub(super) const SUBTYPE: u8 = 1;

/// Our TLV: OUI, subtype, kind, run u64, stamp u64, sequence u64, MAC.
pub(super) const SIGNED_LEN: usize = 3 + 1 + 1 + 8 + 8 + 8;
pub(super) const STAMP_TLV_LEN: usize = SIGNED_LEN + MAC_LEN;

/// Destination, source and EtherType.
pub(super) const ETHERNET_LEN: usize = 14;
/// Shortest frame without FCS.
const MIN_FRAME: usize = 60;
/// For how many seconds a station that reads our LLDP may believe it; the default of 802.1AB-2016 §9.2.5.5.
const LIFETIME_S: u16 = 120;

impl Kind {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Discovery => 1,
            Self::Bounce => 2,
            Self::Baseline => 3,
        }
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Discovery),
            2 => Some(Self::Bounce),
            3 => Some(Self::Baseline),
            _ => None,
        }
    }
}

pub(super) fn encode(probe: &Probe, key: &Key, source: MacAddress) -> Vec<u8> {
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
