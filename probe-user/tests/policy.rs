//! Which sources are answered while addresses change, and how a refused sender is notified.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use support::{FAR_V4, Pair, count, counters, in_namespace, ip};

/// Whether a base probe from `source` in `namespace` is answered within a second.
fn is_answered(namespace: &str, source: &str) -> bool {
    let (namespace, source) = (namespace.to_owned(), source.to_owned());
    let ask = move || {
        in_namespace(&namespace);
        let socket = UdpSocket::bind((source.as_str(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
        let mut reply = [0; 100];
        (0..4).any(|_| {
            socket.send_to(&[0; 44], (FAR_V4, 1910)).unwrap();
            socket.recv(&mut reply).is_ok_and(|length| length == 44)
        })
    };
    thread::spawn(ask).join().unwrap()
}

#[test]
fn prefixes_follow_the_addresses_and_allow_adds_to_them() {
    let Some(pair) = Pair::new() else { return };
    let (near, far) = (&pair.near, &pair.far);
    // The far end can reach these addresses, but they are in none of its prefixes.
    for address in ["10.2.2.5", "10.3.3.5", "10.4.4.5"] {
        ip(near, &format!("address add {address}/32 dev port1"));
        ip(far, &format!("route add {address}/32 dev port2"));
    }
    let arguments = "reflect --iface port2 --family v4 --attach tc --allow 10.3.0.0/16";
    let reflector = pair.start(far, arguments);
    let start = reflector.await_type("start");
    assert_eq!(
        start["allowed"],
        serde_json::json!(["10.1.1.0/24", "10.3.0.0/16"]),
        "{start:#}"
    );
    assert!(is_answered(near, "10.1.1.5") && is_answered(near, "10.3.3.5"));
    assert!(!is_answered(near, "10.2.2.5"));

    ip(far, "address add 10.2.2.6/24 dev port2");
    let end = Instant::now() + Duration::from_secs(10);
    while !is_answered(near, "10.2.2.5") {
        assert!(Instant::now() < end, "the new prefix is not followed");
    }
    ip(far, "address delete 10.2.2.6/24 dev port2");
    let end = Instant::now() + Duration::from_secs(10);
    while is_answered(near, "10.2.2.5") {
        assert!(Instant::now() < end, "the old prefix is still answered");
    }
    assert!(!is_answered(near, "10.4.4.5"));
    let (status, records, stderr) = reflector.stop();
    assert!(status.success(), "{stderr}");
    assert!(count(counters(&records), "not_allowed") >= 8, "{records:#?}");
}

#[test]
fn a_refused_sender_is_notified() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4 --rate-source 20");
    let near = pair.started(
        &pair.near,
        &format!("agent --iface port1 --family v4 --no-group --peer {FAR_V4} --interval 5ms"),
    );
    // The next identity request is ten seconds after the first answer.
    let end = Instant::now() + Duration::from_secs(20);
    while !near.stderr().contains("has refused") {
        assert!(Instant::now() < end, "no warning: {}", near.stderr());
        thread::sleep(Duration::from_millis(50));
    }
    let line = near.stderr();
    let reported: u64 = line
        .split("has refused ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{line}"));
    assert!(near.stop().0.success());
    let (_, records, _) = far.stop();
    let refused = count(counters(&records), "rate_source");
    assert!((1..=refused).contains(&reported), "{reported} of {refused}");
}
