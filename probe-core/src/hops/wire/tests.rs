use probe_common::ntp::NtpTime;
use probe_common::stamp::ReplyFields;
use proptest::prelude::*;

use super::*;
use crate::hops::stamp::HookId;
use crate::identity::wire as identity_wire;

const ARRIVAL: AnswerStamps = AnswerStamps {
    receive_ns: 1_795_000_000_000_000_000,
    transmit_ns: 1_795_000_000_000_000_900,
    error: ErrorEstimate(0x8101),
};

fn example(probes: impl IntoIterator<Item = u32>) -> Question {
    Question {
        nonce: 5,
        ssid: 0x0c0d,
        probes: probes.into_iter().collect(),
    }
}

fn packet(of: &Question) -> Vec<u8> {
    question(of, ErrorEstimate(1))
}

fn hook(device: &str, role: Role) -> Hook {
    Hook {
        device: device.to_owned(),
        role,
    }
}

fn hooks() -> Vec<Hook> {
    vec![
        hook("port1-host", Role::Leg),
        hook("vxlan_sys_4789", Role::Tunnel),
        hook("eth0", Role::Nic),
    ]
}

/// A probe that passed all hooks both ways.
fn passed(at_ns: u64) -> Stamps {
    let mut stamps = Stamps::default();
    for (after_ns, hook) in [2, 1, 0, 0, 1, 2].into_iter().enumerate() {
        let direction = if after_ns < 3 {
            Direction::Forward
        } else {
            Direction::Backward
        };
        stamps.note(Mark {
            hook: HookId(hook),
            egress: direction == Direction::Backward,
            direction,
            at_ns: at_ns + after_ns as u64,
        });
    }
    stamps
}

#[test]
fn both_ends_understand_each_other_and_an_answer_is_as_long_as_its_question() {
    let asked = example([7, 8, u32::MAX]);
    let request = packet(&asked);
    assert_eq!(request.len(), PACKET_LEN);
    assert_eq!(from_question(&request), Some(asked));
    assert_eq!(from_answer(&request), None);
    let mut waited = passed(9_000);
    waited.note_upcall(Direction::Backward, 4_100_000);
    let mark = waited.marks().next().unwrap();
    waited.note_softirq(mark, 900_000);
    waited.cut();
    let given = Answer {
        nonce: 5,
        hooks: hooks(),
        complete_ns: 10_000_000_000,
        probes: vec![
            (7, passed(1_795_000_000_000_000_000)),
            (8, Stamps::default()),
            (u32::MAX, waited),
        ],
    };
    let reply = answer(&request, &given, ARRIVAL).unwrap();
    assert_eq!(reply.len(), request.len(), "no amplification");
    assert_eq!(from_answer(&reply), Some(given.clone()));
    assert_eq!(from_question(&reply), None, "an answer is never answered");
    assert_eq!(answer(&reply, &given, ARRIVAL), None);
    assert_eq!(
        reply[stamp::RECEIVE_TIMESTAMP..][..8],
        NtpTime::from_unix_ns(ARRIVAL.receive_ns).to_be_bytes()
    );
}

#[test]
fn a_plain_reflector_gives_no_half() {
    let mut reply = packet(&example([7]));
    let fields = ReplyFields {
        sequence: 0,
        transmit: NtpTime(1),
        error: ErrorEstimate(1),
        receive: NtpTime(1),
        ttl: 1,
    };
    stamp::into_reply(&mut reply, &fields);
    assert_eq!(from_answer(&reply), None, "U is still set");
}

#[test]
fn probes_that_do_not_fit_are_left_out() {
    let asked = example(0..MAX_ASKED as u32);
    let mut given = Answer {
        nonce: 5,
        hooks: hooks(),
        complete_ns: 1,
        probes: asked.probes.iter().map(|&seq| (seq, passed(u64::from(seq)))).collect(),
    };
    let reply = answer(&packet(&asked), &given, ARRIVAL).unwrap();
    assert_eq!(reply.len(), PACKET_LEN);
    given.probes.truncate(25);
    assert_eq!(from_answer(&reply), Some(given));
}

/// Such a version leaves no room for the number of waits where its probes fill the packet.
#[test]
fn a_full_answer_of_a_version_without_waits_for_a_processor_is_read() {
    let asked = example(0..26);
    let hooks = vec![
        hook("tap1", Role::Leg),
        hook("vx", Role::Tunnel),
        hook("ens", Role::Nic),
    ];
    let given = Answer {
        nonce: 5,
        hooks,
        complete_ns: 1,
        probes: asked.probes.iter().map(|&seq| (seq, passed(u64::from(seq)))).collect(),
    };
    let mut full = answer(&packet(&asked), &given, ARRIVAL).unwrap();
    let mut last = Vec::new();
    write_stamps(&mut last, 25, &passed(25));
    let (count_at, last_at) = (BODY + 8 + 1 + 3 * 2 + 9, PACKET_LEN - last.len());
    assert_eq!((full[count_at], &full[last_at..]), (25, &vec![0; last.len()][..]));
    full[count_at] = 26;
    full[last_at..].copy_from_slice(&last);
    assert_eq!(from_answer(&full), Some(given));
}

#[test]
fn a_stamp_long_after_the_first_is_left_out_and_admitted_to() {
    let mut stamps = passed(1_000);
    let late = Mark {
        hook: HookId(0),
        egress: true,
        direction: Direction::Forward,
        at_ns: 1_001 + u64::from(u32::MAX),
    };
    stamps.note(late);
    let given = Answer {
        nonce: 5,
        hooks: hooks(),
        complete_ns: 1,
        probes: vec![(7, stamps)],
    };
    let reply = from_answer(&answer(&packet(&example([7])), &given, ARRIVAL).unwrap()).unwrap();
    assert!(reply.probes[0].1.is_cut());
    assert!(reply.probes[0].1.marks().eq(passed(1_000).marks()));
}

#[test]
fn what_a_peer_must_not_write_is_refused() {
    let asked = example([7]);
    let reply = |hooks: Vec<Hook>, probes| {
        let given = Answer {
            nonce: 5,
            hooks,
            complete_ns: 1,
            probes,
        };
        from_answer(&answer(&packet(&asked), &given, ARRIVAL).unwrap())
    };
    assert!(reply(vec![hook("abcdefghijklmno", Role::Nic)], vec![]).is_some());
    for evil in ["", "eth\u{1b}0", "\u{202e}eth0"] {
        assert_eq!(reply(vec![hook(evil, Role::Nic)], vec![]), None, "{evil:?}");
    }
    assert_eq!(reply(vec![], vec![(7, passed(1))]), None, "a hook that it has not");
}

#[test]
fn a_version_without_waits_for_a_processor_is_understood_and_understands() {
    let mut stamps = passed(1_000);
    let given = |stamps| Answer {
        nonce: 5,
        hooks: hooks(),
        complete_ns: 1,
        probes: vec![(7, stamps)],
    };
    let write = |stamps| answer(&packet(&example([7])), &given(stamps), ARRIVAL).unwrap();
    let without = write(stamps);
    let mark = stamps.marks().next().unwrap();
    stamps.note_softirq(mark, 1);
    let with = write(stamps);
    let at = with
        .iter()
        .zip(&without)
        .position(|(with, without)| with != without)
        .unwrap();
    assert!(
        without[at..].iter().all(|&byte| byte == 0),
        "such a version writes zeros"
    );
    assert_eq!(with[at..][..8], [1, 0, 2, 0, 0, 0, 1, 0], "behind all that it reads");
    for (offset, byte) in [(0, 2), (1, 1), (2, 1 << 7)] {
        let mut damaged = with.clone();
        damaged[at + offset] = byte;
        if offset == 0 {
            damaged[at + 7] = 9;
        }
        assert_eq!(from_answer(&damaged), None, "{offset}");
    }
}

#[test]
fn other_tlvs_and_cut_packets_are_not_questions() {
    let good = packet(&example([7]));
    for at in [BASE_LEN + 1, BASE_LEN + 2, BASE_LEN + 4, BASE_LEN + 8, BODY - 1] {
        let mut other = good.clone();
        other[at] ^= 0x55;
        assert_eq!(from_question(&other), None, "byte {at}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(from_question(&longer), None);
    for length in 0..good.len() {
        assert_eq!(from_question(&good[..length]), None, "{length} bytes");
    }
    assert_eq!(identity_wire::from_answer(&good), None);
    let mut too_many = good;
    too_many[BODY + 2] = MAX_ASKED as u8 + 1;
    assert_eq!(from_question(&too_many), None);
}

fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Forward), Just(Direction::Backward)]
}

prop_compose! {
    fn any_stamps()(
        base in 0..u64::MAX / 2,
        marks in prop::collection::vec((0u8..3, any::<bool>(), any_direction(), 0..u32::MAX), 0..MAX_STAMPS),
        upcall: Option<u32>,
        softirqs in prop::collection::vec((0usize..MAX_STAMPS, 1..u64::from(u32::MAX)), 0..3),
    ) -> Stamps {
        let mut stamps = Stamps::default();
        for (hook, egress, direction, after_ns) in marks {
            stamps.note(Mark { hook: HookId(hook), egress, direction, at_ns: base + u64::from(after_ns) });
        }
        if let Some(wait_ns) = upcall {
            stamps.note_upcall(Direction::Forward, wait_ns.into());
        }
        for (number, wait_ns) in softirqs {
            let mark = stamps.marks().nth(number);
            if let Some(mark) = mark {
                stamps.note_softirq(mark, wait_ns);
            }
        }
        stamps
    }
}

proptest! {
    #[test]
    fn any_answer_arrives_as_far_as_it_fits(
        stamps in prop::collection::vec(any_stamps(), 0..=MAX_ASKED), complete_ns: u64, nonce: u64,
    ) {
        let asked = Question { nonce, ..example(0..stamps.len() as u32) };
        let given = Answer { nonce, hooks: hooks(), complete_ns, probes: (0..).zip(stamps).collect() };
        let reply = answer(&packet(&asked), &given, ARRIVAL).unwrap();
        prop_assert_eq!(reply.len(), PACKET_LEN);
        let read = from_answer(&reply).unwrap();
        prop_assert!(given.probes.starts_with(&read.probes));
        prop_assert!(read.probes.len() >= given.probes.len().min(14));
        prop_assert_eq!(Answer { probes: given.probes.clone(), ..read }, given);
    }

    #[test]
    fn garbage_is_never_answered(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        prop_assert_eq!(from_question(&bytes), None);
        prop_assert_eq!(from_answer(&bytes), None);
    }

    #[test]
    fn garbage_behind_the_mark_panics_nowhere(garbage in prop::collection::vec(any::<u8>(), 0..1200), as_answer: bool) {
        let mut packet = packet(&example([7]));
        let length = garbage.len().min(PACKET_LEN - BODY);
        packet[BODY..][..length].copy_from_slice(&garbage[..length]);
        if as_answer {
            packet[BASE_LEN] = 0;
            if let Some(read) = from_answer(&packet) {
                let again = answer(&super::tests::packet(&example([7])), &read, ARRIVAL).unwrap();
                prop_assert!(from_answer(&again).is_some());
            }
        } else if let Some(read) = from_question(&packet) {
            let again = question(&read, ErrorEstimate(1));
            prop_assert_eq!(from_question(&again), Some(read));
        }
    }
}
