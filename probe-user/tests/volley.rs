//! `kstamp volley` between namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, BASE_LEN, ReplyFields};
use probe_host::clock::realtime_ns;
use serde_json::Value;
use support::{FAR_V4, NEAR_V4, Pair, count, ethtool, in_namespace, ip, key_file, run};

const FAR_V6: &str = "fd01::6";

/// Exit code, records, and standard error of `kstamp volley`.
fn volley(pair: &Pair, arguments: &str) -> (Option<i32>, Vec<Value>, String) {
    let output = pair.output(&pair.near, &format!("volley --iface port1 --format jsonl {arguments}"));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let records = stdout.lines().map(|line| serde_json::from_str(line).expect(line));
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), records.collect(), stderr)
}

/// Asserts that a run was refused in one line, before anything was sent.
fn refused(pair: &Pair, arguments: &str, code: i32, words: &str) {
    let (got, records, stderr) = volley(pair, arguments);
    assert_eq!(got, Some(code), "{arguments}: {stderr}");
    assert!(
        stderr.contains(words) && stderr.lines().count() == 1,
        "{arguments}: {stderr}"
    );
    assert!(records.is_empty(), "{records:#?}");
    is_clean(pair);
}

/// Asserts that no program is left at the near end; those of a killed process go with its last thread.
fn is_clean(pair: &Pair) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let link = ip(&pair.near, "-details link show port1");
        let filters = run(&format!("tc -n {} filter show dev port1 egress", pair.near));
        if !link.contains("xdp") && filters.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{link}{filters}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that each record accounts for every probe, and the rows together for the summary; returns start and summary.
fn accounted(records: &[Value]) -> (&Value, &Value) {
    let [start, rows @ .., summary] = records else {
        panic!("{records:#?}")
    };
    assert_eq!((&start["type"], &summary["type"]), (&"start".into(), &"summary".into()));
    assert!(rows.iter().all(|row| row["type"] == "row"), "{records:#?}");
    let mut pending = 0;
    for record in rows {
        assert_eq!(count(record, "pending_before"), pending, "{record:#}");
        pending = count(record, "pending");
    }
    for record in rows.iter().chain([summary]) {
        let [sent, before, received, lost, pending] =
            ["sent", "pending_before", "received", "lost", "pending"].map(|field| count(record, field));
        assert_eq!(sent + before, received + lost + pending, "{record:#}");
        let directions: u64 = ["lost_forward", "lost_backward", "lost_unknown"]
            .map(|field| count(record, field))
            .iter()
            .sum();
        assert_eq!(directions, lost, "{record:#}");
    }
    for field in ["sent", "received", "lost"] {
        let sum: u64 = rows.iter().map(|row| count(row, field)).sum();
        assert_eq!(sum, count(summary, field), "{field}");
    }
    // Counts and delays are read one after the other during the run, so the delay of a reply may be in another row.
    let delays = |record: &Value| record["rtt_ns"]["count"].as_u64().unwrap_or(0);
    assert_eq!(rows.iter().map(delays).sum::<u64>(), delays(summary));
    assert_eq!(
        delays(summary) + count(summary, "implausible"),
        count(summary, "received")
    );
    assert_eq!(count(summary, "pending_before"), 0);
    (start, summary)
}

#[test]
fn a_volley_is_sent_at_the_rate_that_the_peer_agrees_to() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--attach xdp-native --volley-limit 20000");
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let (code, records, stderr) = volley(
        &pair,
        &format!(
            "--peer {FAR_V4} --rate max --balls 4 --duration 1s --every 100ms --html {} --samples {} --samples-every 10",
            path("page").display(),
            path("samples").display()
        ),
    );
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{records:#?}");
    let (start, summary) = accounted(&records);
    assert_eq!(
        (
            &start["mode"],
            &start["path"],
            &start["rate_limit"],
            &start["volley_limit"]
        ),
        (&"volley".into(), &"xdp".into(), &20_000.into(), &20_000.into()),
        "{start:#}"
    );
    let sent = count(summary, "sent");
    assert!((1..=20_500).contains(&sent), "{summary:#}");
    assert_eq!(
        (count(summary, "lost"), count(summary, "pending")),
        (0, 0),
        "{summary:#}"
    );
    assert!(records.len() > 5, "a row each 100 ms: {records:#?}");
    // Both ends are on one host.
    assert_eq!(
        (&summary["clock"], &summary["self_queueing"]),
        (&"same-clock".into(), &true.into())
    );
    assert_eq!(summary["forward_ns"]["count"], sent);
    let samples = fs::read_to_string(path("samples")).unwrap();
    let samples: Vec<Value> = samples
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let number = samples.len() as u64;
    assert!(number > 0 && number <= sent / 10 + 10, "{number} of {sent}");
    for sample in &samples {
        let [t1, t2, t3, t4] = ["t1_ns", "t2_ns", "t3_ns", "t4_ns"].map(|field| count(sample, field));
        assert!(t1 < t4 && t2 <= t3 && count(sample, "rtt_ns") > 0, "{sample:#}");
    }
    let page = fs::read_to_string(path("page")).unwrap();
    assert!(page.contains("fill=\"var(--h") && page.contains("</html>"), "{page}");
    is_clean(&pair);
    let (status, _, stderr) = far.stop();
    assert!(status.success() && stderr.is_empty(), "{stderr}");
}

#[test]
fn a_device_that_refuses_the_xdp_program_goes_on_with_a_socket() {
    let Some(pair) = Pair::new() else { return };
    // The driver reports that it runs XDP programs and takes their frames, and refuses them for the MTU of the other end.
    ip(&pair.far, "link set port2 mtu 9000");
    // A veth that polls takes frames of XDP programs from its other end.
    ethtool::set(&pair.far, "port2", ethtool::SGRO, 1);
    let _far = pair.reflector("--attach tc");
    let why = "port1 does not take the XDP program in native mode: ";
    for mode in ["volley", "train"] {
        refused(&pair, &format!("--peer {FAR_V4} --mode {mode}"), 1, why);
    }
    let (code, records, stderr) = volley(&pair, &format!("--peer {FAR_V4} --rate 1000 --duration 300ms"));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{records:#?}");
    let (start, summary) = accounted(&records);
    assert_eq!(
        (&start["mode"], &start["path"]),
        (&"sendmmsg".into(), &"unicast".into())
    );
    assert!(start["mode_reason"].as_str().unwrap().starts_with(why), "{start:#}");
    assert!(count(summary, "received") > 0, "{summary:#}");
    is_clean(&pair);
}

#[test]
fn a_peer_that_does_not_agree_gets_no_volley() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--volley-limit 0");
    for force in ["", "--force"] {
        refused(
            &pair,
            &format!("--peer {FAR_V4} {force}"),
            1,
            "10.1.1.6 port 1910 agrees to no volley",
        );
    }
    drop(far);
    let _far = pair.reflector("--volley-limit 5000 --rate-source 3000");
    for force in ["", "--force"] {
        refused(
            &pair,
            &format!("--peer {FAR_V4} --rate 3001 {force}"),
            1,
            "at most 3000 probes a second, not 3001",
        );
    }
}

#[test]
fn a_volley_goes_to_another_host_only() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    for (arguments, code, words) in [
        (format!("--peer {NEAR_V4}"), 1, "is an address of port1 itself"),
        ("--peer 10.1.1.255".to_owned(), 1, "is a broadcast address"),
        ("--peer 239.255.255.250".to_owned(), 2, "is a multicast address"),
        (
            format!("--peer {FAR_V4} --balls 0"),
            2,
            "--balls '0' is not a number from 1 to",
        ),
        (
            format!("--iface nothing --peer {FAR_V4}"),
            2,
            "cannot be used multiple times",
        ),
    ] {
        refused(&pair, &arguments, code, words);
    }
    let output = pair.output(&pair.near, &format!("volley --iface nothing --peer {FAR_V4}"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("no interface named nothing") && stderr.lines().count() == 1,
        "{stderr}"
    );
}

#[test]
fn a_host_with_a_key_gets_no_volley() {
    let Some(pair) = Pair::new() else { return };
    let (_directory, key) = key_file(b"00112233445566778899aabbccddeeff");
    let _far = pair.reflector(&format!("--key-file {}", key.display()));
    let arguments = format!("--peer {FAR_V4} --duration 300ms");
    refused(&pair, &arguments, 1, "does not answer the identity request");
    // It answers no unauthenticated probe either.
    refused(
        &pair,
        &format!("{arguments} --force"),
        1,
        "10.1.1.6:1910 does not answer by port1",
    );
}

/// A STAMP reflector without kstamp's TLVs: returns each packet as it is, and counts base packets. T2 is earlier than T3 by
/// `residence_ns`.
fn plain_reflector(pair: &Pair, residence_ns: u64, stop: Arc<AtomicBool>, probes: Arc<AtomicU64>) -> JoinHandle<()> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let namespace = pair.far.clone();
    let reflector = thread::spawn(move || {
        in_namespace(&namespace);
        let socket = UdpSocket::bind((FAR_V4, 862)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        ready.send(()).unwrap();
        let mut packet = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut packet) else {
                continue;
            };
            let now_ns = realtime_ns();
            let fields = ReplyFields {
                sequence: probes.load(Ordering::Relaxed) as u32,
                transmit: NtpTime::from_unix_ns(now_ns),
                error: ErrorEstimate(1),
                receive: NtpTime::from_unix_ns(now_ns - residence_ns),
                ttl: 255,
            };
            if length == BASE_LEN {
                probes.fetch_add(1, Ordering::Relaxed);
            }
            let mut reply = packet[..length].to_vec();
            stamp::into_reply(&mut reply, &fields);
            socket.send_to(&reply, from).unwrap();
        }
    });
    is_ready.recv().unwrap();
    reflector
}

#[test]
fn a_plain_reflector_needs_force() {
    let Some(pair) = Pair::new() else { return };
    let (stop, probes) = (Arc::default(), Arc::default());
    let reflector = plain_reflector(&pair, 0, Arc::clone(&stop), Arc::clone(&probes));
    let arguments = format!("--peer {FAR_V4} -p 862 --rate 500 --duration 300ms");
    refused(&pair, &arguments, 1, "does not answer the identity request");
    assert_eq!(probes.load(Ordering::Relaxed), 0, "no probe was sent");
    let (code, records, stderr) = volley(&pair, &format!("{arguments} --force --mode sendmmsg"));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{records:#?}");
    let (start, summary) = accounted(&records);
    assert_eq!(
        (&start["volley_limit"], &start["forced"], &start["path"]),
        (&Value::Null, &true.into(), &"unicast".into())
    );
    assert!((1..=160).contains(&count(summary, "received")), "{summary:#}");
    is_clean(&pair);
    stop.store(true, Ordering::Relaxed);
    reflector.join().unwrap();
}

#[test]
fn replies_with_a_residence_longer_than_the_round_trip_are_counted_without_delays() {
    let Some(pair) = Pair::new() else { return };
    let stop = Arc::default();
    let reflector = plain_reflector(&pair, 3_600_000_000_000, Arc::clone(&stop), Arc::default());
    let arguments = format!("--peer {FAR_V4} -p 862 --rate 500 --duration 300ms --force --mode sendmmsg");
    let (code, records, stderr) = volley(&pair, &arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{records:#?}");
    let (_, summary) = accounted(&records);
    let implausible = count(summary, "implausible");
    assert!(
        implausible > 0 && implausible == count(summary, "received"),
        "{summary:#}"
    );
    assert!(
        summary["rtt_ns"].is_null() && summary["residence_ns"].is_null(),
        "{summary:#}"
    );
    let rows: u64 = records[1..records.len() - 1]
        .iter()
        .map(|row| count(row, "implausible"))
        .sum();
    assert_eq!(rows, implausible, "{records:#?}");
    let text = pair
        .output(&pair.near, &format!("volley --iface port1 {arguments}"))
        .stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(" implausible, without delays\n"), "{text}");
    stop.store(true, Ordering::Relaxed);
    reflector.join().unwrap();
}

#[test]
fn a_signal_ends_a_volley_in_its_summary() {
    let Some(pair) = Pair::new() else { return };
    // Replies by native XDP reach only an end that polls, which a veth does for native XDP.
    for (signal, mode, peer, attach) in [
        (Signal::SIGINT, "volley", FAR_V4, "xdp-native"),
        (Signal::SIGTERM, "train", FAR_V6, "xdp-native"),
        (Signal::SIGINT, "sendmmsg", FAR_V6, "tc"),
    ] {
        let _far = pair.started(&pair.far, &format!("agent --iface port2 --attach {attach}"));
        let arguments =
            format!("volley --iface port1 --peer {peer} --mode {mode} --rate 2000 --duration 1h --every 50ms");
        let near = pair.start(&pair.near, &arguments);
        near.await_record(2, "rows", |record| record["type"] == "row");
        near.signal(signal);
        let (status, records, stderr) = near.wait();
        assert!(status.success() && stderr.is_empty(), "{mode}: {stderr}");
        let (start, summary) = accounted(&records);
        assert_eq!(
            (&start["mode"], &start["balls"].is_null()),
            (&mode.into(), &(mode != "volley"))
        );
        assert!(count(summary, "received") > 0, "{summary:#}");
        assert_eq!(count(summary, "lost"), 0, "{summary:#}");
        is_clean(&pair);
    }
}

#[test]
fn nothing_is_left_of_a_killed_volley() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("--attach xdp-native");
    let near = pair.start(
        &pair.near,
        &format!("volley --iface port1 --peer {FAR_V4} --duration 1h --every 50ms"),
    );
    near.await_type("row");
    near.signal(Signal::SIGKILL);
    near.wait();
    is_clean(&pair);
}
