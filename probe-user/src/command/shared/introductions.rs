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
    /// Goodbyes that could not be sent: for another address of the asker, should it ask from there.
    unsaid: Lru<(IpAddr, IpAddr), Asker>,
    /// This host's addresses at the last look.
    addresses: Vec<IpAddr>,
    /// How many of this host's probes each peer reports as refused.
    refused: Lru<IpAddr, u64>,
    /// Ports of the responder, IPv4 and IPv6.
    responder: [Option<ResponderPorts>; 2],
}

/// An asker that has been silent for this time no longer measures this host.
const ASKER_NS: u64 = 3 * REFRESH_NS;

/// An asker that asks again after this time has had time to answer group probes.
const NEWCOMER_NS: u64 = REFRESH_NS / 2;

/// A goodbye goes to at most this many other addresses that claim to be the asker's.
const MAX_DETOURS: usize = 4;

/// The sender of an identity request. It is told when the address that it asked is given up.
#[derive(Clone, Copy)]
struct Asker {
    from: SocketAddr,
    /// The test port that was asked.
    to_port: u16,
    nonce: u64,
    asked_ns: u64,
    /// The agent that asked, at whichever of its addresses.
    instance: Option<u64>,
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
            unsaid: Lru::new(MAX_PEERS),
            addresses: Vec::new(),
            refused: Lru::new(MAX_PEERS),
            responder: [None; 2],
        }
    }

    /// From now on, agrees to volleys of up to this many probes a second.
    pub fn set_volley_limit(&mut self, limit: u32) {
        self.own.volley_limit = Some(limit);
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
        while self.exchange.is_due(now_ns) || self.newcomers.is_due(now_ns) {
            let nonce = nonce();
            let peer = self.exchange.poll(now_ns, nonce);
            let wanted = |address| agent.wants(address, now_ns);
            let Some(peer) = peer.or_else(|| self.newcomers.poll(now_ns, nonce, wanted)) else {
                return;
            };
            let request = wire::request(&self.own, port.error_estimate(), nonce);
            if let Some((request, sockets)) = request.zip(port.sender_sockets(Family::of(peer)))
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
    pub fn take(
        &mut self,
        packet: &[u8],
        from: SocketAddr,
        port: &Port,
        agent: &mut Agent,
    ) -> Option<(IpAddr, Identity)> {
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
        // All addresses of an IP version share the socket that asks.
        self.say_unsaid(port, identity.instance, |unsaid| {
            let sockets = port.sockets(Family::of(peer))?;
            (unsaid.from.is_ipv6() == peer.is_ipv6()).then(|| sockets.endpoint(peer, unsaid.from.port()))
        });
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
                instance: wire::instance_of(packet),
            };
            self.say_unsaid(port, asker.instance, |_| Some(asker.from));
            let last = self.askers.insert((from, to), asker);
            if last.is_some_and(|last| now_ns.saturating_sub(last.asked_ns) >= NEWCOMER_NS) {
                self.newcomers.heard(from);
            }
        }
        Some(answer)
    }

    /// After a change of this host's addresses: tells those that measure it at an address that is gone, and asks each peer
    /// again from an address that is there.
    pub fn follow_addresses(&mut self, port: &Port) {
        let addresses = port.addresses();
        self.say_goodbye(port, |own| !addresses.contains(&own));
        if addresses == self.addresses {
            return;
        }
        for (key, asker) in self.unsaid.extract(|(_, to), _| addresses.contains(to)) {
            self.askers.insert(key, asker);
        }
        self.exchange.ask_again(monotonic_ns());
        self.addresses = addresses;
    }

    /// Tells all agents that measure this host.
    pub fn end(&mut self, port: &Port) {
        self.say_goodbye(port, |_| true);
    }

    /// Tells the agents that measure this host at an address for which `is_given_up` is true. If no other
    /// address of this host leads to the address of such an agent, its other addresses get the goodbye.
    fn say_goodbye(&mut self, port: &Port, is_given_up: impl Fn(IpAddr) -> bool) {
        let now_ns = monotonic_ns();
        for (key, asker) in self.askers.extract(|&(_, to), _| is_given_up(to)) {
            if now_ns.saturating_sub(asker.asked_ns) > ASKER_NS {
                continue;
            }
            let is_told = self.tell(port, &asker, asker.from);
            let detours = self.askers.values().filter(|other| is_same_agent(other, &asker));
            let told = detours
                .take(MAX_DETOURS)
                .filter(|other| self.tell(port, &asker, other.from))
                .count();
            if !is_told && told == 0 {
                self.unsaid.insert(key, asker);
            }
        }
    }

    /// Sends the goodbyes that the agent with `instance` did not get, to the address that `at` gives for them.
    fn say_unsaid(&mut self, port: &Port, instance: Option<u64>, at: impl Fn(&Asker) -> Option<SocketAddr>) {
        let now_ns = monotonic_ns();
        let wanted = |unsaid: &Asker| instance.is_some() && unsaid.instance == instance && at(unsaid).is_some();
        for (_, unsaid) in self.unsaid.extract(|_, unsaid| wanted(unsaid)) {
            if now_ns.saturating_sub(unsaid.asked_ns) <= ASKER_NS
                && let Some(to) = at(&unsaid)
            {
                self.tell(port, &unsaid, to);
            }
        }
    }

    /// Says goodbye to `asker` at the address `to`. Returns whether it could be sent.
    fn tell(&self, port: &Port, asker: &Asker, to: SocketAddr) -> bool {
        let stamps = wire::AnswerStamps {
            receive_ns: realtime_ns(),
            transmit_ns: realtime_ns(),
            error: port.error_estimate(),
        };
        let goodbye = wire::goodbye(&self.own, asker.nonce, stamps);
        let Some((goodbye, sockets)) = goodbye.zip(port.sender_sockets(Family::of(to.ip()))) else {
            return false;
        };
        // Twice, because it is not acknowledged.
        let sent = [(); 2].map(|()| sockets.answer(asker.to_port, &goodbye, to, None, 0));
        for error in sent.iter().filter_map(|sent| sent.as_ref().err()) {
            debug!("cannot say goodbye to {to}: {error}");
        }
        sent.iter().any(Result::is_ok)
    }
}

fn is_same_agent(one: &Asker, other: &Asker) -> bool {
    one.instance.is_some() && one.instance == other.instance
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
    volley_limit: Option<u32>,
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
        volley_limit,
    }
}
