//! Questions for the far half and their answers (RFC 8972 §4): a private TLV, as that of an identity. Both have one length.
//!
//! The value is an enterprise number, a mark, and then, big-endian:
//!
//! * of a question: session identifier (2 bytes), number of probes (1), sequence number of each (4);
//! * of an answer: for how long it is complete in nanoseconds (8); number of hooks (1), of each its role, length and name;
//!   number of probes (1), of each its sequence number (4), number of stamps and bits (1), the waits in upcalls where the
//!   bits say so (4 and 4), the earliest stamp (8), and of each stamp its place (1) and time after the earliest (4); number of
//!   waits for a processor (1), of each the index of its probe in this answer (1), the place of the stamp (1) and its
//!   duration (4). Versions without these waits write zeros there, and do not read them.
//!
//! Zeros follow up to [`PACKET_LEN`].

use probe_common::ntp::ErrorEstimate;
use probe_common::stamp::{self, BASE_LEN};
use probe_common::tlv::HEADER_LEN;
use probe_common::tlv::flag::UNRECOGNISED;
use probe_common::tlv::kind::PRIVATE as TYPE;

use crate::direction::Direction;
use crate::hops::stamp::{Hook, MAX_HOOKS, Mark, Role};
use crate::hops::stamps::{MAX_STAMPS, Stamps};
use crate::identity::is_acceptable_name;
use crate::identity::wire::{AnswerStamps, ENTERPRISE, into_reply, nonce_at};

/// Length of a question and of its answer.
pub const PACKET_LEN: usize = 1200;

/// Probes that one question can be about.
pub const MAX_ASKED: usize = 64;

/// Longest name of a device (`IFNAMSIZ` − 1).
const MAX_DEVICE_LEN: usize = 15;

/// Distinguishes these TLVs from others of this enterprise. The last byte is the version.
const MARK: [u8; 5] = *b"hops\x01";
const VALUE: usize = BASE_LEN + HEADER_LEN;
const BODY: usize = VALUE + size_of_val(&ENTERPRISE) + MARK.len();

/// Bits in the number of stamps.
const HAS_UPCALLS: u8 = 1 << 7;
const IS_CUT: u8 = 1 << 6;
const COUNT: u8 = IS_CUT - 1;
const _: () = assert!(MAX_STAMPS <= COUNT as usize);

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
    /// Sequence number and stamps in the reflector's UTC, in the order of the question. The last ones are left out where they
    /// do not fit.
    pub probes: Vec<(u32, Stamps)>,
}

/// The question as a packet. `nonce` is in the place of T1, so that any reflector returns it.
pub fn question(question: &Question, error: ErrorEstimate) -> Vec<u8> {
    let mut packet = stamp::probe(0, error, 0).to_vec();
    packet[stamp::TIMESTAMP..][..8].copy_from_slice(&question.nonce.to_be_bytes());
    packet.extend([UNRECOGNISED, TYPE]);
    packet.extend(((PACKET_LEN - VALUE) as u16).to_be_bytes());
    packet.extend(ENTERPRISE.to_be_bytes());
    packet.extend(MARK);
    packet.extend(question.ssid.to_be_bytes());
    let probes = &question.probes[..question.probes.len().min(MAX_ASKED)];
    packet.push(probes.len() as u8);
    packet.extend(probes.iter().flat_map(|seq| seq.to_be_bytes()));
    packet.resize(PACKET_LEN, 0);
    packet
}

/// `None` if the packet is no question.
pub fn from_question(packet: &[u8]) -> Option<Question> {
    let mut body = body(packet).filter(|_| packet[BASE_LEN] & UNRECOGNISED != 0)?;
    let ssid = body.u16()?;
    let count = usize::from(body.u8()?);
    let probes = (0..count).map(|_| body.u32()).collect::<Option<Vec<u32>>>()?;
    (count <= MAX_ASKED).then_some(Question {
        nonce: nonce_at(packet, stamp::TIMESTAMP)?,
        ssid,
        probes,
    })
}

/// As long as `request`, of which it is the answer; `None` if that is no question.
pub fn answer(request: &[u8], answer: &Answer, arrival: AnswerStamps) -> Option<Vec<u8>> {
    from_question(request)?;
    let mut packet = request.to_vec();
    into_reply(&mut packet, arrival);
    packet.truncate(BODY);
    packet.extend(answer.complete_ns.to_be_bytes());
    let hooks = &answer.hooks[..answer.hooks.len().min(MAX_HOOKS)];
    packet.push(hooks.len() as u8);
    for Hook { device, role } in hooks {
        let name = &device.as_bytes()[..device.len().min(MAX_DEVICE_LEN)];
        packet.extend([*role as u8, name.len() as u8]);
        packet.extend(name);
    }
    let count_at = packet.len();
    packet.push(0);
    let mut waits = vec![0];
    for (seq, stamps) in answer.probes.iter().take(MAX_ASKED) {
        let lengths = (packet.len(), waits.len());
        write_stamps(&mut packet, *seq, stamps);
        write_softirqs(&mut waits, packet[count_at], stamps);
        if packet.len() + waits.len() > PACKET_LEN {
            packet.truncate(lengths.0);
            waits.truncate(lengths.1);
            break;
        }
        packet[count_at] += 1;
    }
    waits[0] = (waits.len() / SOFTIRQ_LEN) as u8;
    packet.extend(waits);
    packet.resize(PACKET_LEN, 0);
    Some(packet)
}

/// `None` if this is no answer, or the reflector did not understand the question.
pub fn from_answer(packet: &[u8]) -> Option<Answer> {
    let mut body = body(packet).filter(|_| packet[BASE_LEN] & UNRECOGNISED == 0)?;
    let complete_ns = body.u64()?;
    let hooks = usize::from(body.u8()?);
    let hooks = (0..hooks)
        .map(|_| read_hook(&mut body))
        .collect::<Option<Vec<Hook>>>()?;
    let probes = usize::from(body.u8()?);
    if hooks.len() > MAX_HOOKS || probes > MAX_ASKED {
        return None;
    }
    let probes = (0..probes).map(|_| read_stamps(&mut body, hooks.len()));
    let mut probes = probes.collect::<Option<Vec<_>>>()?;
    // Nothing follows the probes of a version without these waits that fill the packet.
    for _ in 0..body.u8().unwrap_or(0) {
        let (index, place, wait_ns) = (body.u8()?, body.u8()?, body.u32()?);
        let (_, stamps) = probes.get_mut(usize::from(index))?;
        stamps.note_softirq(Mark::at(place, 0)?, wait_ns.into());
    }
    Some(Answer {
        nonce: nonce_at(packet, stamp::SENDER_TIMESTAMP)?,
        complete_ns,
        probes,
        hooks,
    })
}

fn read_hook(body: &mut Reader<'_>) -> Option<Hook> {
    let role = match body.u8()? {
        0 => Role::Leg,
        1 => Role::Tunnel,
        2 => Role::Nic,
        _ => return None,
    };
    let length = usize::from(body.u8()?);
    let device = str::from_utf8(body.bytes(length)?).ok()?.to_owned();
    (length <= MAX_DEVICE_LEN && is_acceptable_name(&device)).then_some(Hook { device, role })
}

/// Stamps that are more than 4.3 s after the earliest are left out.
fn write_stamps(packet: &mut Vec<u8>, seq: u32, stamps: &Stamps) {
    let first_ns = stamps.marks().map(|mark| mark.at_ns).min().unwrap_or_default();
    let after = |mark: Mark| Some((mark.place()?, u32::try_from(mark.at_ns - first_ns).ok()?));
    let count = stamps.marks().filter_map(after).count();
    let is_cut = stamps.is_cut() || count < stamps.marks().count();
    let upcalls = [Direction::Forward, Direction::Backward].map(|direction| stamps.upcall_ns(direction));
    let bits = if is_cut { IS_CUT } else { 0 } | if upcalls == [0; 2] { 0 } else { HAS_UPCALLS };
    packet.extend(seq.to_be_bytes());
    packet.push(count as u8 | bits);
    if bits & HAS_UPCALLS != 0 {
        packet.extend(upcalls.into_iter().flat_map(u32::to_be_bytes));
    }
    if stamps.is_empty() {
        return;
    }
    packet.extend(first_ns.to_be_bytes());
    for (place, after_ns) in stamps.marks().filter_map(after) {
        packet.push(place);
        packet.extend(after_ns.to_be_bytes());
    }
}

/// Length of a wait for a processor.
const SOFTIRQ_LEN: usize = 6;

/// `index` is that of the probe in its answer.
fn write_softirqs(waits: &mut Vec<u8>, index: u8, stamps: &Stamps) {
    for direction in [Direction::Forward, Direction::Backward] {
        if let Some((place, wait_ns)) = stamps
            .softirq(direction)
            .and_then(|(mark, ns)| Some((mark.place()?, ns)))
        {
            waits.extend([index, place]);
            waits.extend(wait_ns.to_be_bytes());
        }
    }
}

fn read_stamps(body: &mut Reader<'_>, hooks: usize) -> Option<(u32, Stamps)> {
    let (seq, bits) = (body.u32()?, body.u8()?);
    let mut stamps = Stamps::default();
    if bits & HAS_UPCALLS != 0 {
        for direction in [Direction::Forward, Direction::Backward] {
            stamps.note_upcall(direction, body.u32()?.into());
        }
    }
    if bits & IS_CUT != 0 {
        stamps.cut();
    }
    let count = bits & COUNT;
    if count == 0 {
        return Some((seq, stamps));
    }
    let first_ns = body.u64()?;
    for _ in 0..count {
        let (place, after_ns) = (body.u8()?, body.u32()?);
        let mark = Mark::at(place, first_ns.checked_add(after_ns.into())?)?;
        if usize::from(mark.hook.0) >= hooks {
            return None;
        }
        stamps.note(mark);
    }
    Some((seq, stamps))
}

/// What follows the mark.
fn body(packet: &[u8]) -> Option<Reader<'_>> {
    let mut tlv = Reader(packet.get(BASE_LEN..)?);
    let [_flags, kind] = tlv.array()?;
    let length = usize::from(tlv.u16()?);
    let is_ours = kind == TYPE && tlv.u32()? == ENTERPRISE && tlv.array()? == MARK;
    (packet.len() == PACKET_LEN && length == PACKET_LEN - VALUE && is_ours).then_some(tlv)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
