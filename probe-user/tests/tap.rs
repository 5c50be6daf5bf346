//! Taps on real interfaces: frames are stamped at egress and ingress, and nothing stays behind.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use probe_common::tap::{DESTINATION, ETHERTYPE};
use probe_io::tap::{Direction, TapCounts, TapError, Tapped, Taps};
use support::Pair;

/// Runs `work` in a namespace, on a thread and a tokio runtime of its own.
fn within<T: Send>(namespace: &str, work: impl AsyncFnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            support::in_namespace(namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work())
        };
        scope.spawn(run).join().unwrap()
    })
}

/// Sends `frame` out of an interface of this thread's namespace.
fn send(interface: &str, frame: &[u8]) {
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    // SAFETY: a plain system call; the result is checked, and nothing else owns the descriptor.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = index as i32;
    // SAFETY: frame and address are alive and have the given lengths.
    let sent = unsafe {
        let length = size_of_val(&to) as u32;
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            length,
        )
    };
    assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
}

fn lldp(number: u8) -> Vec<u8> {
    let mut frame = [&DESTINATION[..], &[2, 0, 0, 0, 0, 5], &ETHERTYPE.to_be_bytes()].concat();
    frame.resize(90, number);
    frame
}

async fn next(taps: &mut Taps) -> Tapped {
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, taps.next())
        .await
        .expect("a frame")
        .unwrap()
}

#[test]
fn a_frame_is_stamped_at_both_ends_of_a_link() {
    let Some(pair) = Pair::new() else { return };
    let (mut out, mut into) = (Vec::new(), Vec::new());
    within(&pair.far, async || {
        let mut far = Taps::attach(&["port2"]).unwrap();
        within(&pair.near, async || {
            // An interface given twice is tapped once.
            let mut near = Taps::attach(&["port1", "port1", "lo"]).unwrap();
            assert_eq!(near.interfaces().count(), 2);
            for number in 0..50 {
                send("port1", &lldp(number));
            }
            for _ in 0..50 {
                out.push(next(&mut near).await);
            }
            assert_eq!(
                near.counts().unwrap(),
                TapCounts {
                    handed_over: 50,
                    lost: 0
                }
            );
        });
        for _ in 0..50 {
            into.push(next(&mut far).await);
        }
        // The near taps are detached.
        within(&pair.near, async || send("port1", &lldp(50)));
        assert_eq!(next(&mut far).await.frame, lldp(50));
    });
    for (number, (out, into)) in (0..).zip(out.iter().zip(&into)) {
        assert_eq!((&*out.interface, out.direction), ("port1", Direction::Egress));
        assert_eq!((&*into.interface, into.direction), ("port2", Direction::Ingress));
        assert_eq!((&out.frame, &into.frame), (&lldp(number), &lldp(number)));
        // A veth hands frames over in the send call or in a softirq after it.
        let passage_ns = into.stamp_ns.checked_sub(out.stamp_ns).expect("cause before effect");
        assert!(passage_ns < 100_000_000, "{passage_ns} ns from one end to the other");
    }
}

#[test]
fn a_failed_tap_names_its_interface() {
    let Some(pair) = Pair::new() else { return };
    within(&pair.near, async || {
        let error = Taps::attach(&["port1", "port7"]).err().unwrap();
        assert!(
            matches!(&error, TapError::NoInterface(name) if name == "port7"),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "cannot tap port7: there is no such interface in this network namespace; `ip link` lists them"
        );
        let error = Taps::attach(&["a/b"]).err().unwrap();
        assert!(error.to_string().starts_with("cannot tap: 'a/b'"), "{error}");
    });
}
