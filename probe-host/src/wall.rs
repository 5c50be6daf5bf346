//! The wall clock against `CLOCK_MONOTONIC`, which cannot be set.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock::{monotonic_ns, realtime_ns};

/// The quickest of this many readings is used, because an interrupt may come between the two clocks.
const READINGS: usize = 5;

/// How far `CLOCK_REALTIME` is ahead of `CLOCK_MONOTONIC`. Slewing changes both clocks alike, so this changes only when
/// the clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallOffset {
    ahead_ns: i64,
    /// Half of the time that the reading took.
    uncertainty_ns: u64,
}

impl WallOffset {
    pub fn now() -> Self {
        let readings: [Self; READINGS] = std::array::from_fn(|_| Self::read());
        let best = readings.iter().min_by_key(|reading| reading.uncertainty_ns);
        best.copied().unwrap_or(readings[0])
    }

    fn read() -> Self {
        let before_ns = monotonic_ns();
        let wall_ns = realtime_ns();
        Self::between(before_ns, wall_ns, monotonic_ns())
    }

    /// From a reading of the wall clock between two of the monotonic clock.
    pub fn between(before_ns: u64, wall_ns: u64, after_ns: u64) -> Self {
        let uncertainty_ns = after_ns.saturating_sub(before_ns).div_ceil(2);
        Self {
            ahead_ns: wall_ns.wrapping_sub(before_ns + uncertainty_ns).cast_signed(),
            uncertainty_ns,
        }
    }

    /// Adopts a new reading if it is more precise, or if it shows that the clock was set.
    pub fn follow(&mut self, new: Self) {
        if self.differs(&new) || new.uncertainty_ns < self.uncertainty_ns {
            *self = new;
        }
    }

    /// `CLOCK_REALTIME` − `CLOCK_MONOTONIC`.
    pub fn ahead_ns(&self) -> i64 {
        self.ahead_ns
    }

    /// Reads both clocks: whether the wall clock was set since this reading.
    pub fn is_outdated(&self) -> bool {
        self.differs(&Self::read())
    }

    /// Whether the wall clock was set between the two readings.
    pub fn differs(&self, new: &Self) -> bool {
        self.ahead_ns.abs_diff(new.ahead_ns) > self.uncertainty_ns + new.uncertainty_ns
    }

    /// The wall clock at a time of `CLOCK_MONOTONIC`, if it was not set in between.
    pub fn wall_ns(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add_signed(self.ahead_ns)
    }

    /// Converts a wall-clock stamp taken since the clock was last set.
    pub fn monotonic_ns(&self, wall_ns: u64) -> u64 {
        wall_ns.saturating_add_signed(self.ahead_ns.saturating_neg())
    }
}

/// Detects steps of the wall clock.
#[derive(Debug)]
pub struct StepDetector {
    ahead_ns: i64,
}

impl StepDetector {
    /// Two readings differ by less without a step.
    const MIN_STEP_NS: u64 = 100_000;

    #[allow(clippy::new_without_default, reason = "it reads the clocks")]
    pub fn new() -> Self {
        let WallOffset { ahead_ns, .. } = WallOffset::now();
        Self { ahead_ns }
    }

    /// The step since the last call; positive if the clock went forward.
    pub fn step(&mut self) -> Option<i64> {
        // One reading shows that there was no step, which is nearly always so. Several measure one.
        self.step_to(WallOffset::read())?;
        self.compare(WallOffset::now())
    }

    fn compare(&mut self, new: WallOffset) -> Option<i64> {
        let step_ns = self.step_to(new)?;
        self.ahead_ns = new.ahead_ns;
        Some(step_ns)
    }

    fn step_to(&self, new: WallOffset) -> Option<i64> {
        let step_ns = new.ahead_ns.wrapping_sub(self.ahead_ns);
        let least_ns = Self::MIN_STEP_NS.saturating_add(2 * new.uncertainty_ns);
        (step_ns.unsigned_abs() >= least_ns).then_some(step_ns)
    }
}

/// The kernel's notices that the wall clock was set, a leap second was inserted, or the host was suspended.
#[derive(Debug)]
pub struct SetNotices(AsyncFd<Fd>);

#[derive(Debug)]
struct Fd(TimerFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl SetNotices {
    /// Within a tokio runtime.
    pub fn open() -> io::Result<Self> {
        /// Only the cancellation of the timer matters. It expires in 2242 (`KTIME_SEC_MAX` is later).
        const NEVER_S: i64 = 1 << 33;
        let timer = TimerFd::new(
            ClockId::CLOCK_REALTIME,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        let never = Expiration::OneShot(TimeSpec::new(NEVER_S, 0));
        timer.set(
            never,
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET,
        )?;
        // SAFETY: `Fd` owns the descriptor and gives the same one until it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(Fd(timer), Interest::READABLE) }?;
        Ok(Self(timer))
    }

    /// Ready once each time the clock is set. Wakes only the last task that polled.
    pub fn poll_set(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let read = guard.try_io(|fd| fd.get_ref().0.wait().map_err(io::Error::from));
            match read {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ECANCELED as i32) => return Poll::Ready(Ok(())),
                Ok(outcome) => return Poll::Ready(outcome),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::mem::MaybeUninit;

    use super::*;

    /// Sets the clock forward by this much, as `clock_settime` would; `false` without permission.
    fn set_forward(ns: libc::suseconds_t) -> bool {
        // SAFETY: zeroes are a valid timex, and the call writes only to it.
        unsafe {
            let mut timex: libc::timex = MaybeUninit::zeroed().assume_init();
            timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
            timex.time.tv_sec = if ns < 0 { -1 } else { 0 };
            timex.time.tv_usec = if ns < 0 { 1_000_000_000 + ns } else { ns };
            libc::adjtimex(&raw mut timex) >= 0
        }
    }

    #[tokio::test]
    async fn the_kernel_notices_each_time_that_the_clock_is_set() {
        let notices = SetNotices::open().unwrap();
        let wait = || poll_fn(|cx| notices.poll_set(cx));
        let before = WallOffset::now();
        // A step of one nanosecond disturbs no other program.
        for step_ns in [1, -1] {
            if !set_forward(step_ns) {
                println!("SKIPPED: needs CAP_SYS_TIME");
                return;
            }
            wait().await.unwrap();
        }
        assert!(!before.differs(&WallOffset::now()), "it is as before");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), wait());
        assert!(waiting.await.is_err(), "no notice without a change");
    }

    #[test]
    fn a_stamp_of_now_is_now() {
        let offset = WallOffset::now();
        let (before_ns, wall_ns) = (monotonic_ns(), realtime_ns());
        let converted_ns = offset.monotonic_ns(wall_ns);
        // Half a second is far more than this thread is ever kept from running between two lines.
        assert!(
            converted_ns.abs_diff(before_ns) < 500_000_000,
            "{converted_ns} {before_ns}"
        );
    }

    #[test]
    fn better_readings_and_steps_are_adopted_and_worse_ones_are_not() {
        let mut offset = WallOffset::between(1_000, 1_001_050, 1_100);
        assert_eq!(offset.monotonic_ns(1_001_050), 1_050);
        let worse = WallOffset::between(2_000, 1_002_200, 2_300);
        offset.follow(worse);
        assert_eq!(offset, WallOffset::between(1_000, 1_001_050, 1_100));
        let better = WallOffset::between(3_000, 1_003_030, 3_010);
        offset.follow(better);
        assert_eq!(offset, better);
        let stepped = WallOffset::between(4_000, 9_000_000, 4_400);
        assert!(offset.differs(&stepped) && !offset.differs(&worse));
        offset.follow(stepped);
        assert_eq!(offset, stepped);
        assert_eq!(offset.ahead_ns(), 8_995_800);
        assert!(offset.is_outdated(), "this host's clock is another one");
        assert!(!WallOffset::now().is_outdated());
    }

    #[test]
    fn a_step_is_reported_once() {
        let reading = |ahead_ns, uncertainty_ns| WallOffset {
            ahead_ns,
            uncertainty_ns,
        };
        let mut detector = StepDetector { ahead_ns: 1_000 };
        for (reading, step, why) in [
            (reading(60_000, 25), None, "less than two readings may differ by"),
            (reading(10_001_000, 25), Some(10_000_000), "forward"),
            (reading(10_001_020, 25), None, "already reported"),
            (reading(1_000, 25), Some(-10_000_000), "backward"),
            (reading(900_000, 2_500_000), None, "a slow reading proves nothing"),
        ] {
            assert_eq!(detector.compare(reading), step, "{why}");
        }
        assert_eq!(StepDetector::new().step(), None);
    }
}
