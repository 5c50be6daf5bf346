//! The frames that find and time links: LLDP (IEEE 802.1AB-2016 §8) with a signed stamp in it, and the same contents in
//! frames that bounce.
//!
//! A frame says which port it was sent out of, when, and its number, and is signed with a key that only this run of this
//! controller has. That it is signed does not mean that it is fresh: who takes it must accept each number once.

mod decode;
mod key;
#[cfg(test)]
mod tests;
mod tlv;

pub use decode::NotOurs;
pub use key::Key;

use crate::openflow::id::{Dpid, MacAddress, PortNumber};

/// Destination of LLDP (§7.1, nearest bridge).
pub const DESTINATION: MacAddress = MacAddress([0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e]);
/// EtherType of LLDP.
pub const ETH_TYPE: u16 = 0x88cc;
/// EtherType of frames that bounce or that measure a baseline: IEEE 802 local experimental EtherType 1.
pub const ETH_TYPE_BOUNCE: u16 = 0x88b5;
/// Destination of frames that bounce: locally administered, a station's.
pub const BOUNCE_DESTINATION: MacAddress = MacAddress([0x02, 0x6b, 0x73, 0x74, 0x70, 0x01]);

/// What a frame is for.
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
    /// EtherType of its frames.
    pub const fn eth_type(self) -> u16 {
        match self {
            Self::Discovery => ETH_TYPE,
            Self::Bounce | Self::Baseline => ETH_TYPE_BOUNCE,
        }
    }

    /// Destination of its frames.
    pub const fn destination(self) -> MacAddress {
        match self {
            Self::Discovery => DESTINATION,
            Self::Bounce | Self::Baseline => BOUNCE_DESTINATION,
        }
    }
}

/// What a frame of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// What it is for.
    pub kind: Kind,
    /// The switch that it was sent out of.
    pub dpid: Dpid,
    /// The port that it was sent out of.
    pub port: PortNumber,
    /// When: `CLOCK_MONOTONIC` of the controller's host, in ns, at the write of the packet-out.
    pub sent_ns: u64,
    /// Its number.
    pub sequence: u64,
}

impl Probe {
    /// The whole frame without FCS, padded to 60 bytes or more, from a port's address.
    pub fn encode(&self, key: &Key, source: MacAddress) -> Vec<u8> {
        tlv::encode(self, key, source)
    }

    /// Reads a frame, and says why if it is not one of this run's.
    ///
    /// # Errors
    /// [`NotOurs`].
    pub fn decode(key: &Key, frame: &[u8]) -> Result<Self, NotOurs> {
        decode::decode(key, frame)
    }
}
