//! Answers the TLVs of a test packet in place, as a reflector does (RFC 8972 §4): none is added, removed or resized.

use core::net::IpAddr;

use crate::tlv::location::{self, Ends};
use crate::tlv::routing::{self, ReturnPath};
use crate::tlv::{
    AccessReport, ClassOfService, DirectMeasurement, FollowUp, HEADER_LEN, HMAC_LEN, TimestampInformation, flag, kind,
    malformed, span,
};

/// Facts about the test packet, its session and the reflector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Address and port of the packet's sender.
    pub source: (IpAddr, u16),
    /// Address and port that it was sent to.
    pub destination: (IpAddr, u16),
    /// DSCP with which it arrived.
    pub dscp: u8,
    /// ECN with which it arrived.
    pub ecn: u8,
    /// Whether the reply can be sent with the DSCP that the packet asks for.
    pub may_set_dscp: bool,
    /// Whether the reflector has a key, with which it checks the HMAC TLV and signs the reply's.
    pub has_key: bool,
    pub timestamps: TimestampInformation,
    /// Test packets of this session received so far, this one included.
    pub received: u32,
    /// Replies of this session sent so far, this one included.
    pub sent: u32,
    /// The previous reply; [`FollowUp::NONE`] if there was none, the time it left is unknown, or the reflector keeps no
    /// state.
    pub follow_up: FollowUp,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Number of TLVs that were not understood.
    pub unrecognised: u32,
    /// Whether one was malformed; those after it are returned as they came.
    pub malformed: bool,
    /// The DSCP to send the reply with, if a TLV asks for one and the reflector can set it.
    pub dscp: Option<u8>,
    /// The own address to answer from, if a TLV names one.
    pub source: Option<IpAddr>,
    /// A TLV asks for no reply.
    pub no_reply: bool,
}

/// Answers each TLV: fills in its value, clears flag U if the type is known, sets M if it is malformed. The caller signs
/// the HMAC TLV: see [`hmac_place`]. `own` are the reflector's addresses.
pub fn answer(tlvs: &mut [u8], observed: &Observed, own: &[IpAddr]) -> Answered {
    let mut answered = Answered::default();
    let mut at = 0;
    while let Some(span) = span(tlvs, at) {
        let Ok(end) = span else {
            tlvs[at] = malformed(tlvs[at]);
            answered.malformed = true;
            return answered;
        };
        let (header, value) = tlvs[at..end].split_at_mut(HEADER_LEN);
        header[0] = match answer_value(header[1], value, observed, own, &mut answered) {
            Outcome::Understood => 0,
            Outcome::Unrecognised => {
                answered.unrecognised += 1;
                flag::UNRECOGNISED
            }
            Outcome::Malformed => {
                header[0] = malformed(header[0]);
                answered.malformed = true;
                return answered;
            }
        };
        at = end;
    }
    answered
}

enum Outcome {
    Understood,
    Unrecognised,
    Malformed,
}

fn answer_value(kind: u8, value: &mut [u8], observed: &Observed, own: &[IpAddr], answered: &mut Answered) -> Outcome {
    let understood = match kind {
        kind::EXTRA_PADDING => true,
        kind::LOCATION => {
            let ends = Ends {
                source: observed.source,
                destination: observed.destination,
            };
            location::answer(value, &ends)
        }
        kind::TIMESTAMP_INFORMATION => put(value.first_chunk_mut(), observed.timestamps.to_bytes()),
        kind::CLASS_OF_SERVICE => match ClassOfService::read(value) {
            Some(asked) => {
                answered.dscp = observed.may_set_dscp.then_some(asked.dscp_wanted);
                let reported = ClassOfService {
                    dscp_wanted: asked.dscp_wanted,
                    dscp_received: observed.dscp,
                    ecn_received: observed.ecn,
                    reverse_path: u8::from(!observed.may_set_dscp),
                };
                put(value.first_chunk_mut(), reported.to_bytes())
            }
            None => false,
        },
        kind::DIRECT_MEASUREMENT => match DirectMeasurement::read(value) {
            Some(asked) => {
                let reported = DirectMeasurement {
                    reflector_received: observed.received,
                    reflector_sent: observed.sent,
                    ..asked
                };
                put(value.first_chunk_mut(), reported.to_bytes())
            }
            None => false,
        },
        kind::ACCESS_REPORT => match AccessReport::read(value) {
            Some(report) if report.is_valid() => true,
            // Discarded (§4.6): U tells the sender.
            Some(_) => return Outcome::Unrecognised,
            None => false,
        },
        kind::FOLLOW_UP_TELEMETRY if value.len() == FollowUp::LEN => {
            put(value.first_chunk_mut(), observed.follow_up.to_bytes())
        }
        kind::FOLLOW_UP_TELEMETRY => {
            // §4.7, erratum 8339: zeros in place of sequence number and timestamp.
            let length = value.len().min(12);
            value[..length].fill(0);
            false
        }
        kind::DESTINATION_NODE_ADDRESS => match routing::node_address(value) {
            // The reply leaves from it; both ends of a packet are of one family.
            Some(node) if own.contains(&node) && node.is_ipv4() == observed.source.0.is_ipv4() => {
                answered.source = Some(node);
                true
            }
            Some(_) => return Outcome::Unrecognised,
            None => false,
        },
        kind::RETURN_PATH => match routing::return_path(value) {
            ReturnPath::NoReply => {
                answered.no_reply = true;
                true
            }
            ReturnPath::SameLink => true,
            ReturnPath::Other => return Outcome::Unrecognised,
            ReturnPath::Malformed => false,
        },
        // Without the key it counts as unknown: it no longer fits the reply.
        kind::HMAC if observed.has_key => value.len() == HMAC_LEN,
        _ => return Outcome::Unrecognised,
    };
    if understood {
        Outcome::Understood
    } else {
        Outcome::Malformed
    }
}

/// Writes a value whose length was checked.
fn put<const N: usize>(place: Option<&mut [u8; N]>, bytes: [u8; N]) -> bool {
    match place {
        Some(place) => {
            *place = bytes;
            true
        }
        None => false,
    }
}

/// Position of the HMAC TLV (RFC 8972 §4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HmacPlace {
    /// There is none, and nothing to protect: no TLV, or only one of Extra Padding.
    NotNeeded,
    /// There is none, but there are TLVs to protect.
    Missing,
    /// It begins at this offset, after all TLVs but Extra Padding. It covers the sequence number and all TLVs before it.
    At(usize),
    /// Its length is wrong, or another TLV than Extra Padding follows it. It counts as a wrong HMAC.
    Misplaced,
}

/// Finds the HMAC TLV. A TLV that the packet cuts off counts as one to protect: otherwise changing one length would hide
/// all TLVs.
pub fn hmac_place(tlvs: &[u8]) -> HmacPlace {
    let (mut at, mut place, mut count, mut padding) = (0, None, 0, 0);
    while let Some(span) = span(tlvs, at) {
        let Ok(end) = span else {
            return if place.is_some() {
                HmacPlace::Misplaced
            } else {
                HmacPlace::Missing
            };
        };
        match tlvs[at + 1] {
            kind::HMAC if place.is_some() || end - at != HEADER_LEN + HMAC_LEN => return HmacPlace::Misplaced,
            kind::HMAC => place = Some(at),
            kind::EXTRA_PADDING => padding += 1,
            _ if place.is_some() => return HmacPlace::Misplaced,
            _ => {}
        }
        count += 1;
        at = end;
    }
    match place {
        Some(at) => HmacPlace::At(at),
        None if count == 0 || (count == 1 && padding == 1) => HmacPlace::NotNeeded,
        None => HmacPlace::Missing,
    }
}

/// Sets flag I in each TLV and changes nothing else, as a reflector must if the HMAC is wrong (RFC 8972 §4.8).
pub fn fail_integrity(tlvs: &mut [u8]) {
    let mut at = 0;
    while let Some(span) = span(tlvs, at) {
        tlvs[at] |= flag::INTEGRITY;
        match span {
            Ok(end) => at = end,
            Err(_) => return,
        }
    }
}
