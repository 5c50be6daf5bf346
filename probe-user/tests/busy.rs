//! An agent whose probes are due more often than its event loop runs.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::signal::Signal;
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;
use probe_common::tlv::{Writer, kind};
use support::{FAR_V4, NEAR_V4, Pair, count, in_namespace, ip, summary};

/// Sends probes with a TLV, which the process answers, from the far end to the near one. Returns how many are answered.
fn answered(pair: &Pair, probes: u32) -> usize {
    let namespace = pair.far.clone();
    let ask = move || {
        in_namespace(&namespace);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect((NEAR_V4, 1910)).unwrap();
        let is_answered = |sequence: &u32| {
            let mut room = [0; 16];
            let mut writer = Writer::new(&mut room);
            writer.push(kind::TIMESTAMP_INFORMATION, &[0; 4]).unwrap();
            let probe = [&stamp::probe(*sequence, ErrorEstimate(1), 7)[..], writer.written()].concat();
            socket.send(&probe).unwrap();
            let mut reply = [0; 200];
            socket.recv(&mut reply).is_ok_and(|length| length == probe.len())
        };
        (0..probes).filter(is_answered).count()
    };
    std::thread::spawn(ask).join().unwrap()
}

#[test]
fn it_answers_packets_follows_its_interface_and_ends() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("--family v4");
    let agent = format!("agent --iface port1 --family v4 --no-group --peer {FAR_V4} --interval 200us --timeout 100ms");
    let near = pair.started(&pair.near, &agent);
    near.await_record(1, "peer up", |record| {
        record["event"] == "up" && record["peer"] == FAR_V4
    });
    assert_eq!(answered(&pair, 20), 20);
    ip(&pair.near, "link set port1 down");
    near.await_record(1, "interface down", |record| {
        record["type"] == "interface" && record["event"] == "down"
    });
    near.signal(Signal::SIGINT);
    let (status, records, stderr) = near.wait();
    assert!(status.success(), "{stderr}");
    let summary = summary(&records, FAR_V4, "unicast");
    assert!(count(summary, "received") > 0, "{summary}");
    let ends = ["received", "lost", "pending"].map(|end| count(summary, end));
    assert_eq!(count(summary, "sent"), ends.iter().sum::<u64>(), "{summary}");
}
