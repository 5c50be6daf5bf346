//! The contents of a reply, besides its stamps.

use std::fmt;
use std::net::IpAddr;

use probe_common::tlv::{
    self, AccessReport, ClassOfService, DirectMeasurement, FollowUp, Location, LocationSub, TimestampInformation, flag,
    kind,
};
use probe_core::observation::Reply;

/// A reply, and its packet if a socket received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingAnswer {
    pub reply: Reply,
    pub packet: Option<ReplyPacket>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyPacket {
    /// Bytes of the UDP payload.
    pub length: usize,
    /// TTL or hop limit with which it arrived.
    pub ttl: Option<u8>,
    /// DSCP with which it arrived.
    pub dscp: Option<u8>,
    /// TTL or hop limit with which the probe reached the reflector, as the reflector reports it.
    pub probe_ttl: Option<u8>,
    pub tlvs: Vec<ReturnedTlv>,
    /// The packet ends before its last TLV does.
    pub is_cut: bool,
    /// The HMAC of the TLVs is wrong or missing; of authenticated replies only.
    pub tlvs_forged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnedTlv {
    /// [`flag`]s.
    pub flags: u8,
    /// [`kind`].
    pub kind: u8,
    pub value: Vec<u8>,
    /// Its value is not used: the HMAC is wrong, or a TLV before it is malformed (RFC 8972 §4).
    pub unused: bool,
}

/// The TLVs behind a base packet, and whether the last was cut off. Those of a `forged` packet are not used.
pub fn returned(bytes: &[u8], forged: bool) -> (Vec<ReturnedTlv>, bool) {
    let (mut tlvs, mut unused) = (Vec::new(), forged);
    for tlv in tlv::read(bytes) {
        match tlv {
            Ok(tlv) => {
                tlvs.push(ReturnedTlv {
                    flags: tlv.flags,
                    kind: tlv.kind,
                    value: tlv.value.to_vec(),
                    unused,
                });
                unused |= tlv.has(flag::MALFORMED | flag::INTEGRITY);
            }
            Err(_cut) => return (tlvs, true),
        }
    }
    (tlvs, false)
}

impl ReturnedTlv {
    /// Name of its type.
    pub fn name(&self) -> &'static str {
        match self.kind {
            kind::EXTRA_PADDING => "padding",
            kind::LOCATION => "location",
            kind::TIMESTAMP_INFORMATION => "timestamps",
            kind::CLASS_OF_SERVICE => "cos",
            kind::DIRECT_MEASUREMENT => "direct",
            kind::ACCESS_REPORT => "access",
            kind::FOLLOW_UP_TELEMETRY => "follow-up",
            kind::HMAC => "hmac",
            kind::DESTINATION_NODE_ADDRESS => "node",
            kind::RETURN_PATH => "return-path",
            kind::PRIVATE..=254 => "private",
            _ => "unknown",
        }
    }

    /// The flags that are set, as RFC 8972 calls them; `-` for none.
    pub fn flag_names(&self) -> String {
        let known = [
            (flag::UNRECOGNISED, 'U'),
            (flag::MALFORMED, 'M'),
            (flag::INTEGRITY, 'I'),
        ];
        let set: String = known
            .iter()
            .filter(|(bit, _)| self.flags & bit != 0)
            .map(|(_, name)| name)
            .collect();
        if set.is_empty() { "-".to_owned() } else { set }
    }

    /// Whether the reflector has honoured it, and its value may be used.
    pub fn is_honoured(&self) -> bool {
        self.flags & flag::ALL == 0 && !self.unused
    }

    /// The value in words; `None` without a report or if it is not honoured.
    pub fn says(&self) -> Option<String> {
        if !self.is_honoured() {
            return None;
        }
        match self.kind {
            kind::LOCATION => Location::read(&self.value).map(|location| location_says(&location)),
            kind::TIMESTAMP_INFORMATION => TimestampInformation::read(&self.value).map(|reported| {
                format!(
                    "receives by {} and {}, sends by {} and {}",
                    source(reported.sync_in.0),
                    method(reported.method_in.0),
                    source(reported.sync_out.0),
                    method(reported.method_out.0)
                )
            }),
            kind::CLASS_OF_SERVICE => ClassOfService::read(&self.value).map(|reported| {
                let refused = if reported.reverse_path == 0 {
                    ""
                } else {
                    ", refused for the reply"
                };
                format!(
                    "DSCP {} and ECN {} received, DSCP {} wanted{refused}",
                    reported.dscp_received, reported.ecn_received, reported.dscp_wanted
                )
            }),
            kind::DIRECT_MEASUREMENT => DirectMeasurement::read(&self.value).map(|reported| {
                format!(
                    "{} sent, {} received, {} returned",
                    reported.sender_sent, reported.reflector_received, reported.reflector_sent
                )
            }),
            kind::ACCESS_REPORT => AccessReport::read(&self.value)
                .map(|reported| format!("access {}, code {}", reported.access_id, reported.return_code)),
            kind::FOLLOW_UP_TELEMETRY => FollowUp::read(&self.value).map(|reported| match reported {
                FollowUp::NONE => "nothing to report".to_owned(),
                reported => format!(
                    "reply {} left at {:#018x}, by {}",
                    reported.sequence,
                    reported.timestamp,
                    method(reported.method.0)
                ),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for ReturnedTlv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), {} bytes", self.name(), self.kind, self.value.len())?;
        if self.flags & flag::ALL != 0 {
            write!(f, ", flags {}", self.flag_names())?;
        }
        self.says().map_or(Ok(()), |says| write!(f, ": {says}"))
    }
}

fn location_says(location: &Location<'_>) -> String {
    let mut parts = vec![format!(
        "ports {} to {}",
        location.source_port, location.destination_port
    )];
    parts.extend(location.subs().filter_map(|sub| match sub {
        LocationSub::SourceMac(mac) => {
            let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
            Some(format!("from MAC {}", octets.join(":")))
        }
        LocationSub::Source(address) => Some(format!("from {}", address_of(address))),
        LocationSub::Destination(address) => Some(format!("to {}", address_of(address))),
        LocationSub::Other => None,
    }));
    parts.join(", ")
}

fn address_of(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// RFC 8972 §5.3, table 7.
fn source(code: u8) -> &'static str {
    match code {
        1 => "NTP",
        2 => "PTP",
        3 => "SSU/BITS",
        4 => "satellite",
        5 => "a free clock",
        _ => "an unnamed clock",
    }
}

/// RFC 8972 §5.3, table 9.
fn method(code: u8) -> &'static str {
    match code {
        1 => "hardware",
        2 => "software",
        3 => "the control plane",
        _ => "unnamed means",
    }
}

#[cfg(test)]
mod tests;
