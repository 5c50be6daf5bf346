//! The contents of a single probe: base packet, TLVs, padding, and HMACs if there is a key.

use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::tlv::{
    AccessReport, ClassOfService, DirectMeasurement, FollowUp, HEADER_LEN, HMAC_LEN, Location, TimestampInformation,
    flag, kind,
};
use probe_common::{authenticated, stamp};
use probe_core::auth::Key;

use crate::udp::sockets::MAX_PACKET;

/// Longest probe.
pub const MAX_SIZE: usize = MAX_PACKET;

/// A requested TLV (RFC 8972 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlvRequest {
    /// Extra Padding, of this length in bytes.
    Padding(usize),
    Location,
    /// Timestamp Information.
    Timestamps,
    /// Class of Service: the wanted DSCP of the reply.
    ClassOfService {
        dscp: u8,
    },
    /// Direct Measurement.
    Direct,
    /// Access Report.
    Access(AccessReport),
    FollowUp,
    Other {
        kind: u8,
        value: Vec<u8>,
    },
}

impl TlvRequest {
    /// Type and value in the `number`th probe of the session, from 1 on.
    fn content(&self, number: u32) -> (u8, Vec<u8>) {
        match self {
            Self::Padding(length) => (kind::EXTRA_PADDING, vec![0; *length]),
            Self::Location => (kind::LOCATION, Location::question().to_vec()),
            Self::Timestamps => (kind::TIMESTAMP_INFORMATION, vec![0; TimestampInformation::LEN]),
            Self::ClassOfService { dscp } => {
                let asked = ClassOfService {
                    dscp_wanted: *dscp,
                    ..ClassOfService::default()
                };
                (kind::CLASS_OF_SERVICE, asked.to_bytes().to_vec())
            }
            Self::Direct => {
                let counted = DirectMeasurement {
                    sender_sent: number,
                    ..DirectMeasurement::default()
                };
                (kind::DIRECT_MEASUREMENT, counted.to_bytes().to_vec())
            }
            Self::Access(report) => (kind::ACCESS_REPORT, report.to_bytes().to_vec()),
            Self::FollowUp => (kind::FOLLOW_UP_TELEMETRY, FollowUp::NONE.to_bytes().to_vec()),
            Self::Other { kind, value } => (*kind, value.clone()),
        }
    }
}

/// The contents of every probe of a session.
#[derive(Debug, Clone)]
pub struct PacketPlan {
    /// Session identifier; 0 for a sender without RFC 8972.
    pub ssid: u16,
    /// The key of authenticated mode.
    pub key: Option<Key>,
    /// The key of the HMAC TLV in unauthenticated mode (RFC 8972 §4.8).
    tlv_key: Option<Key>,
    tlvs: Vec<TlvRequest>,
    /// Bytes of Extra Padding behind all others.
    padding: Option<usize>,
}

impl PacketPlan {
    pub fn new(ssid: u16, tlvs: Vec<TlvRequest>, key: Option<Key>) -> Self {
        Self {
            ssid,
            key,
            tlv_key: None,
            tlvs,
            padding: None,
        }
    }

    /// Protects the TLVs of a packet that is not authenticated itself.
    pub fn with_tlv_key(self, tlv_key: Option<Key>) -> Self {
        Self { tlv_key, ..self }
    }

    /// The key that protects the TLVs.
    pub fn key_of_tlvs(&self) -> Option<&Key> {
        self.key.as_ref().or(self.tlv_key.as_ref())
    }

    /// Padded to `size` bytes; `None` if that is too short, too long, or too short for a padding TLV.
    pub fn padded_to(self, size: usize) -> Option<Self> {
        let padding = match size.checked_sub(self.least_len())? {
            0 => None,
            more => Some(more.checked_sub(HEADER_LEN)?),
        };
        (size <= MAX_SIZE).then_some(Self { padding, ..self })
    }

    /// Length without padding.
    pub fn least_len(&self) -> usize {
        self.clone_unpadded().build(0, NtpTime(0), ErrorEstimate(1)).len()
    }

    /// Length of every probe.
    pub fn len(&self) -> usize {
        self.least_len() + self.padding.map_or(0, |length| HEADER_LEN + length)
    }

    /// `false`: there always is a base packet.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Length of the base packet, of probes and replies.
    pub fn base_len(&self) -> usize {
        match self.key {
            Some(_) => authenticated::BASE_LEN,
            None => stamp::BASE_LEN,
        }
    }

    fn clone_unpadded(&self) -> Self {
        Self {
            padding: None,
            ..self.clone()
        }
    }

    /// The probe with this number, complete and signed.
    pub fn build(&self, sequence: u32, transmit: NtpTime, error: ErrorEstimate) -> Vec<u8> {
        let mut packet = match self.key {
            Some(_) => authenticated::probe(sequence, transmit, error, self.ssid).to_vec(),
            None => {
                let mut probe = stamp::probe(sequence, error, self.ssid);
                probe[stamp::TIMESTAMP..][..8].copy_from_slice(&transmit.to_be_bytes());
                probe.to_vec()
            }
        };
        let mut needs_hmac = false;
        for request in &self.tlvs {
            let (kind, value) = request.content(sequence.wrapping_add(1));
            push(&mut packet, kind, &value);
            needs_hmac |= kind != kind::EXTRA_PADDING;
        }
        // In authenticated mode it is mandatory, and only padding may follow (RFC 8972 §4.8).
        if self.key_of_tlvs().is_some() && (needs_hmac || self.tlvs.len() > 1) {
            push(&mut packet, kind::HMAC, &[0; HMAC_LEN]);
        }
        if let Some(length) = self.padding {
            push(&mut packet, kind::EXTRA_PADDING, &vec![0; length]);
        }
        if let Some(key) = &self.key {
            key.sign(&mut packet);
        }
        if let Some(key) = self.key_of_tlvs() {
            key.sign_tlvs(&mut packet, self.base_len());
        }
        packet
    }
}

/// Appends a TLV with flag U set, as a sender must (RFC 8972 §4).
fn push(packet: &mut Vec<u8>, kind: u8, value: &[u8]) {
    // Longer ones do not fit into a probe: `PacketPlan` is checked against `MAX_SIZE`.
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    packet.extend([flag::UNRECOGNISED, kind]);
    packet.extend(length.to_be_bytes());
    packet.extend(value);
}

#[cfg(test)]
mod tests;
