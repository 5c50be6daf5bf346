//! What the ladder of rates and the runs at the rates of the goals share.

use std::time::Duration;

use crate::bench::tool::Pace;

/// A run with so few probes that it measures the CPU time of starting and ending the tool.
pub(super) const START_AND_END: Pace = Pace {
    interval: Duration::from_millis(10),
    count: 10,
};

/// CPU seconds per million probes.
pub(super) fn per_million(cpu: Duration, sent: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / sent.max(1) as f64
}

pub(in crate::bench) fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "not met" }
}
