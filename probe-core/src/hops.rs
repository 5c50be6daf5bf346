//! Hop stamps: where in its round trip a probe spent its time, and where it was lost.
//!
//! Each host stamps probes and replies at its devices. The prober's agent joins its own half with the reflector's.

use std::net::IpAddr;

use crate::agent::event::Event;
pub use crate::hops::event::{
    Cause, Excess, Half, Halves, HopEvent, HopSample, HopWindow, LostAt, Outlier, PartDurations,
};
pub use crate::hops::split::Split;
pub use crate::hops::stamp::{Hook, HookId, HopStamp, MAX_HOOKS, Mark, Part, Role, Segment, Upcall};
pub use crate::hops::wire::{Answer, Question};

mod event;
mod split;
mod stamp;
pub mod stamps;
pub mod wire;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopsConfig {
    /// Whether each probe becomes a [`HopEvent::Probe`].
    pub samples: bool,
    /// Whether each part of a window has its durations in buckets.
    pub delays: bool,
    /// Round trips (T4 − T1) from which on a probe is an outlier; `None`: four times the 99th percentile of the last windows.
    pub outlier_ns: Option<u64>,
    /// As [`ProbeConfig::timeout_ns`](crate::agent::config::ProbeConfig::timeout_ns).
    pub timeout_ns: u64,
}

/// The hops of all peers of an agent, and those of the probes that it reflects.
///
/// `now_ns` is `CLOCK_MONOTONIC`. Hand over stamps before the events of the same time.
#[derive(Debug)]
pub struct Hops {
    config: HopsConfig,
}

impl Hops {
    pub fn new(config: HopsConfig, _now_ns: u64) -> Self {
        Self { config }
    }

    /// The addresses of this host. Probes from one of them are its own; others are those that it reflects.
    pub fn set_addresses(&mut self, _own: &[IpAddr]) {
        todo!()
    }

    /// This host's hooks, by [`HookId`]: cheap if they are as before. A device keeps its place while it is gone, and its role may
    /// change.
    pub fn set_hooks(&mut self, _hooks: &[Hook], _now_ns: u64) {
        todo!()
    }

    pub fn note_stamp(&mut self, _stamp: &HopStamp, _now_ns: u64) {
        todo!()
    }

    /// Some stamps were lost since the last call, because the ring buffer was full.
    pub fn note_lost(&mut self, _now_ns: u64) {
        todo!()
    }

    /// Hand it over before the probe is settled: within [`SETTLE_NS`] of its outcome.
    pub fn note_upcall(&mut self, _upcall: &Upcall) {
        todo!()
    }

    /// Takes samples and windows of the agent; the others do not matter.
    pub fn note_event(&mut self, _event: &Event, _now_ns: u64) {
        todo!()
    }

    /// A question to send now, with `nonce`, which nobody can guess; call again until there is none.
    pub fn poll_question(&mut self, _now_ns: u64, _nonce: u64) -> Option<(IpAddr, Question)> {
        todo!()
    }

    /// Returns whether it answers the open question of some peer.
    pub fn take_answer(&mut self, _answer: &Answer, _now_ns: u64) -> bool {
        todo!()
    }

    /// The answer to `asker`'s question about its own probes; `None` above the rate limit. `utc_offset_ns` is UTC −
    /// `CLOCK_MONOTONIC` by which T2 and T3 are written.
    pub fn answer_for(
        &mut self,
        _asker: IpAddr,
        _question: &Question,
        _utc_offset_ns: i64,
        _now_ns: u64,
    ) -> Option<Answer> {
        todo!()
    }

    pub fn poll_event(&mut self) -> Option<HopEvent> {
        todo!()
    }

    /// When to call [`Hops::expire`] next.
    pub fn next_deadline(&self) -> Option<u64> {
        todo!()
    }

    /// Settles the probes whose time is over, and forgets old stamps.
    pub fn expire(&mut self, _now_ns: u64) {
        todo!()
    }

    /// Ends the run: settles all probes with what is known. Hand over the agent's last windows before.
    pub fn finish(&mut self, _now_ns: u64) {
        todo!()
    }
}

/// A probe is settled this long after its outcome at the earliest: until then, its stamps may still come.
pub const SETTLE_NS: u64 = 250_000_000;
