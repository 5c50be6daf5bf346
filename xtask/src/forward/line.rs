//! One direction of the delay line: one thread receives and queues, another sends when a frame is due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep},
};

use super::socket::{Frame, Port};
use crate::lab::Direction;

/// How many frames may wait: at 100,000 packets a second, 0.6 s.
const QUEUE: usize = 65_536;

/// The real-time priority that the threads ask for: a busy machine is not to add to the delay.
const PRIORITY: libc::c_int = 10;

/// What one direction has done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    forwarded: AtomicU64,
    lost: AtomicU64,
    full: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// Frames forwarded, lost on purpose, lost to a full queue, not sent.
    pub(crate) fn read(&self) -> (u64, u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.forwarded), of(&self.lost), of(&self.full), of(&self.failed))
    }
}

/// Starts forwarding what `from` receives to `to`.
pub(crate) fn start(from: &Arc<Port>, to: &Arc<Port>, what: Direction, seed: u64) -> Result<Arc<Counters>> {
    let counters = Arc::new(Counters::default());
    let (queue, queued) = sync_channel(QUEUE);
    let (port, counted) = (Arc::clone(from), Arc::clone(&counters));
    spawn("receive", move || receive(&port, &queue, what, Dice(seed), &counted))?;
    let (port, counted) = (Arc::clone(to), Arc::clone(&counters));
    spawn("send", move || send(&port, &queued, &counted))?;
    Ok(counters)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let prepared = move || {
        be_punctual();
        work();
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(prepared)
        .context("cannot start a thread")
        .map(drop)
}

fn receive(port: &Port, queue: &SyncSender<(Duration, Frame)>, what: Direction, mut dice: Dice, counters: &Counters) {
    loop {
        let Ok((received, frame)) = port.receive() else {
            // The interface is down, or a signal came: neither is for ever, and neither is to keep a processor busy.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if dice.roll() < what.loss {
            counters.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        match queue.try_send((received + what.delay, frame)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                counters.full.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

fn send(port: &Port, queued: &Receiver<(Duration, Frame)>, counters: &Counters) {
    for (due, frame) in queued {
        sleep_until(due);
        let counter = if port.send(&frame).is_ok() {
            &counters.forwarded
        } else {
            &counters.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The monotonic clock now.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Sleeps until the monotonic clock says `due`.
pub(crate) fn sleep_until(due: Duration) {
    let due = TimeSpec::from_duration(due);
    // An absolute deadline: no drift, and an interrupted sleep goes on.
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &due).is_err() {}
}

/// Asks for exact timers and a real-time priority; where that is not permitted, the line is merely less exact.
pub(crate) fn be_punctual() {
    let priority = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: both calls concern this thread only; the parameter outlives the call.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority);
    }
}

/// A small generator of chance that repeats itself for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    /// A number from 0 up to, not including, 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_are_fair_and_repeat_themselves() {
        let rolls = |seed| {
            let mut dice = Dice(seed);
            (0..100_000).map(|_| dice.roll()).collect::<Vec<_>>()
        };
        let first = rolls(1);
        assert_eq!(first, rolls(1));
        assert_ne!(first, rolls(2));
        assert!(first.iter().all(|roll| (0.0..1.0).contains(roll)));
        let hits = first.iter().filter(|&&roll| roll < 0.01).count();
        assert!((900..1_100).contains(&hits), "{hits}");
    }
}
