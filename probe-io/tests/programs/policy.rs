//! Allowed sources and rate limits.

use std::net::IpAddr;
use std::thread;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{EbpfLoader, include_bytes_aligned};
use probe_common::abi::Counter::{
    self, NoOwnAddress, NotAllowed, NotForUs, OwnSource, PassedUp, RateGroup, RatePort, RateSource, Reflected,
    ReflectedGroup, SourcePort, SubnetSource,
};
use probe_common::abi::{Address, Allowed, COUNTER_NAMES, DESTINATION_OWN, Limit, Settings};
use probe_common::reflect::V6_FRAME;

use crate::packet::{
    Datagram, GROUP_V4, GROUP_V6, OWN_LINK_LOCAL, OWN_V4, OWN_V6, PROBER_PORT, SECOND_V4, SENDER_LINK_LOCAL, SENDER_V4,
    SENDER_V6, TEST_PORT, probe_payload, with_options,
};
use crate::rig::{Outcome, RECEIVERS, Rig, Verdict, may_load, settings, trie_entry};

const HOUR_NS: u64 = 3_600_000_000_000;

/// A burst of this many packets, and no more during a test.
fn at_once(packets: u64) -> Limit {
    Limit {
        interval_ns: HOUR_NS,
        burst_ns: packets * HOUR_NS,
    }
}

/// The probe was answered and counted as `counter`.
fn assert_answered(outcome: &Outcome, counter: Counter, what: &str) {
    assert_eq!(outcome.verdict, Verdict::Transmit, "{what}: {:?}", outcome.counted);
    assert!(
        outcome.counted.contains(&(COUNTER_NAMES[counter as usize], 1)),
        "{what}: {:?}",
        outcome.counted
    );
}

fn refused(rig: &mut Rig, source: impl Into<IpAddr>) -> u64 {
    let state = rig.object().source(source.into().into()).unwrap();
    state.unwrap().refused
}

#[test]
fn all_packets_from_outside_the_prefixes_are_dropped() {
    let outside = Datagram::probe(OWN_V4).from([192, 0, 2, 5]);
    let outside_v6 = Datagram::probe(OWN_V6).from([0xfd00, 0, 0, 2, 0, 0, 0, 5]);
    let table = [
        outside.build(),
        Datagram::probe(GROUP_V4).from([192, 0, 2, 5]).build(),
        outside_v6.build(),
        outside.clone().payload(probe_payload(1, 1)[..20].to_vec()).build(),
        outside.clone().payload(vec![b'7'; 3]).build(),
        outside.clone().payload(vec![]).build(),
        outside.clone().ports(0, TEST_PORT).build(),
        with_options(&outside.build()),
    ];
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for frame in &table {
            rig.run(hook, frame)
                .assert_dropped(frame, &[NotAllowed], &format!("{frame:02x?}"));
        }
        let elsewhere = outside.clone().at_mac([2, 0, 0, 0, 0, 0x77]).build();
        rig.run(hook, &elsewhere).assert_passed(
            &elsewhere,
            &[NotForUs],
            "a packet for another host is not ours to drop",
        );
        assert_eq!(rig.known_sources(), 0, "they are not remembered");
    }
}

#[test]
fn prefixes_come_and_go() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        let generation = |rig: &mut Rig, policy_generation| {
            let settings = Settings {
                policy_generation,
                ..settings()
            };
            rig.object().set_settings(&settings).unwrap();
        };
        let (far, far_v6) = (IpAddr::from([192, 0, 2, 5]), "2001:db8::5".parse::<IpAddr>().unwrap());
        let (v4, v6) = (
            Datagram::probe(OWN_V4).from(far).build(),
            Datagram::probe(OWN_V6).from(far_v6).build(),
        );
        rig.run(hook, &v4).assert_dropped(&v4, &[NotAllowed], "not yet");
        rig.allow("::/0", IpAddr::from(OWN_V6));
        assert_answered(&rig.run(hook, &v6), Reflected, "any IPv6 source");
        rig.run(hook, &v4)
            .assert_dropped(&v4, &[NotAllowed], "IPv4 is not IPv6");
        rig.allow("0.0.0.0/0", IpAddr::from(OWN_V4));
        assert_answered(&rig.run(hook, &v4), Reflected, "any IPv4 source");
        rig.disallow("::/0");
        rig.disallow("0.0.0.0/0");
        assert_answered(&rig.run(hook, &v4), Reflected, "known until the generation changes");
        generation(&mut rig, 2);
        for frame in [&v4, &v6] {
            rig.run(hook, frame).assert_dropped(frame, &[NotAllowed], "no longer");
        }
        rig.allow("192.0.2.5/32", IpAddr::from(OWN_V4));
        assert_answered(&rig.run(hook, &v4), Reflected, "one address");
        generation(&mut rig, 3);
        assert_answered(&rig.run(hook, &v4), Reflected, "still, in the next generation");
        let link_local = Datagram::probe(OWN_LINK_LOCAL).from(SENDER_LINK_LOCAL).build();
        assert_answered(&rig.run(hook, &link_local), Reflected, "the link's own prefix");
    }
}

#[test]
fn own_and_subnet_addresses_are_dropped() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        rig.allow_nobody("10.1.1.0/32");
        rig.allow_nobody("10.1.1.255/32");
        for (source, counter) in [
            (IpAddr::from(OWN_V4), OwnSource),
            (SECOND_V4.into(), OwnSource),
            (OWN_V6.into(), OwnSource),
            (OWN_LINK_LOCAL.into(), OwnSource),
            ([10, 1, 1, 0].into(), SubnetSource),
            ([10, 1, 1, 255].into(), SubnetSource),
        ] {
            let (own, group): (IpAddr, IpAddr) = match source {
                IpAddr::V4(_) => (OWN_V4.into(), GROUP_V4.into()),
                IpAddr::V6(_) => (OWN_V6.into(), GROUP_V6.into()),
            };
            for probe in [
                Datagram::probe(own),
                Datagram::probe(group),
                Datagram::probe(own).payload(vec![0x55; 100]),
                Datagram::probe(group).payload(b"12".to_vec()),
            ] {
                let frame = Datagram { ttl: 64, ..probe }.from(source).build();
                rig.run(hook, &frame)
                    .assert_dropped(&frame, &[counter], &format!("{source}"));
            }
        }
        assert_eq!(rig.known_sources(), 0, "not remembered");
        // A source becomes an own address.
        let probe = Datagram::probe(OWN_V4).build();
        assert_answered(&rig.run(hook, &probe), Reflected, "a neighbour");
        let sender = Address::from(IpAddr::from(SENDER_V4));
        rig.object()
            .destinations()
            .unwrap()
            .insert(sender, DESTINATION_OWN, 0)
            .unwrap();
        let settings = Settings {
            policy_generation: 2,
            ..settings()
        };
        rig.object().set_settings(&settings).unwrap();
        rig.run(hook, &probe).assert_dropped(&probe, &[OwnSource], "now ours");
    }
}

#[test]
fn a_group_probe_is_answered_from_the_address_of_its_senders_subnet() {
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        rig.allow("10.1.2.0/24", IpAddr::from(SECOND_V4));
        rig.allow("10.1.3.0/24", Address::NONE);
        rig.allow("::/0", IpAddr::from(OWN_V6));
        for (source, own) in [
            (IpAddr::from(SENDER_V4), IpAddr::from(OWN_V4)),
            ([10, 1, 2, 5].into(), SECOND_V4.into()),
            ([10, 1, 4, 5].into(), OWN_V4.into()),
            (SENDER_V6.into(), OWN_V6.into()),
            (SENDER_LINK_LOCAL.into(), OWN_LINK_LOCAL.into()),
        ] {
            let group: IpAddr = if source.is_ipv4() {
                GROUP_V4.into()
            } else {
                GROUP_V6.into()
            };
            for payload in [probe_payload(1, 1), b"12".to_vec()] {
                let probe = Datagram::probe(group).from(source).payload(payload);
                let probe = Datagram { ttl: 64, ..probe };
                let outcome = rig.run(hook, &probe.build());
                assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
                let payload = outcome.frame[probe.udp_at() + 8..].to_vec();
                assert_eq!(outcome.frame, probe.reply(own, payload).build(), "{source}");
            }
        }
        let nothing = Datagram::probe(GROUP_V4).from([10, 1, 3, 5]).build();
        rig.run(hook, &nothing)
            .assert_passed(&nothing, &[NoOwnAddress], "no address for this prefix");
        let link_local = Datagram::probe(GROUP_V6).from([0xfe90, 0, 0, 0, 0, 0, 0, 5]).build();
        rig.run(hook, &link_local)
            .assert_passed(&link_local, &[NoOwnAddress], "an address of another scope");
        let unicast = Datagram::probe(OWN_V4).from([10, 1, 3, 5]).build();
        assert_answered(&rig.run(hook, &unicast), Reflected, "unicast needs no other address");
    }
}

#[test]
fn only_a_source_above_its_rate_is_refused() {
    let limited = Settings {
        source_limit: at_once(4),
        group_limit: at_once(2),
        ..settings()
    };
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::with(&limited) else { return };
        let (v4, group) = (Datagram::probe(OWN_V4), Datagram::probe(GROUP_V4));
        for number in 0..4_u16 {
            // Another port is not another source.
            let probe = v4.clone().ports(PROBER_PORT + number, TEST_PORT);
            assert_answered(&rig.run(hook, &probe.build()), Reflected, "within the limit");
        }
        for _ in 0..3 {
            rig.run(hook, &v4.build())
                .assert_dropped(&v4.build(), &[RateSource], "beyond the limit");
        }
        for _ in 0..2 {
            assert_answered(&rig.run(hook, &group.build()), ReflectedGroup, "the group has its own");
        }
        rig.run(hook, &group.build())
            .assert_dropped(&group.build(), &[RateGroup], "beyond the group's");
        assert_eq!(refused(&mut rig, SENDER_V4), 4);
        let other = v4.clone().from([10, 1, 1, 7]);
        assert_answered(&rig.run(hook, &other.build()), Reflected, "another source");
        assert_answered(
            &rig.run(hook, &Datagram::probe(OWN_V6).build()),
            Reflected,
            "another IP version",
        );
        assert_eq!(refused(&mut rig, SENDER_V6), 0);
    }
}

#[test]
fn a_source_is_answered_again_after_its_debt_is_earned() {
    let quick = Settings {
        source_limit: Limit {
            interval_ns: 20_000_000,
            burst_ns: 20_000_000,
        },
        ..settings()
    };
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::with(&quick) else { return };
        let probe = Datagram::probe(OWN_V4).build();
        for _ in 0..3 {
            assert_answered(&rig.run(hook, &probe), Reflected, "earned");
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }
}

#[test]
fn the_port_has_a_limit_for_all_sources_together() {
    let limited = Settings {
        port_batch: 1,
        port_limit: at_once(5),
        ..settings()
    };
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::with(&limited) else { return };
        for last in 11..=15 {
            let probe = Datagram::probe(OWN_V4).from([10, 1, 1, last]).build();
            assert_answered(&rig.run(hook, &probe), Reflected, "within the limit");
        }
        for probe in [
            Datagram::probe(OWN_V4),
            Datagram::probe(GROUP_V4),
            Datagram::probe(OWN_V6),
        ] {
            rig.run(hook, &probe.build())
                .assert_dropped(&probe.build(), &[RatePort], "beyond the limit");
        }
        assert_eq!(refused(&mut rig, SENDER_V4), 2);
        let digits = Datagram::probe(OWN_V4).payload(b"12".to_vec()).build();
        rig.run(hook, &digits)
            .assert_dropped(&digits, &[RatePort], "a reply to a legacy agent counts too");
    }
}

#[test]
fn waking_userspace_costs_as_much_as_eight_replies() {
    let limited = Settings {
        source_limit: at_once(17),
        ..settings()
    };
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::with(&limited) else { return };
        let odd = Datagram::probe(OWN_V4).payload(vec![0x55; 100]);
        let from_port = Datagram::probe(OWN_V4).ports(0, TEST_PORT).build();
        rig.run(hook, &odd.build())
            .assert_passed(&odd.build(), &[PassedUp], "8 of 17 spent");
        rig.run(hook, &from_port)
            .assert_passed(&from_port, &[SourcePort], "16 of 17 spent");
        rig.run(hook, &odd.build())
            .assert_dropped(&odd.build(), &[RateSource], "too expensive");
        assert_eq!(refused(&mut rig, SENDER_V4), 0, "only probes are counted as refused");
        let probe = Datagram::probe(OWN_V4).build();
        for _ in 0..17 {
            assert_answered(&rig.run(hook, &probe), Reflected, "probes have a bucket of their own");
        }
        rig.run(hook, &probe)
            .assert_dropped(&probe, &[RateSource], "and no other");
        let other = odd.clone().from([10, 1, 1, 7]).build();
        rig.run(hook, &other)
            .assert_passed(&other, &[PassedUp], "another source");
        let elsewhere = odd.clone().at_mac([2, 0, 0, 0, 0, 0x77]).build();
        rig.run(hook, &elsewhere)
            .assert_passed(&elsewhere, &[PassedUp], "for another host");
    }
}

/// Two CPUs race for one source's bucket: the source still gets exactly its share.
#[test]
fn a_share_is_not_exceeded_by_asking_on_several_cpus() {
    const SHARE: u64 = 20_000;
    static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-bench-programs"));
    if !may_load() {
        return;
    }
    let mut loader = EbpfLoader::new();
    loader.override_global(aya_log::LEVEL, &0_u8, false);
    let mut ebpf = loader.load(OBJECT).unwrap();
    let probe = Datagram::probe(OWN_V4).build();
    let limited = Settings {
        source_limit: at_once(SHARE),
        ..settings()
    };
    let mut map: Array<_, Settings> = ebpf.map_mut("SETTINGS").unwrap().try_into().unwrap();
    map.set(0, limited, 0).unwrap();
    let mut allowed: LpmTrie<_, Address, Allowed> = ebpf.map_mut("ALLOWED").unwrap().try_into().unwrap();
    let (key, kind) = trie_entry("10.1.0.0/16");
    let own = IpAddr::from(OWN_V4).into();
    allowed.insert(&key, Allowed { own, kind, reserved: 0 }, 0).unwrap();
    // The program restores this packet before each pass.
    let mut fresh = [0; V6_FRAME];
    fresh[..probe.len()].copy_from_slice(&probe);
    let mut original: Array<_, [u8; V6_FRAME]> = ebpf.map_mut("ORIGINAL").unwrap().try_into().unwrap();
    original.set(0, fresh, 0).unwrap();
    let program: &mut Xdp = ebpf.program_mut("restore_and_receive").unwrap().try_into().unwrap();
    program.load().unwrap();
    let program = &*program;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let options = TestRunOptions {
                    data_in: Some(&probe),
                    repeat: SHARE as u32,
                    ..TestRunOptions::new()
                };
                program.test_run(options).unwrap();
            });
        }
    });
    let counts: PerCpuArray<_, u64> = ebpf.map("COUNTS").unwrap().try_into().unwrap();
    let counted = |counter: Counter| counts.get(&(counter as u32), 0).unwrap().iter().sum::<u64>();
    assert_eq!(counted(Reflected) + counted(RateSource), 2 * SHARE);
    // A packet that lost the race four times was refused, perhaps one of the last.
    assert!(
        (SHARE - 10..=SHARE).contains(&counted(Reflected)),
        "{}",
        counted(Reflected)
    );
}
