//! Probes that leave in one batch: each failure counts for its own probe, and all other probes leave.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use support::{FAR_V4, Pair, count, ip, summary};

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
