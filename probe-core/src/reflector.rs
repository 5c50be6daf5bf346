//! The userspace session-reflector. It answers what the kernel programs pass up, or everything if there are none. Each
//! test packet becomes a reply or a counted refusal.

mod count;
mod limit;
pub mod policy;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use probe_common::abi::Address;
use probe_common::family::Family;
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::reflect::ECN;
use probe_common::stamp::{self, MIN_PROBE_LEN, ReplyFields};
use probe_common::tlv::{self, FollowUp, HmacPlace, Observed, SyncSource, TimestampInformation, TimestampMethod};
use probe_common::{authenticated, legacy};

use crate::auth::{Key, TlvIntegrity};
pub use crate::reflector::count::{Count, Counts};
use crate::reflector::limit::Limiter;
pub use crate::reflector::limit::userspace_rates;
use crate::reflector::policy::{Policy, Rates, Refusal};
use crate::reflector::session::Sessions;
pub use crate::reflector::session::{ReplyId, SessionKey};

#[derive(Debug, Clone)]
pub struct ReflectorConfig {
    /// Ports on which reflectors listen here.
    pub test_ports: Vec<u16>,
    /// Multicast groups whose probes are answered.
    pub groups: Vec<IpAddr>,
    /// No sessions: a reply has the sequence number of its test packet (RFC 8762 §4.3).
    pub stateless: bool,
    /// Authenticated mode: only signed packets are answered.
    pub key: Option<Key>,
    /// The key of HMAC TLVs in unauthenticated mode (RFC 8972 §4.8).
    pub tlv_key: Option<Key>,
    /// Limited further in userspace, see [`userspace_rates`].
    pub rates: Rates,
}

/// The metadata of a test packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub from: SocketAddr,
    pub to: IpAddr,
    /// The test port.
    pub to_port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// T2, UTC nanoseconds since 1970.
    pub receive_ns: u64,
}

/// The quality of this host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockQuality {
    pub error: ErrorEstimate,
    pub synchronised: bool,
}

/// How to send a reply, whose bytes have replaced those of the test packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reflected {
    /// Source address; `None` for that of the route.
    pub source: Option<IpAddr>,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    pub by_group: bool,
    /// For [`Reflector::transmitted`]; `None` if the reflector is stateless.
    pub id: Option<ReplyId>,
}

#[derive(Debug)]
pub struct Reflector {
    config: ReflectorConfig,
    policy: Arc<Policy>,
    sessions: Sessions,
    limiter: Limiter,
    counts: Counts,
}

impl Reflector {
    pub fn new(config: ReflectorConfig) -> Self {
        Self {
            limiter: Limiter::new(config.rates),
            config,
            policy: Arc::default(),
            sessions: Sessions::default(),
            counts: Counts::default(),
        }
    }

    /// Sets the interface's addresses and the sources that are answered. Before this call, no source is.
    pub fn set_policy(&mut self, policy: impl Into<Arc<Policy>>) {
        self.policy = policy.into();
    }

    /// Sets the rates. All buckets start full again.
    pub fn set_rates(&mut self, rates: Rates) {
        self.limiter = Limiter::new(rates);
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts a packet that was handled elsewhere.
    pub fn count(&mut self, what: Count) {
        self.counts.add(what);
    }

    pub fn is_authenticated(&self) -> bool {
        self.config.key.is_some()
    }

    /// Applies the rules that need no payload: addresses, ports, policy and rates. Counts a refusal.
    pub fn admits(&mut self, arrival: &Arrival, now_ns: u64) -> bool {
        let checked = self.check_arrival(arrival, now_ns);
        checked.map_err(|reason| self.counts.add(reason)).is_ok()
    }

    fn check_arrival(&mut self, arrival: &Arrival, now_ns: u64) -> Result<(), Count> {
        let source = arrival.from.ip();
        if arrival.from.port() == 0 {
            return Err(Count::SourcePort);
        }
        if !Address::from(source).is_answerable(Family::of(source)) {
            return Err(Count::BadSource);
        }
        let by_group = self.is_by_group(arrival);
        if by_group && !self.config.groups.contains(&arrival.to) {
            return Err(Count::NotForUs);
        }
        let own = self.policy.check(source).map_err(|refusal| match refusal {
            Refusal::OwnAddress => Count::OwnSource,
            Refusal::Nobody => Count::BadSource,
            Refusal::NotAllowed => Count::NotAllowed,
        })?;
        if by_group && own.is_none() {
            return Err(Count::NoOwnAddress);
        }
        if !self.limiter.allows(source, by_group, now_ns) {
            return Err(Count::RateLimited);
        }
        Ok(())
    }

    /// Turns an admitted test packet into its reply, in place. The reply is as long as the packet, or a base packet if that
    /// is longer. `transmit_ns` returns T3, UTC nanoseconds since 1970, and is called as late as possible.
    ///
    /// Counts the reply or the refusal.
    pub fn reflect(
        &mut self,
        packet: &mut Vec<u8>,
        arrival: &Arrival,
        clock: ClockQuality,
        transmit_ns: impl FnOnce() -> u64,
    ) -> Option<Reflected> {
        let result = if self.config.key.is_none() && legacy::is_probe(packet) {
            self.reflect_legacy(arrival)
                .map(|reply| (reply, Count::LegacyReflected))
        } else {
            self.reflect_stamp(packet, arrival, clock, transmit_ns)
                .map(|reply| match reply.by_group {
                    true => (reply, Count::ReflectedGroup),
                    false => (reply, Count::Reflected),
                })
        };
        let (reply, count) = match result {
            Ok((reply, count)) => (Some(reply), count),
            Err(reason) => (None, reason),
        };
        self.counts.add(count);
        reply
    }

    /// An ASCII probe goes back unchanged.
    fn reflect_legacy(&self, arrival: &Arrival) -> Result<Reflected, Count> {
        if legacy::may_loop(arrival.from.port(), arrival.ttl) || self.is_from_test_port(arrival) {
            return Err(Count::LegacyLoop);
        }
        Ok(self.reflected(arrival, arrival.tos & !ECN, None))
    }

    fn reflect_stamp(
        &mut self,
        packet: &mut Vec<u8>,
        arrival: &Arrival,
        clock: ClockQuality,
        transmit_ns: impl FnOnce() -> u64,
    ) -> Result<Reflected, Count> {
        let base_len = self.check_packet(packet, arrival)?;
        let asked = Asked::read(packet, self.config.key.is_some());
        // RFC 8762 §4.6: the shorter packet of a TWAMP-Light sender is answered by a base packet.
        packet.resize(packet.len().max(base_len), 0);
        let integrity = self.check_tlvs(packet, base_len);

        let turn = match self.config.stateless {
            true => session::Turn::stateless(asked.sequence),
            false => self.sessions.turn(SessionKey {
                source: arrival.from.ip(),
                source_port: arrival.from.port(),
                destination: arrival.to,
                destination_port: arrival.to_port,
                ssid: asked.ssid,
            }),
        };
        let (mut tos, mut source) = (arrival.tos & !ECN, None);
        let tlvs = &mut packet[base_len..];
        match integrity {
            TlvIntegrity::Intact => {
                let answered = tlv::answer(tlvs, &self.observed(arrival, clock, &turn), self.policy.own());
                self.counts.add_many(Count::TlvUnrecognised, answered.unrecognised);
                self.counts.add_many(Count::TlvMalformed, answered.malformed.into());
                if answered.no_reply {
                    turn.id.into_iter().for_each(|id| self.sessions.withdraw(id));
                    return Err(Count::NoReplyWanted);
                }
                tos = answered.dscp.map_or(tos, |dscp| dscp << 2);
                source = answered.source;
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
            }
            None => {
                stamp::into_reply(packet, &fields);
            }
        }
        if let Some(key) = self.tlv_key().filter(|_| integrity == TlvIntegrity::Intact) {
            key.sign_tlvs(packet, base_len);
        }
        let reflected = self.reflected(arrival, tos, turn.id);
        Ok(Reflected {
            source: source.or(reflected.source),
            ..reflected
        })
    }

    fn tlv_key(&self) -> Option<&Key> {
        self.config.key.as_ref().or(self.config.tlv_key.as_ref())
    }

    /// An HMAC TLV is verified before any TLV is used, in each mode (RFC 8972 §4.8). Without a key it counts as wrong.
    fn check_tlvs(&self, packet: &[u8], base_len: usize) -> TlvIntegrity {
        match self.tlv_key() {
            Some(key) => key.check_tlvs(packet, base_len, self.config.key.is_some()),
            None => match tlv::hmac_place(&packet[base_len..]) {
                HmacPlace::NotNeeded | HmacPlace::Missing => TlvIntegrity::Intact,
                HmacPlace::At(_) | HmacPlace::Misplaced => TlvIntegrity::Failed,
            },
        }
    }

    fn reflected(&self, arrival: &Arrival, tos: u8, id: Option<ReplyId>) -> Reflected {
        Reflected {
            source: self.answers_from(arrival),
            tos,
            by_group: self.is_by_group(arrival),
            id,
        }
    }

    fn is_by_group(&self, arrival: &Arrival) -> bool {
        !self.policy.is_own(arrival.to)
    }

    /// The address from which an admitted packet is answered: the one that it came to, or that of its sender's subnet.
    pub fn answers_from(&self, arrival: &Arrival) -> Option<IpAddr> {
        if self.is_by_group(arrival) {
            self.policy.check(arrival.from.ip()).ok().flatten()
        } else {
            Some(arrival.to)
        }
    }

    /// Whether this is a test packet of the mode in use. Returns the length of its base packet.
    fn check_packet(&self, packet: &[u8], arrival: &Arrival) -> Result<usize, Count> {
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
        if stamp::is_reply_shaped(packet, self.is_from_test_port(arrival)) {
            return Err(Count::ReplyShaped);
        }
        Ok(stamp::BASE_LEN)
    }

    /// A packet from a reflector's port may be a reply.
    fn is_from_test_port(&self, arrival: &Arrival) -> bool {
        self.config.test_ports.contains(&arrival.from.port())
    }

    fn observed(&self, arrival: &Arrival, clock: ClockQuality, turn: &session::Turn) -> Observed {
        let sync = if clock.synchronised {
            // The kernel does not say what disciplines its clock, but the interface is that of NTP.
            SyncSource::NTP
        } else {
            SyncSource::LOCAL
        };
        let method = TimestampMethod::SOFTWARE;
        Observed {
            source: (arrival.from.ip(), arrival.from.port()),
            destination: (arrival.to, arrival.to_port),
            dscp: arrival.tos >> 2,
            ecn: arrival.tos & ECN,
            may_set_dscp: true,
            has_key: self.tlv_key().is_some(),
            timestamps: TimestampInformation {
                sync_in: sync,
                method_in: method,
                sync_out: sync,
                method_out: method,
            },
            received: turn.received,
            sent: turn.sent,
            follow_up: turn.previous.map_or(FollowUp::NONE, |(sequence, left_ns)| FollowUp {
                sequence,
                timestamp: NtpTime::from_unix_ns(left_ns).0,
                method,
            }),
        }
    }

    /// Replies sent in a session, modulo 2³²; `None` if it is not known.
    pub fn replies_sent(&self, session: &SessionKey) -> Option<u32> {
        self.sessions.replies_sent(session)
    }

    /// A reply left at `at_ns`, UTC since 1970. The next reply of the session reports it (RFC 8972 §4.7).
    pub fn transmitted(&mut self, reply: ReplyId, at_ns: u64) {
        self.sessions.transmitted(reply, at_ns);
    }
}

struct Asked {
    sequence: u32,
    ssid: u16,
}

impl Asked {
    fn read(packet: &[u8], authenticated: bool) -> Self {
        let sequence = packet.first_chunk().copied().unwrap_or_default();
        let ssid = if authenticated {
            let ssid = packet.get(authenticated::SSID..).and_then(|rest| rest.first_chunk());
            ssid.copied().unwrap_or_default()
        } else {
            stamp::ssid_of(packet)
        };
        Self {
            sequence: u32::from_be_bytes(sequence),
            ssid: u16::from_be_bytes(ssid),
        }
    }
}

#[cfg(test)]
mod tests;
