//! Why a packet answers no probe.

use std::net::{IpAddr, SocketAddr};

use probe_common::abi;
use probe_common::{authenticated, stamp};
use probe_core::auth::Key;
use probe_core::mismatch::Mismatch;

use crate::backend::socket::reply::{WireReply, long, quad, word};

/// Sessions in which a reply without a session identifier is searched: the work for each packet is bounded.
const MAX_SESSIONS: usize = 16;

/// The probes that were sent.
pub(crate) trait Sent {
    /// The probe with this number of session `ssid`.
    fn probe(&self, ssid: u16, seq: u32) -> Option<abi::InFlight>;

    /// The session in which `peer` is probed at its own address.
    fn session(&self, peer: IpAddr) -> Option<u16>;

    /// Sessions of that kind.
    fn sessions(&self, at_most: usize) -> Vec<u16>;
}

/// The reason that `packet`, which came from `from`, is no reply from `test_port` to one of the probes `sent`.
pub(crate) fn mismatch(
    packet: &[u8],
    from: SocketAddr,
    test_port: u16,
    key: Option<&Key>,
    sent: &impl Sent,
) -> Mismatch {
    if is_probe(packet, key, sent) {
        return Mismatch::Echo;
    }
    let Some(reply) = WireReply::read(packet, key) else {
        let least = key.map_or(stamp::MIN_REPLY_LEN, |_| authenticated::BASE_LEN);
        return match packet.len() < least {
            true => Mismatch::Length,
            false => Mismatch::Unsigned,
        };
    };
    let own = sent.session(from.ip());
    let mut sessions = [reply.ssid].into_iter().chain(own).chain(sent.sessions(MAX_SESSIONS));
    let found = sessions.find_map(|ssid| {
        let probe = sent.probe(ssid, reply.sender_sequence)?;
        (probe.t1_wire == reply.sender_timestamp).then_some((ssid, probe))
    });
    match found {
        Some((_, probe)) if !probe.is_answered_by(&from.ip().into(), reply.sender_timestamp) => Mismatch::Address,
        Some(_) if from.port() != test_port => Mismatch::Port,
        Some((ssid, _)) if ![0, ssid].contains(&reply.ssid) => Mismatch::Session,
        None if own.is_some_and(|own| sent.probe(own, reply.sender_sequence).is_some()) => Mismatch::Timestamp,
        _ => Mismatch::Unknown,
    }
}

/// Whether a packet is one of the probes `sent`: it has T1 where a reply has T3.
fn is_probe(packet: &[u8], key: Option<&Key>, sent: &impl Sent) -> bool {
    let (sequence, timestamp, ssid) = match key {
        Some(_) => (authenticated::SEQUENCE, authenticated::TIMESTAMP, authenticated::SSID),
        None => (stamp::SEQUENCE, stamp::TIMESTAMP, stamp::SSID),
    };
    let probe = sent.probe(word(packet, ssid), long(packet, sequence));
    probe.is_some_and(|probe| probe.t1_wire == quad(packet, timestamp))
}

#[cfg(test)]
mod tests {
    use probe_common::ntp::{ErrorEstimate, NtpTime};
    use probe_common::stamp::ReplyFields;

    use super::*;

    const PORT: u16 = 862;
    const SSID: u16 = 9;
    const T1: u64 = 77;
    const FIELDS: ReplyFields = ReplyFields {
        sequence: 0,
        transmit: NtpTime(30),
        error: ErrorEstimate(1),
        receive: NtpTime(20),
        ttl: 1,
    };

    /// One probe, number 3, to 10.77.0.2 or to a group.
    struct One(IpAddr);

    impl Sent for One {
        fn probe(&self, ssid: u16, seq: u32) -> Option<abi::InFlight> {
            let probe = abi::InFlight {
                t1_mono_ns: 0,
                t1_wire: T1,
                destination: self.0.into(),
                replies: 0,
                reserved: 0,
            };
            ((ssid, seq) == (SSID, 3)).then_some(probe)
        }

        fn session(&self, peer: IpAddr) -> Option<u16> {
            (peer == self.0).then_some(SSID)
        }

        fn sessions(&self, at_most: usize) -> Vec<u16> {
            [5, SSID][..at_most.min(2)].to_vec()
        }
    }

    fn probe() -> [u8; 44] {
        let mut probe = stamp::probe(3, ErrorEstimate(1), SSID);
        probe[stamp::TIMESTAMP + 7] = T1 as u8;
        probe
    }

    fn reply() -> [u8; 44] {
        let mut reply = probe();
        stamp::into_reply(&mut reply, &FIELDS);
        reply
    }

    fn with(at: usize, byte: u8) -> [u8; 44] {
        let mut reply = reply();
        reply[at] = byte;
        reply
    }

    #[test]
    fn the_first_reason_that_holds_is_named() {
        use Mismatch::{Address, Echo, Length, Port, Session, Timestamp, Unknown};
        let table: [(&[u8], &str, Mismatch); 12] = [
            (&probe(), "10.77.0.2:862", Echo),
            (&probe(), "10.77.0.3:7", Echo),
            (&reply()[..35], "10.77.0.2:862", Length),
            (&[], "10.77.0.2:862", Length),
            (&reply(), "10.77.0.3:862", Address),
            (&reply(), "10.77.0.3:5000", Address),
            (&with(stamp::SSID + 1, 0), "10.77.0.3:862", Address),
            (&reply(), "10.77.0.2:5000", Port),
            (&with(stamp::SSID, 1), "10.77.0.2:862", Session),
            (&with(stamp::SENDER_TIMESTAMP, 1), "10.77.0.2:862", Timestamp),
            (&with(stamp::SENDER_TIMESTAMP, 1), "10.77.0.3:862", Unknown),
            (&with(stamp::SENDER_SEQUENCE, 1), "10.77.0.2:862", Unknown),
        ];
        for (packet, from, why) in table {
            let sent = One("10.77.0.2".parse().unwrap());
            assert_eq!(
                mismatch(packet, from.parse().unwrap(), PORT, None, &sent),
                why,
                "{from}"
            );
        }
        let sent = One("239.255.255.250".parse().unwrap());
        let from = "10.77.0.3:5000".parse().unwrap();
        assert_eq!(
            mismatch(&reply(), from, PORT, None, &sent),
            Port,
            "any address answers a group"
        );
    }

    /// No probe, but many sessions; counts the look-ups.
    struct Many(std::cell::Cell<usize>);

    impl Sent for Many {
        fn probe(&self, _: u16, _: u32) -> Option<abi::InFlight> {
            self.0.set(self.0.get() + 1);
            None
        }

        fn session(&self, _: IpAddr) -> Option<u16> {
            Some(1)
        }

        fn sessions(&self, at_most: usize) -> Vec<u16> {
            (0..4_096).take(at_most).collect()
        }
    }

    #[test]
    fn the_work_for_a_packet_is_bounded() {
        let sent = Many(std::cell::Cell::new(0));
        let why = mismatch(&reply(), "10.77.0.2:862".parse().unwrap(), PORT, None, &sent);
        assert_eq!((why, sent.0.get()), (Mismatch::Unknown, MAX_SESSIONS + 4));
    }

    #[test]
    fn in_authenticated_mode_the_hmac_comes_first() {
        let sent = One("10.77.0.2".parse().unwrap());
        let from = "10.77.0.3:862".parse().unwrap();
        let [key, other] = ["secret", "other"].map(|secret| Key::new(secret.as_bytes()));
        let mut packet = authenticated::probe(3, NtpTime(T1), ErrorEstimate(1), SSID);
        key.sign(&mut packet);
        let why = |packet: &[u8], key| mismatch(packet, from, PORT, Some(key), &sent);
        assert_eq!(why(&packet, &key), Mismatch::Echo);
        authenticated::into_reply(&mut packet, &FIELDS);
        key.sign(&mut packet);
        assert_eq!(why(&packet, &key), Mismatch::Address);
        assert_eq!(why(&packet, &other), Mismatch::Unsigned);
        assert_eq!(why(&packet[..111], &key), Mismatch::Length);
    }
}
