//! The userspace reflector: answers identity requests, and test packets that the kernel programs passed up.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use log::debug;
use probe_common::family::Family;
use probe_core::reflector::policy::Rates;
use probe_core::reflector::{Arrival, ClockQuality, Count, Reflector, ReflectorConfig, ReplyId, SessionKey};
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_io::port::{Port, PortConfig};
use probe_io::udp::sockets::Sockets;
use probe_io::udp::stamped::Received;

use crate::command::shared::endpoint::config::StampingConfig;
use crate::command::shared::hops::HopStamps;
use crate::command::shared::introductions::Introductions;

/// Replies whose transmit stamp is awaited. It comes at once or, from drivers that do not stamp, never.
const MAX_UNSTAMPED: usize = 64;

pub struct UserReflector {
    reflector: Reflector,
    /// Replies by IP version, test port and number of the send call.
    unstamped: VecDeque<((Family, u16, u32), ReplyId)>,
}

impl UserReflector {
    pub fn new(config: &PortConfig, stamping: &StampingConfig, port: &Port) -> Self {
        let reflector_config = ReflectorConfig {
            test_ports: port.test_ports(),
            groups: config.groups.iter().chain(&config.late).copied().collect(),
            rates: config.answering.rates,
            stateless: stamping.stateless,
            key: stamping.key.clone(),
            tlv_key: stamping.tlv_key.clone(),
        };
        let mut reflector = Self {
            reflector: Reflector::new(reflector_config),
            unstamped: VecDeque::new(),
        };
        reflector.follow(port);
        reflector
    }

    /// Updates the addresses that are answered at, and the policy.
    pub fn follow(&mut self, port: &Port) {
        self.reflector.set_policy(port.policy());
    }

    pub fn set_rates(&mut self, rates: Rates) {
        self.reflector.set_rates(rates);
    }

    /// Replies that it has sent in a session, modulo 2³²; `None` if it does not know it.
    pub fn replies_sent(&self, session: &SessionKey) -> Option<u32> {
        self.reflector.replies_sent(session)
    }

    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.reflector.counts().by_name()
    }

    /// Answers a packet that came to `to_port`, or counts why not.
    pub fn answer(
        &mut self,
        to_port: u16,
        mut packet: Vec<u8>,
        received: &Received,
        port: &Port,
        introductions: &mut Introductions,
        hops: Option<&mut HopStamps>,
    ) {
        let family = Family::of(received.from.ip());
        let (Some(sockets), Some(to)) = (port.sockets(family), received.to) else {
            return;
        };
        let arrival = Arrival {
            from: received.from,
            to,
            to_port,
            ttl: received.ttl.unwrap_or(0),
            tos: received.tos.unwrap_or(0),
            receive_ns: received.stamp_ns.unwrap_or_else(realtime_ns),
        };
        let now_ns = monotonic_ns();
        if !self.reflector.admits(&arrival, now_ns) {
            return;
        }
        let answered = if self.reflector.is_authenticated() {
            None
        } else {
            let of_identity = introductions.answer(&packet, &arrival, port, now_ns);
            let of_hops = || hops?.answer(&packet, &arrival, port, now_ns);
            of_identity
                .map(|answer| (answer, Count::IdentityAnswered))
                .or_else(|| of_hops().map(|answer| (answer, Count::HopsAnswered)))
        };
        if let Some((answer, count)) = answered {
            let source = self.reflector.answers_from(&arrival);
            match sockets.answer(to_port, &answer, arrival.from, source, 0) {
                Ok(_) => self.reflector.count(count),
                Err(error) => self.unsent(arrival.from, &error),
            }
            return self.take_stamps(family, sockets);
        }
        let clock = ClockQuality {
            error: port.error_estimate(),
            synchronised: port.clock().synchronised,
        };
        let Some(reply) = self.reflector.reflect(&mut packet, &arrival, clock, realtime_ns) else {
            return;
        };
        match sockets.answer(to_port, &packet, arrival.from, reply.source, reply.tos) {
            Ok(stamp) => self.unstamped.extend(reply.id.map(|id| ((family, to_port, stamp), id))),
            Err(error) => self.unsent(arrival.from, &error),
        }
        self.take_stamps(family, sockets);
    }

    fn unsent(&mut self, to: SocketAddr, error: &std::io::Error) {
        self.reflector.count(Count::Unsent);
        debug!("cannot answer {to}: {error}");
    }

    /// Hands transmit stamps to the sessions. The error queue is always emptied: it shares the receive buffer.
    fn take_stamps(&mut self, family: Family, sockets: &Sockets) {
        for test in &sockets.tests {
            while let Ok(Some(stamp)) = test.socket.sent_stamp() {
                let sent = (family, test.port, stamp.id);
                let place = self.unstamped.iter().position(|&(id, _)| id == sent);
                if let Some((_, reply)) = place.and_then(|place| self.unstamped.remove(place)) {
                    self.reflector.transmitted(reply, stamp.stamp_ns);
                }
            }
        }
        let excess = self.unstamped.len().saturating_sub(MAX_UNSTAMPED);
        self.unstamped.drain(..excess);
    }
}
