//! Scheduling of the threads of the process-bound methods.

use log::warn;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Normal,
    /// `SCHED_FIFO`.
    Realtime,
}

/// In the middle of `SCHED_FIFO`'s 1 to 99, just below the default of the kernel's own threads there.
const LEVEL: libc::c_int = 49;

impl Priority {
    /// Sets the priority of the calling thread. Without permission the thread keeps its own, with a warning.
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
