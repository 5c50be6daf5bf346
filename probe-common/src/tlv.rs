//! Extensions of STAMP packets, type-length-value (RFC 8972 §4): reading them, writing them, and what a reflector makes
//! of them.
//!
//! They stand behind the base packet: flags (1 byte), type (1), length of the value (2, big-endian), value. Nothing here
//! allocates: whoever calls owns the bytes.

mod answer;
mod location;
mod value;

pub use answer::{Answered, HmacPlace, Observed, answer, fail_integrity, hmac_place};
pub use location::{Location, LocationSub, LocationSubs};
pub use value::{
    AccessReport, ClassOfService, DirectMeasurement, FollowUp, SyncSource, TimestampInformation, TimestampMethod,
};

/// Bytes in front of a value.
pub const HEADER_LEN: usize = 4;

/// Flags of a TLV (RFC 8972 §4, figure 3). The other five bits are reserved: zero when sent, ignored when received.
pub mod flag {
    /// U: a sender sets it; a reflector that has understood the TLV clears it, and sets it otherwise.
    pub const UNRECOGNISED: u8 = 0x80;
    /// M: a reflector found the length to be impossible for the type, or the packet to end before the TLV does.
    pub const MALFORMED: u8 = 0x40;
    /// I: a reflector found the HMAC of the TLVs to be wrong or missing (§4.8).
    pub const INTEGRITY: u8 = 0x20;
}

/// Types of TLVs (RFC 8972 §5.1).
pub mod kind {
    /// Filling, of any length (§4.1).
    pub const EXTRA_PADDING: u8 = 1;
    /// From where and to where the packet came (§4.2).
    pub const LOCATION: u8 = 2;
    /// What the reflector's clock hangs on, and how it stamps (§4.3).
    pub const TIMESTAMP_INFORMATION: u8 = 3;
    /// DSCP and ECN, asked for and received (§4.4).
    pub const CLASS_OF_SERVICE: u8 = 4;
    /// Counts of packets (§4.5).
    pub const DIRECT_MEASUREMENT: u8 = 5;
    /// State of an access network (§4.6).
    pub const ACCESS_REPORT: u8 = 6;
    /// When the reply before this one really left (§4.7).
    pub const FOLLOW_UP_TELEMETRY: u8 = 7;
    /// Protects the TLVs before it (§4.8).
    pub const HMAC: u8 = 8;
    /// The first of three types for private use: an enterprise number comes first (§5.1).
    pub const PRIVATE: u8 = 252;
}

/// Length of the value of the HMAC TLV: HMAC-SHA-256, cut to 16 bytes (§4.8).
pub const HMAC_LEN: usize = 16;

/// One TLV as it stands in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// [`flag`]s.
    pub flags: u8,
    /// [`kind`].
    pub kind: u8,
    /// The value.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether a reflector says that it has understood this TLV and found nothing wrong with it.
    pub fn is_honoured(&self) -> bool {
        self.flags & (flag::UNRECOGNISED | flag::MALFORMED | flag::INTEGRITY) == 0
    }
}

/// The packet ends before its last TLV does, at this offset from the first TLV (RFC 8972 §4: the TLV is malformed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where the TLV begins.
    pub at: usize,
}

/// The TLVs behind a base packet, in order; after a [`Cut`] there are no more.
///
/// Zeros up to the end are padding (RFC 8762 §4.6: whatever follows the base packet is returned) and no TLVs.
#[derive(Debug, Clone)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Reads what stands behind a base packet.
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

/// Where the TLV that begins at `at` ends; `None` where there are no more.
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

/// There is no room for a TLV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// Writes TLVs as a sender does, one behind the other.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    /// Appends a TLV with flag U set, as a sender must (RFC 8972 §4).
    ///
    /// # Errors
    /// [`NoRoom`], also for a value of more than 65,535 bytes; nothing is written then.
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

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What has been written.
    pub fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests;
