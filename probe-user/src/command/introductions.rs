//! Who is who: asks peers for their identity, answers those who ask, and tells the agent what may be made of it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use log::debug;

use super::echo::EchoService;
use crate::core::agent::Agent;
use crate::engine::ebpf::Port;
use crate::engine::sockets::PassedUp;
use crate::host::clock::{monotonic_ns, realtime_ns};
use crate::identity::exchange::{AnswerLimit, Exchange};
use crate::identity::{EchoPorts, Identity, wire};

/// The identities of this agent and of its peers.
pub struct Introductions {
    own: Identity,
    test_port: u16,
    exchange: Exchange,
    limit: AnswerLimit,
    /// Where processes answer IPv4 and IPv6 probes.
    echo: [Option<EchoPorts>; 2],
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
            echo: [None; 2],
        }
    }

    /// Where processes answer from now on.
    pub fn set_echo(&mut self, echo: &EchoService) {
        self.echo = [echo.ports(false), echo.ports(true)];
    }

    /// Keeps what this agent says of itself up to date.
    pub fn follow(&mut self, port: &Port) {
        let clock = port.clock();
        self.own.synchronised = clock.synchronised;
        self.own.error_ns = clock.error_ns;
        if let Some((mode, _)) = port.attachment() {
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
    pub fn ask(&mut self, port: &Port, now_ns: u64) {
        loop {
            let nonce = nonce();
            let Some(peer) = self.exchange.poll(now_ns, nonce) else {
                return;
            };
            let question = wire::question(&self.own, port.error_estimate(), nonce);
            if let Some((question, sockets)) = question.zip(port.sockets(peer.is_ipv6()))
                && let Err(error) = sockets
                    .control
                    .try_send_to(&question, sockets.endpoint(peer, self.test_port))
            {
                debug!("cannot ask {peer} who it is: {error}");
            }
        }
    }

    /// Takes a packet that the programs passed up. Gives the peer that has just told who it is, and who that is.
    pub fn take(&mut self, passed_up: &PassedUp, port: &Port, agent: &mut Agent) -> Option<(IpAddr, Identity)> {
        let now_ns = monotonic_ns();
        if passed_up.to_test_port {
            self.answer(passed_up, port, now_ns);
            return None;
        }
        let (nonce, identity) = wire::from_answer(&passed_up.packet)?;
        if passed_up.from.port() != self.test_port {
            return None;
        }
        let peer = self.exchange.answered(nonce, now_ns)?;
        agent.set_same_clock(peer, identity.clock == self.own.clock);
        agent.set_stateful(peer, identity.stateful);
        debug!(
            "{peer} is {} ({}, {})",
            identity.name, identity.version, identity.receive
        );
        Some((peer, identity))
    }

    /// Answers a question, and nothing else: whatever else comes to the test port has been counted in the kernel.
    pub fn answer(&mut self, passed_up: &PassedUp, port: &Port, now_ns: u64) {
        let receive_ns = realtime_ns();
        let (from, v6) = (passed_up.from, passed_up.from.is_ipv6());
        if from.port() == self.test_port || from.ip().is_multicast() {
            return;
        }
        let arrival = wire::Arrival {
            receive_ns,
            transmit_ns: realtime_ns(),
            error: port.error_estimate(),
        };
        let own = Identity {
            echo: self.echo[usize::from(v6)],
            ..self.own.clone()
        };
        let answer = wire::answer(&passed_up.packet, &own, arrival).filter(|_| self.limit.allow(now_ns));
        if let Some((answer, sockets)) = answer.zip(port.sockets(v6))
            && let Err(error) = sockets.test.try_send_to(&answer, from)
        {
            debug!("cannot tell {from} who this is: {error}");
        }
    }
}

/// A number that who has not seen the question cannot guess: the standard library seeds its hash maps from the kernel's
/// random numbers.
fn nonce() -> u64 {
    RandomState::new().hash_one(0)
}
