//! The thread that starts probes at the pace of the plan, replaces balls that do not come back, and declares probes lost.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use aya::Ebpf;
use nix::net::if_::if_indextoname;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use probe_common::volley::Count;
use probe_core::volley::{Ages, BallTimeout, Mode, Pace, Plan};
use probe_host::clock::monotonic_ns;

use crate::backend::error::root_cause;
use crate::volley::shared::{Delay, Shared};
use crate::volley::transmitter::Transmitter;

/// Time between two updates of `ball_timeout` from the delays, and between two looks at the interface.
const LOOK_NS: u64 = 100_000_000;

/// The running thread. Dropping it ends it.
pub(crate) struct Launcher {
    ending: Arc<Ending>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Ending {
    quit: AtomicBool,
    /// Send no more probes.
    hold: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Launcher {
    /// `interface` is an index, `first` the first sequence number of the run.
    pub(crate) fn start(
        shared: Arc<Shared>,
        programs: Ebpf,
        transmitter: Transmitter,
        plan: &Plan,
        interface: u32,
        first: u64,
    ) -> io::Result<Self> {
        let ending = Arc::new(Ending::default());
        let now_ns = monotonic_ns();
        let mut work = Work {
            shared,
            programs,
            transmitter,
            pace: plan
                .rate_per_s
                .map(|rate| Pace::new(rate, plan.burst.probes, now_ns, first)),
            plan: plan.clone(),
            interface,
            ending: Arc::clone(&ending),
            waiting: Ages::new(first),
            flying: Ages::new(first),
            ball_timeout: BallTimeout::default(),
            look_ns: now_ns,
        };
        let thread = thread::Builder::new()
            .name("volley".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            ending,
            thread: Some(thread),
        })
    }

    /// Sends no more probes from now on.
    pub(crate) fn hold(&self) {
        self.ending.hold.store(true, Ordering::SeqCst);
    }

    /// Why sending has failed, in one line.
    pub(crate) fn failure(&self) -> Option<String> {
        self.ending
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.ending.quit.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    programs: Ebpf,
    transmitter: Transmitter,
    plan: Plan,
    interface: u32,
    ending: Arc<Ending>,
    /// `None`: continuous, without a rate.
    pace: Option<Pace>,
    /// Probes by age, to be declared lost.
    waiting: Ages,
    /// Balls by age, to be replaced.
    flying: Ages,
    ball_timeout: BallTimeout,
    look_ns: u64,
}

impl Work {
    fn run(&mut self) {
        // SAFETY: sets this thread's timer slack, and touches no memory. If it fails, sleeps are 50 µs longer.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        let mut due_ns = monotonic_ns();
        while !self.ending.quit.load(Ordering::Acquire) {
            let now_ns = monotonic_ns();
            self.sweep(now_ns);
            if !self.ending.hold.load(Ordering::Acquire)
                && let Err(failure) = self.look(now_ns).and_then(|()| self.send(now_ns))
            {
                self.shared.limit().store(0, Ordering::Release);
                *self.ending.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                self.ending.hold.store(true, Ordering::Release);
            }
            due_ns = (due_ns + self.plan.burst.period_ns).max(monotonic_ns());
            let due = TimeSpec::from(std::time::Duration::from_nanos(due_ns));
            // An error means that a signal has interrupted the sleep.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &due);
        }
    }

    fn sweep(&mut self, now_ns: u64) {
        let next = self.shared.next().load(Ordering::Acquire);
        self.waiting.note(now_ns, next);
        let (from, to) = self.waiting.older(now_ns, self.plan.timeout_ns);
        self.shared.lose(from, to);
        if self.plan.mode != Mode::Volley {
            return;
        }
        self.flying.note(now_ns, next);
        let (from, to) = self.flying.older(now_ns, self.ball_timeout.ns());
        if self.shared.balls_in_flight().load(Ordering::Relaxed) > 0 && self.shared.release(from, to) > 0 {
            self.ball_timeout.replaced(self.shared.counted().of(Count::Received));
        }
    }

    /// Looks at delays and interface from time to time. `Err` says why nothing can be sent, in one line.
    fn look(&mut self, now_ns: u64) -> Result<(), String> {
        if now_ns < self.look_ns {
            return Ok(());
        }
        self.look_ns = now_ns + LOOK_NS;
        if self.plan.mode == Mode::Volley
            && let Some(p999_ns) = self.shared.histogram(Delay::Rtt).quantile(0.999)
        {
            self.ball_timeout.observe(p999_ns);
        }
        // Without the interface, the kernel drops the frames of programs, and reports success. nix returns an empty name then.
        match if_indextoname(self.interface) {
            Ok(name) if !name.is_empty() => Ok(()),
            _ => Err("the interface has left this network namespace".to_owned()),
        }
    }

    /// Sends the probes that are due. `Err` says why nothing can be sent, in one line.
    fn send(&mut self, now_ns: u64) -> Result<(), String> {
        let next = self.shared.next().load(Ordering::Acquire);
        if now_ns >= self.shared.deadline_ns().load(Ordering::Acquire) {
            return Ok(());
        }
        let limit = match &mut self.pace {
            Some(pace) => {
                let limit = pace.limit(now_ns, next);
                let (start_ns, first) = pace.start();
                // In this order, the kernel's own limit is never too high meanwhile.
                self.shared.start_ns().store(start_ns, Ordering::Release);
                self.shared.first().store(first, Ordering::Release);
                limit
            }
            None => u64::MAX,
        };
        let due = limit.saturating_sub(next);
        if self.plan.mode == Mode::Sendmmsg {
            return self.send_datagrams(next, due);
        }
        self.shared.limit().store(limit, Ordering::SeqCst);
        if self.ending.hold.load(Ordering::SeqCst) {
            self.shared.limit().store(0, Ordering::Release);
            return Ok(());
        }
        let frames = match self.plan.mode {
            Mode::Volley => {
                let balls_in_flight = self.shared.balls_in_flight().load(Ordering::Relaxed);
                due.min(u64::from(self.plan.balls).saturating_sub(balls_in_flight))
            }
            _ => due,
        };
        match u32::try_from(frames).unwrap_or(u32::MAX) {
            0 => Ok(()),
            frames => self.transmitter.send_frames(&self.programs, frames).map_err(|error| {
                format!(
                    "the kernel does not send frames of a program (BPF_PROG_TEST_RUN): {}",
                    root_cause(&error)
                )
            }),
        }
    }

    fn send_datagrams(&mut self, mut next: u64, mut due: u64) -> Result<(), String> {
        while due > 0 {
            match self.transmitter.send_datagrams(next, due as usize) {
                Ok(sent) => {
                    next += sent as u64;
                    due -= sent as u64;
                    self.shared.next().store(next, Ordering::Release);
                }
                // The queue of the socket or device is full, or an ICMP error has come: try again in the next period.
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(format!("cannot send probes: {error}")),
            }
        }
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::ENOBUFS
                | libc::EINTR
                | libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                // The next look says that the interface is gone.
                | libc::ENODEV
        )
    )
}
