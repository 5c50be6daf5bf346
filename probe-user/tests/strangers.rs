//! Peers other than kstamp.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{FAR_V4, NEAR_V4, Pair, count, counters, in_namespace, summary};

/// Answers base packets (RFC 8762) without a session identifier (RFC 8972), until stopped.
fn plain_reflector(namespace: &str, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let namespace = namespace.to_owned();
    std::thread::spawn(move || {
        in_namespace(&namespace);
        let socket = UdpSocket::bind((FAR_V4, 1910)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut answered = 0;
        let mut packet = [0; 2000];
        while !stop.load(Ordering::Relaxed) {
            let Ok((44, from)) = socket.recv_from(&mut packet) else {
                continue;
            };
            let mut reply = [0; 44];
            reply[..4].copy_from_slice(&packet[..4]);
            reply[4..12].copy_from_slice(&packet[4..12]);
            reply[13] = 1;
            reply[16..24].copy_from_slice(&packet[4..12]);
            reply[24..38].copy_from_slice(&packet[..14]);
            reply[40] = 255;
            answered += u64::from(socket.send_to(&reply, from).is_ok());
        }
        answered
    })
}

#[test]
fn a_plain_stamp_reflector_is_measured() {
    let Some(pair) = Pair::new() else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let reflector = plain_reflector(&pair.far, Arc::clone(&stop));
    let arguments = format!("agent --iface port1 --no-group --peer {FAR_V4} --interval 10ms --count 100");
    let (status, records, stderr) = pair.start(&pair.near, &arguments).wait();
    stop.store(true, Ordering::Relaxed);
    assert!(status.success(), "{stderr}");
    assert_eq!(reflector.join().unwrap(), 100);
    let summary = summary(&records, FAR_V4, "unicast");
    assert_eq!(
        (count(summary, "sent"), count(summary, "received")),
        (100, 100),
        "{summary:#}"
    );
    // Without an identity or a synchronised clock, one-way delays rest on its timestamps alone.
    assert_eq!(summary["clock"], "estimated", "{summary:#}");
    assert!(
        count(summary, "clock_bound_ns") >= count(&summary["rtt_ns"], "min") / 2,
        "{summary:#}"
    );
    assert!(summary["rtt_ns"]["p50"].as_u64().unwrap() > 0, "{summary:#}");
    assert!(summary["peer_name"].is_null());
}

#[test]
fn two_reflectors_on_different_ports_do_not_loop() {
    let Some(pair) = Pair::new() else { return };
    let near = pair.start(&pair.near, "reflect --iface port1 --port 1910");
    let far = pair.start(&pair.far, "reflect --iface port2 --port 1911");
    near.await_type("start");
    far.await_type("start");
    let namespace = pair.far.clone();
    std::thread::spawn(move || {
        in_namespace(&namespace);
        // A forged probe that seems to come from the other reflector. The agent holds port 1911 on port2 only, so that
        // the address can be bound here.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket
            .bind(&std::net::SocketAddr::from(([10, 1, 1, 6], 1911)).into())
            .ok();
        socket
            .send_to(&[0; 44], &std::net::SocketAddr::from(([10, 1, 1, 5], 1910)).into())
            .unwrap();
    })
    .join()
    .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let (_, records, _) = near.stop();
    let near = counters(&records).clone();
    let (_, records, _) = far.stop();
    let far = counters(&records).clone();
    let answered = count(&near, "reflected") + count(&far, "reflected");
    assert!(answered <= 1, "{NEAR_V4} {near:#} {FAR_V4} {far:#}");
}
