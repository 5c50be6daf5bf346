//! A timer with nanosecond resolution; tokio's timers round to milliseconds.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockNanosleepFlags, clock_nanosleep};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Blocks this thread until `CLOCK_MONOTONIC` has reached `deadline_ns`, or a signal comes.
pub fn sleep_until(deadline_ns: u64) {
    let deadline = TimeSpec::from(Duration::from_nanos(deadline_ns));
    // An error means that a signal has interrupted the sleep.
    let _ = clock_nanosleep(
        nix::time::ClockId::CLOCK_MONOTONIC,
        ClockNanosleepFlags::TIMER_ABSTIME,
        &deadline,
    );
}

/// Ends the sleeps of this thread, and of those that it starts, on time. Others last up to 50 µs longer.
pub fn sleep_without_slack() {
    // SAFETY: sets this thread's timer slack, and touches no memory. If it fails, sleeps are longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

struct Fd(TimerFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A timerfd on `CLOCK_MONOTONIC`.
pub struct Timer(AsyncFd<Fd>);

impl Timer {
    /// A disarmed timer.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        // SAFETY: `Fd` owns the descriptor and gives the same one until it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(Fd(timer), Interest::READABLE) }?;
        Ok(Self(timer))
    }

    /// Returns when `CLOCK_MONOTONIC` has reached `deadline_ns`. Cancel safe.
    pub async fn until(&self, deadline_ns: u64) -> io::Result<()> {
        // Zero would disarm it.
        let deadline = TimeSpec::from(Duration::from_nanos(deadline_ns.max(1)));
        self.0
            .get_ref()
            .0
            .set(Expiration::OneShot(deadline), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        loop {
            let mut guard = self.0.readable().await?;
            match guard.try_io(|fd| fd.get_ref().0.wait().map_err(io::Error::from)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}
