//! The older agents' probes: a number in ASCII comes back as it went, to whom it came from, and never for ever.

use std::net::IpAddr;

use probe_common::abi::Counter::{self, BadChecksum, EchoLoop, Echoed, EchoedGroup, Malformed, PassedUp, SourcePort};
use probe_common::abi::{COUNTER_NAMES, Settings};

use crate::packet::{
    Datagram, GROUP_V4, GROUP_V6, OWN_MAC, OWN_V4, OWN_V6, SECOND_V4, SENDER_MAC, TEST_PORT, partial_checksum,
    with_checksum,
};
use crate::rig::{Outcome, RECEIVERS, Rig, Verdict, settings};

fn number(destination: impl Into<IpAddr>, digits: &str) -> Datagram {
    Datagram {
        ttl: 64,
        ..Datagram::probe(destination).payload(digits.as_bytes().to_vec())
    }
}

/// What must come back.
fn echo_of(number: &Datagram) -> Datagram {
    let own = match number.destination {
        IpAddr::V4(v4) if v4.is_multicast() => OWN_V4.into(),
        IpAddr::V6(v6) if v6.is_multicast() => OWN_V6.into(),
        own => own,
    };
    Datagram {
        macs: (OWN_MAC, SENDER_MAC),
        source: own,
        destination: number.source,
        ports: (TEST_PORT, number.ports.0),
        ttl: 255,
        payload: number.payload.clone(),
    }
}

fn assert_echoed(number: &Datagram, outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{number:?} {:?}", outcome.counted);
    let counter = match number.destination.is_multicast() {
        true => EchoedGroup,
        false => Echoed,
    };
    let counted = &outcome.counted;
    assert!(counted.contains(&(COUNTER_NAMES[counter as usize], 1)), "{counted:?}");
    assert_eq!(outcome.frame, echo_of(number).build(), "{number:?}");
}

/// It passed unchanged for this reason, whether or not its source was new.
fn assert_not_echoed(frame: &[u8], counter: Counter, outcome: &Outcome) {
    assert_eq!((outcome.verdict, &outcome.frame[..]), (Verdict::Pass, frame));
    assert_eq!(outcome.counted[0], (COUNTER_NAMES[counter as usize], 1));
}

#[test]
fn numbers_of_every_length() {
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
                let number = number(destination, &digits);
                assert_echoed(&number, &rig.run(hook, &number.build()));
                // As short frames come off a wire.
                let mut padded = number.build();
                padded.resize(padded.len().max(60), 0);
                let outcome = rig.run(hook, &padded);
                let mut expected = echo_of(&number).build();
                expected.resize(expected.len().max(60), 0);
                assert_eq!(outcome.frame, expected);
            }
        }
    }
}

#[test]
fn what_is_no_number_is_not_echoed() {
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
            let frame = number(OWN_V4, text).build();
            assert_not_echoed(&frame, counter, &rig.run(hook, &frame));
        }
    }
}

#[test]
fn echoes_cannot_go_on_for_ever() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let first = number(OWN_V4, "7");
        for (port, counter) in [(TEST_PORT, SourcePort), (7, EchoLoop), (1023, EchoLoop)] {
            let frame = first.clone().ports(port, TEST_PORT).build();
            assert_not_echoed(&frame, counter, &rig.run(hook, &frame));
        }
        // What another kstamp on another port makes of our echo, up to 126 hops away.
        let echo = rig.run(hook, &first.build());
        assert_eq!(echo.frame[22], 255);
        for ttl in [129, 254, 255] {
            let frame = Datagram { ttl, ..first.clone() }.build();
            assert_not_echoed(&frame, EchoLoop, &rig.run(hook, &frame));
        }
        assert_echoed(&first, &rig.run(hook, &first.build()));
        // The older agents echo from their own port.
        let elsewhere = Settings {
            test_port: 1911,
            ..settings()
        };
        rig.object().set_settings(&elsewhere).unwrap();
        let frame = first.clone().ports(1910, 1911).build();
        assert_not_echoed(&frame, EchoLoop, &rig.run(hook, &frame));
    }
}

#[test]
fn checksums_of_echoes() {
    for hook in RECEIVERS {
        for keep_partial in [0, 1] {
            let Some(mut rig) = Rig::with(&Settings {
                partial_checksums: keep_partial,
                ..settings()
            }) else {
                return;
            };
            for number in [number(OWN_V4, "123"), number(GROUP_V6, "4567")] {
                let outcome = rig.run(hook, &with_checksum(&number, partial_checksum(&number)));
                let echo = echo_of(&number);
                let expected = match keep_partial {
                    1 => with_checksum(&echo, partial_checksum(&echo)),
                    _ => echo.build(),
                };
                assert_eq!(outcome.frame, expected);
                let mut damaged = number.build();
                *damaged.last_mut().unwrap() ^= 1;
                rig.run(hook, &damaged)
                    .assert_passed(&damaged, &[BadChecksum], "one bit of the number");
            }
        }
    }
}
