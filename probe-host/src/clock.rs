//! This host's clocks: their readings, their quality as the kernel reports it, and the identity of the clock.

use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;
use std::{fs, io};

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_US: u64 = 1_000;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const TIME_NAMESPACE: &str = "/proc/self/ns/time";

/// A fact about a clock could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    #[error("cannot read the state of the system clock (adjtimex): {0}; a seccomp filter may forbid it")]
    State(#[source] io::Error),
    #[error("cannot read {path}: {source}; is /proc mounted?")]
    Identity { path: &'static str, source: io::Error },
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME`, in nanoseconds since 1970.
pub fn realtime_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec that the call may write. It fails only for an unknown clock, and every kernel has these
    // two.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec.unsigned_abs() * NS_PER_S + now.tv_nsec.unsigned_abs()
}

/// State of `CLOCK_REALTIME` as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// NTP or PTP disciplined the clock recently.
    pub synchronised: bool,
    /// Bound on the distance from UTC: the larger of the kernel's `maxerror` and `esterror`, plus the precision of the
    /// kernel's clock (1 µs), because PTP programs report an error of zero. Meaningless unless `synchronised`.
    pub error_ns: u64,
    /// TAI − UTC in seconds; 0 if the kernel does not know it.
    pub tai_offset_s: i32,
}

impl ClockState {
    pub fn read() -> Result<Self, ClockError> {
        let mut timex = MaybeUninit::<libc::timex>::zeroed();
        // SAFETY: zeroes are a valid timex, whose `modes` of 0 asks to change nothing; the call may write to it.
        let status = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
        if status == -1 {
            return Err(ClockError::State(io::Error::last_os_error()));
        }
        // SAFETY: it was valid before the call, and the call writes only integers.
        Ok(Self::from_timex(status, &unsafe { timex.assume_init() }))
    }

    fn from_timex(status: libc::c_int, timex: &libc::timex) -> Self {
        Self {
            synchronised: status != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            error_ns: {
                let error_us = timex.maxerror.max(timex.esterror).max(0) + timex.precision.max(1);
                u64::try_from(error_us).unwrap_or(u64::MAX).saturating_mul(NS_PER_US)
            },
            tai_offset_s: timex.tai,
        }
    }
}

/// Identifies the clock that this process reads: equal on two agents on one kernel and in one time namespace. It is a
/// secret of this host, the key of proofs between agents.
///
/// The kernel's boot id, as its 36 characters, and the inode of the time namespace, as eight bytes, least significant
/// first; the inode is 0 on a kernel without time namespaces. Virtual machines resumed from one snapshot have the same
/// identity.
pub fn clock_identity() -> Result<Vec<u8>, ClockError> {
    let boot_id = fs::read_to_string(BOOT_ID).map_err(|source| ClockError::Identity { path: BOOT_ID, source })?;
    let namespace = match fs::metadata(TIME_NAMESPACE) {
        Ok(metadata) => metadata.ino(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(source) => {
            return Err(ClockError::Identity {
                path: TIME_NAMESPACE,
                source,
            });
        }
    };
    Ok([boot_id.trim_end().as_bytes(), &namespace.to_le_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timex(status: libc::c_int, maxerror_us: libc::c_long, tai: libc::c_int) -> libc::timex {
        // SAFETY: zeroes are a valid timex.
        let mut timex: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
        timex.status = status;
        timex.maxerror = maxerror_us;
        timex.tai = tai;
        timex
    }

    #[test]
    fn clocks_advance() {
        let before = (monotonic_ns(), realtime_ns());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_ns() >= before.0 + 2_000_000);
        assert!(realtime_ns() > 1_600_000_000 * NS_PER_S);
    }

    #[test]
    fn a_clock_is_synchronised_only_if_status_and_flag_agree() {
        let table = [
            (0, 0, true),
            (0, libc::STA_UNSYNC, false),
            (libc::TIME_ERROR, 0, false),
            (libc::TIME_ERROR, libc::STA_UNSYNC, false),
        ];
        for (status, flags, synchronised) in table {
            let state = ClockState::from_timex(status, &timex(flags, 1_500, 37));
            assert_eq!(
                state,
                ClockState {
                    synchronised,
                    // The precision is added.
                    error_ns: 1_501_000,
                    tai_offset_s: 37,
                }
            );
        }
    }

    #[test]
    fn an_error_is_never_less_than_the_precision_nor_than_the_estimate() {
        let error_ns = |maxerror, esterror, precision| {
            let mut timex = timex(0, maxerror, 0);
            timex.esterror = esterror;
            timex.precision = precision;
            ClockState::from_timex(0, &timex).error_ns
        };
        assert_eq!(error_ns(0, 0, 1), 1_000, "as phc2sys leaves it");
        assert_eq!(error_ns(10, 200, 1), 201_000);
        assert_eq!(error_ns(10, 0, 4_000), 4_010_000);
    }

    #[test]
    fn the_state_of_this_host_can_be_read() {
        let state = ClockState::read().unwrap();
        assert!(state.error_ns > 0 || state.synchronised, "{state:?}");
    }

    #[test]
    fn the_identity_is_the_same_in_every_thread_and_time() {
        let first = clock_identity().unwrap();
        assert_eq!(first.len(), 36 + 8);
        assert_eq!(first, std::thread::spawn(|| clock_identity().unwrap()).join().unwrap());
    }
}
