//! Type-length-value extensions of STAMP packets (RFC 8972 §4): reading and writing them, and answering them as a
//! reflector does.
//!
//! They follow the base packet: flags (1 byte), type (1), length of the value (2, big-endian), value. Nothing here
//! allocates: the caller owns the bytes.

mod answer;
mod location;
mod routing;
mod value;

use crate::checksum::Sum;
pub use crate::tlv::answer::{Answered, HmacPlace, Observed, answer, fail_integrity, hmac_place};
pub use crate::tlv::location::{Location, LocationSub, LocationSubs};
pub use crate::tlv::value::{
    AccessReport, ClassOfService, DirectMeasurement, FollowUp, SyncSource, TimestampInformation, TimestampMethod,
};

/// Bytes in front of a value.
pub const HEADER_LEN: usize = 4;

/// Flags of a TLV (RFC 8972 §4, figure 3). The other five bits are reserved: zero when sent, ignored when received.
pub mod flag {
    /// U: a sender sets it, a reflector clears it if it knows the type.
    pub const UNRECOGNISED: u8 = 0x80;
    /// M: set by a reflector if the length is impossible for the type, or the packet ends before the TLV does.
    pub const MALFORMED: u8 = 0x40;
    /// I: set by a reflector if the HMAC of the TLVs is wrong or missing (§4.8).
    pub const INTEGRITY: u8 = 0x20;
    /// The three of them.
    pub const ALL: u8 = 0xe0;
}

/// Types of TLVs (RFC 8972 §5.1).
pub mod kind {
    /// Of any length (§4.1).
    pub const EXTRA_PADDING: u8 = 1;
    /// Addresses and ports with which the packet arrived (§4.2).
    pub const LOCATION: u8 = 2;
    /// What synchronises the reflector's clock, and how it stamps (§4.3).
    pub const TIMESTAMP_INFORMATION: u8 = 3;
    /// DSCP wanted, DSCP and ECN received (§4.4).
    pub const CLASS_OF_SERVICE: u8 = 4;
    /// Packet counts (§4.5).
    pub const DIRECT_MEASUREMENT: u8 = 5;
    /// State of an access network (§4.6).
    pub const ACCESS_REPORT: u8 = 6;
    /// When the previous reply really left (§4.7).
    pub const FOLLOW_UP_TELEMETRY: u8 = 7;
    /// Protects the TLVs before it (§4.8).
    pub const HMAC: u8 = 8;
    /// The node that is to answer (RFC 9503, RFC 8972's registry).
    pub const DESTINATION_NODE_ADDRESS: u8 = 9;
    /// How the reply is to return (RFC 9503).
    pub const RETURN_PATH: u8 = 10;
    /// The first of three types for private use; the value begins with an enterprise number (§5.1).
    pub const PRIVATE: u8 = 252;
}

/// Length of the value of the HMAC TLV: HMAC-SHA-256, cut to 16 bytes (§4.8).
pub const HMAC_LEN: usize = 16;

/// One TLV as it stands in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// See [`flag`].
    pub flags: u8,
    /// See [`kind`].
    pub kind: u8,
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// Whether any of these flags is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the reflector has understood this TLV and found nothing wrong with it.
    pub fn is_honoured(&self) -> bool {
        !self.has(flag::ALL)
    }
}

/// The packet ends before its last TLV does: that one is malformed (RFC 8972 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Offset of the TLV from the first one.
    pub at: usize,
}

/// The TLVs behind a base packet, in order; after a [`Cut`] there are no more.
///
/// Zeros up to the end are padding (RFC 8762 §4.6: what follows the base packet is returned) and not TLVs.
#[derive(Debug, Clone)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Reads the TLVs behind a base packet.
pub fn read(bytes: &[u8]) -> Tlvs<'_> {
    Tlvs { bytes, at: 0 }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        match span(self.bytes, self.at)? {
            Ok(end) => {
                let tlv = &self.bytes[self.at..end];
                self.at = end;
                Some(Ok(Tlv {
                    flags: tlv[0],
                    kind: tlv[1],
                    value: &tlv[HEADER_LEN..],
                }))
            }
            Err(cut) => {
                self.at = self.bytes.len();
                Some(Err(cut))
            }
        }
    }
}

/// The end of the TLV that begins at `at`; `None` if there are no more.
fn span(bytes: &[u8], at: usize) -> Option<Result<usize, Cut>> {
    let rest = bytes.get(at..)?;
    if rest.iter().all(|&byte| byte == 0) {
        return None;
    }
    let Some(&[_, _, high, low]) = rest.first_chunk() else {
        return Some(Err(Cut { at }));
    };
    let length = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
    Some(if rest.len() < length {
        Err(Cut { at })
    } else {
        Ok(at + length)
    })
}

/// Flags of a malformed TLV: only U stays as the sender has set it.
fn malformed(flags: u8) -> u8 {
    flags & flag::UNRECOGNISED | flag::MALFORMED
}

/// Whether the `length` bytes behind a base packet are one Extra Padding TLV without any flag but U, by its header. The
/// kernel programs send it back themselves, with [`clear_flags`], as [`answer`] would.
#[inline(always)]
pub fn is_padding([flags, kind, high, low]: [u8; HEADER_LEN], length: usize) -> bool {
    kind == kind::EXTRA_PADDING
        && flags & !flag::UNRECOGNISED == 0
        && u16::from_be_bytes([high, low]) as usize + HEADER_LEN == length
}

/// The sum of TLVs that add up to `sum`, once the flags of the first one are cleared.
#[inline(always)]
pub fn clear_flags(sum: Sum, [flags, ..]: [u8; HEADER_LEN]) -> Sum {
    // One's complement: adding the complement subtracts.
    sum.word([!flags, 0xff])
}

/// There is no room for a TLV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// Writes TLVs as a sender does, one after the other.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    /// Appends a TLV with flag U set, as a sender must (RFC 8972 §4).
    pub fn push(&mut self, kind: u8, value: &[u8]) -> Result<(), NoRoom> {
        let length = u16::try_from(value.len()).map_err(|_| NoRoom)?;
        let end = self.length + HEADER_LEN + value.len();
        let tlv = self.bytes.get_mut(self.length..end).ok_or(NoRoom)?;
        let (header, room) = tlv.split_at_mut(HEADER_LEN);
        header[..2].copy_from_slice(&[flag::UNRECOGNISED, kind]);
        header[2..].copy_from_slice(&length.to_be_bytes());
        room.copy_from_slice(value);
        self.length = end;
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests;
