//! The identity exchange: asks peers for their identity, answers requests, and passes the results to the agent.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use log::{debug, warn};
use probe_common::family::Family;
use probe_core::agent::Agent;
use probe_core::agent::config::MAX_PEERS;
use probe_core::attach::AttachMode;
use probe_core::identity::clock_proof::ClockKey;
use probe_core::identity::exchange::{AnswerLimit, Exchange, REFRESH_NS};
use probe_core::identity::newcomers::Newcomers;
use probe_core::identity::{Identity, ResponderPorts, wire};
use probe_core::lru::Lru;
use probe_core::reflector::Arrival;
use probe_host::clock::{ClockState, clock_identity, monotonic_ns, realtime_ns};
use probe_io::port::Port;

use crate::command::shared::responder::ResponderService;

pub struct Introductions {
    own: Identity,
    clock: ClockKey,
    test_port: u16,
    exchange: Exchange,
    newcomers: Newcomers,
    limit: AnswerLimit,
    /// The last request of each asker that was answered from each own address.
    askers: Lru<(IpAddr, IpAddr), Asker>,
    /// How many of this host's probes each peer reports as refused.
    refused: Lru<IpAddr, u64>,
    /// Ports of the responder, IPv4 and IPv6.
    responder: [Option<ResponderPorts>; 2],
}

/// An asker that has been silent for this time no longer measures this host.
const ASKER_NS: u64 = 3 * REFRESH_NS;

/// An asker that asks again after this time has had time to answer group probes.
const NEWCOMER_NS: u64 = REFRESH_NS / 2;

/// The sender of an identity request. It is told when the address that it asked is given up.
#[derive(Clone, Copy)]
struct Asker {
    from: SocketAddr,
    /// The test port that was asked.
    to_port: u16,
    nonce: u64,
    asked_ns: u64,
}

impl Introductions {
    pub fn new(own: Identity, clock: ClockKey, test_port: u16) -> Self {
        let limit = AnswerLimit::new(monotonic_ns());
        Self {
            own,
            clock,
            test_port,
            exchange: Exchange::default(),
            newcomers: Newcomers::default(),
            limit,
            askers: Lru::new(MAX_PEERS),
            refused: Lru::new(MAX_PEERS),
            responder: [None; 2],
        }
    }

    pub fn set_responder(&mut self, responder: &ResponderService) {
        self.responder = [Family::V4, Family::V6].map(|family| responder.ports(family));
    }

    /// Updates this agent's identity.
    pub fn follow(&mut self, port: &Port) {
        let clock = port.clock();
        self.own.synchronised = clock.synchronised;
        self.own.error_ns = clock.error_ns;
        if let Some((mode, _)) = port.attachment() {
            self.own.receive = mode.to_string();
        }
    }

    pub fn peer_up(&mut self, peer: IpAddr, now_ns: u64) {
        self.exchange.peer_up(peer, now_ns);
    }

    pub fn peer_down(&mut self, peer: IpAddr) {
        self.exchange.peer_down(peer);
    }

    /// Sends the requests that are due: to peers, and to hosts that the agent wants as peers.
    pub fn ask(&mut self, port: &Port, agent: &Agent, now_ns: u64) {
        loop {
            let nonce = nonce();
            let peer = self.exchange.poll(now_ns, nonce);
            let wanted = |address| agent.wants(address, now_ns);
            let Some(peer) = peer.or_else(|| self.newcomers.poll(now_ns, nonce, wanted)) else {
                return;
            };
            let request = wire::request(&self.own, port.error_estimate(), nonce);
            if let Some((request, sockets)) = request.zip(port.sockets(Family::of(peer)))
                && let Err(error) = sockets
                    .control
                    .try_send_to(&request, sockets.endpoint(peer, self.test_port))
            {
                debug!("cannot ask {peer} for its identity: {error}");
            }
        }
    }

    /// Warns if a peer has refused more of this host's probes than it had before.
    fn warn_of_refusals(&mut self, peer: IpAddr, total: u64) {
        // Refusals before the first answer may have been an earlier run's.
        let before = self.refused.insert(peer, total).unwrap_or(total);
        if total > before {
            let more = total - before;
            warn!(
                "{peer} has refused {more} probes of this host, which are above its rate limit; see its --rate-source"
            );
        }
    }

    /// Takes a packet that came to the control socket; returns the peer that it identifies, if any.
    pub fn take(&mut self, packet: &[u8], from: SocketAddr, agent: &mut Agent) -> Option<(IpAddr, Identity)> {
        if from.port() != self.test_port {
            return None;
        }
        let wire::IdentityAnswer {
            nonce,
            identity,
            refused,
            proof,
            goodbye,
        } = wire::from_answer(packet)?;
        let now_ns = monotonic_ns();
        if goodbye {
            agent.ended(self.exchange.ended(nonce)?, now_ns);
            return None;
        }
        let Some(peer) = self.exchange.answered(nonce, now_ns) else {
            agent.introduced(self.newcomers.answered(nonce, from.ip())?, now_ns);
            return None;
        };
        if let Some(instance) = identity.instance {
            agent.set_instance(peer, instance);
        }
        let same_clock = proof.is_some_and(|proof| self.clock.accepts(nonce, peer, &proof));
        agent.set_same_clock(peer, same_clock);
        agent.set_stateful(peer, identity.stateful);
        if let Some(total) = refused {
            agent.set_refused(peer, total);
            self.warn_of_refusals(peer, total);
        }
        debug!(
            "{peer} is {} ({}, {})",
            identity.name, identity.version, identity.receive
        );
        Some((peer, identity))
    }

    /// The answer to an identity request; `None` if it is none, or above the rate limit.
    pub fn answer(&mut self, packet: &[u8], arrival: &Arrival, port: &Port, now_ns: u64) -> Option<Vec<u8>> {
        let (from, to) = (arrival.from.ip(), arrival.to);
        let stamps = wire::AnswerStamps {
            receive_ns: arrival.receive_ns,
            transmit_ns: realtime_ns(),
            error: port.error_estimate(),
        };
        let own = Identity {
            responder: self.responder[usize::from(from.is_ipv6())],
            ..self.own.clone()
        };
        let refused = port.refused(from.to_canonical());
        let mut asked = None;
        let prove = |nonce_of_asker| {
            asked = Some(nonce_of_asker);
            (!to.is_multicast()).then(|| self.clock.prove(nonce_of_asker, nonce(), to))
        };
        let answer = wire::answer(packet, &own, refused, prove, stamps).filter(|_| self.limit.allow(now_ns))?;
        if let Some(nonce) = asked {
            let asker = Asker {
                from: arrival.from,
                to_port: arrival.to_port,
                nonce,
                asked_ns: now_ns,
            };
            let last = self.askers.insert((from, to), asker);
            if last.is_some_and(|last| now_ns.saturating_sub(last.asked_ns) >= NEWCOMER_NS) {
                self.newcomers.heard(from);
            }
        }
        Some(answer)
    }

    /// Tells the agents that measure this host at an address for which `is_given_up` is true.
    pub fn say_goodbye(&mut self, port: &Port, is_given_up: impl Fn(IpAddr) -> bool) {
        let now_ns = monotonic_ns();
        let stamps = wire::AnswerStamps {
            receive_ns: realtime_ns(),
            transmit_ns: realtime_ns(),
            error: port.error_estimate(),
        };
        for (_, asker) in self.askers.extract(|&(_, to), _| is_given_up(to)) {
            if now_ns.saturating_sub(asker.asked_ns) > ASKER_NS {
                continue;
            }
            let goodbye = wire::goodbye(&self.own, asker.nonce, stamps);
            let sockets = port.sockets(Family::of(asker.from.ip()));
            // Twice, because it is not acknowledged.
            for (goodbye, sockets) in goodbye.iter().zip(sockets).cycle().take(2) {
                if let Err(error) = sockets.answer(asker.to_port, goodbye, asker.from, None, 0) {
                    debug!("cannot say goodbye to {}: {error}", asker.from);
                }
            }
        }
    }
}

/// A number that cannot be guessed: the standard library seeds its hash maps from the kernel's random numbers.
pub fn nonce() -> u64 {
    RandomState::new().hash_one(0)
}

/// Proves to other agents that this process reads their clock.
pub fn clock_key() -> Result<ClockKey> {
    Ok(ClockKey::new(
        &clock_identity().context("cannot identify this host's clock")?,
    ))
}

/// Builds the identity that is advertised to peers.
pub fn own_identity(
    name: &str,
    clock: ClockState,
    receive: Option<AttachMode>,
    egress: AttachMode,
    stateful: bool,
) -> Identity {
    Identity {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: Some(nonce()),
        receive: receive.map_or_else(String::new, |mode| mode.to_string()),
        egress: egress.to_string(),
        synchronised: clock.synchronised,
        error_ns: clock.error_ns,
        stateful,
        responder: None,
    }
}
