//! What this process uses, and its threads in the background.

use std::time::Duration;
use std::{fs, io, thread};

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, of the process and of the kernel for it.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    pub open_files: u64,
}

impl Usage {
    /// `None` if the kernel does not say: without `/proc`.
    pub fn now() -> Option<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        let spent = [usage.user_time(), usage.system_time()].map(|spent| {
            let micros = u64::try_from(spent.tv_sec() * 1_000_000 + spent.tv_usec()).unwrap_or_default();
            Duration::from_micros(micros)
        });
        let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        let pages = resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
        Some(Self {
            cpu: spent.iter().sum(),
            resident: pages * u64::try_from(page).ok()?,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        })
    }
}

/// The second field of `/proc/self/statm` (proc_pid_statm(5)).
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

/// Runs `work` in a thread of this name, which lets all others run before it. If the kernel refuses that, it has the same
/// priority as they.
pub fn in_background(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        let _ = yield_to_other_threads();
        work();
    };
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Lets all other threads run before this one, where they compete for a processor.
fn yield_to_other_threads() -> io::Result<()> {
    const NICE: libc::c_int = 10;
    // SAFETY: the call takes no pointer. On Linux, 0 is the calling thread (setpriority(2), C library/kernel differences).
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_time_and_files() {
        let before = Usage::now().unwrap();
        let memory = vec![1u8; 64 << 20];
        let file = fs::File::open("/dev/null").unwrap();
        let after = Usage::now().unwrap();
        assert!(after.resident >= before.resident + (32 << 20), "{before:?} {after:?}");
        assert!(after.cpu > Duration::ZERO && after.cpu >= before.cpu);
        assert!(after.open_files >= 4, "{after:?}");
        drop((memory, file));
        assert_eq!(resident_pages("900 17 3 1 0 2 0\n"), Some(17));
        assert_eq!(resident_pages("900"), None);
    }

    #[test]
    fn only_the_thread_that_asks_yields() {
        let nice = || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let mut fields = stat.rsplit(") ").next().unwrap().split(' ');
            fields.nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let there = std::thread::spawn(move || {
            yield_to_other_threads().unwrap();
            nice()
        });
        assert_eq!(there.join().unwrap(), 10.max(before));
        assert_eq!(nice(), before);
    }
}
