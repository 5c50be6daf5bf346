use probe_common::tlv::kind;

use super::*;
use crate::command::{self, Command};

fn read(line: &str) -> Result<PingConfig, String> {
    match command::read(&format!("ping {line}"))? {
        Command::Ping(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_those_of_stamp_and_ping() {
    let config = read("10.1.1.6").unwrap();
    assert_eq!(
        (config.target.as_str(), config.port, config.family),
        ("10.1.1.6", 862, None)
    );
    assert_eq!(
        (config.count, config.interval_ns, config.timeout_ns),
        (None, 1_000_000_000, 2_000_000_000)
    );
    assert_eq!(
        (config.packet.len(), config.dscp, config.engine),
        (44, 0, PingEngine::Auto)
    );
    assert_ne!(config.packet.ssid, 0);
}

#[test]
fn flags_set_the_configuration() {
    let config = read("router.example -p 1910 -c 3 -i 100ms -W 1s -s 100 --dscp 46 --ssid 7 --family v6").unwrap();
    assert_eq!(
        (config.port, config.count, config.family),
        (1910, Some(3), Some(Family::V6))
    );
    assert_eq!((config.interval_ns, config.timeout_ns), (100_000_000, 1_000_000_000));
    assert_eq!((config.packet.len(), config.packet.ssid, config.dscp), (100, 7, 46));
    assert_eq!(read("fe80::1%port1 --ssid 0").unwrap().packet.ssid, 0);
}

#[test]
fn tlvs_are_parsed() {
    let table = [
        ("padding=20", TlvRequest::Padding(20)),
        ("location", TlvRequest::Location),
        ("timestamps", TlvRequest::Timestamps),
        ("cos=46", TlvRequest::ClassOfService { dscp: 46 }),
        ("direct", TlvRequest::Direct),
        ("follow-up", TlvRequest::FollowUp),
        (
            "access=1:2",
            TlvRequest::Access(AccessReport {
                access_id: 1,
                return_code: 2,
            }),
        ),
        (
            "200:0aFF",
            TlvRequest::Other {
                kind: 200,
                value: vec![0x0a, 0xff],
            },
        ),
        (
            "200:",
            TlvRequest::Other {
                kind: 200,
                value: Vec::new(),
            },
        ),
    ];
    for (text, expected) in table {
        assert_eq!(tlv(text).unwrap(), expected, "{text}");
    }
    let config = read("10.1.1.6 --tlv cos=46 --tlv direct").unwrap();
    assert_eq!(config.packet.len(), 44 + 8 + 16);
    assert_eq!(
        config.engine,
        PingEngine::Socket("returned TLVs are read at the socket")
    );
}

#[test]
fn bad_flags_are_refused_with_advice() {
    let hmac = format!("10.1.1.6 --tlv {}:00", kind::HMAC);
    let table = [
        ("fe80::1", "fe80::1%IFACE"),
        ("fe80::1 --engine socket", "fe80::1%IFACE"),
        ("10.1.1.6 -p 0", "use 1 to 65535"),
        ("10.1.1.6 -c 0", "use 1 or more"),
        ("10.1.1.6 -c -3", "use 1 or more"),
        ("10.1.1.6 -i 100ns", "too short"),
        ("10.1.1.6 -i 100us -W 60s", "600200 probes in flight"),
        ("10.1.1.6 --dscp 64", "0 to 63"),
        ("10.1.1.6 --ssid 65536", "0 to 65535"),
        ("10.1.1.6 -s 43", "use 44 or more"),
        ("10.1.1.6 -s 46", "use 44, or 48 and more"),
        ("10.1.1.6 -s 60000", "use 9216 or less"),
        ("10.1.1.6 -s 70000", "0 to 65535"),
        ("10.1.1.6 --family both", "use v4 or v6"),
        ("10.1.1.6 --tlv colour", "padding=BYTES"),
        ("10.1.1.6 --tlv location=5", "padding=BYTES"),
        ("10.1.1.6 --tlv cos=64", "0 to 63"),
        ("10.1.1.6 --tlv access=1", "access=ID:CODE"),
        ("10.1.1.6 --tlv 300:00", "0 to 255"),
        ("10.1.1.6 --tlv 200:0", "two digits"),
        ("10.1.1.6 --tlv 200:+1", "two digits"),
        (&hmac, "--key-file"),
        ("10.1.1.6 --engine ebpf --tlv direct", "leave one of the two out"),
        (
            "10.1.1.6 --key-file /nonexistent/key",
            "--key-file: cannot read the file /nonexistent/key",
        ),
        (
            "10.1.1.6 --tlv direct --tlv-key-file /nonexistent/key",
            "--tlv-key-file: cannot read",
        ),
        (
            "10.1.1.6 --tlv direct --key-file /k --tlv-key-file /k",
            "cannot be combined with --key-file",
        ),
    ];
    for (line, expected) in table {
        let error = read(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
