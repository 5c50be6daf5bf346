//! Sources and sessions that would have the same slot.

use std::net::{IpAddr, Ipv4Addr};

use probe_common::abi::Counter::{NotAllowed, RateSource, Reflected, SessionStarted};
use probe_common::abi::{Address, COUNTER_NAMES, Limit, ReflectorSessionKey, SLOT_IDLE_NS, Settings};
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp;

use crate::packet::{Datagram, OWN_V4, PROBER_PORT, SENDER_V4, TEST_PORT};
use crate::rig::{Program, RECEIVERS, Rig, Verdict, once, settings};

const HOUR_NS: u64 = 3_600_000_000_000;

/// Other allowed sources with the slot of [`SENDER_V4`].
fn rivals() -> impl Iterator<Item = Ipv4Addr> {
    let slot = |source: Ipv4Addr| Address::from(IpAddr::from(source)).slot();
    let all = (0..=u16::MAX).map(|host| Ipv4Addr::from(0x0a01_0000 | u32::from(host)));
    all.filter(move |&source| source != SENDER_V4 && slot(source) == slot(SENDER_V4))
}

fn key(ssid: u16) -> ReflectorSessionKey {
    ReflectorSessionKey {
        source: IpAddr::from(SENDER_V4).into(),
        destination: IpAddr::from(OWN_V4).into(),
        source_port: PROBER_PORT.to_be(),
        destination_port: TEST_PORT.to_be(),
        ssid: ssid.to_be(),
        reserved: 0,
    }
}

/// The first session, and others with its slot.
const FIRST: u16 = 1;

fn rival_sessions() -> impl Iterator<Item = u16> {
    (FIRST + 1..).filter(|&ssid| key(ssid).slot() == key(FIRST).slot())
}

fn probe(source: Ipv4Addr, ssid: u16) -> Vec<u8> {
    Datagram::probe(OWN_V4)
        .from(source)
        .payload(stamp::probe(1, ErrorEstimate(1), ssid).to_vec())
        .build()
}

/// The replies in a session, as userspace looks them up.
fn replies(rig: &mut Rig, ssid: u16) -> Option<u64> {
    let known = rig.object().session(&key(ssid)).unwrap();
    known.map(|session| session.replies)
}

/// The probe is answered by the reply `sequence` of its session, which is counted as started by the first.
fn assert_sequence(rig: &mut Rig, hook: Program, frame: &[u8], sequence: u32) {
    let outcome = rig.run(hook, frame);
    assert_eq!(outcome.verdict, Verdict::Transmit, "{:?}", outcome.counted);
    let counters: &[_] = if sequence == 0 {
        &[Reflected, SessionStarted]
    } else {
        &[Reflected]
    };
    let mut expected = once(counters);
    expected.sort_by_key(|(name, _)| COUNTER_NAMES.iter().position(|known| known == name));
    assert_eq!(outcome.counted, expected);
    let payload = &outcome.frame[Datagram::probe(OWN_V4).udp_at() + 8..];
    assert_eq!(payload[stamp::SEQUENCE..][..4], sequence.to_be_bytes());
}

#[test]
fn sources_with_one_slot_have_buckets_of_their_own() {
    let limited = Settings {
        source_limit: Limit {
            interval_ns: HOUR_NS,
            burst_ns: 3 * HOUR_NS,
        },
        ..settings()
    };
    let sources: Vec<_> = [SENDER_V4].into_iter().chain(rivals()).take(4).collect();
    assert_eq!(sources.len(), 4);
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::with(&limited) else { return };
        for _ in 0..3 {
            for &source in &sources {
                let outcome = rig.run(hook, &probe(source, 1));
                assert_eq!(outcome.verdict, Verdict::Transmit, "{source}: {:?}", outcome.counted);
            }
        }
        for (refused, &source) in (1..).zip(&sources) {
            for _ in 0..refused {
                let frame = probe(source, 1);
                rig.run(hook, &frame)
                    .assert_dropped(&frame, &[RateSource], "its share is spent");
            }
        }
        for (refused, &source) in (1..).zip(&sources) {
            let state = rig.object().source(IpAddr::from(source).into()).unwrap().unwrap();
            assert_eq!(state.refused, refused, "{source}");
        }
        assert_eq!(rig.known_sources(), sources.len());
        // All are looked up again in a new generation.
        rig.disallow("10.1.0.0/16");
        let settings = Settings {
            policy_generation: 2,
            ..limited
        };
        rig.object().set_settings(&settings).unwrap();
        for &source in &sources {
            let frame = probe(source, 1);
            rig.run(hook, &frame)
                .assert_dropped(&frame, &[NotAllowed], "no longer allowed");
        }
        rig.allow("10.1.0.0/16", IpAddr::from(OWN_V4));
        for &source in &sources {
            let frame = probe(source, 1);
            rig.run(hook, &frame)
                .assert_dropped(&frame, &[RateSource], "its share is still spent");
        }
    }
}

#[test]
fn only_an_idle_source_without_debts_loses_its_slot() {
    let owner = Address::from(IpAddr::from(SENDER_V4));
    let Some(rival) = rivals().next() else {
        panic!("no rival")
    };
    for hook in RECEIVERS {
        for (idle_ns, debt_ns, loses) in [
            (0, 0, false),
            (SLOT_IDLE_NS / 2, 0, false),
            (SLOT_IDLE_NS + 1, HOUR_NS, false),
            (SLOT_IDLE_NS + 1, 0, true),
        ] {
            let Some(mut rig) = Rig::new() else { return };
            assert_sequence(&mut rig, hook, &probe(SENDER_V4, 1), 0);
            let slot = rig.source_slot(owner, |slot| {
                slot.seen_ns -= idle_ns;
                slot.state.earned_ns[2] = slot.seen_ns + idle_ns + debt_ns;
            });
            assert!(slot.of(&owner).is_some(), "the first has the slot");
            for sequence in 0..2 {
                assert_sequence(&mut rig, hook, &probe(rival, 1), sequence);
            }
            let slot = rig.source_slot(owner, |_| {});
            let has_lost = slot.of(&owner).is_none();
            assert_eq!(has_lost, loses, "idle for {idle_ns} ns with {debt_ns} ns of debt");
            let rival = Address::from(IpAddr::from(rival));
            assert_eq!(slot.of(&rival).is_some(), loses);
            assert!(rig.object().source(rival).unwrap().is_some());
            assert_sequence(&mut rig, hook, &probe(SENDER_V4, 1), 1);
        }
    }
}

#[test]
fn sessions_with_one_slot_count_on_their_own() {
    let sessions: Vec<_> = [FIRST].into_iter().chain(rival_sessions()).take(3).collect();
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for sequence in 0..4 {
            for &ssid in &sessions {
                assert_sequence(&mut rig, hook, &probe(SENDER_V4, ssid), sequence);
            }
        }
        let slot = rig.session_slot(key(FIRST).slot(), |_| {});
        assert_eq!(
            (slot.key, slot.count as u32),
            (key(FIRST), 4),
            "the first keeps its slot"
        );
        for &ssid in &sessions {
            assert_eq!(replies(&mut rig, ssid), Some(4));
        }
        let never_seen = rival_sessions().nth(sessions.len() - 1).unwrap();
        assert_eq!(replies(&mut rig, never_seen), None);
    }
}

#[test]
fn a_session_goes_on_after_its_slot_went_to_another() {
    let Some(rival) = rival_sessions().next() else {
        panic!("no rival")
    };
    for hook in RECEIVERS {
        let Some(mut rig) = Rig::new() else { return };
        for sequence in 0..3 {
            assert_sequence(&mut rig, hook, &probe(SENDER_V4, FIRST), sequence);
        }
        rig.session_slot(key(FIRST).slot(), |slot| slot.seen_ns -= SLOT_IDLE_NS + 1);
        assert_sequence(&mut rig, hook, &probe(SENDER_V4, rival), 0);
        let slot = rig.session_slot(key(FIRST).slot(), |_| {});
        assert_eq!((slot.key, slot.count as u32), (key(rival), 1));
        assert_eq!([FIRST, rival].map(|ssid| replies(&mut rig, ssid)), [Some(3), Some(1)]);
        for sequence in 3..6 {
            assert_sequence(&mut rig, hook, &probe(SENDER_V4, FIRST), sequence);
            assert_sequence(&mut rig, hook, &probe(SENDER_V4, rival), sequence - 2);
        }
    }
}
