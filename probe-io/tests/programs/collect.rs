//! Replies: which ones are taken, their samples, and the record of those that the ring buffer had no room for.

use std::net::IpAddr;

use probe_common::abi::Counter::{
    Collected, DuplicateDropped, ReplyBadChecksum, ReplyMalformed, ReplyNotAllowed, RingFull, Unmatched,
};
use probe_common::abi::{
    Address, InFlight, InFlightRecord, MAX_GROUP_REPLIES, MAX_REPLIES, MissedKey, ProbeKey, SAMPLES_BYTES, Sample,
    Settings,
};
use probe_common::stamp;

use crate::packet::{
    Datagram, GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_MAC, OWN_V4, OWN_V6, SECOND_V4, SENDER_MAC, SENDER_PORT_V4,
    SENDER_PORT_V6, SENDER_V4, SENDER_V6, TEST_PORT,
};
use crate::rig::{Program, RECEIVERS, RING_MASK, Rig, SSID, Verdict, once, settings};

const KEY: ProbeKey = ProbeKey {
    seq: 0x0102_0304,
    ssid: SSID,
    reserved: 0,
};
const T1_MONO_NS: u64 = 123_456_789;
const T1_WIRE: u64 = 0xec01_0203_8405_0607;
const T2_WIRE: u64 = 0xec01_0203_9415_1617;
const T3_WIRE: u64 = 0xec01_0203_a425_2627;

/// A whole reply to [`KEY`] with every field different from every other.
fn reply_payload() -> Vec<u8> {
    let mut payload = vec![0; stamp::BASE_LEN];
    payload[stamp::SEQUENCE..][..4].copy_from_slice(&0xa1a2_a3a4_u32.to_be_bytes());
    payload[stamp::TIMESTAMP..][..8].copy_from_slice(&T3_WIRE.to_be_bytes());
    payload[stamp::ERROR_ESTIMATE..][..2].copy_from_slice(&0x8e0f_u16.to_be_bytes());
    payload[stamp::SSID..][..2].copy_from_slice(&KEY.ssid.to_be_bytes());
    payload[stamp::RECEIVE_TIMESTAMP..][..8].copy_from_slice(&T2_WIRE.to_be_bytes());
    payload[stamp::SENDER_SEQUENCE..][..4].copy_from_slice(&KEY.seq.to_be_bytes());
    payload[stamp::SENDER_TIMESTAMP..][..8].copy_from_slice(&T1_WIRE.to_be_bytes());
    payload[stamp::SENDER_ERROR_ESTIMATE..][..2].copy_from_slice(&[0x8a, 0x0b]);
    payload[stamp::SENDER_TTL] = 61;
    payload
}

/// A reply from `source` to the port from which this host probes that IP version.
fn reply(source: impl Into<IpAddr>) -> Datagram {
    let source = source.into();
    let (destination, port): (IpAddr, u16) = match source {
        IpAddr::V4(_) => (OWN_V4.into(), SENDER_PORT_V4),
        IpAddr::V6(_) => (OWN_V6.into(), SENDER_PORT_V6),
    };
    Datagram {
        macs: (SENDER_MAC, OWN_MAC),
        source,
        destination,
        ports: (TEST_PORT, port),
        ttl: 255,
        payload: reply_payload(),
    }
}

/// The reply with `bytes` at `at` in its payload.
fn altered(reply: &Datagram, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut payload = reply.payload.clone();
    payload[at..][..bytes.len()].copy_from_slice(bytes);
    reply.clone().payload(payload).build()
}

/// A rig with a probe in flight to `destination`.
fn waiting_for(destination: impl Into<IpAddr>) -> Option<Rig> {
    let mut rig = Rig::new()?;
    let sent = InFlight {
        t1_mono_ns: T1_MONO_NS,
        t1_wire: T1_WIRE,
        destination: Address::from(destination.into()),
        replies: 0,
        reserved: 0,
    };
    rig.put_in_flight(KEY, sent);
    Some(rig)
}

/// For tests in which one probe gets many replies.
fn lift_limit(rig: &mut Rig) {
    let settings = Settings {
        max_replies: u32::MAX,
        ..settings()
    };
    rig.object().set_settings(&settings).unwrap();
}

#[test]
fn every_field_of_a_sample() {
    for hook in RECEIVERS {
        for (asked, source) in [
            (IpAddr::from(SENDER_V4), IpAddr::from(SENDER_V4)),
            (SENDER_V6.into(), SENDER_V6.into()),
            (GROUP_V4.into(), SENDER_V4.into()),
            (GROUP_V4.into(), [10, 1, 2, 99].into()),
            (GROUP_V6.into(), SENDER_V6.into()),
        ] {
            let Some(mut rig) = waiting_for(asked) else { return };
            let frame = reply(source).build();
            let outcome = rig.run(hook, &frame);
            assert_eq!(outcome.verdict, Verdict::Consume);
            assert_eq!(outcome.counted, once(&[Collected]));
            assert_eq!(outcome.frame, frame);
            let samples = rig.samples();
            let [sample] = samples[..] else { panic!("{samples:?}") };
            assert!(
                outcome.monotonic.contains(&sample.t4_mono_ns),
                "{} {:?}",
                sample.t4_mono_ns,
                outcome.monotonic
            );
            assert!(
                outcome.unix.contains(&sample.t4_unix_ns),
                "{} {:?}",
                sample.t4_unix_ns,
                outcome.unix
            );
            let expected = Sample {
                t1_mono_ns: T1_MONO_NS,
                t4_mono_ns: sample.t4_mono_ns,
                t1_wire: T1_WIRE,
                t2_wire: T2_WIRE,
                t3_wire: T3_WIRE,
                t4_unix_ns: sample.t4_unix_ns,
                source: source.into(),
                seq: KEY.seq,
                reflector_seq: 0xa1a2_a3a4,
                ssid: KEY.ssid,
                reflector_error: 0x8e0f,
                reserved: 0,
            };
            assert_eq!(sample, expected);
        }
    }
}

#[test]
fn duplicates_are_collected_up_to_a_limit() {
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        let frame = reply(SENDER_V4).build();
        for _ in 0..MAX_REPLIES {
            assert_eq!(rig.run(hook, &frame).counted, once(&[Collected]));
        }
        rig.run(hook, &frame)
            .assert_dropped(&frame, &[DuplicateDropped], "too many");
        assert_eq!(rig.repeat(hook, &frame, 1_000), Verdict::Consume);
        let samples = rig.samples();
        assert_eq!(samples.len(), MAX_REPLIES as usize);
        assert!(samples.is_sorted_by_key(|sample| sample.t4_mono_ns));
    }
}

#[test]
fn duplicates_to_a_group_probe_leave_room_for_other_hosts() {
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(GROUP_V4) else { return };
        let frame = reply(SENDER_V4).build();
        rig.repeat(hook, &frame, 1_000);
        // The first ones are not counted by source.
        assert_eq!(rig.samples().len(), 2 * MAX_REPLIES as usize);
        rig.counted();
        for last in 10..60 {
            let other = reply([10, 1, 1, last]).build();
            assert_eq!(rig.run(hook, &other).counted, once(&[Collected]), "another host");
        }
        rig.samples();
        rig.repeat(hook, &reply([10, 1, 1, 7]).build(), 10_000);
        assert_eq!(rig.samples().len(), MAX_REPLIES as usize);
        for source in 0..MAX_GROUP_REPLIES / MAX_REPLIES {
            let [.., third, fourth] = source.to_be_bytes();
            rig.repeat(hook, &reply([10, 1, 100 + third, fourth]).build(), 20);
        }
        // Less those above.
        assert!(rig.samples().len() < MAX_GROUP_REPLIES as usize);
        rig.counted();
        let other = reply([10, 1, 1, 8]).build();
        rig.run(hook, &other)
            .assert_dropped(&other, &[DuplicateDropped], "more than any group has members");
    }
}

#[test]
fn replies_that_no_probe_is_waiting_for() {
    let good = reply(SENDER_V4);
    let foreign = reply(SENDER_V6);
    let table = [
        ("another source", reply([10, 1, 1, 7]).build()),
        ("the other IP version", foreign.build()),
        ("T1", altered(&good, stamp::SENDER_TIMESTAMP + 7, &[0x06])),
        ("no T1", altered(&good, stamp::SENDER_TIMESTAMP, &[0; 8])),
        ("SSID", altered(&good, stamp::SSID, &[0x0b, 0x0d])),
        ("sequence", altered(&good, stamp::SENDER_SEQUENCE, &[1, 2, 3, 5])),
        (
            "the reflector's sequence in its place",
            altered(&good, stamp::SENDER_SEQUENCE, &[0xa1, 0xa2, 0xa3, 0xa4]),
        ),
    ];
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        for (what, frame) in &table {
            rig.run(hook, frame).assert_passed(frame, &[Unmatched], what);
        }
        assert_eq!(rig.samples(), []);
        assert_eq!(
            rig.run(hook, &good.build()).counted,
            once(&[Collected]),
            "the probe still waits"
        );

        let Some(mut rig) = Rig::new() else { return };
        rig.run(hook, &good.build())
            .assert_passed(&good.build(), &[Unmatched], "nothing is in flight");
    }
}

#[test]
fn a_record_answers_its_own_probe_alone() {
    let good = reply(SENDER_V4);
    let earlier = altered(&good, stamp::SENDER_SEQUENCE, &(KEY.seq - RING_MASK - 1).to_be_bytes());
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        rig.run(hook, &earlier)
            .assert_passed(&earlier, &[Unmatched], "an earlier probe in the same place");
        let sent = rig.in_flight(KEY).unwrap();
        let half_written = InFlightRecord { id: 0, sent };
        let mut records = rig.object().in_flight().unwrap();
        let place = (0..=RING_MASK).find(|index| records.get(index, 0).unwrap().sent == sent);
        records.set(place.unwrap(), half_written, 0).unwrap();
        rig.run(hook, &good.build())
            .assert_passed(&good.build(), &[Unmatched], "a record that is being written");
        rig.put_in_flight(KEY, sent);
        assert_eq!(rig.run(hook, &good.build()).counted, once(&[Collected]));
        rig.open_session(SSID);
        rig.run(hook, &good.build())
            .assert_passed(&good.build(), &[Unmatched], "a session that has begun again");
        assert_eq!(rig.samples().len(), 1);
    }
}

#[test]
fn a_reply_without_a_session_identifier_belongs_to_the_session_of_its_host() {
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        let anonymous = altered(&reply(SENDER_V4), stamp::SSID, &[0, 0]);
        rig.run(hook, &anonymous)
            .assert_passed(&anonymous, &[Unmatched], "the host is not probed at its own address");
        let peer = Address::from(IpAddr::from(SENDER_V4));
        let mut sessions = rig.object().sessions_by_peer().unwrap();
        sessions.insert(peer, u32::from(KEY.ssid), 0).unwrap();
        assert_eq!(rig.run(hook, &anonymous).counted, once(&[Collected]));
        assert_eq!(rig.samples()[0].ssid, KEY.ssid);
    }
}

#[test]
fn a_damaged_reply_is_left_to_the_stack() {
    for hook in RECEIVERS {
        for source in [IpAddr::from(SENDER_V4), SENDER_V6.into()] {
            let Some(mut rig) = waiting_for(source) else { return };
            let mut frame = reply(source).build();
            let t3 = frame.len() - stamp::BASE_LEN + stamp::TIMESTAMP + 7;
            frame[t3] ^= 1;
            rig.run(hook, &frame)
                .assert_passed(&frame, &[ReplyBadChecksum], "one bit of T3");
        }
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        let mut frame = reply(SENDER_V4).build();
        frame[22] ^= 1;
        rig.run(hook, &frame)
            .assert_passed(&frame, &[ReplyBadChecksum], "one bit of the TTL");
        for length in [36, 37, 43, 45, 48, 100, 555, 556, 557, 1_500, 3_000] {
            for source in [IpAddr::from(SENDER_V4), SENDER_V6.into()] {
                let Some(mut rig) = waiting_for(source) else { return };
                let mut payload = reply_payload();
                payload.resize(length, 0x77);
                let frame = reply(source).payload(payload).build();
                for damaged in [frame.len() - length + stamp::SEQUENCE, frame.len() - 1] {
                    let mut frame = frame.clone();
                    frame[damaged] ^= 1;
                    let what = format!("byte {damaged} of {length}");
                    rig.run(hook, &frame).assert_passed(&frame, &[ReplyBadChecksum], &what);
                }
                assert_eq!(rig.run(hook, &frame).counted, once(&[Collected]), "{length}");
            }
        }
        assert_eq!(rig.samples(), []);
    }
}

#[test]
fn a_group_probe_takes_an_allowed_source_and_no_other_t1() {
    let strangers: [(IpAddr, &[IpAddr]); 2] = [
        (
            GROUP_V4.into(),
            &[
                [192, 0, 2, 99].into(),
                [10, 2, 1, 5].into(),
                [127, 0, 0, 1].into(),
                [255; 4].into(),
                [0; 4].into(),
                GROUP_V4.into(),
                OWN_V4.into(),
                SECOND_V4.into(),
            ],
        ),
        (
            GROUP_V6.into(),
            &[
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, 5].into(),
                [0, 0, 0, 0, 0, 0, 0, 1].into(),
                [0; 8].into(),
                GROUP_V6.into(),
                OWN_V6.into(),
                OWN_LINK_LOCAL.into(),
            ],
        ),
    ];
    for hook in RECEIVERS {
        for (group, sources) in strangers {
            let Some(mut rig) = waiting_for(group) else { return };
            for &source in sources {
                let frame = reply(source).build();
                rig.run(hook, &frame)
                    .assert_passed(&frame, &[ReplyNotAllowed], &source.to_string());
            }
            assert_eq!(rig.samples(), []);
        }
        let Some(mut rig) = waiting_for(GROUP_V4) else { return };
        rig.allow("192.0.2.0/24", IpAddr::from(OWN_V4));
        let allowed = reply([192, 0, 2, 99]).build();
        assert_eq!(rig.run(hook, &allowed).counted, once(&[Collected]));
        rig.disallow("192.0.2.0/24");
        assert_eq!(rig.run(hook, &allowed).counted, once(&[ReplyNotAllowed]));
        let host = Address::from(IpAddr::from([192, 0, 2, 99]));
        rig.object().sessions_by_peer().unwrap().insert(host, 7, 0).unwrap();
        assert_eq!(
            rig.run(hook, &allowed).counted,
            once(&[Collected]),
            "a host that was named needs no prefix"
        );
        let Some(mut rig) = waiting_for(GROUP_V4) else { return };
        let wrong = altered(&reply(SENDER_V4), stamp::SENDER_TIMESTAMP, &[0]);
        rig.run(hook, &wrong).assert_passed(&wrong, &[Unmatched], "another T1");
    }
}

#[test]
fn replies_of_every_length() {
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        lift_limit(&mut rig);
        for length in 0..80 {
            let mut payload = reply_payload();
            payload.resize(length, 0x77);
            let frame = reply(SENDER_V4).payload(payload).build();
            let outcome = rig.run(hook, &frame);
            if length < stamp::MIN_REPLY_LEN {
                outcome.assert_passed(&frame, &[ReplyMalformed], "short");
            } else {
                assert_eq!(
                    (outcome.verdict, outcome.counted),
                    (Verdict::Consume, once(&[Collected])),
                    "{length}"
                );
            }
        }
        assert_eq!(rig.samples().len(), 80 - stamp::MIN_REPLY_LEN);

        for udp_length in [0_u16, 7, 53, u16::MAX] {
            let mut frame = reply(SENDER_V4).build();
            frame[38..40].copy_from_slice(&udp_length.to_be_bytes());
            rig.run(hook, &frame)
                .assert_passed(&frame, &[ReplyMalformed], "contradicting lengths");
        }
    }
}

#[test]
fn a_full_ring_buffer_is_counted_and_the_reply_remembered() {
    // Eight bytes of header precede each record (`include/uapi/linux/bpf.h`).
    const FIT: u32 = SAMPLES_BYTES / (size_of::<Sample>() as u32 + 8);
    for hook in RECEIVERS {
        let Some(mut rig) = waiting_for(SENDER_V4) else { return };
        lift_limit(&mut rig);
        let frame = reply(SENDER_V4).build();
        assert_eq!(rig.repeat(hook, &frame, FIT), Verdict::Consume);
        let collected = rig.counted();
        assert_eq!(collected, [("collected", u64::from(FIT))]);
        let missed: Vec<_> = rig.object().missed().unwrap().keys().collect();
        assert!(missed.is_empty(), "{missed:?}");

        let outcome = rig.run(hook, &frame);
        assert_eq!(outcome.verdict, Verdict::Consume);
        assert_eq!(outcome.counted, once(&[RingFull]));
        let missed: Vec<_> = rig.object().missed().unwrap().iter().map(Result::unwrap).collect();
        let [(key, t4_mono_ns)] = missed[..] else {
            panic!("{missed:?}")
        };
        assert_eq!(
            key,
            MissedKey {
                source: IpAddr::from(SENDER_V4).into(),
                probe: KEY
            }
        );
        assert!(outcome.monotonic.contains(&t4_mono_ns));

        assert_eq!(rig.samples().len(), FIT as usize, "what was collected is there");
        assert_eq!(
            rig.run(hook, &frame).counted,
            once(&[Collected]),
            "and there is room again"
        );
    }
}

/// The clock is set while the probe is on its way.
#[test]
fn a_step_of_the_clock_changes_no_monotonic_stamp() {
    const STEP_NS: u64 = 3_600_000_000_000;
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let probe = Datagram::probe(SENDER_V4).from(OWN_V4).ports(SENDER_PORT_V4, TEST_PORT);
        let sent = rig.run(Program::Egress, &probe.build());
        let t1 = sent.stamp(probe.udp_at() + 8 + stamp::TIMESTAMP);
        let set = Settings {
            unix_offset_ns: settings().unix_offset_ns - STEP_NS,
            ..settings()
        };
        rig.object().set_settings(&set).unwrap();
        let frame = altered(&reply(SENDER_V4), stamp::SENDER_TIMESTAMP, &t1.to_be_bytes());
        let outcome = rig.run(hook, &frame);
        assert_eq!(
            outcome.counted,
            once(&[Collected]),
            "T1 is recognised as it was written"
        );
        let samples = rig.samples();
        let [sample] = samples[..] else { panic!("{samples:?}") };
        assert!(sent.monotonic.contains(&sample.t1_mono_ns));
        assert!(outcome.monotonic.contains(&sample.t4_mono_ns));
        assert_eq!(sample.t4_unix_ns, sample.t4_mono_ns + set.unix_offset_ns);
        let t1_unix_ns = t1.to_unix_ns(*sent.unix.start());
        let written_ns = sample.t1_mono_ns + settings().unix_offset_ns;
        assert!(t1_unix_ns.abs_diff(written_ns) <= 1, "{t1_unix_ns} {written_ns}");
    }
}

#[test]
fn the_egress_program_and_the_receivers_share_the_probes_in_flight() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let probe = Datagram::probe(SENDER_V4).from(OWN_V4).ports(SENDER_PORT_V4, TEST_PORT);
        let sent = rig.run(Program::Egress, &probe.build());
        let t1 = sent.stamp(probe.udp_at() + 8 + stamp::TIMESTAMP);
        let frame = altered(&reply(SENDER_V4), stamp::SENDER_TIMESTAMP, &t1.to_be_bytes());
        let outcome = rig.run(hook, &frame);
        assert_eq!(outcome.counted, once(&[Collected]));
        let samples = rig.samples();
        let [sample] = samples[..] else { panic!("{samples:?}") };
        assert!(sent.monotonic.contains(&sample.t1_mono_ns));
        assert!(sample.t1_mono_ns <= sample.t4_mono_ns);
        assert_eq!(sample.t1_wire, t1.0);
    }
}
