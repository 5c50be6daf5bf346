//! Packets that the receiving programs must leave alone: each passes unchanged and is counted by its reason.

use std::net::IpAddr;

use probe_common::abi::Counter::{
    self, AbiMismatch, BadChecksum, BadSource, Extension, Fragment, IpOptions, LegacyLoop, Malformed, NotForUs,
    PassedUp, ReplyMalformed, ReplyShaped, SourcePort, Unmatched, Vlan,
};
use probe_common::abi::{ABI_VERSION, Settings};
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;

use crate::packet::{
    Datagram, ETHERNET, GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_V4, OWN_V6, PROBER_PORT, SECOND_PORT, SENDER_PORT_V4,
    SENDER_PORT_V6, TEST_PORT, UDP_V4, UDP_V6, mend_ipv4, with_checksum, with_extensions, with_fragment, with_options,
    with_tags,
};
use crate::rig::{Outcome, Program, RECEIVERS, Rig, Verdict, once, settings};

const HOP_BY_HOP: (u8, &[u8]) = (0, &[0, 1, 4, 0, 0, 0, 0]);
const FIRST_FRAGMENT: (u8, &[u8]) = (44, &[0, 0, 1, 0, 0, 0, 7]);
const LATER_FRAGMENT: (u8, &[u8]) = (44, &[0, 0x05, 0xa8, 0, 0, 0, 7]);

/// Runs every frame of the table through both programs, each program with a rig of its own.
fn assert_refused(settings: &Settings, table: &[(&str, Vec<u8>, Option<Counter>)]) {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::with(settings) else { return };
        for (what, frame, counter) in table {
            let outcome = rig.run(hook, frame);
            outcome.assert_passed(frame, counter.as_slice(), &format!("{hook:?}, {what}"));
        }
        assert_eq!(rig.samples(), []);
    }
}

#[test]
fn frames_with_an_obstacle() {
    let (v4, v6) = (Datagram::probe(OWN_V4).build(), Datagram::probe(OWN_V6).build());
    let reply = Datagram::probe(OWN_V4).ports(TEST_PORT, SENDER_PORT_V4).build();
    assert_refused(
        &settings(),
        &[
            ("one tag", with_tags(&v4, &[0x8100]), Some(Vlan)),
            ("two tags", with_tags(&v6, &[0x88a8, 0x8100]), Some(Vlan)),
            (
                "three tags: not recognised",
                with_tags(&v4, &[0x88a8, 0x8100, 0x8100]),
                None,
            ),
            ("a reply with a tag", with_tags(&reply, &[0x8100]), Some(Vlan)),
            ("options", with_options(&v4), Some(IpOptions)),
            ("a reply with options", with_options(&reply), Some(IpOptions)),
            (
                "options behind a tag",
                with_tags(&with_options(&v4), &[0x8100]),
                Some(Vlan),
            ),
            ("hop-by-hop", with_extensions(&v6, &[HOP_BY_HOP]), Some(Extension)),
            ("four headers", with_extensions(&v6, &[HOP_BY_HOP; 4]), Some(Extension)),
            (
                "five headers: not recognised",
                with_extensions(&v6, &[HOP_BY_HOP; 5]),
                None,
            ),
            ("first fragment", with_fragment(&v4, 0x2000), Some(Fragment)),
            ("later fragment", with_fragment(&v4, 0x2001), None),
            ("last fragment", with_fragment(&v4, 0x00b9), None),
            (
                "first fragment, IPv6",
                with_extensions(&v6, &[FIRST_FRAGMENT]),
                Some(Fragment),
            ),
            ("later fragment, IPv6", with_extensions(&v6, &[LATER_FRAGMENT]), None),
        ],
    );
}

#[test]
fn lengths_other_than_a_base_packet() {
    let short = |length| Datagram::probe(OWN_V4).payload(vec![0x55; length]).build();
    let mut table = Vec::new();
    for length in 0..14 {
        table.push(("shorter than any test packet", short(length), Some(Malformed)));
    }
    for length in (14..44).chain(45..60).chain([100, 500, 1400]) {
        table.push(("not a base packet", short(length), Some(PassedUp)));
        let v6 = Datagram::probe(GROUP_V6).payload(vec![0x55; length]).build();
        table.push(("not a base packet, IPv6", v6, Some(PassedUp)));
    }
    let with_udp_length = |length: u16| {
        let mut frame = Datagram::probe(OWN_V4).build();
        frame[UDP_V4 + 4..][..2].copy_from_slice(&length.to_be_bytes());
        frame
    };
    let with_ip_length = |length: u16| {
        let mut frame = Datagram::probe(OWN_V4).build();
        frame[ETHERNET + 2..][..2].copy_from_slice(&length.to_be_bytes());
        mend_ipv4(&mut frame);
        frame
    };
    for length in [0, 7, 53, u16::MAX] {
        table.push(("UDP length against IP length", with_udp_length(length), Some(Malformed)));
    }
    for length in [0, 19, 20, 28, 71] {
        table.push(("IP length against UDP length", with_ip_length(length), Some(Malformed)));
    }
    for length in [73, 86, 1500, u16::MAX] {
        table.push((
            "an IP packet longer than its datagram",
            with_ip_length(length),
            Some(PassedUp),
        ));
    }
    let mut v6 = Datagram::probe(OWN_V6).build();
    v6[ETHERNET + 4..][..2].copy_from_slice(&[0, 0]);
    table.push(("a jumbogram's zero length", v6, Some(Malformed)));
    assert_refused(&settings(), &table);
}

#[test]
fn packets_for_others_and_sources_that_cannot_be_answered() {
    let v4 = || Datagram::probe(OWN_V4);
    let v6 = || Datagram::probe(OWN_V6);
    let other_v6 = Datagram::probe([0xfd00, 0, 0, 1, 0, 0, 0, 0x77]);
    let not_for_us = [
        ("another host's address", Datagram::probe([10, 1, 1, 77])),
        ("another host's address, IPv6", other_v6),
        ("a group not joined", Datagram::probe([239, 1, 2, 3])),
        ("broadcast", Datagram::probe([255, 255, 255, 255])),
        ("flooded this way", v4().at_mac([2, 0, 0, 0, 0, 0x77])),
        ("flooded this way, IPv6", v6().at_mac([2, 0, 0, 0, 0, 0x77])),
        ("a group's MAC", v4().at_mac([1, 0, 0x5e, 0x7f, 0xff, 0xfa])),
    ];
    let not_for_us = not_for_us.map(|(what, probe)| (what, probe.build(), Some(NotForUs)));
    let mut table = Vec::from(not_for_us);
    for probe in [v4(), v6(), Datagram::probe(GROUP_V4)] {
        table.push(("from port zero", probe.ports(0, TEST_PORT).build(), Some(SourcePort)));
    }
    table.push(("to port zero", v4().ports(TEST_PORT, 0).build(), None));
    for source in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [239, 255, 255, 250],
        [240, 0, 0, 1],
        [255; 4],
    ] {
        for probe in [v4(), Datagram::probe(GROUP_V4)] {
            table.push(("a source that is no host", probe.from(source).build(), Some(BadSource)));
        }
    }
    for source in ["::", "::1", "::ffff:10.1.1.5", "ff02::1", "ff0e::10"] {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        table.push(("a source that is no host", v6().from(source).build(), Some(BadSource)));
    }
    let mut group_mac = v4();
    group_mac.macs.0 = [0x33, 0x33, 0, 0, 0, 1];
    table.push(("a source MAC that is a group's", group_mac.build(), Some(BadSource)));
    assert_refused(&settings(), &table);
}

#[test]
fn wrong_checksums() {
    let mut table = Vec::new();
    for probe in [
        Datagram::probe(OWN_V4),
        Datagram::probe(GROUP_V4),
        Datagram::probe(OWN_V6),
    ] {
        let good = probe.build();
        let at = probe.udp_at();
        for flipped in [at, at + 6, at + 7, at + 8, at + 20, at + 51] {
            let mut frame = good.clone();
            frame[flipped] ^= 0x10;
            // A flipped port would be another session, but the packet would still be ours.
            table.push(("one bit", frame, Some(BadChecksum)));
        }
    }
    let probe = Datagram::probe(OWN_V6);
    table.push(("none, IPv6", with_checksum(&probe, [0, 0]), Some(BadChecksum)));
    let group = with_checksum(&Datagram::probe(GROUP_V6), [0, 0]);
    table.push(("none, IPv6 group", group, Some(BadChecksum)));
    for flipped in [ETHERNET + 1, ETHERNET + 4, ETHERNET + 8, ETHERNET + 10] {
        let mut frame = with_checksum(&Datagram::probe(OWN_V4), [0, 0]);
        frame[flipped] ^= 0x10;
        table.push(("one bit of the IPv4 header", frame, Some(BadChecksum)));
    }
    assert_refused(&settings(), &table);
}

#[test]
fn loader_and_programs_of_two_versions() {
    let (v4, v6) = (Datagram::probe(OWN_V4).build(), Datagram::probe(GROUP_V6).build());
    let reply = Datagram::probe(OWN_V4).ports(TEST_PORT, SENDER_PORT_V4).build();
    for abi_version in [0, ABI_VERSION + 1, u32::MAX] {
        assert_refused(
            &Settings {
                abi_version,
                ..settings()
            },
            &[
                ("a probe", v4.clone(), Some(AbiMismatch)),
                ("a probe, IPv6", v6.clone(), Some(AbiMismatch)),
                ("a tagged probe", with_tags(&v4, &[0x8100]), Some(AbiMismatch)),
                ("a reply", reply.clone(), Some(AbiMismatch)),
                ("another port", Datagram::probe(OWN_V4).ports(53, 53).build(), None),
            ],
        );
    }
}

#[test]
fn programs_without_settings_touch_nothing() {
    for program in [Program::Xdp, Program::Ingress, Program::Egress] {
        let Some(mut rig) = Rig::unset() else { return };
        for ports in [
            (0, 0),
            (PROBER_PORT, 0),
            (0, PROBER_PORT),
            (PROBER_PORT, TEST_PORT),
            (TEST_PORT, SENDER_PORT_V4),
        ] {
            for destination in [OWN_V4.into(), GROUP_V4.into(), std::net::IpAddr::from(OWN_V6)] {
                let frame = Datagram::probe(destination).ports(ports.0, ports.1).build();
                rig.run(program, &frame)
                    .assert_passed(&frame, &[], &format!("{program:?}, {ports:?}"));
            }
        }
    }
}

#[test]
fn an_agent_that_only_reflects_has_no_replies() {
    let no_sender = Settings {
        sender_port_v4: 0,
        sender_port_v6: 0,
        ..settings()
    };
    let to = |probe: Datagram, port| probe.ports(TEST_PORT, port).build();
    let table = [
        ("to port zero", to(Datagram::probe(OWN_V4), 0), None),
        ("to port zero, IPv6", to(Datagram::probe(OWN_V6), 0), None),
        ("another port", to(Datagram::probe(OWN_V4), SENDER_PORT_V4), None),
    ];
    assert_refused(&no_sender, &table);
}

#[test]
fn bystanders_are_not_counted() {
    let mut tcp = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 5], [2, 0, 0, 0, 0, 6])
        .ipv4([10, 1, 1, 5], [10, 1, 1, 6], 64)
        .tcp(PROBER_PORT, TEST_PORT, 1, 1000)
        .write(&mut tcp, &[0; 44])
        .unwrap();
    let mut arp = Datagram::probe(OWN_V4).build();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut version = Datagram::probe(OWN_V4).build();
    version[ETHERNET] = 0x65;
    let mut version_v6 = Datagram::probe(OWN_V6).build();
    version_v6[ETHERNET] = 0x45;
    let mut header = Datagram::probe(OWN_V4).build();
    header[ETHERNET] = 0x44;
    let mut icmp6 = Datagram::probe(OWN_V6).build();
    icmp6[ETHERNET + 6] = 58;
    assert_refused(
        &settings(),
        &[
            ("TCP to the test port", tcp, None),
            ("ARP", arp, None),
            ("IP version 6 in an IPv4 frame", version, None),
            ("IP version 4 in an IPv6 frame", version_v6, None),
            ("a header of 16 bytes", header, None),
            ("ICMPv6", icmp6, None),
            ("UDP of others", Datagram::probe(OWN_V4).ports(53, 40_000).build(), None),
            (
                "UDP of others, IPv6",
                Datagram::probe(OWN_V6).ports(53, 40_000).build(),
                None,
            ),
            (
                "the ports the wrong way round",
                Datagram::probe(OWN_V4).ports(TEST_PORT, PROBER_PORT).build(),
                None,
            ),
            (
                "the port of the other IP version",
                Datagram::probe(OWN_V4).ports(TEST_PORT, SENDER_PORT_V6).build(),
                None,
            ),
            (
                "the port of the other IP version",
                Datagram::probe(OWN_V6).ports(TEST_PORT, SENDER_PORT_V4).build(),
                None,
            ),
        ],
    );
}

#[test]
fn every_truncation() {
    let reply = Datagram::probe(OWN_V4).ports(TEST_PORT, SENDER_PORT_V4);
    let v6 = Datagram::probe(OWN_LINK_LOCAL);
    let whole = [
        Datagram::probe(OWN_V4).build(),
        Datagram::probe(GROUP_V4).build(),
        v6.build(),
        reply.build(),
        with_tags(&v6.build(), &[0x88a8, 0x8100]),
        with_options(&Datagram::probe(OWN_V4).build()),
        with_extensions(&v6.build(), &[HOP_BY_HOP, FIRST_FRAGMENT]),
    ];
    for program in RECEIVERS.into_iter().chain([Program::Egress]) {
        let Some(mut rig) = Rig::new() else { return };
        let mut ran = 0;
        for full in &whole {
            for length in 0..full.len() {
                let frame = &full[..length];
                // The kernel refuses to run a program on less than an Ethernet header, or on a truncated IP header.
                let Ok(outcome) = rig.try_run(program, frame) else {
                    assert!(length < UDP_V6, "{program:?} could not run on {length} bytes");
                    continue;
                };
                ran += 1;
                assert_cut_short(&outcome, frame, program);
            }
        }
        assert!(ran > 300, "only {ran} truncated frames ran");
    }
}

/// A frame that is cut short passes unchanged, and counts at most once.
fn assert_cut_short(outcome: &Outcome, frame: &[u8], program: Program) {
    let reasons: &[Counter] = &[
        Malformed,
        ReplyMalformed,
        Unmatched,
        Vlan,
        IpOptions,
        Extension,
        Fragment,
    ];
    let reason = outcome.counted.first().and_then(|(name, _)| {
        reasons
            .iter()
            .find(|&&reason| probe_common::abi::COUNTER_NAMES[reason as usize] == *name)
    });
    outcome.assert_passed(
        frame,
        reason.map(std::slice::from_ref).unwrap_or_default(),
        &format!("{program:?}"),
    );
}

#[test]
fn ingress_behind_generic_xdp_takes_redirected_packets_and_counts_no_refusal_twice() {
    let behind = Settings {
        ingress_is_second: 1,
        ..settings()
    };
    let Some(mut rig) = Rig::with(&behind) else { return };
    let refused = with_tags(&Datagram::probe(OWN_V4).build(), &[0x8100]);
    rig.run(Program::Xdp, &refused)
        .assert_passed(&refused, &[Vlan], "XDP counts it");
    rig.run(Program::Ingress, &refused)
        .assert_passed(&refused, &[], "TC ingress does not count it again");
    let redirected = rig.run(Program::Ingress, &Datagram::probe(OWN_V4).build());
    assert_eq!(redirected.counted, once(&[Counter::Reflected, Counter::SessionStarted]));
}

/// A sender may use the port of reflectors (RFC 8762 §4.1), but what a reflector sends from there is a reply.
#[test]
fn from_a_test_port_only_probes_are_answered() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for (source, destination) in [
            (TEST_PORT, TEST_PORT),
            (SECOND_PORT, SECOND_PORT),
            (SECOND_PORT, TEST_PORT),
        ] {
            for own in [IpAddr::from(OWN_V4), OWN_V6.into(), GROUP_V4.into()] {
                let probe = Datagram::probe(own).ports(source, destination);
                let payload = stamp::probe(7, ErrorEstimate(1), 9).to_vec();
                let zeros = probe.clone().payload(payload.clone());
                assert_eq!(
                    rig.run(hook, &zeros.build()).verdict,
                    Verdict::Transmit,
                    "{source} {own}"
                );
                // Random padding of a TWAMP-Light reflector, where ours has zeros.
                let mut padded = payload;
                padded[stamp::RECEIVE_TIMESTAMP] = 1;
                padded[stamp::SENDER_TTL + 1..].fill(7);
                let reply = probe.clone().payload(padded.clone()).build();
                rig.run(hook, &reply).assert_passed(&reply, &[ReplyShaped], "a reply");
                let elsewhere = probe.clone().ports(PROBER_PORT, destination).payload(padded);
                assert_eq!(
                    rig.run(hook, &elsewhere.build()).verdict,
                    Verdict::Transmit,
                    "{source} {own}"
                );
                let ascii = Datagram {
                    ttl: 64,
                    ..probe.payload(b"7".to_vec())
                }
                .build();
                rig.run(hook, &ascii).assert_passed(&ascii, &[LegacyLoop], "ASCII");
            }
        }
    }
}

#[test]
fn a_reply_is_never_answered_on_any_port() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for own in [IpAddr::from(OWN_V4), OWN_V6.into()] {
            let probe = Datagram::probe(own);
            let answered = rig.run(hook, &probe.build());
            assert_eq!(answered.verdict, Verdict::Transmit);
            // A reflector on another port would see our reply as a probe.
            let reply = answered.frame[probe.udp_at() + 8..].to_vec();
            let returned = probe.payload(reply).build();
            rig.run(hook, &returned)
                .assert_passed(&returned, &[ReplyShaped], "a reply to a reply");
        }
    }
}
