//! Load on the processors: busy processes that end with this one, even if it is killed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

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
