//! Hop stamps: those of this host's devices, and those that peers give for their half of a path.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use log::{debug, warn};
use probe_common::family::Family;
use probe_common::ntp::ErrorEstimate;
use probe_core::agent::event::Event;
use probe_core::hops::{HopEvent, Hops, HopsConfig, wire};
use probe_core::identity::wire::AnswerStamps;
use probe_core::reflector::Arrival;
use probe_host::clock::{monotonic_ns, realtime_ns};
use probe_io::hops::upcalls::{UpcallError, Upcalls};
use probe_io::hops::{HopConfig, Observers};
use probe_io::port::Port;

use crate::command::shared::introductions::nonce;
use crate::output::text::counters;

/// Stamps are taken at least this often, so that their ring buffer does not run full.
pub const DRAIN: Duration = Duration::from_millis(100);

/// A run ends no sooner after its last outcome: so long may stamps take.
const LAST_STAMPS_NS: u64 = 1_000_000_000;
/// A run ends this long after its last outcome: so long do peers have to give their halves, also if a question is lost.
const LAST_ANSWERS_NS: u64 = 5_000_000_000;

pub struct HopStamps {
    observers: Observers,
    /// `None` where they are not seen.
    upcalls: Option<Upcalls>,
    hops: Hops,
    /// Stamps and upcalls that were lost so far, in the order of [`counters::HOPS`].
    lost: [u64; 2],
    drained_ns: u64,
    /// When the last probe of a run had its outcome.
    settled_ns: Option<u64>,
}

impl HopStamps {
    /// Attaches the observers: call it before privileges are dropped.
    pub fn attach(observers: HopConfig, hops: HopsConfig) -> Result<Self> {
        let now_ns = monotonic_ns();
        let mut hops = Hops::new(hops, now_ns);
        hops.set_addresses(&observers.addresses);
        let upcalls = Upcalls::attach(&observers).map_err(|error| match error {
            UpcallError::NoTracepoint(_) => debug!("--hops: upcalls are not seen: {error}"),
            _ => warn!("--hops: upcalls are not seen: {error}"),
        });
        Ok(Self {
            upcalls: upcalls.ok(),
            observers: Observers::attach(observers)?,
            hops,
            lost: [0; 2],
            drained_ns: now_ns,
            settled_ns: None,
        })
    }

    /// Follows devices and addresses. Call it twice a second.
    pub fn follow(&mut self, addresses: &[IpAddr]) {
        self.observers.upkeep(monotonic_ns(), addresses);
        self.hops.set_addresses(addresses);
        if let Some(Err(error)) = self.upcalls.as_mut().map(|upcalls| upcalls.set_addresses(addresses)) {
            debug!("--hops: upcalls: {error}");
        }
    }

    /// Follows the offset of UTC by which `port` reflects. Call it twice a second.
    pub fn follow_utc(&mut self, port: &Port) {
        self.hops
            .set_utc_offset(port.utc_offset_ns().cast_signed(), monotonic_ns());
    }

    /// Takes the stamps so far. Call it before [`HopStamps::note`].
    pub fn take(&mut self, now_ns: u64) {
        let Self {
            observers,
            upcalls,
            hops,
            ..
        } = self;
        observers.drain(|stamp| hops.note_stamp(&stamp, now_ns));
        if let Some(upcalls) = upcalls {
            upcalls.drain(|upcall| hops.note_upcall(&upcall, now_ns));
        }
        hops.set_hooks(observers.hooks(), now_ns);
        let upcalls_lost = upcalls.as_mut().and_then(|upcalls| upcalls.lost().ok());
        let lost = [observers.lost(), upcalls_lost.unwrap_or(self.lost[1])];
        if lost != self.lost {
            hops.note_lost(now_ns);
        }
        (self.lost, self.drained_ns) = (lost, now_ns);
    }

    /// Uses `config` from now on, after a reload.
    pub fn reconfigure(&mut self, config: HopsConfig) {
        self.hops.reconfigure(config, monotonic_ns());
    }

    /// How many hop stamps and upcalls were lost since the start, by counter.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        counters::HOPS.iter().map(|lost| lost.name).zip(self.lost)
    }

    /// Takes an event of the agent.
    pub fn note(&mut self, event: &Event, now_ns: u64) {
        self.hops.note_event(event, now_ns);
    }

    /// Settles probes whose time is over, and forgets old stamps.
    pub fn expire(&mut self, now_ns: u64) {
        self.hops.expire(now_ns);
    }

    /// Asks for the far half of probes. `send` sends a packet to a peer.
    pub fn ask(&mut self, now_ns: u64, error: ErrorEstimate, mut send: impl FnMut(IpAddr, &[u8]) -> io::Result<()>) {
        while let Some((peer, question)) = self.hops.poll_question(now_ns, nonce()) {
            if let Err(error) = send(peer, &wire::question(&question, error)) {
                debug!("cannot ask {peer} for its hop stamps: {error}");
            }
        }
    }

    /// As [`HopStamps::ask`], by the sockets of `port`.
    pub fn ask_by(&mut self, port: &Port, test_port: u16, now_ns: u64) {
        self.ask(now_ns, port.error_estimate(), |peer, packet| {
            let sockets = port.sender_sockets(Family::of(peer));
            let sockets = sockets.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let to = sockets.endpoint(peer, test_port);
            sockets.control.try_send_to(packet, to).map(drop)
        });
    }

    /// Takes a packet that came to the control socket. Returns whether it is the answer to a question.
    pub fn take_answer(&mut self, packet: &[u8]) -> bool {
        wire::from_answer(packet).is_some_and(|answer| self.hops.take_answer(&answer, monotonic_ns()))
    }

    /// The answer to a question about probes that this host reflected; `None` if it is none, or above the rate limit.
    pub fn answer(&mut self, packet: &[u8], arrival: &Arrival, port: &Port, now_ns: u64) -> Option<Vec<u8>> {
        if arrival.to.is_multicast() {
            return None;
        }
        let question = wire::from_question(packet)?;
        // The stamps of the probes in question may still be in the ring buffer.
        self.take(now_ns);
        let offset_ns = port.utc_offset_ns().cast_signed();
        let asker = arrival.from.ip().to_canonical();
        let answer = self.hops.answer_for(asker, &question, offset_ns, now_ns)?;
        let stamps = AnswerStamps {
            receive_ns: arrival.receive_ns,
            transmit_ns: realtime_ns(),
            error: port.error_estimate(),
        };
        wire::answer(packet, &answer, stamps)
    }

    pub fn poll_event(&mut self) -> Option<HopEvent> {
        self.hops.poll_event()
    }

    /// When to call [`HopStamps::take`] and [`HopStamps::expire`] next.
    pub fn next_deadline_ns(&self) -> u64 {
        let drain_ns = self.drained_ns + DRAIN.as_nanos() as u64;
        self.hops
            .next_deadline()
            .map_or(drain_ns, |next_ns| next_ns.min(drain_ns))
    }

    /// Whether the far halves of the last probes have been waited for, since the first call.
    pub fn has_waited(&mut self, now_ns: u64) -> bool {
        let waited_ns = now_ns - *self.settled_ns.get_or_insert(now_ns);
        let has_all = waited_ns >= LAST_STAMPS_NS && self.hops.is_settled();
        has_all || waited_ns >= LAST_ANSWERS_NS
    }

    /// Ends the run: settles all probes with what is known.
    pub fn finish(&mut self, now_ns: u64) {
        self.hops.finish(now_ns);
    }
}
