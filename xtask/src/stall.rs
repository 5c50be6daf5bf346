//! Stops a process for a while, over and over: a switch that stalls.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The process stands still once in this time.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Printed when the process is known to be there.
pub const READY: &str = "stalling";

#[derive(Clone, Debug, Args)]
pub struct StallArguments {
    /// The process.
    #[arg(long)]
    process: i32,
    /// How long it stands still.
    #[arg(long, value_name = "TIME")]
    stall: humantime::Duration,
}

impl StallArguments {
    /// Runs until the process has ended.
    pub fn run(&self) -> Result<()> {
        ensure!(self.process > 1, "no process {}", self.process);
        let process = Pid::from_raw(self.process);
        let stall = Duration::from(self.stall);
        kill(process, None)?;
        println!("{READY} {process}");
        while kill(process, Signal::SIGSTOP).is_ok() {
            thread::sleep(stall);
            // It fails if the process has ended.
            let _ = kill(process, Signal::SIGCONT);
            thread::sleep(PERIOD.saturating_sub(stall));
        }
        Ok(())
    }
}
