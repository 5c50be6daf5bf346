//! A delay line in userspace, for kernels without netem: joins two interfaces and delays frames, each direction by its
//! own time.
//!
//! Order is kept. The delay starts at the kernel's receive timestamp: a late wake-up of this process adds nothing to it.

mod socket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use crate::forward::socket::{Frame, Port};
use crate::signals;
use crate::timing::{sleep_until, use_realtime};

/// Printed when forwarding starts.
pub const READY: &str = "forwarding";

/// Frames that may wait: 0.6 s at 100,000 packets/s.
const QUEUE_LENGTH: usize = 65_536;

/// Delay and loss of one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    pub delay: Duration,
    /// The share of frames that are dropped, 0 to 1.
    pub loss: f64,
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.delay)?;
        if self.loss > 0.0 {
            write!(f, " and {}% lost", self.loss * 100.0)?;
        }
        Ok(())
    }
}

/// Delay and loss of both directions.
#[derive(Clone, Debug, Args)]
pub struct ImpairmentArguments {
    /// Delay from agent1 to agent2 (topology delay) [default: 20ms].
    #[arg(long, value_name = "TIME")]
    left_to_right: Option<humantime::Duration>,
    /// Delay from agent2 to agent1 (topology delay) [default: 30ms].
    #[arg(long, value_name = "TIME")]
    right_to_left: Option<humantime::Duration>,
    /// Loss from agent1 to agent2 (topology delay) [default: 0%].
    #[arg(long, value_name = "PERCENT", value_parser = parse_loss)]
    loss_left_to_right: Option<f64>,
    /// Loss from agent2 to agent1 (topology delay) [default: 0%].
    #[arg(long, value_name = "PERCENT", value_parser = parse_loss)]
    loss_right_to_left: Option<f64>,
}

impl ImpairmentArguments {
    /// Whether the command line has any of them.
    pub fn are_given(&self) -> bool {
        self.left_to_right.or(self.right_to_left).is_some()
            || self.loss_left_to_right.or(self.loss_right_to_left).is_some()
    }

    /// From left to right, and from right to left.
    pub fn directions(&self) -> (Impairment, Impairment) {
        let direction = |delay: Option<humantime::Duration>, default_ms, loss: Option<f64>| Impairment {
            delay: delay.map_or(Duration::from_millis(default_ms), Duration::from),
            loss: loss.unwrap_or(0.0),
        };
        (
            direction(self.left_to_right, 20, self.loss_left_to_right),
            direction(self.right_to_left, 30, self.loss_right_to_left),
        )
    }
}

/// Reads `1%` or `0.5`.
pub(crate) fn parse_loss(text: &str) -> Result<f64> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(anyhow!("`{text}` is not a loss: write a percentage such as 1%")),
    }
}

#[derive(Clone, Debug, Args)]
pub struct ForwardArguments {
    /// One interface.
    #[arg(long)]
    left: String,
    /// The other interface.
    #[arg(long)]
    right: String,
    #[command(flatten)]
    impairments: ImpairmentArguments,
    /// Seed of the choice of dropped frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl ForwardArguments {
    /// Forwards until SIGINT or SIGTERM, then prints counts of frames.
    pub fn run(&self) -> Result<()> {
        // Before other threads start, so that they block the signals too.
        let end = signals::block()?;
        let left = Arc::new(Port::open(&self.left)?);
        let right = Arc::new(Port::open(&self.right)?);
        let (forward, backward) = self.impairments.directions();
        let forward = start(&left, &right, forward, self.seed)?;
        let backward = start(&right, &left, backward, !self.seed)?;
        println!("{READY} {} <-> {}", self.left, self.right);
        end.wait().context("cannot wait for a signal")?;
        forward.print("left to right");
        backward.print("right to left");
        Ok(())
    }
}

/// Counts of frames of one direction.
#[derive(Debug, Default)]
struct Counters {
    forwarded: AtomicU64,
    lost: AtomicU64,
    full: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    fn print(&self, direction: &str) {
        let [forwarded, lost, full, failed] =
            [&self.forwarded, &self.lost, &self.full, &self.failed].map(|counter| counter.load(Ordering::Relaxed));
        println!(
            "{direction}: {forwarded} forwarded, {lost} dropped on purpose, {full} dropped at a full queue, {failed} not sent"
        );
    }
}

/// Starts forwarding from `from` to `to`: one thread receives, another sends when a frame is due.
fn start(from: &Arc<Port>, to: &Arc<Port>, impairment: Impairment, seed: u64) -> Result<Arc<Counters>> {
    let counters = Arc::new(Counters::default());
    let (queue, queued) = sync_channel(QUEUE_LENGTH);
    let (port, counted) = (Arc::clone(from), Arc::clone(&counters));
    spawn("receive", move || {
        receive(&port, &queue, impairment, Random(seed), &counted);
    })?;
    let (port, counted) = (Arc::clone(to), Arc::clone(&counters));
    spawn("send", move || send(&port, &queued, &counted))?;
    Ok(counters)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let prepared = move || {
        use_realtime();
        work();
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(prepared)
        .context("cannot start a thread")
        .map(drop)
}

fn receive(
    port: &Port,
    queue: &SyncSender<(Duration, Frame)>,
    impairment: Impairment,
    mut random: Random,
    counters: &Counters,
) {
    loop {
        let Ok((received, frame)) = port.receive() else {
            // The interface is down for now: do not spin.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if random.next() < impairment.loss {
            counters.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        match queue.try_send((received + impairment.delay, frame)) {
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

/// A random number generator that repeats itself for the same seed (splitmix64).
struct Random(u64);

impl Random {
    /// A number in 0..1.
    fn next(&mut self) -> f64 {
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
    fn loss_is_a_percentage() {
        assert_eq!(parse_loss("1%").unwrap(), 0.01);
        assert_eq!(parse_loss("0.5").unwrap(), 0.005);
        for bad in ["", "%", "-1%", "101%", "one", "NaN"] {
            assert!(parse_loss(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn random_numbers_are_uniform_and_repeat_for_the_same_seed() {
        let numbers = |seed| {
            let mut random = Random(seed);
            (0..100_000).map(|_| random.next()).collect::<Vec<_>>()
        };
        let first = numbers(1);
        assert_eq!(first, numbers(1));
        assert_ne!(first, numbers(2));
        assert!(first.iter().all(|number| (0.0..1.0).contains(number)));
        let hits = first.iter().filter(|&&number| number < 0.01).count();
        assert!((900..1_100).contains(&hits), "{hits}");
    }
}
