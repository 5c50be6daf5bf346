//! Sleeping until an exact time, for the forwarder and the relay.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Real-time priority, so that other load does not add to the delay.
const REALTIME_PRIORITY: libc::c_int = 10;

/// The monotonic clock.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Sleeps until the monotonic clock reaches `due`.
pub(crate) fn sleep_until(due: Duration) {
    let due = TimeSpec::from_duration(due);
    // With an absolute deadline there is no drift, and an interrupted sleep is resumed.
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &due).is_err() {}
}

/// Sets exact timers and a real-time priority for this thread. Without permission, delays are less exact.
pub(crate) fn use_realtime() {
    let priority = libc::sched_param {
        sched_priority: REALTIME_PRIORITY,
    };
    // SAFETY: both calls concern this thread only; the parameter outlives the call.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority);
    }
}
