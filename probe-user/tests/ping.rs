//! `kstamp ping` against kstamp's own reflectors, between namespaces.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use serde_json::Value;
use support::{FAR_V4, Pair, count, key_file};

const FAR_V6: &str = "fd01::6";

/// Exit code, records, and standard error.
fn ping(pair: &Pair, arguments: &str) -> (Option<i32>, Vec<Value>, String) {
    pair.ping(&format!("-p 1910 -i 50ms {arguments}"))
}

/// Asserts that every probe was answered; returns start, samples and summary.
fn all_came_back(records: &[Value], sent: u64) -> (&Value, &[Value], &Value) {
    let [start, samples @ .., summary] = records else {
        panic!("{records:#?}")
    };
    assert_eq!((&start["type"], &summary["type"]), (&"start".into(), &"summary".into()));
    let counts = ["sent", "received", "lost", "duplicates", "send_failed"].map(|field| count(summary, field));
    assert_eq!(counts, [sent, sent, 0, 0, 0], "{records:#?}");
    let seqs: Vec<u64> = samples.iter().map(|sample| sample["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..sent).collect::<Vec<_>>());
    for sample in samples {
        let rtt_ns = sample["rtt_ns"].as_u64().expect("a round trip");
        // A loaded machine delays replies of a socket, not its timestamps.
        assert!(rtt_ns < 1_000_000_000, "{sample:#}");
    }
    (start, samples, summary)
}

#[test]
fn base_and_padded_probes_have_kernel_stamps_and_others_socket_stamps() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    for (arguments, engine, size) in [
        ("", "ebpf", 44),
        ("--size 1400", "ebpf", 1400),
        ("--ssid 0", "ebpf", 44),
        ("--engine socket", "socket", 44),
        ("--engine socket --size 9000", "socket", 9000),
        ("--tlv direct", "socket", 60),
    ] {
        for to in [FAR_V4, FAR_V6] {
            let (code, records, stderr) = ping(&pair, &format!("{to} -c 5 {arguments}"));
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments}: {records:#?}");
            let (start, samples, summary) = all_came_back(&records, 5);
            assert_eq!(
                (&start["engine"], &start["size"]),
                (&engine.into(), &size.into()),
                "{start:#}"
            );
            assert_eq!(summary["engine"], engine);
            if engine == "socket" {
                assert_eq!(samples[0]["reply"]["length"], size);
                assert_eq!(samples[0]["reply"]["ttl"], 255);
            }
        }
    }
}

#[test]
fn tlvs_come_back_with_their_flags() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    let (code, records, stderr) = ping(
        &pair,
        &format!("{FAR_V4} -c 2 --dscp 10 --tlv cos=46 --tlv location --tlv follow-up --tlv 200:0102"),
    );
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (_, samples, _) = all_came_back(&records, 2);
    let reply = &samples[1]["reply"];
    let tlvs = reply["tlvs"].as_array().unwrap();
    let returned: Vec<_> = tlvs
        .iter()
        .map(|tlv| (tlv["name"].as_str().unwrap(), tlv["flags"].as_str().unwrap()))
        .collect();
    assert_eq!(
        returned,
        [("cos", "-"), ("location", "-"), ("follow-up", "-"), ("unknown", "U")]
    );
    assert!(tlvs[0]["says"].as_str().unwrap().contains("DSCP 10"), "{reply:#}");
    assert!(
        tlvs[1]["says"].as_str().unwrap().contains("from 10.1.1.5, to 10.1.1.6"),
        "{reply:#}"
    );
    assert!(tlvs[2]["says"].as_str().unwrap().contains("reply 0 left"), "{reply:#}");
    assert_eq!(reply["dscp"], 46, "as requested");
}

#[test]
fn only_authenticated_replies_are_accepted() {
    let Some(pair) = Pair::new() else { return };
    let keys = [b"a shared secret!", b"another secret !"].map(|secret| key_file(secret));
    let [good, bad] = keys.each_ref().map(|(_, path)| path.to_str().unwrap());
    let far = pair.reflector(&format!("--key-file {good}"));
    let (code, records, stderr) = ping(&pair, &format!("{FAR_V6} -c 3 --key-file {good} --tlv direct"));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (start, samples, _) = all_came_back(&records, 3);
    assert_eq!(
        (&start["authenticated"], &start["engine"]),
        (&true.into(), &"socket".into())
    );
    assert_eq!(samples[0]["reply"]["tlvs"][1]["name"], "hmac");
    assert_eq!(samples[0]["reply"]["tlvs_forged"], false);
    let (code, _, stderr) = ping(&pair, &format!("{FAR_V6} -c 2 -W 200ms --key-file {bad}"));
    assert_eq!(code, Some(1), "{stderr}");
    drop(far);
    // A reflector without a key ignores packets of authenticated mode or answers them unsigned.
    let _far = pair.reflector("--engine socket");
    let (code, records, _) = ping(&pair, &format!("{FAR_V6} -c 2 -W 200ms --key-file {good}"));
    assert_eq!(code, Some(1), "{records:#?}");
}

#[test]
fn the_exit_code_is_1_without_a_reply() {
    let Some(pair) = Pair::new() else { return };
    for engine in ["ebpf", "socket"] {
        let (code, records, stderr) = ping(&pair, &format!("{FAR_V4} -c 2 -W 100ms --engine {engine}"));
        assert_eq!(code, Some(1), "{records:#?}");
        assert!(
            stderr.contains("no process listens") && stderr.lines().count() == 1,
            "{stderr}"
        );
        let summary = records.last().unwrap();
        assert_eq!((count(summary, "sent"), count(summary, "lost")), (2, 2), "{summary:#}");
    }
    for (arguments, code) in [("10.1.1.6 -c 0", 2), ("192.0.2.1", 1), ("239.255.255.250", 1)] {
        let (got, _, stderr) = ping(&pair, arguments);
        assert_eq!(got, Some(code), "{arguments}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
