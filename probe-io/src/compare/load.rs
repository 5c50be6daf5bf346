//! Load on the processors: busy processes that end with this one, even if it is killed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{SysconfVar, getppid, sysconf};

/// The first argument of a busy process. Not a subcommand, because it is not for users.
const BUSY: &str = "busy";

/// Busy processes. They are killed when this is dropped.
#[derive(Debug)]
pub struct Load(Vec<Child>);

impl Load {
    /// Starts `number` of them, for at most `limit`; on an error none is left. They end with the calling thread, so call
    /// it from one that stays.
    pub fn start(number: u32, limit: Duration) -> io::Result<Self> {
        let program = fs::read_link("/proc/self/exe")?;
        let own = nix::unistd::getpid();
        let mut load = Self(Vec::new());
        for _ in 0..number {
            let mut command = Command::new(&program);
            command
                .args([BUSY, &limit.as_secs().max(1).to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
            unsafe {
                command.pre_exec(move || {
                    set_pdeathsig(Signal::SIGKILL)?;
                    // It may have ended before the signal was set.
                    if getppid() == own {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(libc::ESRCH))
                    }
                });
            }
            load.0.push(command.spawn()?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// The time for which a process with these arguments must be busy, if [`Load::start`] started it.
pub fn asked_to_be_busy(arguments: impl IntoIterator<Item = OsString>) -> Option<Duration> {
    let arguments: Vec<_> = arguments.into_iter().skip(1).take(3).collect();
    match &arguments[..] {
        [busy, seconds] if busy == BUSY => Some(Duration::from_secs(seconds.to_str()?.parse().ok()?)),
        _ => None,
    }
}

pub fn be_busy(limit: Duration) {
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < limit {
        for _ in 0..1_000_000 {
            count = std::hint::black_box(count.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Time that the processors have spent since the machine started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    busy: u64,
    all: u64,
}

impl Spent {
    /// Until now; `None` if `/proc` cannot be read.
    pub fn now() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// From the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal.
    fn of(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .take(8)
            .map_while(|field| field.parse().ok())
            .collect();
        let all = ticks.iter().sum();
        let unused: u64 = ticks.get(3..5)?.iter().sum();
        Some(Self {
            busy: all - unused,
            all,
        })
    }

    /// Share of the time since `before` that was used, 0 to 1.
    pub fn busy_since(&self, before: &Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|&all| all > 0)?;
        Some(self.busy.saturating_sub(before.busy) as f64 / all as f64)
    }

    /// CPU time used since `before`, by all processors together.
    pub fn used_since(&self, before: &Self) -> Option<Duration> {
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        let ticks = self.busy.saturating_sub(before.busy);
        Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }
}

/// Load average over the last minute; `None` if `/proc` cannot be read.
pub fn average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_not_idle_is_busy() {
        let before = Spent::of("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1\n").unwrap();
        let after = Spent::of("cpu  190 0 60 850 60 5 5 0 7 0\n").unwrap();
        assert_eq!(after.busy_since(&before), Some(110.0 / 170.0));
        assert_eq!(before.busy_since(&before), None);
        // Ticks are hundredths of a second on every architecture that kstamp runs on.
        assert_eq!(after.used_since(&before), Some(Duration::from_millis(1_100)));
        assert_eq!(Spent::of("intr 1"), None);
        assert!(Spent::now().is_some() && average().is_some());
    }
}
