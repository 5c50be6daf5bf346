//! CPU time and load of this machine.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// Time that the processors have spent since the machine started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    busy: u64,
    all: u64,
}

impl Spent {
    /// Until now; `None` if `/proc` cannot be read.
    pub fn now() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// From the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal.
    fn of(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .take(8)
            .map_while(|field| field.parse().ok())
            .collect();
        let all = ticks.iter().sum();
        let unused: u64 = ticks.get(3..5)?.iter().sum();
        Some(Self {
            busy: all - unused,
            all,
        })
    }

    /// Share of the time since `before` that was used, 0 to 1.
    pub fn busy_since(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|&all| all > 0)?;
        Some(self.busy.saturating_sub(before.busy) as f64 / all as f64)
    }

    /// CPU time used since `before`, by all processors together.
    pub fn used_since(&self, before: &Self) -> Option<Duration> {
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        let ticks = self.busy.saturating_sub(before.busy);
        Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }
}

/// Load average over the last minute; `None` if `/proc` cannot be read.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_not_idle_is_busy() {
        let before = Spent::of("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1\n").unwrap();
        let after = Spent::of("cpu  190 0 60 850 60 5 5 0 7 0\n").unwrap();
        assert_eq!(after.busy_since(&before), Some(110.0 / 170.0));
        assert_eq!(before.busy_since(&before), None);
        // Ticks are hundredths of a second on every architecture that kstamp runs on.
        assert_eq!(after.used_since(&before), Some(Duration::from_millis(1_100)));
        assert_eq!(Spent::of("intr 1"), None);
        assert!(Spent::now().is_some() && load_average().is_some());
    }
}
