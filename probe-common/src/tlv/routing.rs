//! The TLVs of RFC 9503: which address answers, and how the reply returns.

use core::net::IpAddr;

use crate::tlv::{HEADER_LEN, flag, malformed, span};

/// Sub-TLVs of Return Path.
mod sub {
    /// 4 bytes, of which the last bit says whether there is to be a reply, on the link that the packet came by.
    pub const CONTROL_CODE: u8 = 1;
}

/// The address in a Destination Node Address, by its length; `None` if it is malformed.
pub(super) fn node_address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => value.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReturnPath {
    /// No reply is wanted.
    NoReply,
    /// Over the link that the packet came by, as every reply.
    SameLink,
    /// Another address or a list of segments.
    Other,
    Malformed,
}

/// Reads a Return Path, and answers the flags of its sub-TLVs.
pub(super) fn return_path(value: &mut [u8]) -> ReturnPath {
    let (mut at, mut found) = (0, None);
    while let Some(span) = span(value, at) {
        let Ok(end) = span else {
            value[at] = malformed(value[at]);
            return ReturnPath::Malformed;
        };
        let (header, code) = value[at..end].split_at_mut(HEADER_LEN);
        match (header[1], &*code) {
            (sub::CONTROL_CODE, [.., last]) if code.len() == 4 && found.is_none() => {
                header[0] = 0;
                found = Some(match last & 1 {
                    0 => ReturnPath::NoReply,
                    _ => ReturnPath::SameLink,
                });
            }
            (sub::CONTROL_CODE, _) => {
                header[0] = malformed(header[0]);
                return ReturnPath::Malformed;
            }
            // A reply to a third host or along a chosen way would let a sender attack it.
            _ => {
                header[0] = flag::UNRECOGNISED;
                found = Some(ReturnPath::Other);
            }
        }
        at = end;
    }
    found.unwrap_or(ReturnPath::Other)
}
