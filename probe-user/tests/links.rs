//! Probes that do not leave: what is said of them, and that they are no losses of the network.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{FAR_V4, KSTAMP, Pair, count, ip, run, summary};

const FAR_V6: &str = "fd01::6";
const ENGINES: [&str; 2] = ["ebpf", "socket"];

fn failed_by(record: &Value, reason: &str) -> u64 {
    record["send_failed_by"][reason].as_u64().unwrap_or(0)
}

#[test]
fn a_probe_that_did_not_leave_is_shown_with_its_reason() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let _far = pair.reflector("");
    let peers = [
        (FAR_V4, None),
        (FAR_V6, None),
        ("10.1.1.99", Some("no-neighbour")),
        ("fd01::99", Some("no-neighbour")),
        ("192.0.2.9", Some("no-route")),
        ("2001:db8::9", Some("no-route")),
    ];
    for engine in ENGINES {
        let samples = directory.path().join(engine);
        let named: String = peers.map(|(peer, _)| format!(" --peer {peer}")).concat();
        let (status, records, stderr) = pair
            .start(
                &pair.near,
                &format!(
                    "agent --iface port1 --engine {engine} --interval 50ms --timeout 300ms --report 1s --count 20 \
                     --samples {}{named}",
                    samples.display()
                ),
            )
            .wait();
        assert!(status.success(), "{stderr}");
        let samples = fs::read_to_string(samples).unwrap();
        let samples: Vec<Value> = samples
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (peer, reason) in peers {
            let summary = summary(&records, peer, "unicast");
            let lines = stderr
                .lines()
                .filter(|line| line.contains(&format!("probes to {peer} ")))
                .count();
            let failed = samples
                .iter()
                .filter(|sample| sample["peer"] == peer && sample["state"] == "failed");
            let failed: Vec<&Value> = failed.map(|sample| &sample["reason"]).collect();
            let Some(reason) = reason else {
                assert_eq!(
                    (count(summary, "unanswered"), lines, failed.len()),
                    (0, 0, 0),
                    "{summary:#}\n{stderr}"
                );
                continue;
            };
            let counts = ["sent", "lost", "send_failed", "unanswered"].map(|field| count(summary, field));
            assert_eq!(counts, [0, 0, 20, 20], "{engine} {peer}: {summary:#}");
            assert_eq!(failed_by(summary, reason), 20, "{engine} {peer}: {summary:#}");
            assert_eq!(lines, 1, "{engine} {peer}: {stderr}");
            assert!(
                failed.len() == 20 && failed.iter().all(|got| *got == reason),
                "{engine} {peer}: {failed:?}"
            );
        }
        let windows = records.iter().filter(|record| record["type"] == "window");
        let dead: u64 = windows
            .filter(|window| window["peer"] == "10.1.1.99")
            .map(|window| count(window, "unanswered"))
            .sum();
        assert_eq!(dead, 20, "the windows say so too: {records:#?}");
    }
}

#[test]
fn a_firewall_that_forbids_a_probe_is_its_reason() {
    let Some(pair) = Pair::new() else { return };
    let rules = [
        "add table inet t",
        "add chain inet t out { type filter hook output priority 0 ; }",
        "add rule inet t out udp dport 1910 drop",
    ];
    let nft = |rule: &str| support::command(&format!("ip netns exec {} nft {rule}", pair.near)).output();
    if !rules
        .iter()
        .all(|rule| nft(rule).is_ok_and(|output| output.status.success()))
    {
        println!("SKIPPED: needs nft and nf_tables");
        return;
    }
    for engine in ENGINES {
        for peer in [FAR_V4, FAR_V6] {
            let output = pair.output(
                &pair.near,
                &format!("ping {peer} -p 1910 -c 2 -i 50ms -W 100ms --engine {engine}"),
            );
            let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
            assert!(
                stderr.contains("forbidden") && stderr.lines().count() == 1,
                "{engine} {peer}: {stderr}"
            );
            assert!(
                stdout.contains("could not send seq=1: forbidden"),
                "{engine} {peer}: {stdout}"
            );
            assert!(stdout.contains("2 could not be sent"), "{engine} {peer}: {stdout}");
        }
    }
}

#[test]
fn doctor_warns_of_firewall_rules_for_the_port() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let nft = directory.path().join("nft");
    fs::write(
        &nft,
        "#!/bin/sh\necho 'udp dport { 862, 1910 } drop'; echo 'udp dport 53 accept'\n",
    )
    .unwrap();
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let line = format!("ip netns exec {} {KSTAMP} doctor --iface port1", pair.near);
    let output = support::command(&line).env("PATH", path).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let warnings: Vec<_> = stdout.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("`udp dport { 862, 1910 } drop`"),
        "{stdout}"
    );
}

#[test]
fn doctor_says_what_hop_stamps_can_be_taken_of() {
    let Some(pair) = Pair::new() else { return };
    // Process 1 is in the namespace that doctor is in.
    let line = format!("ip netns exec {} unshare -pf --mount-proc {KSTAMP} doctor", pair.near);
    let stdout = run(&line);
    assert!(
        stdout.contains("\nok: --hops may observe 1 device of this host: port1\n"),
        "{stdout}"
    );
}

#[test]
fn seconds_without_carrier_or_without_the_process_are_no_losses() {
    let Some(pair) = Pair::new() else { return };
    run(&format!(
        "ip netns exec {} sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1",
        pair.far
    ));
    let _far = pair.reflector("");
    for engine in ENGINES {
        let near = pair.started(
            &pair.near,
            &format!(
                "agent --iface port1 --engine {engine} --interval 20ms --timeout 200ms --report 500ms \
                 --peer {FAR_V4} --peer {FAR_V6}"
            ),
        );
        let answered = |path: &'static str, peer: &'static str| {
            move |record: &Value| {
                record["type"] == "window"
                    && record["path"] == path
                    && record["peer"] == peer
                    && count(record, "received") > 0
            }
        };
        let all_answer = |again: &str| {
            let seen = near.records().len();
            for (path, peer) in [("unicast", FAR_V4), ("unicast", FAR_V6), ("group", FAR_V4)] {
                let before = near.records()[..seen]
                    .iter()
                    .filter(|record| answered(path, peer)(record))
                    .count();
                near.await_record(before + 1, again, answered(path, peer));
            }
        };
        let event =
            |event: &'static str| move |record: &Value| record["type"] == "interface" && record["event"] == event;
        all_answer("results");
        ip(&pair.far, "link set port2 down");
        near.await_record(1, "loss of the carrier", event("down"));
        let dark = |record: &Value| record["type"] == "window" && failed_by(record, "no-carrier") > 10;
        // Of several sessions: those of the second window had no carrier from start to end.
        near.await_record(9, "windows without carrier", dark);
        ip(&pair.far, "link set port2 up");
        near.await_record(1, "the carrier", event("up"));
        all_answer("results with carrier");

        near.signal(Signal::SIGSTOP);
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        near.signal(Signal::SIGCONT);
        let told = |record: &Value| record["type"] == "window" && count(record, "not_sent") >= 40;
        near.await_record(1, "a window with probes that were not sent", told);
        all_answer("results after the stop");

        let (status, records, stderr) = near.stop();
        assert!(status.success(), "{stderr}");
        let marked = |record: &&Value| dark(record) && count(record, "interface_down_ns") > 0;
        assert!(records.iter().filter(marked).count() >= 3, "{records:#?}");
        let all_dark: Vec<_> = records
            .iter()
            .filter(|record| dark(record) && count(record, "interface_down_ns") >= 490_000_000)
            .collect();
        assert!(
            !all_dark.is_empty() && all_dark.iter().all(|record| count(record, "lost") == 0),
            "{records:#?}"
        );
        for (path, peer) in [("unicast", FAR_V4), ("unicast", FAR_V6), ("group", FAR_V4)] {
            let summary = summary(&records, peer, path);
            let context = format!("{engine} {peer} {path}: {summary:#}\n{stderr}");
            // The far end drops some before it takes the carrier away, which is a loss.
            assert!(count(summary, "lost") < failed_by(summary, "no-carrier"), "{context}");
            assert!(
                count(summary, "interface_down_ns") > 0 && count(summary, "not_sent") >= 40,
                "{context}"
            );
            assert_eq!(
                count(summary, "unanswered"),
                count(summary, "lost") + count(summary, "send_failed"),
                "{context}"
            );
        }
    }
}

#[test]
fn a_hundred_dead_peers_leave_room_for_one_that_lives() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("");
    let dead: String = (100..200).map(|host| format!(" --peer 10.1.1.{host}")).collect();
    let near = pair.start(
        &pair.near,
        &format!("agent --iface port1 --no-group --interval 100ms --timeout 500ms --count 30 --peer {FAR_V4}{dead}"),
    );
    let (_, records, _) = near.wait();
    let live = summary(&records, FAR_V4, "unicast");
    assert_eq!((count(live, "send_failed"), count(live, "lost")), (0, 0), "{live}");
    assert_eq!(count(live, "received"), 30, "{live}");
    far.stop();
}
