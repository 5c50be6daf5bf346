//! The identity TLV (RFC 8972 §4): a private type, an enterprise number, then the identity as JSON, padded with spaces
//! so that an answer is as long as its request.

use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, BASE_LEN, ReplyFields};
use probe_common::tlv::HEADER_LEN;
use probe_common::tlv::flag::UNRECOGNISED;
use probe_common::tlv::kind::PRIVATE as TYPE;
use serde::{Deserialize, Serialize};

use crate::identity::clock_proof::ClockProof;
use crate::identity::{Identity, is_acceptable, is_acceptable_name};

/// The enterprise number for documentation (RFC 5612): kstamp has none of its own.
pub(crate) const ENTERPRISE: u32 = 32473;
const ENTERPRISE_LEN: usize = 4;
/// Bytes for the JSON text.
const TEXT_LEN: usize = 504;
/// Length of a request and of its answer.
pub const PACKET_LEN: usize = BASE_LEN + HEADER_LEN + ENTERPRISE_LEN + TEXT_LEN;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityAnswer {
    /// From the request.
    pub nonce: u64,
    pub identity: Identity,
    /// Total of the asker's probes that were refused; `None` if the agent does not report it. It restarts with the agent.
    pub refused: Option<u64>,
    /// Proves that the peer reads the asker's clock; `None` if it does not.
    pub proof: Option<ClockProof>,
    /// The peer ends, or gives up the address at which it was asked.
    pub goodbye: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    #[serde(flatten)]
    identity: Identity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<ClockProof>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    goodbye: bool,
}

impl Text {
    fn new(identity: &Identity) -> Self {
        Self {
            identity: identity.clone(),
            refused: None,
            proof: None,
            goodbye: false,
        }
    }
}

/// The stamps in an answer, as in any STAMP reply.
#[derive(Debug, Clone, Copy)]
pub struct AnswerStamps {
    /// T2, UTC.
    pub receive_ns: u64,
    /// T3, UTC.
    pub transmit_ns: u64,
    pub error: ErrorEstimate,
}

/// Contains the identity of the asker. `nonce` is in the place of T1, so that any reflector returns it.
pub fn request(own: &Identity, error: ErrorEstimate, nonce: u64) -> Option<Vec<u8>> {
    let mut packet = stamp::probe(0, error, 0).to_vec();
    packet[stamp::TIMESTAMP..][..8].copy_from_slice(&nonce.to_be_bytes());
    packet.extend([UNRECOGNISED, TYPE]);
    packet.extend(((ENTERPRISE_LEN + TEXT_LEN) as u16).to_be_bytes());
    packet.extend(ENTERPRISE.to_be_bytes());
    packet.extend(text(&Text::new(own))?);
    Some(packet)
}

/// The instance of the asker; `None` if it sends none, or if this is no request.
pub fn instance_of(request: &[u8]) -> Option<u64> {
    from_request(request)?.instance
}

/// As long as `request`; `None` if that is no request. `prove` gets its nonce.
pub fn answer(
    request: &[u8],
    own: &Identity,
    refused: Option<u64>,
    prove: impl FnOnce(u64) -> Option<ClockProof>,
    arrival: AnswerStamps,
) -> Option<Vec<u8>> {
    if request.len() != PACKET_LEN {
        return None;
    }
    from_request(request)?;
    let text = Text {
        refused,
        proof: prove(nonce_at(request, stamp::TIMESTAMP)?),
        ..Text::new(own)
    };
    into_answer(request.to_vec(), &text, arrival)
}

/// Tells the asker of the request with `nonce` that this agent ends, or gives up the address that was asked.
pub fn goodbye(own: &Identity, nonce: u64, stamps: AnswerStamps) -> Option<Vec<u8>> {
    let text = Text {
        goodbye: true,
        ..Text::new(own)
    };
    into_answer(request(own, stamps.error, nonce)?, &text, stamps)
}

fn into_answer(mut packet: Vec<u8>, answer: &Text, arrival: AnswerStamps) -> Option<Vec<u8>> {
    into_reply(&mut packet, arrival);
    packet[BASE_LEN + HEADER_LEN + ENTERPRISE_LEN..].copy_from_slice(&text(answer)?);
    Some(packet)
}

/// Makes a reply of a request whose private TLV was understood.
pub(crate) fn into_reply(request: &mut [u8], arrival: AnswerStamps) {
    let fields = ReplyFields {
        sequence: 0,
        transmit: NtpTime::from_unix_ns(arrival.transmit_ns),
        error: arrival.error,
        receive: NtpTime::from_unix_ns(arrival.receive_ns),
        ttl: 0,
    };
    stamp::into_reply(request, &fields);
    request[BASE_LEN] &= !UNRECOGNISED;
}

/// `None` if this is no answer, or the reflector did not understand the request.
pub fn from_answer(packet: &[u8]) -> Option<IdentityAnswer> {
    let flags = packet.get(BASE_LEN)?;
    let nonce = nonce_at(packet, stamp::SENDER_TIMESTAMP)?;
    if flags & UNRECOGNISED != 0 {
        None
    } else {
        let Text {
            identity,
            refused,
            proof,
            goodbye,
        } = text_of(packet)?;
        Some(IdentityAnswer {
            nonce,
            identity,
            refused,
            proof,
            goodbye,
        })
    }
}

/// `None` if the packet is shorter.
pub(crate) fn nonce_at(packet: &[u8], at: usize) -> Option<u64> {
    packet.get(at..)?.first_chunk().map(|nonce| u64::from_be_bytes(*nonce))
}

fn from_request(packet: &[u8]) -> Option<Identity> {
    let flags = packet.get(BASE_LEN)?;
    if flags & UNRECOGNISED == 0 {
        None
    } else {
        text_of(packet).map(|text| text.identity)
    }
}

fn text_of(packet: &[u8]) -> Option<Text> {
    let tlv = packet.get(BASE_LEN..)?;
    let (header, value) = tlv.split_first_chunk::<HEADER_LEN>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let (enterprise, text) = value.get(..length)?.split_first_chunk::<ENTERPRISE_LEN>()?;
    if header[1] != TYPE || u32::from_be_bytes(*enterprise) != ENTERPRISE {
        return None;
    }
    let text: Text = serde_json::from_slice(text).ok()?;
    let identity = &text.identity;
    let texts = [&identity.version, &identity.receive, &identity.egress];
    let are_acceptable = is_acceptable_name(&identity.name) && texts.iter().all(|text| is_acceptable(text));
    are_acceptable.then_some(text)
}

fn text(text: &Text) -> Option<[u8; TEXT_LEN]> {
    let json = serde_json::to_vec(text).ok()?;
    let mut text = [b' '; TEXT_LEN];
    text.get_mut(..json.len())?.copy_from_slice(&json);
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::clock_proof::ClockKey;
    use crate::identity::{MAX_TEXT_LEN, ResponderPorts};

    fn identity(name: &str) -> Identity {
        Identity {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            instance: Some(u64::MAX),
            receive: "xdp-generic".to_owned(),
            egress: "tc".to_owned(),
            synchronised: true,
            error_ns: u64::MAX,
            stateful: true,
            responder: Some(ResponderPorts {
                userspace: u16::MAX,
                socket: u16::MAX,
            }),
            volley_limit: Some(u32::MAX),
        }
    }

    fn arrival() -> AnswerStamps {
        AnswerStamps {
            receive_ns: 1_795_000_000_000_000_000,
            transmit_ns: 1_795_000_000_000_000_900,
            error: ErrorEstimate(0x8101),
        }
    }

    fn key() -> ClockKey {
        ClockKey::new(b"boot")
    }

    fn prove(asked: u64) -> Option<ClockProof> {
        Some(key().prove(asked, u64::MAX, PROVER))
    }

    const PROVER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn both_ends_learn_the_identity_of_the_other() {
        let (asking, asked) = (identity("agent1"), identity("agent2"));
        let request = request(&asking, ErrorEstimate(1), 5).unwrap();
        assert_eq!(request.len(), PACKET_LEN);
        assert_eq!(from_request(&request), Some(asking));
        assert_eq!(from_answer(&request), None);
        let answer = answer(&request, &asked, Some(1_234), prove, arrival()).unwrap();
        assert_eq!(answer.len(), request.len(), "no amplification");
        let expected = IdentityAnswer {
            nonce: 5,
            identity: asked,
            refused: Some(1_234),
            proof: prove(5),
            goodbye: false,
        };
        assert!(key().accepts(5, PROVER, &expected.proof.unwrap()));
        assert_eq!(from_answer(&answer), Some(expected));
        assert_eq!(from_request(&answer), None, "an answer is never answered");
        assert_eq!(
            answer[4..12],
            NtpTime::from_unix_ns(arrival().transmit_ns).to_be_bytes()
        );
        assert_eq!(
            answer[16..24],
            NtpTime::from_unix_ns(arrival().receive_ns).to_be_bytes()
        );
    }

    #[test]
    fn a_goodbye_has_the_nonce_of_the_request_and_is_never_answered() {
        let longest = identity(&"\u{201c}".repeat(MAX_TEXT_LEN / 3));
        let goodbye = goodbye(&longest, 5, arrival()).unwrap();
        let said = from_answer(&goodbye).unwrap();
        assert_eq!((said.nonce, said.goodbye, said.identity), (5, true, longest));
        assert_eq!(goodbye.len(), PACKET_LEN);
        assert_eq!(answer(&goodbye, &identity("agent2"), None, prove, arrival()), None);
    }

    #[test]
    fn the_longest_name_fits_and_a_longer_one_is_refused() {
        let longest = "\u{201c}".repeat(MAX_TEXT_LEN / 3);
        let longest_request = request(&identity(&longest), ErrorEstimate(1), 0).unwrap();
        assert!(answer(&longest_request, &identity(&longest), Some(u64::MAX), prove, arrival()).is_some());
        let request = request(&identity(&"n".repeat(MAX_TEXT_LEN + 1)), ErrorEstimate(1), 0).unwrap();
        assert_eq!(from_request(&request), None);
    }

    #[test]
    fn an_answer_without_refused_probes_is_understood() {
        let request = request(&identity("agent1"), ErrorEstimate(1), 5).unwrap();
        let answered = answer(&request, &identity("agent2"), None, |_| None, arrival()).unwrap();
        let answered = from_answer(&answered).unwrap();
        assert_eq!((answered.identity.name.as_str(), answered.refused), ("agent2", None));
        assert_eq!(answered.proof, None);
    }

    #[test]
    fn an_identity_of_an_earlier_version_agrees_to_no_volley() {
        let agreed = |volley_limit| {
            let own = Identity {
                volley_limit,
                ..identity("agent2")
            };
            let request = request(&identity("agent1"), ErrorEstimate(1), 5).unwrap();
            let answer = answer(&request, &own, None, |_| None, arrival()).unwrap();
            assert_eq!(answer.len(), PACKET_LEN);
            let text = String::from_utf8_lossy(&answer).contains("volley_limit");
            assert_eq!(text, volley_limit.is_some(), "earlier versions see nothing new");
            from_answer(&answer).unwrap().identity.volley_limit
        };
        for limit in [None, Some(0), Some(100_000)] {
            assert_eq!(agreed(limit), limit);
        }
    }

    #[test]
    fn texts_that_cannot_be_printed_are_refused() {
        for field in 0..4 {
            let mut evil = identity("agent1");
            let fields = [&mut evil.name, &mut evil.version, &mut evil.receive, &mut evil.egress];
            fields.into_iter().nth(field).unwrap().push('\u{202e}');
            let request = request(&evil, ErrorEstimate(1), 0).unwrap();
            assert_eq!(from_request(&request), None, "field {field}");
        }
        let unnamed = request(&identity(""), ErrorEstimate(1), 0).unwrap();
        assert_eq!(from_request(&unnamed), None);
    }

    #[test]
    fn a_plain_reflector_gives_no_identity() {
        let mut reply = request(&identity("agent1"), ErrorEstimate(1), 0).unwrap();
        stamp::into_reply(
            &mut reply,
            &ReplyFields {
                sequence: 0,
                transmit: NtpTime(1),
                error: ErrorEstimate(1),
                receive: NtpTime(1),
                ttl: 1,
            },
        );
        assert_eq!(from_answer(&reply), None, "U is still set");
    }

    #[test]
    fn other_tlvs_and_cut_packets_are_not_requests() {
        let good = request(&identity("agent1"), ErrorEstimate(1), 0).unwrap();
        for at in [BASE_LEN + 1, BASE_LEN + 2, BASE_LEN + 4, BASE_LEN + 8] {
            let mut other = good.clone();
            other[at] ^= 0x55;
            assert_eq!(
                answer(&other, &identity("agent2"), Some(0), prove, arrival()),
                None,
                "byte {at}"
            );
        }
        for len in 0..good.len() {
            assert_eq!(
                answer(&good[..len], &identity("agent2"), Some(0), prove, arrival()),
                None,
                "{len} bytes"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_is_never_answered(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            prop_assert_eq!(answer(&bytes, &identity("agent2"), Some(0), prove, arrival()), None);
            prop_assert_eq!(from_answer(&bytes), None);
        }
    }
}
