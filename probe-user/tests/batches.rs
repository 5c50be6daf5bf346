//! Probes that leave in one batch: each failure counts for its own probe, all other probes leave, and none takes a path of its
//! own.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use support::{FAR_V4, NEAR_V4, Pair, count, in_namespace, ip, summary};

/// Two seconds of probes. The policies are added within the first part of them.
const COUNT: u64 = 10_000;

/// Peers, and whether a policy forbids packets to them after the start.
const PEERS: [(&str, bool); 6] = [
    ("10.1.1.77", true),
    (FAR_V4, false),
    ("10.1.1.78", true),
    ("fd01::77", true),
    ("fd01::6", false),
    ("fd01::78", true),
];

/// All sessions together are due each 33 µs, so most batches have some of each kind.
fn send(engine: &str) {
    let Some(pair) = Pair::new() else { return };
    let forbidden = || PEERS.iter().filter(|(_, forbidden)| *forbidden);
    for (peer, _) in forbidden() {
        let rest = if peer.contains(':') { "/64 nodad" } else { "/24" };
        ip(&pair.far, &format!("address add {peer}{rest} dev port2"));
    }
    let _far = pair.reflector("");
    let peers: String = PEERS.iter().map(|(peer, _)| format!(" --peer {peer}")).collect();
    let near = pair.started(
        &pair.near,
        &format!("agent --iface port1 --no-group --engine {engine} --interval 200us --count {COUNT}{peers}"),
    );
    for (peer, _) in forbidden() {
        ip(&pair.near, &format!("xfrm policy add dst {peer} dir out action block"));
    }
    let (status, records, stderr) = near.wait();
    assert!(status.success(), "{stderr}");
    for (peer, forbidden) in PEERS {
        let summary = summary(&records, peer, "unicast");
        let [sent, received, failed] = ["sent", "received", "send_failed"].map(|field| count(summary, field));
        assert_eq!((sent, sent + failed), (received, COUNT), "{summary:#}");
        if forbidden {
            assert!(failed >= COUNT / 4, "{summary:#}");
            assert_eq!(summary["send_failed_by"]["forbidden"], failed, "{summary:#}");
        } else {
            assert_eq!(failed, 0, "{summary:#}");
        }
    }
}

#[test]
fn failures_in_a_batch_count_for_their_own_probes() {
    send("ebpf");
}

#[test]
fn failures_beside_others_count_for_their_own_probes_at_sockets() {
    send("socket");
}

/// A probe within VXLAN.
struct Tunnelled {
    /// It stands for the path: network devices choose by it.
    outer_port: u16,
    port: u16,
}

/// Sees all packets of this thread's namespace.
fn capture() -> UdpSocket {
    let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.into()
}

/// The next probe over VXLAN; `None` if no packet comes for a second.
fn tunnelled(capture: &UdpSocket) -> Option<Tunnelled> {
    const INNER: usize = 14 + 20 + 8 + 8 + 14;
    const LENGTH: usize = INNER + 20 + 8 + 44;
    let mut frame = [0; 2_000];
    loop {
        let length = capture.recv(&mut frame).ok()?;
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        if length == LENGTH && word(36) == 4789 && word(INNER + 22) == 1910 {
            return Some(Tunnelled {
                outer_port: word(34),
                port: word(INNER + 20),
            });
        }
    }
}

#[test]
fn probes_of_batches_take_the_path_of_single_ones() {
    let Some(pair) = Pair::new() else { return };
    for (namespace, port, remote, own) in [
        (&pair.near, "port1", FAR_V4, "10.7.0.1"),
        (&pair.far, "port2", NEAR_V4, "10.7.0.2"),
    ] {
        let vxlan = format!("link add vx0 type vxlan id 7 remote {remote} dstport 4789 dev {port}");
        ip(namespace, &vxlan);
        ip(namespace, &format!("address add {own}/24 dev vx0"));
        ip(namespace, "link set vx0 up");
    }
    let _far = pair.started(&pair.far, "reflect --iface vx0 --family v4");
    let near = pair.near.clone();
    let (started, is_started) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let captured = thread::spawn(move || {
        in_namespace(&near);
        let capture = capture();
        started.send(()).unwrap();
        let first = std::iter::repeat_with(|| tunnelled(&capture))
            .find_map(|probe| probe)
            .unwrap();
        let rest = std::iter::from_fn(|| tunnelled(&capture));
        let paths: Vec<_> = rest.map(|probe| probe.outer_port).collect();
        // The same flow, from a socket that is not connected. The agent has given up the port.
        has_ended.recv().unwrap();
        let single = UdpSocket::bind(("10.7.0.1", first.port)).unwrap();
        single.send_to(&[0; 44], ("10.7.0.2", 1910)).unwrap();
        (paths, tunnelled(&capture).unwrap().outer_port)
    });
    is_started.recv().unwrap();
    // Faster than can be sent, so probes leave in batches.
    let sending =
        "agent --iface vx0 --family v4 --no-group --peer 10.7.0.2 --timeout 100ms --interval 4us --count 60000";
    let (status, records, stderr) = pair.started(&pair.near, sending).wait();
    ended.send(()).unwrap();
    assert!(status.success(), "{stderr}");
    assert_eq!(count(summary(&records, "10.7.0.2", "unicast"), "send_failed"), 0);
    let (paths, path) = captured.join().unwrap();
    assert!(paths.len() >= 1_000, "{} probes", paths.len());
    assert_eq!(BTreeSet::from_iter(paths), BTreeSet::from([path]));
}
