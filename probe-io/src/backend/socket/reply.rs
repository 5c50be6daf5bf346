//! A reply received by a socket, authenticated or not, and the probe that it answers.

use std::net::IpAddr;

use probe_common::ntp::ErrorEstimate;
use probe_common::{authenticated, stamp};
use probe_core::auth::Key;
use probe_core::observation::{ReflectorStamps, Reply};
use probe_host::clock::ClockState;
use probe_host::wall::WallOffset;

use crate::clock::error_bound_ns;

/// A probe by its session and its number.
pub(crate) type ProbeId = (u16, u32);

/// A probe that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlightProbe {
    pub destination: IpAddr,
    /// T1 in the probe, NTP format.
    pub wire: u64,
    /// Time just before the send call, UTC; after the stamp, the time of leaving.
    pub sent_ns: u64,
    /// The same on the monotonic clock.
    pub sent_mono_ns: u64,
    /// Whether the kernel has stamped it.
    pub stamped: bool,
    /// Replies that were accepted.
    pub replies: u32,
}

/// What a reply contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireReply {
    /// The reflector's own number.
    pub sequence: u32,
    /// T3, in the format of `error`.
    pub transmit: u64,
    pub error: ErrorEstimate,
    /// 0 from a reflector without RFC 8972.
    pub ssid: u16,
    /// T2, in the format of `error`.
    pub receive: u64,
    pub sender_sequence: u32,
    /// T1, as the probe had it.
    pub sender_timestamp: u64,
}

impl WireReply {
    /// Reads a reply; with a key, only one that is signed with it. `None` if it is none.
    pub fn read(packet: &[u8], key: Option<&Key>) -> Option<Self> {
        match key {
            Some(key) => {
                let is_signed = key.is_signed(packet) && authenticated::is_reply_shaped(packet);
                is_signed.then(|| Self {
                    sequence: long(packet, authenticated::SEQUENCE),
                    transmit: quad(packet, authenticated::TIMESTAMP),
                    error: ErrorEstimate(word(packet, authenticated::ERROR_ESTIMATE)),
                    ssid: word(packet, authenticated::SSID),
                    receive: quad(packet, authenticated::RECEIVE_TIMESTAMP),
                    sender_sequence: long(packet, authenticated::SENDER_SEQUENCE),
                    sender_timestamp: quad(packet, authenticated::SENDER_TIMESTAMP),
                })
            }
            None => (packet.len() >= stamp::MIN_REPLY_LEN).then(|| Self {
                sequence: long(packet, stamp::SEQUENCE),
                transmit: quad(packet, stamp::TIMESTAMP),
                error: ErrorEstimate(word(packet, stamp::ERROR_ESTIMATE)),
                ssid: word(packet, stamp::SSID),
                receive: quad(packet, stamp::RECEIVE_TIMESTAMP),
                sender_sequence: long(packet, stamp::SENDER_SEQUENCE),
                sender_timestamp: quad(packet, stamp::SENDER_TIMESTAMP),
            }),
        }
    }

    /// The observation of `probe`, which it answers; it came from `peer` at `t4_ns`.
    pub fn observation(
        &self,
        peer: IpAddr,
        (ssid, seq): ProbeId,
        probe: &InFlightProbe,
        t4_ns: u64,
        wall: &WallOffset,
        clock: &ClockState,
    ) -> Reply {
        let stamps = ReflectorStamps::read(self.error, self.receive, self.transmit, t4_ns);
        Reply {
            peer,
            ssid,
            seq,
            reflector_seq: self.sequence,
            sent_mono_ns: probe.sent_mono_ns,
            received_mono_ns: wall.monotonic_ns(t4_ns),
            t1_ns: probe.sent_ns,
            t2_ns: stamps.t2_ns,
            t3_ns: stamps.t3_ns,
            t4_ns,
            reflector_error_ns: stamps.error_ns,
            own_error_ns: error_bound_ns(clock),
            wrong_z: stamps.wrong_z,
            clock_set: false,
        }
    }
}

fn bytes<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    let part = packet.get(at..).and_then(|rest| rest.first_chunk());
    part.copied().unwrap_or([0; N])
}

pub(super) fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes(packet, at))
}

pub(super) fn long(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes(packet, at))
}

pub(super) fn quad(packet: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes(packet, at))
}

#[cfg(test)]
mod tests {
    use probe_common::ntp::NtpTime;
    use probe_common::stamp::ReplyFields;

    use super::*;

    fn fields() -> ReplyFields {
        ReplyFields {
            sequence: 5,
            transmit: NtpTime(30),
            error: ErrorEstimate(0x8101),
            receive: NtpTime(20),
            ttl: 63,
        }
    }

    fn expected() -> WireReply {
        WireReply {
            sequence: 5,
            transmit: 30,
            error: ErrorEstimate(0x8101),
            ssid: 9,
            receive: 20,
            sender_sequence: 7,
            sender_timestamp: 10,
        }
    }

    #[test]
    fn both_modes_are_read() {
        let mut plain = stamp::probe(7, ErrorEstimate(1), 9);
        plain[11] = 10;
        stamp::into_reply(&mut plain, &fields());
        assert_eq!(WireReply::read(&plain, None), Some(expected()));
        assert_eq!(WireReply::read(&plain[..36], None), Some(expected()), "TWAMP-Light");
        assert_eq!(WireReply::read(&plain[..35], None), None);

        let key = Key::new(b"secret");
        let mut signed = authenticated::probe(7, NtpTime(10), ErrorEstimate(1), 9);
        key.sign(&mut signed);
        assert_eq!(WireReply::read(&signed, Some(&key)), None, "a probe is no reply");
        authenticated::into_reply(&mut signed, &fields());
        assert_eq!(WireReply::read(&signed, Some(&key)), None, "not signed");
        key.sign(&mut signed);
        assert_eq!(WireReply::read(&signed, Some(&key)), Some(expected()));
        assert_eq!(WireReply::read(&signed, Some(&Key::new(b"other"))), None);
        assert_eq!(WireReply::read(&plain, Some(&key)), None);
    }
}
