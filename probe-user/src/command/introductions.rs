//! Who is who: asks peers for their identity, answers those who ask, and tells the agent what may be made of it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};

use log::{debug, warn};
use probe_core::agent::Agent;
use probe_core::identity::exchange::{AnswerLimit, Exchange};
use probe_core::identity::{Identity, ResponderPorts, wire};
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_io::port::Engine;

use crate::command::echo::EchoService;

/// The identities of this agent and of its peers.
pub struct Introductions {
    own: Identity,
    test_port: u16,
    exchange: Exchange,
    limit: AnswerLimit,
    /// How many of this agent's probes each peer says it has refused.
    refused: BTreeMap<IpAddr, u64>,
    /// Where processes answer IPv4 and IPv6 probes.
    echo: [Option<ResponderPorts>; 2],
}

impl Introductions {
    /// `own` is what this agent says of itself; questions come to `test_port`.
    pub fn new(own: Identity, test_port: u16) -> Self {
        let limit = AnswerLimit::new(monotonic_ns());
        Self {
            own,
            test_port,
            exchange: Exchange::default(),
            limit,
            refused: BTreeMap::new(),
            echo: [None; 2],
        }
    }

    /// Where processes answer from now on.
    pub fn set_echo(&mut self, echo: &EchoService) {
        self.echo = [echo.ports(false), echo.ports(true)];
    }

    /// Keeps what this agent says of itself up to date.
    pub fn follow(&mut self, engine: &Engine) {
        let clock = engine.clock();
        self.own.synchronised = clock.synchronised;
        self.own.error_ns = clock.error_ns;
        if let Some((mode, _)) = engine.attachment() {
            self.own.receive = mode.to_string();
        }
    }

    /// A peer has shown itself.
    pub fn peer_up(&mut self, peer: IpAddr, now_ns: u64) {
        self.exchange.peer_up(peer, now_ns);
    }

    /// A peer has gone.
    pub fn peer_down(&mut self, peer: IpAddr) {
        self.exchange.peer_down(peer);
    }

    /// Sends the questions that are due.
    pub fn ask(&mut self, engine: &Engine, now_ns: u64) {
        loop {
            let nonce = nonce();
            let Some(peer) = self.exchange.poll(now_ns, nonce) else {
                return;
            };
            let question = wire::question(&self.own, engine.error_estimate(), nonce);
            if let Some((question, sockets)) = question.zip(engine.sockets(peer.is_ipv6()))
                && let Err(error) = sockets
                    .control
                    .try_send_to(&question, sockets.endpoint(peer, self.test_port))
            {
                debug!("cannot ask {peer} who it is: {error}");
            }
        }
    }

    /// A peer tells how many of this host's probes it has refused so far.
    fn tell_of_refusals(&mut self, peer: IpAddr, total: u64) {
        // What it had refused before the first answer may have been another's.
        let before = self.refused.insert(peer, total).unwrap_or(total);
        if total > before {
            let more = total - before;
            warn!(
                "{peer} has refused {more} probes of this host: they are more than it answers; see its --rate-source"
            );
        }
    }

    /// Takes a packet that came to the control socket. Gives the peer that has just told who it is, and who that is.
    pub fn take(&mut self, packet: &[u8], from: SocketAddr, agent: &mut Agent) -> Option<(IpAddr, Identity)> {
        if from.port() != self.test_port {
            return None;
        }
        let wire::Answer {
            nonce,
            identity,
            refused,
        } = wire::from_answer(packet)?;
        let peer = self.exchange.answered(nonce, monotonic_ns())?;
        agent.set_same_clock(peer, identity.clock == self.own.clock);
        agent.set_stateful(peer, identity.stateful);
        if let Some(total) = refused {
            agent.set_refused(peer, total);
            self.tell_of_refusals(peer, total);
        }
        debug!(
            "{peer} is {} ({}, {})",
            identity.name, identity.version, identity.receive
        );
        Some((peer, identity))
    }

    /// The answer to a question who this is; `None` if it is no such question, or there were too many. It came from `from`
    /// at `receive_ns`, UTC.
    pub fn answer(
        &mut self,
        packet: &[u8],
        from: IpAddr,
        receive_ns: u64,
        engine: &Engine,
        now_ns: u64,
    ) -> Option<Vec<u8>> {
        let arrival = wire::AnswerStamps {
            receive_ns,
            transmit_ns: realtime_ns(),
            error: engine.error_estimate(),
        };
        let own = Identity {
            responder: self.echo[usize::from(from.is_ipv6())],
            ..self.own.clone()
        };
        let refused = engine.refused(from.to_canonical());
        wire::answer(packet, &own, refused, arrival).filter(|_| self.limit.allow(now_ns))
    }
}

/// A number that who has not seen the question cannot guess: the standard library seeds its hash maps from the kernel's
/// random numbers.
fn nonce() -> u64 {
    RandomState::new().hash_one(0)
}
