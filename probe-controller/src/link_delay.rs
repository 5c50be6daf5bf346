//! Delay of links by what a controller can send: LLDP out of each port, echo to each switch, packets that a switch sends
//! straight back. `RTT(1,2) = T_lldp1 + T_lldp2 − (T_echo1 + T_echo2)`. No socket, no clock.

mod estimate;
mod in_flight;
mod kernel;
mod pace;
mod probe;
mod window;

use std::collections::HashMap;

pub use estimate::{Estimate, LinkEstimates, LinkState, LinkTerms, Statistic, link_estimates, state_of};
use in_flight::InFlight;
pub use in_flight::Refusal;
pub use kernel::{Kernel, TapDirection};
use pace::Pace;
pub use probe::{Answer, Ends, Probe, TIMEOUT_NS, Transmit};
pub use window::Window;

/// Periods for which a term's samples are kept.
const WINDOW_PERIODS: u64 = 20;

/// Sends, matches, and keeps the terms.
#[derive(Debug)]
pub struct LinkDelay {
    pace: Pace,
    in_flight: InFlight,
    windows: HashMap<Probe, Window>,
    window_ns: u64,
}

impl LinkDelay {
    /// With nothing to measure yet. Each probe is sent once in `period_ns`.
    pub fn new(period_ns: u64, now_ns: u64) -> Self {
        Self {
            pace: Pace::new(period_ns, now_ns),
            in_flight: InFlight::default(),
            windows: HashMap::new(),
            window_ns: period_ns.saturating_mul(WINDOW_PERIODS),
        }
    }

    /// Measures this term from now on. False if there are too many already.
    pub fn start(&mut self, probe: Probe, now_ns: u64) -> bool {
        self.pace.join(probe, now_ns)
    }

    /// No longer, and forgets what was measured.
    pub fn stop(&mut self, probe: Probe) {
        self.pace.leave(probe);
        self.in_flight.forget(probe);
        self.windows.remove(&probe);
    }

    /// Forgets what was measured of a term, and what is on its way: it is of a link that is no more.
    pub fn restart(&mut self, probe: Probe) {
        self.in_flight.forget(probe);
        self.windows.remove(&probe);
    }

    /// The probes that are being sent.
    pub fn probes(&self) -> impl Iterator<Item = Probe> + '_ {
        self.pace.probes()
    }

    /// When something is to be done next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.pace.next_due()
    }

    /// A probe that is due, if one is.
    pub fn poll_transmit(&mut self, now_ns: u64) -> Option<Transmit> {
        let probe = self.pace.take_due(now_ns)?;
        let seq = self.in_flight.depart(probe, now_ns);
        Some(Transmit { seq, probe })
    }

    /// An answer came: the time it took, if it is one to what was sent.
    ///
    /// # Errors
    /// Why it counts for nothing.
    pub fn answer(&mut self, answer: &Answer) -> Result<u64, Refusal> {
        let took_ns = self.in_flight.arrive(answer)?;
        let window = self.windows.entry(answer.probe).or_default();
        window.record(answer.received_ns, i64::try_from(took_ns).unwrap_or(i64::MAX));
        Ok(took_ns)
    }

    /// Gives up what was not answered in time, and drops samples that are too old.
    pub fn expire(&mut self, now_ns: u64) {
        let windows = &self.windows;
        let is_heard = |probe: &Probe| windows.contains_key(probe) || !matches!(probe, Probe::Lldp(_));
        self.in_flight.expire(now_ns, TIMEOUT_NS, is_heard);
        let oldest_ns = now_ns.saturating_sub(self.window_ns);
        self.windows.retain(|_, window| {
            window.forget_before(oldest_ns);
            window.count() > 0
        });
    }

    /// What was measured of a term.
    pub fn window(&self, probe: Probe) -> Option<&Window> {
        self.windows.get(&probe)
    }

    /// How the probes ended so far.
    pub fn ends(&self) -> Ends {
        self.in_flight.ends()
    }
}

#[cfg(test)]
mod tests;
