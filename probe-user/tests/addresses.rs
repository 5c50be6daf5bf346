//! Interfaces with thousands of addresses.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fmt::Write as _;
use std::fs;

use support::{FAR_V4, Pair, count, run, summary};

const FAR_V6: &str = "fd01::6";

/// 4,096 addresses, 8 in each subnet of 28 bits, from 10.`second`.0.1 on.
fn batch(port: &str, second: u8) -> String {
    let mut lines = String::new();
    for number in 0..4_096_u32 {
        // Neither the network nor the broadcast address.
        let (subnet, host) = (number / 8, 1 + number % 8);
        let (third, fourth) = (subnet / 16, subnet % 16 * 16 + host);
        writeln!(lines, "address add 10.{second}.{third}.{fourth}/28 dev {port}").unwrap();
    }
    lines
}

fn add(pair: &Pair, second: u8) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, batch("port2", second)).unwrap();
    run(&format!("ip -n {} -batch {}", pair.far, file.path().display()));
}

#[test]
fn thousands_of_addresses_are_answered_and_too_many_are_named() {
    let Some(pair) = Pair::new() else { return };
    add(&pair, 20);
    let far = pair.reflector("");
    // The link-local address may be tentative yet.
    let addresses = far.await_type("start")["addresses"].as_array().unwrap().len();
    assert!((4_096 + 2..=4_096 + 3).contains(&addresses), "{addresses}");
    run(&format!("ip -n {} route add 10.20.0.0/16 dev port1", pair.near));
    // The last one in the dump, one in the middle, and the first.
    let peers = ["10.20.31.248", "10.20.17.33", FAR_V4, FAR_V6];
    let flags: String = peers.iter().map(|peer| format!("--peer {peer} ")).collect();
    let (status, records, stderr) = pair
        .start(
            &pair.near,
            &format!("agent --iface port1 {flags} --allow 10.20.0.0/16 --interval 50ms --count 10"),
        )
        .wait();
    assert!(status.success(), "{stderr}");
    for peer in peers {
        assert_eq!(
            count(summary(&records, peer, "unicast"), "received"),
            10,
            "{peer}: {stderr}"
        );
    }
    assert_eq!(count(summary(&records, FAR_V4, "group"), "received"), 10, "{stderr}");

    // Beyond the bound: said once, and what was there stays.
    add(&pair, 21);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !far.stderr().contains("at most 8190") {
        assert!(std::time::Instant::now() < end, "{}", far.stderr());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let answered = pair.output(&pair.near, "ping 10.20.31.248 --port 1910 --count 3 --interval 50ms");
    assert!(answered.status.success(), "{answered:?}");
    let (_, _, stderr) = far.stop();
    assert_eq!(stderr.matches("8190").count(), 1, "{stderr}");

    for arguments in ["reflect --iface port2", "agent --iface port2", "doctor --iface port2"] {
        let refused = pair.output(&pair.far, arguments);
        assert!(!refused.status.success(), "{refused:?}");
        let text = [refused.stdout, refused.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(
            text.contains("kstamp measures at most 8190 addresses on an interface; port2 has 819"),
            "{text}"
        );
    }
}
