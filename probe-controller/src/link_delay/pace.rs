//! Sends each probe once per period at a phase of its own, and never two at once, even after a stall.

use std::collections::{BTreeSet, HashMap};

use probe_core::schedule::Schedule;

use crate::link_delay::Probe;

#[derive(Debug)]
pub(super) struct Pace {
    period_ns: u64,
    schedule: Schedule,
    probes: HashMap<u16, Probe>,
    numbers: HashMap<Probe, u16>,
    /// Free numbers below the largest in use.
    free: BTreeSet<u16>,
    not_before_ns: u64,
}

impl Pace {
    pub(super) fn new(period_ns: u64, now_ns: u64) -> Self {
        Self {
            period_ns,
            schedule: Schedule::new(period_ns, now_ns),
            probes: HashMap::new(),
            numbers: HashMap::new(),
            free: BTreeSet::new(),
            not_before_ns: now_ns,
        }
    }

    /// False if no number is free.
    pub(super) fn join(&mut self, probe: Probe, now_ns: u64) -> bool {
        if self.numbers.contains_key(&probe) {
            return true;
        }
        // Consecutive numbers are far apart in the period, so those of one switch, which join together, are too.
        // Without a free number, those in use are all below their count.
        let fresh = u16::try_from(self.probes.len()).ok();
        let Some(number) = self.free.pop_first().or(fresh) else {
            return false;
        };
        self.probes.insert(number, probe);
        self.numbers.insert(probe, number);
        self.schedule.join(number, number, now_ns);
        true
    }

    pub(super) fn leave(&mut self, probe: Probe) {
        if let Some(number) = self.numbers.remove(&probe) {
            self.schedule.leave(number);
            self.probes.remove(&number);
            self.free.insert(number);
        }
    }

    pub(super) fn probes(&self) -> impl Iterator<Item = Probe> + '_ {
        self.numbers.keys().copied()
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.schedule.next_due().map(|due_ns| due_ns.max(self.not_before_ns))
    }

    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<Probe> {
        if now_ns < self.not_before_ns {
            return None;
        }
        let number = self.schedule.take_due(now_ns)?;
        // Phases are at least twice this far apart: late probes catch up, but not in a burst.
        self.not_before_ns = now_ns.saturating_add(self.gap_ns() / 2);
        self.probes.get(&number).copied()
    }

    /// The smallest time between two phases.
    fn gap_ns(&self) -> u64 {
        let numbers = self.probes.len() + self.free.len();
        self.period_ns / (numbers.max(1).next_power_of_two() as u64)
    }
}
