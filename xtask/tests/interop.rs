//! kstamp with other programs: stamp-suite as sender and as reflector, tshark's decoder, and legacy agents.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

#[path = "interop/foreign.rs"]
mod foreign;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use foreign::{Background, Ping, StampSuite};
use support::{Agent, can_have, can_run, count, lab, lab_with};
use xtask::lab::{Lab, Options, Topology};
use xtask::setup::Foreign;

/// Sufficient on a loaded machine too.
const LIMIT: Duration = Duration::from_secs(20);

/// In hexadecimal, as stamp-suite expects it.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn key_file(lab: &Lab) -> PathBuf {
    let path = lab.scratch().unwrap().join("key");
    fs::write(&path, KEY).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn reflector(lab: &Lab, more: &str) -> Agent {
    let reflector = Agent::start(lab, lab.pair()[1], "reflect", more);
    reflector.await_start(LIMIT);
    reflector
}

/// The second agent's addresses.
fn targets(lab: &Lab) -> [String; 2] {
    let [_, far] = lab.pair();
    [far.v4.to_string(), far.v6.to_string()]
}

const TLVS: [&str; 10] = [
    "--ssid",
    "7",
    "--cos",
    "--dscp",
    "46",
    "--location",
    "--timestamp-info",
    "--direct-measurement",
    "--follow-up-telemetry",
    "--extra-padding=20",
];

#[test]
fn stamp_suite_measures_kstamp() {
    let Some(suite) = StampSuite::obtain() else { return };
    let Some(lab) = lab(Topology::Veth) else { return };
    let targets = targets(&lab);
    for engine in ["", "--engine socket", "--engine socket --stateless"] {
        let reflector = reflector(&lab, engine);
        let senders: Vec<_> = targets
            .iter()
            .flat_map(|to| ["NTP", "PTP"].map(|clock| (to, clock)))
            .flat_map(|(to, clock)| [&[][..], &TLVS].map(|tlvs| (to, clock, tlvs)))
            .map(|(to, clock, tlvs)| suite.sender(&lab, to, 1910, &[&["-K", clock], tlvs].concat()))
            .collect();
        for sender in senders {
            sender.finish().assert_all_came_back();
        }
        let finished = reflector.stop();
        assert!(finished.status.success(), "{finished:#?}");
        let reflected = |name| finished.counter(name);
        let tlvs = 4 * StampSuite::COUNT;
        if engine.is_empty() {
            assert_eq!((reflected("reflected"), reflected("user_reflected")), (tlvs, tlvs));
        } else {
            assert_eq!(reflected("user_reflected"), 2 * tlvs);
        }
        assert_eq!(reflected("user_tlv_malformed"), 0);
        assert_eq!(reflected("user_tlv_unrecognised"), 0);
    }
    lab.down().unwrap();
}

#[test]
fn kstamp_measures_stamp_suite() {
    let Some(suite) = StampSuite::obtain() else { return };
    let Some(lab) = lab(Topology::Veth) else { return };
    let mut medians_ns = Vec::new();
    for clock in ["NTP", "PTP"] {
        for state in [&[][..], &["--stateful-reflector"]] {
            for to in targets(&lab) {
                let _reflector = suite.reflector(&lab, &to, &[&["-K", clock], state].concat());
                for more in [
                    "",
                    "--engine socket",
                    "--size 300",
                    "--tlv direct --tlv cos=10 --tlv location --tlv 200:01",
                ] {
                    let ping = Ping::run(&lab, &to, StampSuite::PORT, more);
                    ping.assert_all_came_back();
                    if more.contains("--tlv") {
                        let flags = ping.flags_of_last();
                        assert_eq!(flags, ["-", "-", "-", "U"], "{ping:#?}");
                    }
                    medians_ns.push(ping.median_ns());
                }
            }
        }
    }
    // Socket stamps and kernel stamps, on one short path, on a machine that may be loaded.
    let plausible = 101..20_000_000;
    assert!(medians_ns.iter().all(|ns| plausible.contains(ns)), "{medians_ns:?}");
    lab.down().unwrap();
}

#[test]
fn both_authenticate_each_other() {
    let Some(suite) = StampSuite::obtain() else { return };
    let Some(lab) = lab(Topology::Veth) else { return };
    let key = key_file(&lab);
    let key = key.to_str().unwrap();
    let authenticated = ["-A", "A", "--hmac-key-file", key];
    for to in targets(&lab) {
        let reflector = reflector(&lab, &format!("--key-file {key}"));
        for tlvs in [&[][..], &TLVS] {
            let sender = suite.sender(&lab, &to, 1910, &[&authenticated, tlvs].concat());
            sender.finish().assert_all_came_back();
        }
        let finished = reflector.stop();
        assert_eq!(
            finished.counter("user_reflected"),
            2 * StampSuite::COUNT,
            "{finished:#?}"
        );

        let _reflector = suite.reflector(&lab, &to, &authenticated);
        for tlvs in ["", "--tlv direct"] {
            let ping = Ping::run(&lab, &to, StampSuite::PORT, &format!("--key-file {key} {tlvs}"));
            ping.assert_all_came_back();
        }
    }
    lab.down().unwrap();
}

#[test]
fn tshark_decodes_probes_and_replies() {
    if !can_run() || !can_have(Foreign::Tshark) {
        return;
    }
    let Some(lab) = lab(Topology::Veth) else { return };
    let _reflector = reflector(&lab, "");
    for to in targets(&lab) {
        let capture = foreign::Capture::start(&lab, lab.pair()[0]);
        let ping = Ping::run(&lab, &to, 1910, "");
        ping.assert_all_came_back();
        capture.assert_decoded(&ping);
    }
    lab.down().unwrap();
}

#[test]
fn legacy_agent_and_kstamp_measure_each_other() {
    if !can_run() || !can_have(Foreign::Python) {
        return;
    }
    let Some(lab) = lab(Topology::Veth) else { return };
    let [near, far] = lab.pair();
    for (family, group, peer) in [
        ("v4", "239.255.255.250", far.v4.to_string()),
        ("v6", "ff0e::10", far.v6.to_string()),
    ] {
        let arguments = format!("--family {family} --interval 50ms --legacy-peers");
        let kstamp = Agent::start(&lab, near, "agent", &arguments);
        kstamp.await_start(LIMIT);
        let legacy = Background::legacy_agent(&lab, far, group, &["--interval", "0.05", "--count", "60"]);
        kstamp.await_record(LIMIT, "legacy agent", |record| {
            record["type"] == "peer" && record["event"] == "up" && record["peer"] == peer.as_str()
        });
        let printed = legacy.finish();
        assert!(printed.contains("sent 60, received 60, dropped 0"), "{printed}");
        let kstamp = kstamp.stop().assert_success();
        for path in ["unicast", "group"] {
            let summary = kstamp.summary(&peer, path);
            assert_eq!(
                (&summary["method"], &summary["engine"]),
                (&"echo".into(), &"socket".into())
            );
            assert!(count(summary, "received") >= 20, "{summary:#}");
            assert!(summary["rtt_ns"]["p50"].as_u64().unwrap() < 100_000_000, "{summary:#}");
            assert!(
                summary["residence_ns"].is_null() && summary["clock"].is_null(),
                "{summary:#}"
            );
        }
    }
    lab.down().unwrap();
}

#[test]
fn two_legacy_agents_and_kstamp_measure_each_other() {
    if !can_run() || !can_have(Foreign::Python) {
        return;
    }
    let options = Options {
        agents: 3,
        ..Options::default()
    };
    let Some(lab) = lab_with(Topology::Switch, &options) else {
        return;
    };
    let group = "239.255.255.250";
    let legacy = lab
        .pair()
        .map(|place| Background::legacy_agent(&lab, place, group, &["--interval", "0.1"]));
    let arguments = "--family v4 --interval 100ms --duration 4s --timeout 1s --legacy-peers";
    let kstamp = Agent::start(&lab, &lab.agents()[2], "agent", arguments);
    let kstamp = kstamp.wait(LIMIT).assert_success();
    for peer in lab.pair() {
        for path in ["unicast", "group"] {
            let peer = peer.v4.to_string();
            let summary = kstamp.summary(&peer, path);
            assert_eq!(summary["method"], "echo", "{summary:#}");
            assert!(count(summary, "received") >= 20, "{summary:#}");
            kstamp.assert_no_loss(&peer, path);
        }
    }
    assert!(
        kstamp.counter("echoed_group") >= 20,
        "legacy agents get replies: {kstamp:#?}"
    );
    drop(legacy);
    lab.down().unwrap();
}
