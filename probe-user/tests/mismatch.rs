//! Replies that are not as they should be: counted by reason and hinted at, by both engines; and HMACs of TLVs alone.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, ReplyFields};
use serde_json::Value;
use support::{Pair, count, counters, in_namespace, ip, key_file};

const FAR: [&str; 2] = ["10.1.1.6", "fd01::6"];
/// A second address of the far host.
const OTHER: [&str; 2] = ["10.1.1.7", "fd01::7"];

/// How a reflector misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Address,
    Port,
    Echo,
    Length,
    Session,
    Timestamp,
    NoStamps,
    NoTransmitStamp,
    Ptp,
}

/// Answers what comes to a port of `far`, until the test ends. Returns the port.
fn misbehave(pair: &Pair, far: usize, fault: Fault) -> u16 {
    let namespace = pair.far.clone();
    let (opened, port) = mpsc::channel();
    std::thread::spawn(move || {
        in_namespace(&namespace);
        let bind = |address: &str, port| UdpSocket::bind((address.parse::<IpAddr>().unwrap(), port)).unwrap();
        let socket = bind(FAR[far], 0);
        let port = socket.local_addr().unwrap().port();
        let answering = match fault {
            Fault::Address => bind(OTHER[far], port),
            Fault::Port => bind(FAR[far], 0),
            _ => socket.try_clone().unwrap(),
        };
        // Long enough for the test, and bounded.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        opened.send(port).unwrap();
        let mut packet = [0; 44];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            answer(fault, &mut packet[..length], from, &answering);
        }
    });
    port.recv().unwrap()
}

fn answer(fault: Fault, packet: &mut [u8], from: SocketAddr, socket: &UdpSocket) {
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let wire = |ns: u64| match fault {
        Fault::Ptp => NtpTime((ns / 1_000_000_000) << 32 | (ns % 1_000_000_000)),
        Fault::NoStamps => NtpTime(0),
        _ => NtpTime::from_unix_ns(ns),
    };
    let transmit = match fault {
        Fault::NoTransmitStamp => NtpTime(0),
        _ => wire(now_ns + 1_000),
    };
    if fault != Fault::Echo {
        let fields = ReplyFields {
            sequence: 0,
            transmit,
            error: ErrorEstimate(1),
            receive: wire(now_ns),
            ttl: 64,
        };
        stamp::into_reply(packet, &fields);
    }
    let length = match fault {
        Fault::Length => 20,
        Fault::Session => {
            packet[stamp::SSID] ^= 0x55;
            44
        }
        Fault::Timestamp => {
            packet[stamp::SENDER_TIMESTAMP] ^= 0x55;
            44
        }
        _ => 44,
    };
    socket.send_to(&packet[..length], from).unwrap();
}

fn pair() -> Option<Pair> {
    let pair = Pair::new()?;
    ip(&pair.far, &format!("address add {}/24 dev port2", OTHER[0]));
    ip(&pair.far, &format!("address add {}/64 dev port2 nodad", OTHER[1]));
    Some(pair)
}

/// Exit code, records, and standard error.
fn ping(pair: &Pair, arguments: &str) -> (Option<i32>, Vec<Value>, String) {
    pair.ping(&format!("-i 20ms -W 200ms {arguments}"))
}

#[test]
fn ping_names_the_reason_of_packets_that_answer_no_probe() {
    let Some(pair) = pair() else { return };
    for (far, fault, hint) in [
        (0, Fault::Address, "2 replies came from 10.1.1.7, which was not probed"),
        (1, Fault::Address, "2 replies came from fd01::7, which was not probed"),
        (0, Fault::Port, "2 replies came from port "),
        (1, Fault::Port, "2 replies came from port "),
        (0, Fault::Echo, "2 probes came back unchanged from 10.1.1.6"),
        (0, Fault::Length, "2 packets from 10.1.1.6 were too short for a reply"),
        (
            0,
            Fault::Session,
            "2 replies from 10.1.1.6 had another session identifier",
        ),
        (
            1,
            Fault::Timestamp,
            "2 replies from fd01::6 returned another timestamp (T1)",
        ),
    ] {
        let port = misbehave(&pair, far, fault);
        for engine in ["ebpf", "socket"] {
            let arguments = format!("{} -p {port} -c 2 --engine {engine}", FAR[far]);
            let (code, records, stderr) = ping(&pair, &arguments);
            assert_eq!(code, Some(1), "{engine}: {records:#?}");
            assert!(
                stderr.contains(hint) && stderr.lines().count() == 1,
                "{engine}: {stderr}"
            );
        }
    }
}

#[test]
fn missing_stamps_are_null_and_ptp_without_z_is_read_as_ptp() {
    let Some(pair) = pair() else { return };
    for (far, fault) in [
        (0, Fault::NoStamps),
        (1, Fault::NoTransmitStamp),
        (0, Fault::Ptp),
        (1, Fault::Ptp),
    ] {
        let port = misbehave(&pair, far, fault);
        for engine in ["ebpf", "socket"] {
            let arguments = format!("{} -p {port} -c 3 --engine {engine}", FAR[far]);
            let (code, records, stderr) = ping(&pair, &arguments);
            assert_eq!(code, Some(0), "{engine}: {stderr}");
            let summary = records.last().unwrap();
            assert_eq!(count(summary, "received"), 3, "{summary:#}");
            assert_eq!(summary["rtt_ns"]["count"], 3, "{summary:#}");
            if fault == Fault::Ptp {
                assert_eq!(summary["residence_ns"]["max"], 1_000, "{summary:#}");
                assert!(stderr.contains("flag Z") && stderr.lines().count() == 1, "{stderr}");
            } else {
                for field in ["residence_ns", "forward_ns", "backward_ns"] {
                    assert_eq!(summary[field], Value::Null, "{field}: {summary:#}");
                }
                let sample = &records[1];
                assert_eq!(
                    (&sample["residence_ns"], &sample["t3_ns"]),
                    (&Value::Null, &Value::Null)
                );
                assert!(sample["rtt_ns"].is_u64() && stderr.is_empty(), "{sample:#} {stderr}");
            }
        }
    }
}

#[test]
fn an_agent_counts_mismatches_by_reason_and_warns_once() {
    let Some(pair) = pair() else { return };
    let port = misbehave(&pair, 0, Fault::Address);
    for engine in ["ebpf", "socket"] {
        let line = format!(
            "agent --iface port1 --port {port} --peer 10.1.1.6 --engine {engine} --count 4 --interval 50ms --timeout 200ms"
        );
        let (status, records, stderr) = pair.start(&pair.near, &line).wait();
        assert!(status.success(), "{engine}: {stderr}");
        let counters = counters(&records);
        assert_eq!(count(counters, "unmatched_address"), 4, "{engine}: {counters:#}");
        assert_eq!(count(counters, "unmatched"), 4, "{engine}: {counters:#}");
        let hints = stderr
            .lines()
            .filter(|line| line.contains("came from 10.1.1.7, which was not probed"));
        assert_eq!(hints.count(), 1, "{engine}: {stderr}");
    }
}

#[test]
fn an_hmac_tlv_is_verified_before_tlvs_are_used() {
    let Some(pair) = Pair::new() else { return };
    let keys = [b"a shared secret!", b"another secret !"].map(|secret| key_file(secret));
    let [good, bad] = keys.each_ref().map(|(_, path)| path.to_str().unwrap());
    let flags = |tlv_key: &str| {
        let (code, records, stderr) = ping(
            &pair,
            &format!("{} -p 1910 -c 1 --tlv cos=46 --tlv-key-file {tlv_key}", FAR[0]),
        );
        assert_eq!(code, Some(0), "{stderr}");
        let reply = &records[1]["reply"];
        let tlvs = reply["tlvs"].as_array().unwrap().iter();
        let flags: Vec<String> = tlvs.map(|tlv| tlv["flags"].as_str().unwrap().to_owned()).collect();
        (flags, reply["dscp"].as_u64(), reply["tlvs_forged"].as_bool())
    };
    let used = (vec!["-".to_owned(); 2], Some(46), Some(false));
    let unused = vec!["UI".to_owned(); 2];
    for engine in ["ebpf", "socket"] {
        let far = pair.reflector(&format!("--engine {engine} --tlv-key-file {good}"));
        assert_eq!(flags(good), used, "{engine}");
        let (with_bad, dscp, _) = flags(bad);
        assert_eq!((with_bad, dscp), (unused.clone(), Some(0)), "{engine}");
        drop(far);
        // Without the key it cannot be verified.
        let far = pair.reflector(&format!("--engine {engine}"));
        let (without, dscp, _) = flags(good);
        assert_eq!((without, dscp), (unused.clone(), Some(0)), "{engine}");
        drop(far);
    }
}
