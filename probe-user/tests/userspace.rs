//! The userspace reflector, behind the kernel programs and without them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::tlv::{self, AccessReport, ClassOfService, Location, Tlv, Writer, flag, kind};
use probe_common::{authenticated, stamp};
use probe_core::auth::{Key, TlvIntegrity};
use serde_json::Value;
use support::{FAR_V4, NEAR_V4, Pair, count, counters, in_namespace, ip, key_file, summary};

const SECRET: &[u8] = b"a shared secret!";
const FAR_V6: &str = "fd01::6";

/// Sends each packet from the near end to the far test port; returns the replies within a second.
fn ask(pair: &Pair, to: &str, packets: Vec<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    let namespace = pair.near.clone();
    let to = to.to_owned();
    std::thread::spawn(move || {
        in_namespace(&namespace);
        let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect((to.as_str(), 1910)).unwrap();
        let exchange = |packet: &Vec<u8>| {
            socket.send(packet).unwrap();
            let mut reply = [0; 2000];
            let length = socket.recv(&mut reply).ok()?;
            Some(reply[..length].to_vec())
        };
        packets.iter().map(exchange).collect()
    })
    .join()
    .unwrap()
}

fn probe(sequence: u32) -> Vec<u8> {
    let mut packet = stamp::probe(sequence, ErrorEstimate(1), 7).to_vec();
    packet[stamp::TIMESTAMP..][..8].copy_from_slice(&[0x11; 8]);
    packet
}

fn with_tlvs(mut base: Vec<u8>, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut room = [0; 300];
    let mut writer = Writer::new(&mut room);
    for (kind, value) in tlvs {
        writer.push(*kind, value).unwrap();
    }
    base.extend(writer.written());
    base
}

fn tlvs(packet: &[u8], base_len: usize) -> Vec<Tlv<'_>> {
    tlv::read(&packet[base_len..]).map(Result::unwrap).collect()
}

/// Holds for both engines.
fn answers_tlvs_and_twamp_light(pair: &Pair, to: &str) {
    let wanted = ClassOfService {
        dscp_wanted: 46,
        ..ClassOfService::default()
    };
    let report = AccessReport {
        access_id: 1,
        return_code: 1,
    };
    let full = with_tlvs(
        probe(5),
        &[
            (kind::CLASS_OF_SERVICE, &wanted.to_bytes()),
            (kind::LOCATION, &Location::question()),
            (kind::TIMESTAMP_INFORMATION, &[0; 4]),
            (kind::DIRECT_MEASUREMENT, &[0; 12]),
            (kind::ACCESS_REPORT, &report.to_bytes()),
            (kind::FOLLOW_UP_TELEMETRY, &[0; 16]),
            (200, &[1, 2, 3]),
        ],
    );
    let malformed = with_tlvs(probe(6), &[(kind::CLASS_OF_SERVICE, &[0; 3])]);
    let short = probe(7)[..14].to_vec();
    let replies = ask(pair, to, vec![full.clone(), malformed.clone(), short, full.clone()]);

    let reply = replies[0].as_ref().expect("an answer to TLVs");
    assert_eq!(reply.len(), full.len());
    assert_eq!(reply[stamp::SENDER_SEQUENCE..][..4], [0, 0, 0, 5]);
    assert_eq!(reply[stamp::SENDER_TIMESTAMP..][..8], [0x11; 8]);
    assert_eq!(reply[stamp::SSID..][..2], [0, 7]);
    assert_eq!(reply[stamp::SENDER_TTL], 64, "as it arrived");
    let quad = |at: usize| u64::from_be_bytes(reply[at..][..8].try_into().unwrap());
    let (t2, t3) = (quad(stamp::RECEIVE_TIMESTAMP), quad(stamp::TIMESTAMP));
    assert!(
        t2 < t3 && t3 - t2 < 1 << 32,
        "stamped on arrival, answered within a second"
    );
    let found = tlvs(reply, 44);
    let flags: Vec<u8> = found.iter().map(|tlv| tlv.flags).collect();
    assert_eq!(flags, [0, 0, 0, 0, 0, 0, flag::UNRECOGNISED]);
    let location = Location::read(found[1].value).unwrap();
    assert_eq!(location.destination_port, 1910);
    let near = if to == FAR_V4 { NEAR_V4 } else { "fd01::5" };
    let ends: Vec<_> = location.subs().collect();
    let expected = [
        tlv::LocationSub::Source(near.parse().unwrap()),
        tlv::LocationSub::Destination(to.parse().unwrap()),
    ];
    assert_eq!(ends, expected);

    let reply = replies[1].as_ref().expect("an answer to a malformed TLV");
    assert_eq!(reply.len(), malformed.len());
    assert!(tlvs(reply, 44)[0].has(flag::MALFORMED));

    let reply = replies[2].as_ref().expect("an answer to TWAMP-Light");
    assert_eq!((reply.len(), &reply[24..28]), (44, &[0, 0, 0, 7][..]));

    // veth stamps what it sends, so that the reflector knows when the previous reply left.
    let reply = replies[3].as_ref().expect("a second answer to TLVs");
    let counted = tlv::DirectMeasurement::read(tlvs(reply, 44)[3].value).unwrap();
    assert!(
        counted.reflector_received >= 2 && counted.reflector_sent >= 2,
        "{counted:?}"
    );
}

#[test]
fn packets_that_the_programs_pass_up_are_answered() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("");
    for to in [FAR_V4, FAR_V6] {
        answers_tlvs_and_twamp_light(&pair, to);
    }
    let base = ask(&pair, FAR_V4, vec![probe(9)]);
    assert_eq!(base[0].as_ref().map(Vec::len), Some(44));
    let (status, records, stderr) = far.stop();
    assert!(status.success(), "{stderr}");
    let counters = counters(&records);
    assert_eq!(count(counters, "user_reflected"), 8, "{counters:#}");
    assert_eq!(
        count(counters, "reflected"),
        1,
        "base packets in the kernel: {counters:#}"
    );
    assert_eq!(count(counters, "user_tlv_malformed"), 2);
    assert_eq!(count(counters, "user_tlv_unrecognised"), 4);
}

#[test]
fn sockets_answer_the_same_without_programs() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--engine socket");
    for to in [FAR_V4, FAR_V6] {
        answers_tlvs_and_twamp_light(&pair, to);
    }
    let numbers: Vec<_> = ask(&pair, FAR_V4, vec![probe(40), probe(50)])
        .iter()
        .map(|reply| reply.as_ref().unwrap()[..4].to_vec())
        .collect();
    assert_eq!(numbers, [[0, 0, 0, 0], [0, 0, 0, 1]], "the session's own counter");
    let (status, records, stderr) = far.stop();
    assert!(status.success(), "{stderr}");
    let start = &records[0];
    assert_eq!(start["engine"], "socket", "{start:#}");
    assert_eq!(start["attach"]["receive"], "socket");
    assert_eq!(count(counters(&records), "user_reflected"), 10);
}

#[test]
fn a_stateless_reflector_counts_nothing() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("--engine socket --stateless");
    for reply in ask(&pair, FAR_V4, vec![probe(40), probe(50)]) {
        let reply = reply.unwrap();
        assert_eq!(reply[..4], reply[24..28]);
    }
}

#[test]
fn replies_and_packets_to_other_addresses_are_not_answered() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--engine socket");
    let reply = ask(&pair, FAR_V4, vec![probe(1)])[0].clone().unwrap();
    let mut longer = reply.clone();
    longer.extend([0; 9]);
    assert_eq!(ask(&pair, FAR_V4, vec![reply, longer]), [None, None]);
    let (_, records, _) = far.stop();
    assert_eq!(count(counters(&records), "user_reply_shaped"), 2);
}

#[test]
fn sources_outside_the_prefixes_are_not_answered_unless_allowed() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.near, "address add 10.9.9.9/32 dev port1");
    ip(&pair.near, "route change 10.1.1.0/24 dev port1 src 10.9.9.9");
    ip(&pair.far, "route add 10.9.9.9/32 dev port2");
    for (more, answered) in [("", false), ("--allow 10.9.9.0/24", true)] {
        let far = pair.reflector(&format!("--engine socket {more}"));
        assert_eq!(ask(&pair, FAR_V4, vec![probe(1)])[0].is_some(), answered);
        let (_, records, _) = far.stop();
        assert_eq!(count(counters(&records), "user_not_allowed"), u64::from(!answered));
    }
}

#[test]
fn a_socket_agent_outlives_its_interface() {
    let Some(pair) = Pair::new() else { return };
    let arguments = "agent --iface port1 --engine socket --interval 10ms --timeout 100ms --report 500ms";
    let near = pair.started(&pair.near, arguments);
    ip(&pair.near, "link delete port1");
    near.await_record(1, "deleted", |record| {
        record["type"] == "interface" && record["event"] == "deleted"
    });
    pair.connect();
    near.await_record(1, "back", |record| {
        record["type"] == "interface" && record["event"] == "back"
    });
    let _far = pair.reflector("--engine socket");
    near.await_record(1, "measured again", |record| {
        record["type"] == "window" && record["peer"] == FAR_V4 && record["received"].as_u64() > Some(0)
    });
    let (status, _, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
}

fn signed(sequence: u32, key: &Key, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let base = authenticated::probe(sequence, NtpTime(0x11), ErrorEstimate(1), 7).to_vec();
    let mut packet = with_tlvs(base, tlvs);
    key.sign(&mut packet);
    key.sign_tlvs(&mut packet, authenticated::BASE_LEN);
    packet
}

#[test]
fn in_authenticated_mode_only_signed_packets_are_answered() {
    let Some(pair) = Pair::new() else { return };
    let (_directory, path) = key_file(SECRET);
    let far = pair.reflector(&format!("--key-file {}", path.display()));
    let key = Key::new(SECRET);
    let padding: (u8, &[u8]) = (kind::EXTRA_PADDING, &[1; 5]);
    let good = signed(
        5,
        &key,
        &[(kind::DIRECT_MEASUREMENT, &[0; 12]), (kind::HMAC, &[0; 16]), padding],
    );
    let bad = signed(5, &Key::new(b"another secret !"), &[]);
    let replies = ask(
        &pair,
        FAR_V4,
        vec![good.clone(), bad, probe(5), probe(5)[..14].to_vec()],
    );
    let reply = replies[0].as_ref().expect("an answer");
    assert_eq!(reply.len(), good.len());
    assert!(key.is_signed(reply));
    assert_eq!(
        key.check_tlvs(reply, authenticated::BASE_LEN, true),
        TlvIntegrity::Intact
    );
    assert_eq!(reply[authenticated::SENDER_SEQUENCE..][..4], [0, 0, 0, 5]);
    assert_eq!(replies[1..], [None, None, None]);
    let (_, records, _) = far.stop();
    assert_eq!(records[0]["authenticated"], true);
    let counters = counters(&records);
    assert_eq!(count(counters, "user_reflected"), 1);
    assert_eq!(count(counters, "user_hmac_wrong"), 1);
    assert_eq!(count(counters, "user_hmac_missing"), 2);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let (_directory, path) = key_file(SECRET);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = |arguments: &str| {
        let line = format!("{} reflect --iface port2 {arguments}", support::KSTAMP);
        let output = support::command(&line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let line = refused(&format!("--key-file {}", path.display()));
    assert!(line.contains("chmod 600") && line.lines().count() == 1, "{line}");
    for arguments in ["--stateless --report=5s", "--engine=socket --attach=tc"] {
        let line = refused(arguments);
        assert!(line.contains("--engine socket") && line.lines().count() == 1, "{line}");
    }
}

const PROBING: &str = "--interval 10ms --count 100";

/// Runs an agent at the near end that probes both addresses of the far end and the groups.
fn agent(pair: &Pair, more: &str) -> Vec<Value> {
    let arguments = format!("agent --iface port1 --peer {FAR_V4} --peer {FAR_V6} {PROBING} {more}");
    let (status, records, stderr) = pair.start(&pair.near, &arguments).wait();
    assert!(status.success(), "{stderr}");
    records
}

fn nothing_was_lost(records: &[Value], peer: &str, path: &str) -> Value {
    let summary = summary(records, peer, path);
    assert_eq!(
        (
            count(summary, "sent"),
            count(summary, "received"),
            count(summary, "lost")
        ),
        (100, 100, 0),
        "{summary:#}"
    );
    for field in ["duplicates", "late", "send_failed", "collector_lost", "pending"] {
        assert_eq!(count(summary, field), 0, "{field}: {summary:#}");
    }
    let p50_ns = summary["rtt_ns"]["p50"].as_u64().unwrap();
    assert!((1..100_000_000).contains(&p50_ns), "{summary:#}");
    summary.clone()
}

/// The records of both ends; `None` without permission.
fn run_against(far: &str, near: &str) -> Option<(Vec<Value>, Vec<Value>)> {
    let pair = Pair::new()?;
    let running = pair.started(&pair.far, &format!("agent --iface port2 --interval 10ms {far}"));
    let near = agent(&pair, near);
    let (status, far, stderr) = running.stop();
    assert!(status.success(), "{stderr}");
    Some((near, far))
}

#[test]
fn a_socket_agent_measures_a_socket_agent() {
    let Some((near, far)) = run_against("--engine socket", "--engine socket") else {
        return;
    };
    for peer in [FAR_V4, FAR_V6] {
        for path in ["unicast", "group"] {
            let summary = nothing_was_lost(&near, peer, path);
            assert_eq!(
                (&summary["engine"], &summary["attach"]["receive"]),
                (&"socket".into(), &"socket".into())
            );
            assert_eq!(summary["peer_attach"], "socket");
            assert_eq!(summary["clock"], "same-clock");
        }
    }
    assert!(
        count(summary(&far, NEAR_V4, "unicast"), "received") > 0,
        "and the other way round"
    );
    let counters = counters(&near);
    assert_eq!(
        count(counters, "socket_sent"),
        count(counters, "socket_stamped"),
        "veth stamps what it sends: {counters:#}"
    );
}

#[test]
fn a_socket_agent_and_an_agent_with_programs_measure_each_other() {
    let Some((near, far)) = run_against("", "--engine socket") else {
        return;
    };
    for peer in [FAR_V4, FAR_V6] {
        let summary = nothing_was_lost(&near, peer, "unicast");
        assert!(summary["peer_attach"].as_str().unwrap() != "socket");
        nothing_was_lost(&near, peer, "group");
    }
    let summary = summary(&far, NEAR_V4, "unicast");
    assert_eq!(
        (&summary["engine"], &summary["peer_attach"]),
        (&"ebpf".into(), &"socket".into())
    );
    assert!(count(summary, "received") > 0);

    let (near, _) = run_against("--engine socket", "").unwrap();
    for peer in [FAR_V4, FAR_V6] {
        nothing_was_lost(&near, peer, "unicast");
        nothing_was_lost(&near, peer, "group");
    }
}

#[test]
fn authenticated_agents_measure_only_each_other() {
    let (_directory, path) = key_file(SECRET);
    let key = format!("--key-file {}", path.display());
    let Some((near, _)) = run_against(&key, &key) else {
        return;
    };
    assert_eq!(
        (&near[0]["authenticated"], &near[0]["engine"]),
        (&true.into(), &"socket".into())
    );
    for peer in [FAR_V4, FAR_V6] {
        let summary = nothing_was_lost(&near, peer, "unicast");
        assert_eq!(summary["engine"], "socket");
    }

    let (other_directory, other) = key_file(b"another secret !");
    let near = format!("--key-file {} --timeout 200ms", other.display());
    let (near, far) = run_against(&key, &near).unwrap();
    drop(other_directory);
    let summary = summary(&near, FAR_V4, "unicast");
    assert_eq!(
        (count(summary, "sent"), count(summary, "received")),
        (100, 0),
        "{summary:#}"
    );
    assert!(count(counters(&far), "user_hmac_wrong") >= 200, "{:#}", counters(&far));
}

#[test]
fn without_privileges_the_error_names_sockets_which_work() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    let unprivileged = |more: &str| {
        let setpriv = "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all";
        let agent = format!("agent --iface port1 --peer {FAR_V4} --format jsonl {PROBING} {more}");
        let line = format!("ip netns exec {} {setpriv} {} {agent}", pair.near, support::KSTAMP);
        support::command(&line).output().unwrap()
    };
    let refused = unprivileged("");
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{line}");
    assert!(line.contains("--engine socket") && line.lines().count() == 1, "{line}");

    let output = unprivileged("--engine socket");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    nothing_was_lost(&records, FAR_V4, "unicast");
}
