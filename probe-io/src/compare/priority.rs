//! How urgent the threads of the process-bound methods are.

use log::warn;

/// Scheduling of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Like any other.
    Normal,
    /// `SCHED_FIFO`: before every thread that is not real-time.
    Realtime,
}

/// In the middle of `SCHED_FIFO`'s 1 to 99, below what the kernel itself runs there by default plus one.
const LEVEL: libc::c_int = 49;

impl Priority {
    /// Gives it to the calling thread. Where that is not allowed it is said, and the thread stays as it is.
    pub fn take(self) {
        if self == Self::Normal {
            return;
        }
        let parameter = libc::sched_param { sched_priority: LEVEL };
        // SAFETY: the parameter is valid during the call; thread 0 is the calling one.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameter) } != 0 {
            warn!("a thread stays at normal priority: {}", std::io::Error::last_os_error());
        }
    }
}
