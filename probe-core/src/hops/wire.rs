//! Questions for the far half and their answers (RFC 8972 §4): a private TLV, as that of an identity. Both have one length.

use probe_common::ntp::ErrorEstimate;

use crate::hops::stamp::Hook;
use crate::hops::stamps::Stamps;
use crate::identity::wire::AnswerStamps;

/// Length of a question and of its answer.
pub const PACKET_LEN: usize = 1200;

/// Probes that one question can be about.
pub const MAX_ASKED: usize = 64;

/// Asks the reflector for its stamps of probes of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Returned by the answer.
    pub nonce: u64,
    pub ssid: u16,
    /// Sequence numbers, at most [`MAX_ASKED`].
    pub probes: Vec<u32>,
}

/// The reflector's half of some probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From the question.
    pub nonce: u64,
    /// Of the reflector's host.
    pub hooks: Vec<Hook>,
    /// All stamps of the asker's probes within this time are kept: a probe that is younger and has no stamp was not seen.
    pub complete_ns: u64,
    /// Sequence number and stamps, in the order of the question. The last ones are left out where they do not fit.
    pub probes: Vec<(u32, Stamps)>,
}

/// The question as a packet.
pub fn question(_question: &Question, _error: ErrorEstimate) -> Option<Vec<u8>> {
    todo!()
}

/// `None` if the packet is no question.
pub fn from_question(_packet: &[u8]) -> Option<Question> {
    todo!()
}

/// As long as `request`, of which it is the answer; `None` if that is no question.
pub fn answer(_request: &[u8], _answer: &Answer, _arrival: AnswerStamps) -> Option<Vec<u8>> {
    todo!()
}

/// `None` if this is no answer, or the reflector did not understand the question.
pub fn from_answer(_packet: &[u8]) -> Option<Answer> {
    todo!()
}
