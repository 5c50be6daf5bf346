//! Delay of links, measured by LLDP out of each port, echo to each switch, and packets that the next switch returns.
//! `RTT(1,2) = T_lldp1 + T_lldp2 − (T_echo1 + T_echo2)`. Without I/O.

mod estimate;
mod in_flight;
mod kernel;
mod pace;
mod probe;
mod window;

use std::collections::HashMap;

pub use crate::link_delay::estimate::{
    Estimate, LinkEstimates, LinkState, LinkTerms, Statistic, link_estimates, state_of,
};
use crate::link_delay::in_flight::InFlight;
pub use crate::link_delay::in_flight::Refusal;
pub use crate::link_delay::kernel::{Kernel, TapDirection};
use crate::link_delay::pace::Pace;
pub use crate::link_delay::probe::{Ends, Probe, ProbeAnswer, TIMEOUT_NS, Transmit};
pub use crate::link_delay::window::Window;

/// Periods for which a term's samples are kept.
const WINDOW_PERIODS: u64 = 20;

#[derive(Debug)]
pub struct LinkDelay {
    pace: Pace,
    in_flight: InFlight,
    windows: HashMap<Probe, Window>,
    window_ns: u64,
}

impl LinkDelay {
    /// Each probe is sent once in `period_ns`.
    pub fn new(period_ns: u64, now_ns: u64) -> Self {
        Self {
            pace: Pace::new(period_ns, now_ns),
            in_flight: InFlight::default(),
            windows: HashMap::new(),
            window_ns: period_ns.saturating_mul(WINDOW_PERIODS),
        }
    }

    /// Starts measuring a term. False if there are too many.
    pub fn start(&mut self, probe: Probe, now_ns: u64) -> bool {
        self.pace.join(probe, now_ns)
    }

    /// Stops measuring a term, and drops its samples.
    pub fn stop(&mut self, probe: Probe) {
        self.pace.leave(probe);
        self.in_flight.remove(probe);
        self.windows.remove(&probe);
    }

    /// Drops the samples and the probes in flight of a term, because its link has changed.
    pub fn restart(&mut self, probe: Probe) {
        self.in_flight.remove(probe);
        self.windows.remove(&probe);
    }

    /// The probes that are being sent.
    pub fn probes(&self) -> impl Iterator<Item = Probe> + '_ {
        self.pace.probes()
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.pace.next_due()
    }

    pub fn poll_transmit(&mut self, now_ns: u64) -> Option<Transmit> {
        let probe = self.pace.take_due(now_ns)?;
        let seq = self.in_flight.depart(probe, now_ns);
        Some(Transmit { seq, probe })
    }

    /// Takes an answer, and returns the time since the probe was written.
    pub fn answer(&mut self, answer: &ProbeAnswer) -> Result<u64, Refusal> {
        let took_ns = self.in_flight.arrive(answer)?;
        let window = self.windows.entry(answer.probe).or_default();
        window.record(answer.received_ns, i64::try_from(took_ns).unwrap_or(i64::MAX));
        Ok(took_ns)
    }

    /// Expires probes without an answer, and drops old samples.
    pub fn expire(&mut self, now_ns: u64) {
        let windows = &self.windows;
        let is_heard = |probe: &Probe| windows.contains_key(probe) || !matches!(probe, Probe::Lldp(_));
        self.in_flight.expire(now_ns, TIMEOUT_NS, is_heard);
        let oldest_ns = now_ns.saturating_sub(self.window_ns);
        self.windows.retain(|_, window| {
            window.drop_before(oldest_ns);
            window.count() > 0
        });
    }

    pub fn window(&self, probe: Probe) -> Option<&Window> {
        self.windows.get(&probe)
    }

    pub fn ends(&self) -> Ends {
        self.in_flight.ends()
    }
}

#[cfg(test)]
mod tests;
