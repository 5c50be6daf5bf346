//! Answered probes: every byte of the reply, and the session's counter.

use std::net::IpAddr;

use probe_common::abi::Counter::{BadChecksum, Reflected, ReflectedGroup, SessionStarted};
use probe_common::abi::{Address, Counter, DESTINATION_OWN};
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp::{self, ReplyFields};

use crate::packet::{
    Datagram, GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_V4, OWN_V6, PROBER_PORT, SECOND_PORT, SECOND_V4,
    SENDER_LINK_LOCAL, TEST_PORT, mend_ipv4, probe_payload, with_checksum, with_partial_checksum,
};
use crate::rig::{Outcome, RECEIVERS, Rig, Verdict, once, settings};

/// The reply that `probe` must get, built from scratch except for the timestamps, which are checked and copied.
fn expected_reply(probe: &Datagram, own: IpAddr, sequence: u32, outcome: &Outcome) -> Datagram {
    let at = probe.udp_at() + 8;
    let receive = outcome.stamp(at + stamp::RECEIVE_TIMESTAMP);
    let transmit = outcome.stamp(at + stamp::TIMESTAMP);
    assert!(receive.0 <= transmit.0, "T2 {receive:?} is later than T3 {transmit:?}");
    let mut payload = probe.payload.clone();
    let error = ErrorEstimate(settings().error_estimate);
    assert!(stamp::into_reply(
        &mut payload,
        &ReplyFields {
            sequence,
            transmit,
            error,
            receive,
            ttl: probe.ttl
        }
    ));
    probe.reply(own, payload)
}

fn assert_reflected(probe: &Datagram, own: impl Into<IpAddr>, sequence: u32, counter: Counter, outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{probe:?}");
    let started: &[Counter] = if sequence == 0 {
        &[counter, SessionStarted]
    } else {
        &[counter]
    };
    assert_eq!(outcome.counted, once(started), "{probe:?}");
    let reply = expected_reply(probe, own.into(), sequence, outcome);
    assert_eq!(outcome.frame, reply.build(), "{probe:?}");
}

#[test]
fn every_byte_of_a_reply() {
    let table: [(Datagram, IpAddr, Counter); 8] = [
        (Datagram::probe(OWN_V4), OWN_V4.into(), Reflected),
        (Datagram::probe(SECOND_V4), SECOND_V4.into(), Reflected),
        (Datagram::probe(OWN_V6), OWN_V6.into(), Reflected),
        (
            Datagram::probe(OWN_LINK_LOCAL).from(SENDER_LINK_LOCAL),
            OWN_LINK_LOCAL.into(),
            Reflected,
        ),
        (Datagram::probe(GROUP_V4), OWN_V4.into(), ReflectedGroup),
        (Datagram::probe(GROUP_V6), OWN_V6.into(), ReflectedGroup),
        (
            Datagram::probe(GROUP_V6).from(SENDER_LINK_LOCAL),
            OWN_LINK_LOCAL.into(),
            ReflectedGroup,
        ),
        (
            Datagram {
                ttl: 0,
                ..Datagram::probe(OWN_V4).payload(vec![0xff; 44])
            },
            OWN_V4.into(),
            Reflected,
        ),
    ];
    for hook in RECEIVERS {
        for (probe, own, counter) in &table {
            let Some(mut rig) = Rig::new() else { return };
            for sequence in 0..3 {
                let outcome = rig.run(hook, &probe.build());
                assert_reflected(probe, *own, sequence, *counter, &outcome);
            }
        }
    }
}

#[test]
fn each_session_has_a_counter_of_its_own() {
    let base = Datagram::probe(OWN_V4);
    let sessions = [
        base.clone(),
        base.clone().payload(stamp::probe(1, ErrorEstimate(1), 0x0b0d).to_vec()),
        base.clone().payload(stamp::probe(1, ErrorEstimate(1), 0x0b0c).to_vec()),
        base.clone().ports(PROBER_PORT + 1, TEST_PORT),
        base.clone().ports(PROBER_PORT, SECOND_PORT),
        base.clone().from([10, 1, 1, 7]),
        Datagram::probe(SECOND_V4),
        Datagram::probe(GROUP_V4),
        Datagram::probe(OWN_V6),
        Datagram::probe(OWN_V6).from(SENDER_LINK_LOCAL),
    ];
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for round in 0..4 {
            for (index, probe) in sessions.iter().enumerate() {
                // Each session at a different pace, so that a shared counter would be noticed.
                for step in 0..=index as u32 {
                    let outcome = rig.run(hook, &probe.build());
                    let sequence = round * (index as u32 + 1) + step;
                    let group = probe.destination.is_multicast();
                    let own = if group { OWN_V4.into() } else { probe.destination };
                    assert_reflected(
                        probe,
                        own,
                        sequence,
                        if group { ReflectedGroup } else { Reflected },
                        &outcome,
                    );
                }
            }
        }
    }
}

#[test]
fn random_padding_is_no_session_identifier() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for own in [IpAddr::from(OWN_V4), OWN_V6.into()] {
            for sequence in 0..5 {
                let mut payload = stamp::probe(sequence, ErrorEstimate(1), 0x0b0c + sequence as u16).to_vec();
                payload[stamp::BASE_LEN - 1 - sequence as usize] = 0x99;
                let probe = Datagram::probe(own).payload(payload);
                assert_reflected(&probe, own, sequence, Reflected, &rig.run(hook, &probe.build()));
            }
        }
    }
}

#[test]
fn the_senders_sequence_does_not_make_a_session() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for (count, sequence) in (0..).zip([7, 6, u32::MAX, 0]) {
            let probe = Datagram::probe(OWN_V4).payload(probe_payload(sequence, 3));
            assert_reflected(&probe, OWN_V4, count, Reflected, &rig.run(hook, &probe.build()));
        }
    }
}

#[test]
fn both_programs_share_the_sessions() {
    let Some(mut rig) = Rig::new() else { return };
    let probe = Datagram::probe(OWN_V4);
    for (sequence, hook) in (0..).zip(RECEIVERS.into_iter().cycle().take(6)) {
        assert_reflected(&probe, OWN_V4, sequence, Reflected, &rig.run(hook, &probe.build()));
    }
}

#[test]
fn a_checksum_left_out_or_left_to_a_device() {
    for hook in RECEIVERS {
        for keep_partial in [false, true] {
            let Some(mut rig) = Rig::keeping_partial_checksums(keep_partial) else {
                return;
            };
            for (probe, own) in [
                (Datagram::probe(OWN_V4), IpAddr::from(OWN_V4)),
                (Datagram::probe(GROUP_V4), OWN_V4.into()),
                (Datagram::probe(OWN_V6), OWN_V6.into()),
                (Datagram::probe(GROUP_V6), OWN_V6.into()),
            ] {
                let outcome = rig.run(hook, &with_partial_checksum(&probe));
                assert_eq!(outcome.verdict, Verdict::Transmit);
                let reply = expected_reply(&probe, own, 0, &outcome);
                let expected = if keep_partial {
                    with_partial_checksum(&reply)
                } else {
                    reply.build()
                };
                assert_eq!(outcome.frame, expected, "partial_checksums {keep_partial}");

                let none = with_checksum(&probe, [0, 0]);
                let outcome = rig.run(hook, &none);
                if probe.is_v4() {
                    assert_eq!(outcome.verdict, Verdict::Transmit);
                    assert_eq!(outcome.frame, expected_reply(&probe, own, 1, &outcome).build());
                } else {
                    outcome.assert_passed(&none, &[BadChecksum], "IPv6 without a checksum");
                }
            }
        }
    }
}

#[test]
fn padding_behind_the_datagram_does_not_matter() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for (sequence, padding) in (0..).zip([1, 6, 18, 400]) {
            let probe = Datagram::probe(OWN_V4);
            let tail = vec![0xee; padding];
            let mut outcome = rig.run(hook, &[probe.build(), tail.clone()].concat());
            assert_eq!(
                outcome.frame.split_off(probe.build().len()),
                tail,
                "the padding stays as it was"
            );
            assert_reflected(&probe, OWN_V4, sequence, Reflected, &outcome);
        }
    }
}

#[test]
fn fields_that_a_reply_keeps() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let probe = Datagram::probe(OWN_V6);
        let mut frame = probe.build();
        frame[14..18].copy_from_slice(&[0x6b, 0x81, 0x23, 0x45]);
        let outcome = rig.run(hook, &frame);
        assert_eq!(outcome.verdict, Verdict::Transmit);
        let mut expected = expected_reply(&probe, OWN_V6.into(), 0, &outcome).build();
        expected[14..18].copy_from_slice(&[0x6b, 0x81, 0x23, 0x45]);
        assert_eq!(outcome.frame, expected, "traffic class and flow label");
        frame[15] |= 0x30;
        let outcome = rig.run(hook, &frame);
        assert_eq!(
            outcome.frame[14..18],
            expected[14..18],
            "congestion experienced is the probe's"
        );

        let probe = Datagram::probe(OWN_V4);
        let mut frame = probe.build();
        frame[15] = 46 << 2 | 3;
        mend_ipv4(&mut frame);
        let outcome = rig.run(hook, &frame);
        let mut expected = expected_reply(&probe, OWN_V4.into(), 0, &outcome).build();
        expected[15] = 46 << 2;
        mend_ipv4(&mut expected);
        assert_eq!(outcome.frame, expected, "type of service, without ECN");
    }
}

#[test]
fn addresses_may_come_and_go() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let late = IpAddr::from([10, 9, 9, 9]);
        let probe = Datagram::probe(late);
        rig.run(hook, &probe.build())
            .assert_passed(&probe.build(), &[Counter::NotForUs], "not yet an own address");
        rig.object()
            .destinations()
            .unwrap()
            .insert(Address::from(late), DESTINATION_OWN, 0)
            .unwrap();
        assert_reflected(&probe, late, 0, Reflected, &rig.run(hook, &probe.build()));
        rig.object()
            .destinations()
            .unwrap()
            .remove(&Address::from(late))
            .unwrap();
        rig.run(hook, &probe.build())
            .assert_passed(&probe.build(), &[Counter::NotForUs], "no longer an own address");
    }
}
