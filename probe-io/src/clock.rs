//! This host's clock, as probes and replies report it.

use probe_common::ntp::ErrorEstimate;
use probe_host::clock::ClockState;

/// The state of the system clock. A clock whose state cannot be read is not synchronised.
pub(crate) fn clock_state() -> ClockState {
    ClockState::read().unwrap_or(ClockState {
        synchronised: false,
        error_ns: u64::MAX,
        tai_offset_s: 0,
    })
}

/// The error estimate that goes with the stamps of `clock`.
pub(crate) fn error_estimate(clock: &ClockState) -> ErrorEstimate {
    ErrorEstimate::new(clock.synchronised, clock.error_ns)
}

/// The bound of the clock's error, if it is synchronised.
pub(crate) fn error_bound_ns(clock: &ClockState) -> Option<u64> {
    clock.synchronised.then_some(clock.error_ns)
}
