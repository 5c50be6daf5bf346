//! Answers what comes to the test port's socket: questions who this is, and every test packet that no kernel program has
//! answered.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use log::debug;
use probe_core::reflector::{Arrival, ClockQuality, Count, Reflector, ReflectorConfig, ReplyId};
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_io::backend::ebpf::PortConfig;
use probe_io::port::{Engine, Kind};
use probe_io::udp::sockets::Sockets;
use probe_io::udp::stamped::Received;

use crate::command::config::StampingConfig;
use crate::command::introductions::Introductions;

/// Replies whose stamps are waited for. They come at once or, from drivers that do not stamp, never.
const MAX_UNSTAMPED: usize = 64;

/// The userspace reflector and its socket's stamps.
pub struct Responder {
    reflector: Reflector,
    /// Replies that left by the socket of IPv6 or not, under this number.
    unstamped: VecDeque<((bool, u32), ReplyId)>,
}

impl Responder {
    /// A reflector on `engine`, behind its programs if it has any.
    pub fn new(port: &PortConfig, stamping: &StampingConfig, engine: &Engine) -> Self {
        let config = ReflectorConfig {
            test_port: port.test_port,
            groups: port.groups.clone(),
            rates: port.answering.rates,
            stateless: stamping.stateless,
            key: stamping.key.clone(),
            behind_kernel: engine.kind() == Kind::Ebpf,
        };
        let mut responder = Self {
            reflector: Reflector::new(config),
            unstamped: VecDeque::new(),
        };
        responder.follow(engine);
        responder
    }

    /// Keeps the addresses at which probes are answered, and who is answered, up to date.
    pub fn follow(&mut self, engine: &Engine) {
        self.reflector.set_policy(engine.addresses(), engine.policy());
    }

    /// What was answered and what was not, by name.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.reflector.counts().by_name()
    }

    /// Answers a packet, or counts why not.
    pub fn answer(
        &mut self,
        mut packet: Vec<u8>,
        received: &Received,
        engine: &Engine,
        introductions: &mut Introductions,
    ) {
        let v6 = received.from.is_ipv6();
        let (Some(sockets), Some(to)) = (engine.sockets(v6), received.to) else {
            return;
        };
        let arrival = Arrival {
            from: received.from,
            to,
            ttl: received.ttl.unwrap_or(0),
            tos: received.tos.unwrap_or(0),
            receive_ns: received.stamp_ns.unwrap_or_else(realtime_ns),
        };
        let now_ns = monotonic_ns();
        if !self.reflector.admits(&arrival, now_ns) {
            return;
        }
        if !self.reflector.is_authenticated()
            && let Some(answer) = introductions.answer(&packet, arrival.from.ip(), arrival.receive_ns, engine, now_ns)
        {
            let source = (!to.is_multicast()).then_some(to);
            match sockets.answer(&answer, arrival.from, source, 0) {
                Ok(_) => self.reflector.count(Count::IdentityAnswered),
                Err(error) => self.unsent(arrival.from, &error),
            }
            return self.take_stamps(v6, sockets);
        }
        let clock = ClockQuality {
            error: engine.error_estimate(),
            synchronised: engine.clock().synchronised,
        };
        let Some(reply) = self.reflector.reflect(&mut packet, &arrival, clock, realtime_ns) else {
            return;
        };
        match sockets.answer(&packet, arrival.from, reply.source, reply.tos) {
            Ok(stamp) => self.unstamped.extend(reply.id.map(|id| ((v6, stamp), id))),
            Err(error) => self.unsent(arrival.from, &error),
        }
        self.take_stamps(v6, sockets);
    }

    fn unsent(&mut self, to: SocketAddr, error: &std::io::Error) {
        self.reflector.count(Count::Unsent);
        debug!("cannot answer {to}: {error}");
    }

    /// Tells the sessions when their replies left. The error queue is emptied, whether they want to know or not: it shares
    /// its room with what is received.
    fn take_stamps(&mut self, v6: bool, sockets: &Sockets) {
        while let Ok(Some(stamp)) = sockets.test.sent_stamp() {
            let place = self.unstamped.iter().position(|&(id, _)| id == (v6, stamp.id));
            if let Some((_, reply)) = place.and_then(|place| self.unstamped.remove(place)) {
                self.reflector.transmitted(reply, stamp.stamp_ns);
            }
        }
        let excess = self.unstamped.len().saturating_sub(MAX_UNSTAMPED);
        self.unstamped.drain(..excess);
    }
}
