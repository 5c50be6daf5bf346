//! Probes that leave: T1 is written into the packet and the in-flight record, and nothing else changes.

use std::net::IpAddr;

use probe_common::abi::Counter::{self, AbiMismatch, EgressFailed, EgressForeign, EgressStamped};
use probe_common::abi::{ABI_VERSION, ProbeKey, Settings};
use probe_common::stamp;

use crate::packet::{
    Datagram, GROUP_V4, GROUP_V6, OWN_V4, OWN_V6, PROBER_PORT, SENDER_PORT_V4, SENDER_PORT_V6, SENDER_V4, SENDER_V6,
    TEST_PORT, probe_payload, with_checksum, with_extensions, with_fragment, with_options, with_tags,
};
use crate::rig::{Program, RING_MASK, Rig, SSID, Verdict, once, settings};

/// A probe of this host.
fn leaving(destination: impl Into<IpAddr>) -> Datagram {
    let probe = Datagram::probe(destination);
    let (source, port): (IpAddr, u16) = if probe.is_v4() {
        (OWN_V4.into(), SENDER_PORT_V4)
    } else {
        (OWN_V6.into(), SENDER_PORT_V6)
    };
    probe.from(source).ports(port, TEST_PORT)
}

/// The same probe with another T1.
fn with_t1(probe: &Datagram, t1: [u8; 8]) -> Datagram {
    let mut payload = probe.payload.clone();
    payload[stamp::TIMESTAMP..][..8].copy_from_slice(&t1);
    probe.clone().payload(payload)
}

#[test]
fn t1_is_written_and_remembered_and_nothing_else_changes() {
    let Some(mut rig) = Rig::new() else { return };
    rig.open_session(9);
    rig.open_session(0xfffe);
    let unsent = |sequence| stamp::probe(sequence, probe_common::ntp::ErrorEstimate(0x8a0b), 9).to_vec();
    for (sequence, probe) in (0..).zip([
        leaving(SENDER_V4),
        leaving(GROUP_V4),
        leaving(SENDER_V6),
        leaving(GROUP_V6),
        leaving(SENDER_V4).payload(unsent(0)),
        leaving(SENDER_V6).payload(unsent(u32::MAX)),
    ]) {
        let mut payload = probe.payload.clone();
        if sequence < 4 {
            payload = probe_payload(sequence, 0xfffe);
        }
        let probe = probe.payload(payload);
        let outcome = rig.run(Program::Egress, &probe.build());
        assert_eq!(outcome.verdict, Verdict::Pass);
        assert_eq!(outcome.counted, once(&[EgressStamped]));
        let t1 = outcome.stamp(probe.udp_at() + 8 + stamp::TIMESTAMP);
        assert_eq!(
            outcome.frame,
            with_t1(&probe, t1.to_be_bytes()).build(),
            "only T1 and the checksum change"
        );

        let [a, b, c, d, ..] = probe.payload[..] else {
            unreachable!()
        };
        let [e, f] = probe.payload[stamp::SSID..][..2] else {
            unreachable!()
        };
        let key = ProbeKey {
            seq: u32::from_be_bytes([a, b, c, d]),
            ssid: u16::from_be_bytes([e, f]),
            reserved: 0,
        };
        let record = rig.in_flight(key).unwrap();
        assert!(
            outcome.monotonic.contains(&record.t1_mono_ns),
            "{record:?} {:?}",
            outcome.monotonic
        );
        assert_eq!(record.t1_wire, t1.0);
        assert_eq!(record.destination, probe.destination.into());
    }
    assert_eq!(rig.all_in_flight(), 6);
}

#[test]
fn the_same_number_again_replaces_the_record() {
    let Some(mut rig) = Rig::new() else { return };
    let key = ProbeKey {
        seq: 0x0102_0304,
        ssid: SSID,
        reserved: 0,
    };
    let mut last = None;
    for destination in [SENDER_V4, GROUP_V4] {
        rig.run(Program::Egress, &leaving(destination).build());
        let record = rig.in_flight(key).unwrap();
        assert_eq!(record.destination, IpAddr::from(destination).into());
        assert!(last.is_none_or(|last| last < record.t1_mono_ns));
        last = Some(record.t1_mono_ns);
    }
    assert_eq!(rig.all_in_flight(), 1);
}

#[test]
fn a_later_probe_of_the_session_takes_the_place_of_an_earlier_one_and_no_other_session_does() {
    let Some(mut rig) = Rig::new() else { return };
    let other = SSID + 1;
    rig.open_session(other);
    let key = |seq, ssid| ProbeKey { seq, ssid, reserved: 0 };
    let send = |rig: &mut Rig, seq, ssid| {
        let probe = leaving(SENDER_V4).payload(probe_payload(seq, ssid));
        let outcome = rig.run(Program::Egress, &probe.build());
        assert_eq!(outcome.counted, once(&[EgressStamped]));
    };
    let length = RING_MASK + 1;
    for seq in 0..length {
        send(&mut rig, seq, SSID);
        send(&mut rig, u32::MAX - seq, other);
    }
    assert_eq!(rig.all_in_flight(), 2 * length as usize, "none displaces another one");
    send(&mut rig, length, SSID);
    assert!(rig.in_flight(key(length, SSID)).is_some());
    assert_eq!(rig.in_flight(key(0, SSID)), None);
    assert_eq!(rig.all_in_flight(), 2 * length as usize);
    rig.open_session(SSID);
    assert_eq!(rig.all_in_flight(), length as usize, "it begins without records");
    send(&mut rig, 0, SSID);
    assert_eq!(rig.all_in_flight(), length as usize + 1);
}

#[test]
fn a_probe_of_a_session_without_a_ring_leaves_unstamped() {
    let Some(mut rig) = Rig::new() else { return };
    for ssid in [0, 1, SSID - 1, u16::MAX] {
        let frame = leaving(SENDER_V4).payload(probe_payload(1, ssid)).build();
        rig.run(Program::Egress, &frame)
            .assert_passed(&frame, &[EgressFailed], "no ring");
        rig.open_session(ssid);
        let outcome = rig.run(Program::Egress, &frame);
        assert_eq!(outcome.counted, once(&[EgressStamped]), "{ssid}");
    }
    assert_eq!(rig.all_in_flight(), 4);
}

#[test]
fn a_checksum_left_out_stays_out() {
    let Some(mut rig) = Rig::new() else { return };
    let probe = leaving(SENDER_V4);
    let outcome = rig.run(Program::Egress, &with_checksum(&probe, [0, 0]));
    assert_eq!(outcome.counted, once(&[EgressStamped]));
    let t1 = outcome.stamp(probe.udp_at() + 8 + stamp::TIMESTAMP);
    assert_eq!(outcome.frame, with_checksum(&with_t1(&probe, t1.to_be_bytes()), [0, 0]));
}

#[test]
fn every_checksum_is_updated() {
    let Some(mut rig) = Rig::new() else { return };
    rig.open_session(1);
    for sequence in 0..2_000_u32 {
        let destination: IpAddr = if sequence % 2 == 0 {
            SENDER_V4.into()
        } else {
            SENDER_V6.into()
        };
        let probe = leaving(destination).payload(probe_payload(sequence.wrapping_mul(0x9e37_79b9), 1));
        let outcome = rig.run(Program::Egress, &probe.build());
        let t1 = outcome.stamp(probe.udp_at() + 8 + stamp::TIMESTAMP);
        assert_eq!(outcome.frame, with_t1(&probe, t1.to_be_bytes()).build());
    }
}

#[test]
fn other_packets_leave_unstamped() {
    let (v4, v6) = (leaving(SENDER_V4), leaving(SENDER_V6));
    let fragment = with_fragment(&v4.build(), 0x2000);
    let mut table: Vec<(&str, Vec<u8>, Option<Counter>)> = vec![
        (
            "another source port",
            v4.clone().ports(PROBER_PORT, TEST_PORT).build(),
            None,
        ),
        (
            "another destination port",
            v4.clone().ports(SENDER_PORT_V4, 53).build(),
            None,
        ),
        (
            "the port of the other IP version",
            v4.clone().ports(SENDER_PORT_V6, TEST_PORT).build(),
            None,
        ),
        (
            "the port of the other IP version",
            v6.clone().ports(SENDER_PORT_V4, TEST_PORT).build(),
            None,
        ),
        (
            "a reply of this host",
            v4.clone().ports(TEST_PORT, PROBER_PORT).build(),
            None,
        ),
        ("a tag", with_tags(&v4.build(), &[0x8100]), Some(EgressForeign)),
        ("options", with_options(&v4.build()), Some(EgressForeign)),
        ("a first fragment", fragment, Some(EgressForeign)),
        ("a later fragment", with_fragment(&v4.build(), 0x2001), None),
        (
            "an extension",
            with_extensions(&v6.build(), &[(0, &[0, 1, 4, 0, 0, 0, 0])]),
            Some(EgressForeign),
        ),
    ];
    for length in 0..44 {
        table.push((
            "too short",
            leaving(SENDER_V4).payload(vec![7; length]).build(),
            Some(EgressForeign),
        ));
        table.push((
            "too short, IPv6",
            leaving(GROUP_V6).payload(vec![7; length]).build(),
            Some(EgressForeign),
        ));
    }
    let Some(mut rig) = Rig::new() else { return };
    for (what, frame, counter) in &table {
        rig.run(Program::Egress, frame)
            .assert_passed(frame, counter.as_slice(), what);
    }
    assert_eq!(rig.all_in_flight(), 0);
}

#[test]
fn bytes_after_the_base_packet_are_left_alone() {
    let Some(mut rig) = Rig::new() else { return };
    rig.open_session(0xfffe);
    for length in [45, 47, 48, 300, 1400] {
        for destination in [IpAddr::from(SENDER_V4), SENDER_V6.into()] {
            let mut payload = probe_payload(length, 0xfffe);
            payload.extend((44..length).map(|at| at as u8));
            let probe = leaving(destination).payload(payload);
            let outcome = rig.run(Program::Egress, &probe.build());
            assert_eq!(outcome.counted, once(&[EgressStamped]), "{length}");
            let t1 = outcome.stamp(probe.udp_at() + 8 + stamp::TIMESTAMP);
            assert_eq!(outcome.frame, with_t1(&probe, t1.to_be_bytes()).build(), "{length}");
        }
    }
}

#[test]
fn an_agent_that_does_not_send_stamps_nothing() {
    let Some(mut rig) = Rig::with(&Settings {
        sender_port_v4: 0,
        sender_port_v6: 0,
        ..settings()
    }) else {
        return;
    };
    for destination in [IpAddr::from(SENDER_V4), SENDER_V6.into()] {
        for port in [0, SENDER_PORT_V4, SENDER_PORT_V6] {
            let frame = leaving(destination).ports(port, TEST_PORT).build();
            rig.run(Program::Egress, &frame).assert_passed(&frame, &[], "no sender");
        }
    }
}

#[test]
fn loader_and_program_of_two_versions() {
    let Some(mut rig) = Rig::with(&Settings {
        abi_version: ABI_VERSION + 1,
        ..settings()
    }) else {
        return;
    };
    let frame = leaving(SENDER_V4).build();
    rig.run(Program::Egress, &frame)
        .assert_passed(&frame, &[AbiMismatch], "ABI");
    assert_eq!(rig.all_in_flight(), 0);
}
