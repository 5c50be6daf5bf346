//! Devices without Ethernet: refused by the programs, measured by sockets.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use serde_json::Value;
use support::{Pair, count, in_namespace, ip, summary};

/// `TUNSETIFF`, `IFF_TUN` and `IFF_NO_PI` of `linux/if_tun.h`.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TUN: i16 = 1;
const IFF_NO_PI: i16 = 0x1000;

/// A new tun device in a namespace.
fn tun(namespace: &str, name: &str) -> File {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let open = move || {
        in_namespace(&namespace);
        let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        let mut request = [0_u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
        // SAFETY: `request` is an ifreq with a terminated name and flags.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        file
    };
    std::thread::spawn(open).join().unwrap()
}

/// Carries packets until the device goes.
fn carry(mut from: File, mut to: File) {
    std::thread::spawn(move || {
        let mut packet = [0; 2_000];
        while let Ok(length) = from.read(&mut packet) {
            if to.write_all(&packet[..length]).is_err() {
                return;
            }
        }
    });
}

#[test]
fn tunnels_without_ethernet_are_refused_by_programs_and_measured_by_sockets() {
    let Some(pair) = Pair::new() else { return };
    let (near, far) = (tun(&pair.near, "tun1"), tun(&pair.far, "tun2"));
    for (namespace, port, v4, v6) in [
        (&pair.near, "tun1", "10.5.0.1 peer 10.5.0.2/32", "fd05::1/64"),
        (&pair.far, "tun2", "10.5.0.2 peer 10.5.0.1/32", "fd05::2/64"),
    ] {
        ip(namespace, &format!("address add {v4} dev {port}"));
        ip(namespace, &format!("address add {v6} dev {port} nodad"));
        ip(namespace, &format!("link set {port} up"));
    }
    carry(near.try_clone().unwrap(), far.try_clone().unwrap());
    carry(far, near);

    // Nothing is said about IPv6, which it has no address of.
    let v4_only = tun(&pair.near, "tun3");
    ip(&pair.near, "address add 10.6.0.1/24 dev tun3");
    for arguments in ["agent --iface tun3", "reflect --iface tun3", "agent --iface tun4"] {
        let output = pair.output(&pair.near, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
    }
    drop(v4_only);

    for arguments in ["agent --iface tun1", "reflect --iface tun1", "doctor --iface tun1"] {
        let output = pair.output(&pair.near, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
        let said = stderr.contains("tun1: its packets have no Ethernet header") && stderr.contains("--engine socket");
        assert!(said && stderr.lines().count() == 1, "{arguments}: {stderr}");
    }

    let _far = pair.started(&pair.far, "reflect --iface tun2 --engine socket");
    let ping = pair.output(&pair.near, "ping 10.5.0.2 -p 1910 -c 3 -i 20ms");
    let stdout = String::from_utf8(ping.stdout).unwrap();
    assert!(ping.status.success(), "{stdout}");
    assert!(
        stdout.contains("timestamps by a socket: tun1: its packets have no Ethernet header"),
        "{stdout}"
    );

    let probing = "--peer 10.5.0.2 --peer fd05::2 --interval 20ms --timeout 500ms --report 500ms";
    let agent = pair.started(&pair.near, &format!("agent --iface tun1 --engine socket {probing}"));
    for (path, peer) in [("unicast", "10.5.0.2"), ("unicast", "fd05::2"), ("group", "10.5.0.2")] {
        agent.await_record(1, "results through the tunnel", |record: &Value| {
            record["type"] == "window"
                && record["path"] == path
                && record["peer"] == peer
                && count(record, "received") > 0
        });
    }
    let (status, records, stderr) = agent.stop();
    assert!(status.success(), "{stderr}");
    for peer in ["10.5.0.2", "fd05::2"] {
        let summary = summary(&records, peer, "unicast");
        assert_eq!(
            (count(summary, "lost"), count(summary, "send_failed")),
            (0, 0),
            "{summary:#}\n{stderr}"
        );
    }
}
