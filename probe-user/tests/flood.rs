//! A flood from one source does not affect the probes of another.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};
use std::{mem, thread};

use etherparse::PacketBuilder;
use nix::net::if_::if_nametoindex;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use support::{FAR_V4, Pair, can_run, count, counters, in_namespace, run, summary};

const PER_SECOND: u32 = 200_000;
const SECONDS: u32 = 3;
/// Packets in one system call.
const BATCH: usize = 64;

/// A base probe to the far end from a source that is not the agent's, as an Ethernet frame.
fn probe_of_the_flood(far_mac: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 99], far_mac).ipv4([10, 1, 1, 99], [10, 1, 1, 6], 64);
    ip.udp(40_099, 1910).write(&mut frame, &[0; 44]).unwrap();
    frame
}

/// Sends `frame` out of `port` at the rate, by `sendmmsg`; returns how long it took.
fn flood(namespace: String, port: &'static str, frame: Vec<u8>) -> thread::JoinHandle<Duration> {
    thread::spawn(move || {
        in_namespace(&namespace);
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        // SAFETY: all zeroes are a valid address, of which the fields that matter are set below.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = if_nametoindex(port).unwrap().cast_signed();
        let mut vector = libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: as above.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        message.msg_hdr.msg_name = (&raw mut address).cast();
        message.msg_hdr.msg_namelen = mem::size_of_val(&address) as u32;
        message.msg_hdr.msg_iov = &raw mut vector;
        message.msg_hdr.msg_iovlen = 1;
        let mut messages = [message; BATCH];
        let start = Instant::now();
        let batches = PER_SECOND * SECONDS / BATCH as u32;
        for batch in 0..batches {
            // SAFETY: the messages and what they point to outlive the call, which only reads them.
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BATCH as u32, 0) };
            let due = Duration::from_secs(1) * (batch * BATCH as u32) / PER_SECOND;
            // A batch that is due within the slack of a sleep is sent at once.
            if let Some(early) = due
                .checked_sub(start.elapsed())
                .filter(|early| *early > Duration::from_millis(1))
            {
                thread::sleep(early);
            }
        }
        start.elapsed()
    })
}

/// One after the other: two floods at once are more than some machines can send.
#[test]
fn a_flood_from_one_source_costs_another_source_no_probe() {
    if can_run() {
        under_flood("");
        let (far, reached) = under_flood("--rate-source 50000");
        if reached {
            assert!(
                count(&far, "rate_source") > u64::from(PER_SECOND * SECONDS) / 4,
                "{far:#}"
            );
        }
    }
}

/// The far counters after a flood, and whether it reached its rate; if so, no other source was affected.
fn under_flood(limits: &str) -> (Value, bool) {
    let pair = Pair::new().unwrap();
    let address = run(&format!("ip netns exec {} cat /sys/class/net/port2/address", pair.far));
    let mac: Vec<u8> = address
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    // Replies to the flood need no neighbour entry: XDP and TC send them to the source MAC address.
    let far = pair.reflector(&format!("--family v4 {limits}"));
    let near = pair.start(
        &pair.near,
        &format!("agent --iface port1 --family v4 --no-group --peer {FAR_V4} --interval 5ms"),
    );
    near.await_type("peer");
    let took = flood(pair.near.clone(), "port1", probe_of_the_flood(mac.try_into().unwrap()))
        .join()
        .unwrap();
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    let (_, far_records, _) = far.stop();
    let far = counters(&far_records);
    let reached = f64::from(PER_SECOND * SECONDS) / took.as_secs_f64();
    println!("{reached:.0} packets a second for {took:?}: {far:#}");
    // Each packet was answered or above the source's limit; the port's limit was not reached.
    let sent = u64::from(PER_SECOND * SECONDS);
    assert!(count(far, "rate_source") + count(far, "reflected") >= sent, "{far:#}");
    assert_eq!(count(far, "rate_port"), 0);
    let summary = summary(&records, FAR_V4, "unicast");
    assert!(count(summary, "received") > 100, "{summary:#}");
    if reached < 0.9 * f64::from(PER_SECOND) {
        println!("SKIPPED: this machine sends no {PER_SECOND} packets a second, only {reached:.0}");
        return (far.clone(), false);
    }
    assert_eq!(count(summary, "lost"), 0, "{summary:#}");
    (far.clone(), true)
}
