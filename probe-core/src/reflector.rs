//! The reflector that answers what the kernel programs pass up, and everything where there are none: a test packet and
//! the facts of its arrival in, its reply or a counted refusal out. No socket, no clock.

mod count;
mod limit;
mod lru;
pub mod policy;
mod session;

use std::net::{IpAddr, SocketAddr};

use probe_common::abi::Address;
use probe_common::family::Family;
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, MIN_PROBE_LEN, ReplyFields};
use probe_common::tlv::{self, FollowUp, Observed, SyncSource, TimestampInformation, TimestampMethod};
use probe_common::{authenticated, legacy};

use crate::auth::{Key, TlvIntegrity};
pub use crate::reflector::count::{Count, Counts};
use crate::reflector::limit::Limiter;
pub use crate::reflector::limit::userspace_rates;
use crate::reflector::policy::{Policy, Rates};
pub use crate::reflector::session::ReplyId;
use crate::reflector::session::Sessions;

/// How to answer.
#[derive(Debug, Clone)]
pub struct ReflectorConfig {
    /// Port on which test packets arrive.
    pub test_port: u16,
    /// The groups whose probes are answered.
    pub groups: Vec<IpAddr>,
    /// Keep no sessions: the sequence number of a reply is that of its test packet (RFC 8762 §4.3).
    pub stateless: bool,
    /// Authenticated mode, and nothing else is answered then.
    pub key: Option<Key>,
    /// How often; userspace has limits of its own below these.
    pub rates: Rates,
    /// The kernel programs answer base packets; one that comes here was refused there.
    pub behind_kernel: bool,
}

/// What is known of a test packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address that it was sent to.
    pub to: IpAddr,
    /// TTL or hop limit with which it came.
    pub ttl: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// T2, UTC nanoseconds since 1970.
    pub receive_ns: u64,
}

/// What this host says of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockQuality {
    /// Error estimate of its stamps.
    pub error: ErrorEstimate,
    /// Something disciplines it.
    pub synchronised: bool,
}

/// A reply, whose bytes stand where the test packet stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reflected {
    /// The address to answer from; `None` for the interface's own one, where a group was probed.
    pub source: Option<IpAddr>,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// Whether the probe came by a group.
    pub by_group: bool,
    /// Which reply of which session, so that one can say when it left; `None` of a stateless reflector.
    pub id: Option<ReplyId>,
}

/// The reflector's state.
#[derive(Debug)]
pub struct Reflector {
    config: ReflectorConfig,
    own: Vec<IpAddr>,
    policy: Policy,
    sessions: Sessions,
    limiter: Limiter,
    counts: Counts,
}

impl Reflector {
    /// A reflector without sessions.
    pub fn new(config: ReflectorConfig) -> Self {
        Self {
            limiter: Limiter::new(config.rates),
            config,
            own: Vec::new(),
            policy: Policy::default(),
            sessions: Sessions::default(),
            counts: Counts::default(),
        }
    }

    /// The interface's own addresses, at which probes are answered, and who is answered. Nobody is before this was called.
    pub fn set_policy(&mut self, own: Vec<IpAddr>, policy: Policy) {
        self.own = own;
        self.policy = policy;
    }

    /// What has been answered and what has not, by reason.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Something became of a packet elsewhere.
    pub fn count(&mut self, what: Count) {
        self.counts.add(what);
    }

    /// Whether packets are authenticated, so that others are not answered.
    pub fn is_authenticated(&self) -> bool {
        self.config.key.is_some()
    }

    /// Whether whoever sent a packet may be answered at all and now: neither a reply, nor a loop, nor too often, nor from
    /// where nobody may ask. A refusal is counted.
    pub fn admits(&mut self, arrival: &Arrival, now_ns: u64) -> bool {
        let outcome = self.judge_arrival(arrival, now_ns);
        outcome.map_err(|reason| self.counts.add(reason)).is_ok()
    }

    fn judge_arrival(&mut self, arrival: &Arrival, now_ns: u64) -> Result<(), Count> {
        let source = arrival.from.ip();
        if arrival.from.port() == self.config.test_port {
            return Err(Count::SourcePort);
        }
        if arrival.from.port() == 0 || !Address::from(source).is_answerable(Family::of(source)) {
            return Err(Count::BadSource);
        }
        let by_group = !self.own.contains(&arrival.to);
        if by_group && !self.config.groups.contains(&arrival.to) {
            return Err(Count::NotForUs);
        }
        if !self.policy.allows(source) {
            return Err(Count::NotAllowed);
        }
        if !self.limiter.allows(source, by_group, now_ns) {
            return Err(Count::RateLimited);
        }
        Ok(())
    }

    /// Turns an admitted test packet into its reply in place; the reply is as long as the packet, or a base packet if
    /// that was shorter. `transmit_ns` is called as late as can be, and gives T3, UTC nanoseconds since 1970.
    ///
    /// `None` for a packet that is not answered, which is counted.
    pub fn reflect(
        &mut self,
        packet: &mut Vec<u8>,
        arrival: &Arrival,
        clock: ClockQuality,
        transmit_ns: impl FnOnce() -> u64,
    ) -> Option<Reflected> {
        if self.config.key.is_none() && legacy::is_probe(packet) {
            return match self.echo(arrival) {
                Ok(reply) => {
                    self.counts.add(Count::LegacyReflected);
                    Some(reply)
                }
                Err(reason) => {
                    self.counts.add(reason);
                    None
                }
            };
        }
        match self.turn_around(packet, arrival, clock, transmit_ns) {
            Ok(reply) => {
                self.counts.add(if reply.by_group {
                    Count::ReflectedGroup
                } else {
                    Count::Reflected
                });
                Some(reply)
            }
            Err(reason) => {
                self.counts.add(reason);
                None
            }
        }
    }

    /// Whether a number of an agent of the older kind goes back as it came. It looks like its echo: only where it comes
    /// from can tell them apart, as in the programs.
    fn echo(&self, arrival: &Arrival) -> Result<Reflected, Count> {
        if self.config.behind_kernel {
            return Err(Count::RefusedByKernel);
        }
        if legacy::may_loop(arrival.from.port(), arrival.ttl) {
            return Err(Count::LegacyLoop);
        }
        let by_group = !self.own.contains(&arrival.to);
        Ok(Reflected {
            source: (!by_group).then_some(arrival.to),
            tos: arrival.tos & !ECN,
            by_group,
            id: None,
        })
    }

    fn turn_around(
        &mut self,
        packet: &mut Vec<u8>,
        arrival: &Arrival,
        clock: ClockQuality,
        transmit_ns: impl FnOnce() -> u64,
    ) -> Result<Reflected, Count> {
        let base_len = self.judge_packet(packet)?;
        let integrity = match &self.config.key {
            Some(key) => key.check_tlvs(packet, base_len, true),
            None => TlvIntegrity::Intact,
        };
        // RFC 8762 §4.6: a shorter packet, of a TWAMP-Light sender, is answered by a base packet.
        packet.resize(packet.len().max(base_len), 0);

        let asked = Asked::read(packet, self.config.key.is_some());
        let turn = match self.config.stateless {
            true => session::Turn::stateless(asked.sequence),
            false => self.sessions.turn(session::Key {
                source: arrival.from,
                destination: arrival.to,
                ssid: asked.ssid,
            }),
        };
        let mut tos = arrival.tos & !ECN;
        let tlvs = &mut packet[base_len..];
        match integrity {
            TlvIntegrity::Intact => {
                let answered = tlv::answer(tlvs, &self.observed(arrival, clock, &turn));
                self.counts.add_many(Count::TlvUnrecognised, answered.unrecognised);
                self.counts.add_many(Count::TlvMalformed, answered.malformed.into());
                tos = answered.dscp.map_or(tos, |dscp| dscp << 2);
            }
            TlvIntegrity::Failed => {
                tlv::fail_integrity(tlvs);
                self.counts.add(Count::TlvIntegrity);
            }
        }
        let fields = ReplyFields {
            sequence: turn.sequence,
            transmit: NtpTime::from_unix_ns(transmit_ns()),
            error: clock.error,
            receive: NtpTime::from_unix_ns(arrival.receive_ns),
            ttl: arrival.ttl,
        };
        match &self.config.key {
            Some(key) => {
                authenticated::into_reply(packet, &fields);
                key.sign(packet);
                if integrity == TlvIntegrity::Intact {
                    key.sign_tlvs(packet, base_len);
                }
            }
            None => {
                stamp::into_reply(packet, &fields);
            }
        }
        let by_group = !self.own.contains(&arrival.to);
        Ok(Reflected {
            source: (!by_group).then_some(arrival.to),
            tos,
            by_group,
            id: turn.id,
        })
    }

    /// Whether this is a test packet of the mode in use; gives the length of the base packet.
    fn judge_packet(&self, packet: &[u8]) -> Result<usize, Count> {
        if let Some(key) = &self.config.key {
            if packet.len() < authenticated::BASE_LEN {
                return Err(Count::HmacMissing);
            }
            if !key.is_signed(packet) {
                return Err(Count::HmacWrong);
            }
            if authenticated::is_reply_shaped(packet) {
                return Err(Count::ReplyShaped);
            }
            return Ok(authenticated::BASE_LEN);
        }
        if packet.len() < MIN_PROBE_LEN {
            return Err(Count::TooShort);
        }
        if stamp::is_reply_shaped(packet) {
            return Err(Count::ReplyShaped);
        }
        if self.config.behind_kernel && packet.len() == stamp::BASE_LEN {
            return Err(Count::RefusedByKernel);
        }
        Ok(stamp::BASE_LEN)
    }

    fn observed(&self, arrival: &Arrival, clock: ClockQuality, turn: &session::Turn) -> Observed {
        let sync = if clock.synchronised {
            // The kernel tells that its clock is disciplined, and not by what; NTP's interface is how.
            SyncSource::NTP
        } else {
            SyncSource::LOCAL
        };
        let method = TimestampMethod::SOFTWARE;
        Observed {
            source: (arrival.from.ip(), arrival.from.port()),
            destination: (arrival.to, self.config.test_port),
            dscp: arrival.tos >> 2,
            ecn: arrival.tos & ECN,
            may_set_dscp: true,
            has_key: self.config.key.is_some(),
            timestamps: TimestampInformation {
                sync_in: sync,
                method_in: method,
                sync_out: sync,
                method_out: method,
            },
            received: turn.received,
            sent: turn.sent,
            follow_up: turn.before.map_or(FollowUp::NONE, |(sequence, left_ns)| FollowUp {
                sequence,
                timestamp: NtpTime::from_unix_ns(left_ns).0,
                method,
            }),
        }
    }

    /// A reply left at this moment, UTC nanoseconds since 1970: the next one of its session can tell (RFC 8972 §4.7).
    pub fn transmitted(&mut self, reply: ReplyId, at_ns: u64) {
        self.sessions.left(reply, at_ns);
    }
}

const ECN: u8 = 3;

/// What the session of a packet depends on.
struct Asked {
    sequence: u32,
    ssid: u16,
}

impl Asked {
    /// From a packet with a whole base packet.
    fn read(packet: &[u8], authenticated: bool) -> Self {
        let ssid_at = if authenticated {
            authenticated::SSID
        } else {
            stamp::SSID
        };
        let sequence = packet.first_chunk().copied().unwrap_or_default();
        let ssid = packet.get(ssid_at..).and_then(|rest| rest.first_chunk()).copied();
        Self {
            sequence: u32::from_be_bytes(sequence),
            ssid: u16::from_be_bytes(ssid.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests;
