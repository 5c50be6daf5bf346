//! Bad input and failures: one clear line each, nothing half-attached, nothing lost.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::net::UdpSocket;

use aya::programs::loaded_programs;
use nix::sys::signal::Signal;
use support::{FAR_V4, KSTAMP, NEAR_V4, Pair, command, count, counters, ip, run, summary};

/// Exit code, and the one line on standard error.
fn refusal(output: &std::process::Output) -> (i32, String) {
    let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap(), stderr)
}

fn has_xdp(namespace: &str, port: &str) -> bool {
    ip(namespace, &format!("-d link show {port}")).contains("xdp")
}

#[test]
fn bad_input_is_refused_before_anything_is_attached() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.near, "link add idle0 type veth peer name idle1");
    run(&format!(
        "ip netns exec {} sysctl -qw net.ipv6.conf.idle1.disable_ipv6=1",
        pair.near
    ));
    ip(&pair.near, "link set idle1 up");
    let table = [
        ("nosuch0", 1, "no interface named nosuch0"),
        ("idle0", 1, "ip link set idle0 up"),
        ("idle1 --family v6", 1, "idle1 has no IPv6 address"),
        ("idle1 --family v4", 1, "idle1 has no IPv4 address"),
        ("port1 --output /nosuch/directory/out", 1, "/nosuch/directory/out"),
        ("port1 --samples /nosuch/directory/out", 1, "/nosuch/directory/out"),
        ("port1 --group 10.0.0.1", 2, "10.0.0.1 is not a multicast address"),
        ("port1 --interval 0", 2, "--interval"),
        ("port1 --attach fastest", 2, "fastest"),
        ("port1 --port 0", 2, "--port"),
        ("port1 --samples -", 2, "--samples"),
        ("port1 --peer 10.1.1.5", 1, "is an address of port1 itself"),
        ("lo", 1, "lo: it leads to this host only"),
    ];
    for (arguments, code, says) in table {
        let (status, line) = refusal(&pair.output(&pair.near, &format!("agent --iface {arguments}")));
        assert_eq!(status, code, "{arguments:?}: {line}");
        assert!(line.contains(says), "{arguments:?}: {line}");
        assert_eq!(line.matches("No such file").count() / 2, 0, "stated once: {line}");
        assert!(!has_xdp(&pair.near, "port1"), "{arguments:?}");
    }
}

#[test]
fn missing_privileges_are_named() {
    let Some(pair) = Pair::new() else { return };
    // Other users may not enter the directory of the binary.
    let copy = std::env::temp_dir().join(format!("kstamp-{}", std::process::id()));
    // Another process writes it, so that no child of another test holds it open.
    run(&format!("cp {KSTAMP} {}", copy.display()));
    let refused = [
        ("agent --iface port1", true),
        // These have no other engine to offer.
        ("agent --iface port1 --engine socket --hops", false),
        ("path --iface port1 --peer 10.1.1.6", false),
    ];
    let outputs = refused.map(|(arguments, has_other_engine)| {
        let line = format!(
            "ip netns exec {} setpriv --reuid=65534 --regid=65534 --clear-groups {} {arguments}",
            pair.near,
            copy.display()
        );
        (arguments, has_other_engine, command(&line).output().unwrap())
    });
    std::fs::remove_file(&copy).unwrap();
    for (arguments, has_other_engine, output) in outputs {
        let (status, line) = refusal(&output);
        assert_eq!(status, 1, "{arguments}: {line}");
        assert!(
            line.contains("not privileged") && line.contains("root"),
            "{arguments}: {line}"
        );
        assert_eq!(
            line.contains("use --engine socket"),
            has_other_engine,
            "{arguments}: {line}"
        );
    }
}

#[test]
fn a_second_agent_on_a_port_is_refused_and_the_first_keeps_running() {
    let Some(pair) = Pair::new() else { return };
    let first = pair.start(&pair.near, "agent --iface port1 --interval 20ms");
    first.await_type("start");
    let (status, line) = refusal(&pair.output(&pair.near, "agent --iface port1"));
    assert_eq!(status, 1);
    assert!(line.contains("1910") && line.contains("in use"), "{line}");
    assert!(has_xdp(&pair.near, "port1"));
    assert!(first.stop().0.success());
    assert!(!has_xdp(&pair.near, "port1"), "a clean interface");
}

#[test]
fn sigint_and_sigterm_end_with_a_summary_and_a_clean_interface() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.start(&pair.far, "reflect --iface port2");
    far.await_type("start");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let near = pair.start(&pair.near, "agent --iface port1 --family v4 --interval 10ms");
        near.await_type("peer");
        near.signal(signal);
        let (status, records, stderr) = near.wait();
        assert!(status.success(), "{signal}: {stderr}");
        let summary = summary(&records, FAR_V4, "group");
        assert!(count(summary, "received") >= 1, "{summary:#}");
        assert!(!has_xdp(&pair.near, "port1"));
    }
    let (status, records, _) = far.stop();
    assert!(status.success());
    assert!(
        counters(&records)["reflected_group"].as_u64().unwrap() >= 2,
        "{records:#?}"
    );
}

#[test]
fn sigkill_leaves_nothing_behind_and_the_next_start_succeeds() {
    let Some(pair) = Pair::new() else { return };
    let near = pair.start(&pair.near, "agent --iface port1");
    near.await_type("start");
    let ours = |pid: u32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
        let infos = fds.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        let ids = infos.filter_map(|info| {
            let line = info.lines().find(|line| line.starts_with("prog_id:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u32>().ok()
        });
        ids.collect::<Vec<_>>()
    };
    let programs = ours(near.pid());
    assert!(programs.len() >= 3, "{programs:?}");
    near.signal(Signal::SIGKILL);
    near.wait();
    let left = || {
        loaded_programs()
            .flatten()
            .any(|program| programs.contains(&program.id()))
    };
    let gone = || {
        (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            !left()
        })
    };
    // Before TCX, filters hold their programs until the next agent removes them.
    if support::has_tcx() {
        assert!(gone(), "programs outlived their agent");
    }
    assert!(!has_xdp(&pair.near, "port1"));
    let again = pair.start(&pair.near, "agent --iface port1");
    again.await_type("start");
    assert!(again.stop().0.success());
    assert!(gone(), "programs outlived the next agent");
}

#[test]
fn the_interface_may_go_down_be_deleted_and_come_back() {
    let Some(pair) = Pair::new() else { return };
    let probing = format!("--peer {FAR_V4} --family v4 --interval 20ms --timeout 200ms --report 500ms");
    let far = pair.start(&pair.far, "reflect --iface port2 --family v4");
    let near = pair.start(&pair.near, &format!("agent --iface port1 {probing}"));
    let event = |event: &'static str| {
        move |record: &serde_json::Value| record["type"] == "interface" && record["event"] == event
    };
    let answered = |record: &serde_json::Value| {
        record["type"] == "window" && record["path"] == "unicast" && record["received"].as_u64().unwrap() > 0
    };
    near.await_record(1, "first results", answered);

    ip(&pair.near, "link set port1 down");
    near.await_record(1, "down", event("down"));
    far.await_record(1, "loss of the carrier", event("down"));
    let before = near.records().into_iter().filter(answered).count();
    ip(&pair.near, "link set port1 up");
    near.await_record(1, "up", event("up"));
    near.await_record(before + 2, "results after down and up", answered);

    ip(&pair.near, "link delete port1");
    near.await_record(1, "deletion", event("deleted"));
    far.await_record(1, "deletion", event("deleted"));
    let before = near.records().into_iter().filter(answered).count();
    pair.connect();
    near.await_record(1, "return", event("back"));
    far.await_record(1, "return", event("back"));
    near.await_record(before + 2, "results after the return", answered);

    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    for record in records
        .iter()
        .filter(|record| record["type"] == "summary" || record["type"] == "window")
    {
        assert_eq!(
            count(record, "sent"),
            count(record, "received") + count(record, "lost") + count(record, "pending")
        );
    }
    let summary = summary(&records, FAR_V4, "unicast");
    assert!(
        count(summary, "send_failed") > 0,
        "a probe that cannot leave is no loss of the network: {summary:#}"
    );
    assert!(far.stop().0.success());
}

#[test]
fn garbage_on_the_port_is_counted_and_not_amplified() {
    let Some(pair) = Pair::new() else { return };
    let near = pair.start(&pair.near, "agent --iface port1 --family v4");
    near.await_type("start");
    // The first three are shorter than any test packet. The others are test packets, however odd (RFC 8762 §4.6), and get
    // an answer of their own length or of a base packet's.
    let packets: Vec<Vec<u8>> = vec![
        vec![],
        vec![0; 3],
        b"xy".to_vec(),
        vec![0xff; 43],
        vec![0xff; 45],
        vec![0xaa; 1400],
    ];
    let far = pair.far.clone();
    let rounds = 20;
    let sent = packets.len() as u64 * rounds;
    let lengths = std::thread::spawn(move || {
        support::in_namespace(&far);
        let socket = UdpSocket::bind((FAR_V4, 0)).unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_millis(300)))
            .unwrap();
        for _ in 0..rounds {
            for packet in &packets {
                socket.send_to(packet, (NEAR_V4, 1910)).unwrap();
            }
        }
        let mut lengths = std::collections::BTreeMap::new();
        while let Ok((length, _)) = socket.recv_from(&mut [0; 2000]) {
            *lengths.entry(length).or_insert(0) += 1;
        }
        lengths
    })
    .join()
    .unwrap();
    assert_eq!(
        lengths.into_iter().collect::<Vec<_>>(),
        [(44, 20), (45, 20), (1400, 20)]
    );
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    let counters = counters(&records);
    assert_eq!(
        count(counters, "passed_up") + count(counters, "malformed"),
        sent,
        "{counters:#}"
    );
    assert_eq!(count(counters, "user_too_short"), 3 * rounds, "{counters:#}");
    assert_eq!(count(counters, "user_reflected"), 3 * rounds, "{counters:#}");
    assert_eq!(count(counters, "reflected"), 0);
}
