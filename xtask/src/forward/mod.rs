//! A delay line in userspace: joins two interfaces and holds every frame back for a time, each direction its own.
//!
//! For kernels without netem. Order is kept; the time a frame is held counts from the kernel's receive timestamp,
//! so that a late wake-up of this process is not added to the delay.

mod line;
mod socket;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};

use crate::lab::LineArguments;
use line::Counters;
pub(crate) use line::{be_punctual, now, sleep_until};
use socket::Port;

/// What the forwarder prints once frames pass.
pub const READY: &str = "forwarding";

/// What to join, and what to do to the frames.
#[derive(Clone, Debug, Args)]
pub struct ForwardArguments {
    /// One interface.
    #[arg(long)]
    left: String,
    /// The other.
    #[arg(long)]
    right: String,
    #[command(flatten)]
    line: LineArguments,
    /// What the choice of dropped frames starts from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl ForwardArguments {
    /// Forwards until SIGINT or SIGTERM, then prints what was forwarded.
    ///
    /// # Errors
    /// If an interface cannot be opened.
    pub fn run(&self) -> Result<()> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGINT);
        ends.add(Signal::SIGTERM);
        // Before any thread starts, so that none is interrupted: the wait below takes the signal.
        ends.thread_block().context("cannot block signals")?;
        let left = Arc::new(Port::open(&self.left)?);
        let right = Arc::new(Port::open(&self.right)?);
        let (there, back) = self.line.directions();
        let there = line::start(&left, &right, there, self.seed)?;
        let back = line::start(&right, &left, back, !self.seed)?;
        println!("{READY} {} <-> {}", self.left, self.right);
        ends.wait().context("cannot wait for a signal")?;
        report("left to right", &there);
        report("right to left", &back);
        Ok(())
    }
}

fn report(name: &str, counters: &Counters) {
    let (forwarded, lost, full, failed) = counters.read();
    println!("{name}: {forwarded} forwarded, {lost} lost on purpose, {full} lost to a full queue, {failed} not sent");
}
