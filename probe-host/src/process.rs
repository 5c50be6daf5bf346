//! What this process uses, and its threads in the background.

use std::time::Duration;
use std::{fs, io, mem, thread};

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

/// The shortest slice of processor time that the kernel gives.
const SHORT_SLICE_NS: u64 = 100_000;

/// Has this thread run soon after it wakes. From Linux 6.12 on, a thread of shorter slices interrupts one of longer slices, which
/// last milliseconds. Its share of the processor stays as it is. A thread with a real-time priority is left alone.
pub fn take_short_slices() -> io::Result<()> {
    schedule(|attributes| {
        if attributes.sched_policy == libc::SCHED_OTHER as u32 {
            attributes.sched_runtime = SHORT_SLICE_NS;
        }
    })
}

/// Lets all other threads run before this one, where they compete for a processor, and does not interrupt them when it wakes.
fn yield_to_other_threads() -> io::Result<()> {
    const NICE: i32 = 10;
    schedule(|attributes| {
        attributes.sched_policy = libc::SCHED_BATCH as u32;
        attributes.sched_priority = 0;
        attributes.sched_nice = attributes.sched_nice.max(NICE);
        // The default, and not that of the thread that has started this one.
        attributes.sched_runtime = 0;
    })
}

/// Changes how this thread is scheduled (sched_setattr(2)).
fn schedule(change: impl FnOnce(&mut libc::sched_attr)) -> io::Result<()> {
    let mut attributes = scheduling()?;
    change(&mut attributes);
    // SAFETY: the kernel reads the attributes, which say how long they are.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How this thread is scheduled.
fn scheduling() -> io::Result<libc::sched_attr> {
    // SAFETY: it consists of integers.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = size_of_val(&attributes);
    // SAFETY: the kernel writes at most `size` bytes.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } {
        0 => Ok(attributes),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

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
    fn a_thread_in_the_background_yields_and_inherits_no_short_slices() {
        let now = || {
            scheduling()
                .map(|now| (now.sched_policy as i32, now.sched_nice, now.sched_runtime))
                .unwrap()
        };
        let before = now();
        assert_eq!(before.0, libc::SCHED_OTHER);
        let measuring = thread::spawn(move || {
            take_short_slices().unwrap();
            let (sender, receiver) = mpsc::channel();
            in_background("test", move || sender.send(now()).unwrap()).unwrap();
            (now(), receiver.recv().unwrap())
        });
        let (measuring, background) = measuring.join().unwrap();
        // Before Linux 6.12 there is one slice for all, and the kernel does not tell it.
        let has_slices = before.2 != 0;
        let short_ns = if has_slices { SHORT_SLICE_NS } else { 0 };
        assert_eq!(measuring, (libc::SCHED_OTHER, before.1, short_ns));
        assert_eq!(background, (libc::SCHED_BATCH, before.1.max(10), before.2));
        assert_eq!(now(), before, "only the threads that ask");
    }
}
