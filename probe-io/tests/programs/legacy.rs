//! Probes of legacy agents: each is returned unchanged, and replies are never answered.

use std::net::IpAddr;

use probe_common::abi::Counter::{
    self, BadChecksum, LegacyLoop, LegacyReflected, LegacyReflectedGroup, Malformed, PassedUp, SourcePort,
};
use probe_common::abi::{COUNTER_NAMES, Settings};

use crate::packet::{Datagram, GROUP_V4, GROUP_V6, OWN_V4, OWN_V6, SECOND_V4, TEST_PORT, with_partial_checksum};
use crate::rig::{Outcome, RECEIVERS, Rig, Verdict, settings};

fn legacy_probe(destination: impl Into<IpAddr>, digits: &str) -> Datagram {
    Datagram {
        ttl: 64,
        ..Datagram::probe(destination).payload(digits.as_bytes().to_vec())
    }
}

fn reply_to(probe: &Datagram) -> Datagram {
    let own = match probe.destination {
        IpAddr::V4(v4) if v4.is_multicast() => OWN_V4.into(),
        IpAddr::V6(v6) if v6.is_multicast() => OWN_V6.into(),
        own => own,
    };
    probe.reply(own, probe.payload.clone())
}

fn assert_sent_back(probe: &Datagram, outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{probe:?} {:?}", outcome.counted);
    let counter = match probe.destination.is_multicast() {
        true => LegacyReflectedGroup,
        false => LegacyReflected,
    };
    let counted = &outcome.counted;
    assert!(counted.contains(&(COUNTER_NAMES[counter as usize], 1)), "{counted:?}");
    assert_eq!(outcome.frame, reply_to(probe).build(), "{probe:?}");
}

/// The frame passed unchanged for this reason, whether or not its source was new.
fn assert_passed(frame: &[u8], counter: Counter, outcome: &Outcome) {
    assert_eq!((outcome.verdict, &outcome.frame[..]), (Verdict::Pass, frame));
    assert_eq!(outcome.counted[0], (COUNTER_NAMES[counter as usize], 1));
}

#[test]
fn probes_of_every_length() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for length in 1..=20 {
            let digits: String = "18446744073709551615".chars().take(length).collect();
            for destination in [
                IpAddr::from(OWN_V4),
                SECOND_V4.into(),
                GROUP_V4.into(),
                OWN_V6.into(),
                GROUP_V6.into(),
            ] {
                let probe = legacy_probe(destination, &digits);
                assert_sent_back(&probe, &rig.run(hook, &probe.build()));
                // Short frames are padded on the wire.
                let mut padded = probe.build();
                padded.resize(padded.len().max(60), 0);
                let outcome = rig.run(hook, &padded);
                let mut expected = reply_to(&probe).build();
                expected.resize(expected.len().max(60), 0);
                assert_eq!(outcome.frame, expected);
            }
        }
    }
}

#[test]
fn only_numbers_are_sent_back() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for (text, counter) in [
            ("1a", Malformed),
            ("-1", Malformed),
            ("1\n", Malformed),
            ("/", Malformed),
            (":", Malformed),
            ("", Malformed),
            ("123456789012345678x", PassedUp),
            ("184467440737095516150", PassedUp),
        ] {
            let frame = legacy_probe(OWN_V4, text).build();
            assert_passed(&frame, counter, &rig.run(hook, &frame));
        }
    }
}

#[test]
fn a_reply_is_never_answered() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let first = legacy_probe(OWN_V4, "7");
        for (port, counter) in [
            (0, SourcePort),
            (TEST_PORT, LegacyLoop),
            (7, LegacyLoop),
            (1023, LegacyLoop),
        ] {
            let frame = first.clone().ports(port, TEST_PORT).build();
            assert_passed(&frame, counter, &rig.run(hook, &frame));
        }
        // A kstamp on another port, up to 126 hops away, takes our reply for one.
        let reply = rig.run(hook, &first.build());
        assert_eq!(reply.frame[22], 255);
        for ttl in [129, 254, 255] {
            let frame = Datagram { ttl, ..first.clone() }.build();
            assert_passed(&frame, LegacyLoop, &rig.run(hook, &frame));
        }
        assert_sent_back(&first, &rig.run(hook, &first.build()));
        // Legacy agents answer from their own port.
        let elsewhere = Settings {
            test_ports: [1911, 0, 0, 0],
            ..settings()
        };
        rig.object().set_settings(&elsewhere).unwrap();
        for port in [1910, 1911] {
            let frame = first.clone().ports(port, 1911).build();
            assert_passed(&frame, LegacyLoop, &rig.run(hook, &frame));
        }
    }
}

#[test]
fn a_checksum_left_to_a_device_stays_so_or_is_made_whole() {
    for hook in RECEIVERS {
        for keep_partial in [false, true] {
            let Some(mut rig) = Rig::keeping_partial_checksums(keep_partial) else {
                return;
            };
            for probe in [legacy_probe(OWN_V4, "123"), legacy_probe(GROUP_V6, "4567")] {
                let outcome = rig.run(hook, &with_partial_checksum(&probe));
                let reply = reply_to(&probe);
                let expected = match keep_partial {
                    true => with_partial_checksum(&reply),
                    false => reply.build(),
                };
                assert_eq!(outcome.frame, expected);
                let mut damaged = probe.build();
                *damaged.last_mut().unwrap() ^= 1;
                rig.run(hook, &damaged)
                    .assert_passed(&damaged, &[BadChecksum], "one bit of the number");
            }
        }
    }
}
