//! The result of `kstamp compare`, and its forms.

pub mod html;
pub mod jsonl;
mod plots;
pub mod text;
mod verdict;

use std::net::IpAddr;
use std::time::Duration;

use probe_core::compare::anatomy::Anatomy;
use probe_core::compare::ledger::Tally;
use probe_core::compare::versus::Versus;
use probe_core::compare::{Method, Phase};
use probe_core::stats::report::Summary;

use crate::output::model::AttachMode;
use crate::output::time::Utc;

/// What is compared, known before the first probe.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Version of kstamp.
    pub version: String,
    /// Release of this host's kernel.
    pub kernel: String,
    /// The interface.
    pub interface: String,
    /// The other end.
    pub peer: IpAddr,
    /// What it calls itself.
    pub peer_name: Option<String>,
    /// How kstamp receives here.
    pub attach: AttachMode,
    /// How kstamp receives there.
    pub peer_attach: Option<AttachMode>,
    /// Both ends read one clock.
    pub same_clock: bool,
    /// Time between two probes of one method.
    pub interval: Duration,
    /// Length of a phase.
    pub duration: Duration,
    /// Processors of this host that kstamp may use.
    pub cpus: usize,
    /// The near threads of the process-bound methods are real-time.
    pub realtime: bool,
    /// When it began.
    pub start: Utc,
    /// Round trips of kstamp's own probes over nothing; absent if that could not be measured.
    pub floor: Option<Summary>,
    /// What a reader should know, such as which method is missing and why.
    pub notes: Vec<String>,
}

/// What one phase brought.
#[derive(Debug, Clone)]
pub struct PhaseResult {
    /// Which.
    pub phase: Phase,
    /// Busy processes that kstamp started.
    pub busy: u32,
    /// Which part of the processors' time was used, 0 to 1.
    pub cpu: Option<f64>,
    /// Load average over the last minute, at the end.
    pub load: Option<f64>,
    /// Probes that never left this host, in no tally: the kernel refused them, or the peer's address did not resolve.
    pub unsent: u64,
    /// Of each method that was measured.
    pub tallies: Vec<(Method, Tally)>,
    /// Of the method `userspace`, if the far end watches too.
    pub anatomy: Option<Anatomy>,
    /// Why a cell is empty.
    pub notes: Vec<String>,
}

impl PhaseResult {
    /// The result of a method; `None` if it was not measured.
    pub fn tally(&self, method: Method) -> Option<&Tally> {
        let found = self.tallies.iter().find(|(of, _)| *of == method);
        found.map(|(_, tally)| tally)
    }

    /// The round trips of a method; `None` without any.
    pub fn rtt(&self, method: Method) -> Option<Summary> {
        self.tally(method)?.rtt.summary()
    }

    /// A method beside `kernel`; `None` for itself, and where one of both has no round trips.
    pub fn versus(&self, method: Method) -> Option<Versus> {
        if method == Method::Kernel {
            return None;
        }
        Some(Versus::of(&self.rtt(method)?, &self.rtt(Method::Kernel)?))
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What was compared.
    pub setting: Setting,
    /// In the order in which they were measured.
    pub phases: Vec<PhaseResult>,
}

/// The names of the parts of a userspace round trip, and each part's distribution, in the order of time.
pub fn parts(anatomy: &Anatomy) -> Vec<(&'static str, Summary)> {
    let parts = [
        ("send call to egress", &anatomy.send),
        ("forward path", &anatomy.forward),
        ("path, both ways", &anatomy.path),
        ("wait and work in the far process", &anatomy.far),
        ("backward path", &anatomy.backward),
        ("arrival to return of the receive call", &anatomy.receive),
    ];
    let present = |(name, part): (_, &probe_core::stats::distribution::Distribution)| Some((name, part.summary()?));
    parts.into_iter().filter_map(present).collect()
}

#[cfg(test)]
mod tests;
