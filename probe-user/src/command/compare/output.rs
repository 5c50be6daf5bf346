//! Results of `kstamp compare`, and their formats.

pub mod html;
pub mod jsonl;
mod plots;
pub mod text;
mod verdict;

use std::net::IpAddr;
use std::time::Duration;

use probe_core::attach::AttachMode;
use probe_core::compare::anatomy::Anatomy;
use probe_core::compare::ledger::Tally;
use probe_core::compare::versus::Versus;
use probe_core::compare::{Method, Phase};
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::Summary;

use crate::output::time::Utc;

/// The setting of a comparison, known before the first probe.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Who measures.
    pub agent: String,
    pub version: String,
    pub kernel: String,
    pub interface: String,
    pub peer: IpAddr,
    pub peer_name: Option<String>,
    /// Of this host.
    pub attach: AttachMode,
    pub peer_attach: Option<AttachMode>,
    /// Both ends read the same clock.
    pub same_clock: bool,
    /// Between two probes of one method.
    pub interval: Duration,
    /// Of a phase.
    pub duration: Duration,
    /// That kstamp may use.
    pub cpus: usize,
    /// The local threads of the methods userspace and socket run at SCHED_FIFO.
    pub realtime: bool,
    pub start: Utc,
    /// Noise floor: round trips over a veth pair; `None` if it could not be measured.
    pub floor: Option<Summary>,
    /// Such as which method is missing, and why.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct PhaseResult {
    pub phase: Phase,
    /// Busy processes started for this phase.
    pub busy: u32,
    /// Share of CPU time used, 0 to 1.
    pub cpu: Option<f64>,
    /// One-minute load average at the end.
    pub load: Option<f64>,
    /// Probes that never left this host, because the kernel refused them or the address did not resolve. In no tally.
    pub unsent: u64,
    /// Of the measured methods.
    pub tallies: Vec<(Method, Tally)>,
    /// Of the method userspace, if the far end stamped its packets too.
    pub anatomy: Option<Anatomy>,
    pub notes: Vec<String>,
}

impl PhaseResult {
    /// `None` if the method was not measured.
    pub fn tally(&self, method: Method) -> Option<&Tally> {
        let found = self.tallies.iter().find(|(of, _)| *of == method);
        found.map(|(_, tally)| tally)
    }

    pub fn rtt(&self, method: Method) -> Option<Summary> {
        self.tally(method)?.rtt.summary()
    }

    /// A method compared with kernel; `None` for kernel itself, and if one of them has no round trips.
    pub fn versus(&self, method: Method) -> Option<Versus> {
        if method == Method::Kernel {
            return None;
        }
        Some(Versus::of(&self.rtt(method)?, &self.rtt(Method::Kernel)?))
    }
}

#[derive(Debug, Clone)]
pub struct Comparison {
    pub setting: Setting,
    /// In order of time.
    pub phases: Vec<PhaseResult>,
}

/// The parts of a userspace round trip in order of time.
pub fn parts(anatomy: &Anatomy) -> Vec<(&'static str, Summary)> {
    let parts = [
        ("send call to egress", &anatomy.send),
        ("forward path", &anatomy.forward),
        ("path, both directions", &anatomy.path),
        ("far process: wait and work", &anatomy.far),
        ("backward path", &anatomy.backward),
        ("arrival to return of the receive call", &anatomy.receive),
    ];
    let present = |(name, part): (_, &Distribution)| Some((name, part.summary()?));
    parts.into_iter().filter_map(present).collect()
}

#[cfg(test)]
pub mod tests;
