//! When bytes arrived at the socket, as the kernel has it: before this process was woken, and whatever else it was doing.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use log::debug;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, Timestamps, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use probe_host::clock::{monotonic_ns, realtime_ns};

const NS_PER_S: i64 = 1_000_000_000;
/// What waited longer than this in the socket did so because nobody read it; or the wall clock was set meanwhile, in
/// which the kernel stamps. The time of the read is then the better stamp.
const MAX_WAIT_NS: u64 = NS_PER_S as u64;

/// Asks for stamps. Without them the time of the read is used.
pub(super) fn ask(socket: &impl AsFd) {
    let flags = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    if let Err(error) = setsockopt(socket, sockopt::Timestamping, &flags) {
        debug!("no stamps of arrival for a switch's connection: {error}");
    }
}

/// Reads what is there, and says when the last of it arrived (`CLOCK_MONOTONIC`, ns): TCP has one stamp for each read
/// (`tcp_recvmsg_locked` in `net/ipv4/tcp.c`).
///
/// # Errors
/// As those of `recvmsg`.
pub(super) fn receive(socket: &impl AsRawFd, to: &mut [u8]) -> io::Result<(usize, u64)> {
    let mut parts = [IoSliceMut::new(to)];
    let mut control = nix::cmsg_space!(Timestamps);
    let (count, stamped) = loop {
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
            Ok(received) => break (received.bytes, stamp(received.cmsgs().ok().into_iter().flatten())),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    Ok((count, to_monotonic(stamped, realtime_ns(), monotonic_ns())))
}

fn stamp(mut messages: impl Iterator<Item = ControlMessageOwned>) -> Option<TimeSpec> {
    messages.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampsns(stamps) => Some(stamps.system),
        _ => None,
    })
}

/// The stamp, which is in `CLOCK_REALTIME`, in `CLOCK_MONOTONIC`: as long ago by the one as by the other.
fn to_monotonic(stamp: Option<TimeSpec>, realtime_ns: u64, monotonic_ns: u64) -> u64 {
    let waited = stamp
        .and_then(|stamp| u64::try_from(stamp.tv_sec() * NS_PER_S + stamp.tv_nsec()).ok())
        .filter(|&at_ns| at_ns > 0)
        .and_then(|at_ns| realtime_ns.checked_sub(at_ns))
        .filter(|&waited| waited <= MAX_WAIT_NS)
        .unwrap_or(0);
    monotonic_ns.saturating_sub(waited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_that_cannot_be_is_not_used() {
        let real = 1_800_000_000 * NS_PER_S as u64;
        let mono = 5_000 * NS_PER_S as u64;
        let at = |ns: u64| {
            Some(TimeSpec::new(
                (ns / NS_PER_S as u64) as i64,
                (ns % NS_PER_S as u64) as i64,
            ))
        };
        let table = [
            (at(real - 700), mono - 700),
            (at(real), mono),
            (at(real - MAX_WAIT_NS), mono - MAX_WAIT_NS),
            // The wall clock was set forth, or back; no stamp; none from this device.
            (at(real - MAX_WAIT_NS - 1), mono),
            (at(real + 1), mono),
            (None, mono),
            (at(0), mono),
        ];
        for (stamp, expected) in table {
            assert_eq!(to_monotonic(stamp, real, mono), expected, "{stamp:?}");
        }
    }
}
