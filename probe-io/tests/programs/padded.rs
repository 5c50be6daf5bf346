//! Padded probes: the reply is as long as the probe.

use probe_common::abi::Counter::{BadChecksum, PassedUp};
use probe_common::abi::{COUNTER_NAMES, Counter};
use probe_common::stamp::BASE_LEN;

use crate::packet::{Datagram, GROUP_V6, OWN_V4, OWN_V6, probe_payload, with_partial_checksum};
use crate::rig::{Outcome, RECEIVERS, Rig, Verdict};

/// An Extra Padding TLV with these flags and this many bytes of value.
fn padding_tlv(flags: u8, length: u16) -> Vec<u8> {
    let mut tlv = vec![flags, 1];
    tlv.extend(length.to_be_bytes());
    tlv.extend((0..length).map(|index| (index * 7 + 3) as u8));
    tlv
}

fn with_tail(probe: Datagram, tail: &[u8]) -> Datagram {
    probe.payload([&probe_payload(7, 3)[..], tail].concat())
}

/// The reply is as long as the request, ends in `tail`, and has right checksums.
fn assert_reply(probe: &Datagram, tail: &[u8], partial: bool, outcome: &Outcome) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{probe:?} {:?}", outcome.counted);
    assert!(
        outcome.counted.contains(&(COUNTER_NAMES[Counter::Padded as usize], 1)),
        "{:?}",
        outcome.counted
    );
    let at = probe.udp_at() + 8;
    let payload = outcome.frame[at..].to_vec();
    assert_eq!(payload.len(), probe.payload.len());
    assert_eq!(&payload[BASE_LEN..], tail);
    assert_eq!(payload[24..38], probe.payload[..14], "the sender's fields");
    let own = match probe.destination.is_multicast() {
        true => OWN_V6.into(),
        false => probe.destination,
    };
    let reply = probe.reply(own, payload);
    let expected = if partial {
        with_partial_checksum(&reply)
    } else {
        reply.build()
    };
    assert_eq!(outcome.frame, expected, "{probe:?}");
}

#[test]
fn zeroes_and_the_padding_tlv_come_back() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for probe in [
            Datagram::probe(OWN_V4),
            Datagram::probe(OWN_V6),
            Datagram::probe(GROUP_V6),
        ] {
            for length in [
                1, 2, 3, 4, 5, 27, 100, 467, 468, 469, 511, 512, 513, 1_023, 1_024, 1_400, 1_428, 3_000,
            ] {
                let zeroes = vec![0; length];
                let probe = with_tail(probe.clone(), &zeroes);
                assert_reply(&probe, &zeroes, false, &rig.run(hook, &probe.build()));
                if length < 4 {
                    continue;
                }
                let value = length as u16 - 4;
                let probe = with_tail(probe, &padding_tlv(0x80, value));
                assert_reply(&probe, &padding_tlv(0, value), false, &rig.run(hook, &probe.build()));
            }
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
            for probe in [Datagram::probe(OWN_V4), Datagram::probe(OWN_V6)] {
                let probe = with_tail(probe, &padding_tlv(0x80, 1_001));
                let outcome = rig.run(hook, &with_partial_checksum(&probe));
                assert_reply(&probe, &padding_tlv(0, 1_001), keep_partial, &outcome);
            }
        }
    }
}

#[test]
fn other_trailers_are_left_to_userspace() {
    let mut last = vec![0; 700];
    last[699] = 1;
    let two = [padding_tlv(0x80, 8), padding_tlv(0x80, 8)].concat();
    let table: [(&str, Vec<u8>); 8] = [
        ("zeros except the last byte", last),
        ("another TLV", [&[0x80, 2, 0, 4][..], &[0; 4]].concat()),
        ("two TLVs", two),
        (
            "a TLV that is longer than the packet",
            padding_tlv(0x80, 8)[..11].to_vec(),
        ),
        ("padding behind the TLV", [padding_tlv(0x80, 8), vec![0; 4]].concat()),
        ("flag M", padding_tlv(0xc0, 8)),
        ("a reserved flag", padding_tlv(0x81, 8)),
        ("bytes that are not a TLV", vec![7; 3]),
    ];
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for (what, tail) in &table {
            let frame = with_tail(Datagram::probe(OWN_V4), tail).build();
            let outcome = rig.run(hook, &frame);
            // The first frame makes its source known.
            assert_eq!((outcome.verdict, &outcome.frame), (Verdict::Pass, &frame), "{what}");
            assert_eq!(outcome.counted[0], (COUNTER_NAMES[PassedUp as usize], 1), "{what}");
        }
    }
}

#[test]
fn damage_in_the_padding_is_noticed() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for at in [100, 600, 1_100] {
            let mut frame = with_tail(Datagram::probe(OWN_V4), &padding_tlv(0x80, 1_200)).build();
            frame[at] ^= 0x10;
            rig.run(hook, &frame).assert_passed(&frame, &[BadChecksum], "one bit");
        }
    }
}
