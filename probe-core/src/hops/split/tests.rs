use proptest::prelude::*;

use super::*;
use crate::hops::stamp::{Hook, HookId, Mark, Role};
use crate::hops::stamps::Stamps;
use crate::hops::traversal::{Expected, Roles};

const FORWARD: Option<Direction> = Some(Direction::Forward);
const BACKWARD: Option<Direction> = Some(Direction::Backward);

/// In the order in which a probe passes them on its way out.
const DEVICES: [Role; 5] = [Role::Leg, Role::Leg, Role::Tunnel, Role::Nic, Role::Nic];

fn hooks(devices: &[Role]) -> Vec<Hook> {
    let hook = |&role| Hook {
        device: "dev".to_owned(),
        role,
    };
    devices.iter().map(hook).collect()
}

fn mark(hook: usize, is_out: bool, direction: Direction, at_ns: u64) -> Mark {
    Mark {
        hook: HookId(hook as u8),
        egress: is_out,
        direction,
        at_ns,
    }
}

/// The stamps of a probe that took `steps_ns` from one device to the next, and arrives in the host, or leaves it, at
/// `start_ns`. Returns the time of the last device, too.
fn pass(start_ns: u64, steps_ns: &[u64], is_out: bool, direction: Direction) -> (Vec<Mark>, u64) {
    let mut at_ns = start_ns;
    let marks = steps_ns.iter().enumerate().map(|(place, step_ns)| {
        at_ns += step_ns;
        let hook = if is_out { place } else { steps_ns.len() - 1 - place };
        mark(hook, is_out, direction, at_ns)
    });
    (marks.collect(), at_ns)
}

/// A whole trip with the time that each step takes, and the stamps of both hosts. The far clock is ahead by `ahead_ns`.
#[derive(Debug, Clone)]
struct Course {
    own: Vec<Mark>,
    far: Vec<Mark>,
    reply: Reply,
    truth: [u64; PARTS],
    one_way: [i64; 2],
}

const T1: u64 = 1_000_000;
/// UTC − monotonic of this host.
const UTC: u64 = 1_795_000_000_000_000_000;

fn course(steps: &[[u64; 5]; 4], ends: [u64; 4], underlay: [u64; 2], residence_ns: u64, ahead_ns: i64) -> Course {
    let far_clock = |at_ns: u64| (at_ns + UTC).wrapping_add_signed(ahead_ns);
    let (own_out, left_ns) = pass(T1, &steps[0], true, Direction::Forward);
    // The first step of a host that a packet comes to is that over the underlay.
    let arrive = |first_ns: u64, steps: &[u64; 5]| [first_ns, steps[1], steps[2], steps[3], steps[4]];
    let (far_in, at_ns) = pass(left_ns, &arrive(underlay[0], &steps[1]), false, Direction::Forward);
    let t2_ns = at_ns + ends[1];
    let t3_ns = t2_ns + residence_ns;
    let (far_out, left_far_ns) = pass(t3_ns, &steps[2], true, Direction::Backward);
    let (own_in, at_ns) = pass(left_far_ns, &arrive(underlay[1], &steps[3]), false, Direction::Backward);
    let t4_ns = at_ns + ends[3];
    let out = |steps: &[u64; 5]| (steps[0] + steps[1] + steps[2], steps[3] + steps[4]);
    let back = |steps: &[u64; 5], end_ns| (steps[3] + steps[4] + end_ns, steps[1] + steps[2]);
    let ((own_f, own_fe), (far_b, far_be)) = (out(&steps[0]), out(&steps[2]));
    let ((far_f, far_fe), (own_b, own_be)) = (back(&steps[1], ends[1]), back(&steps[3], ends[3]));
    Course {
        own: [own_out, own_in].concat(),
        far: [far_in, far_out]
            .concat()
            .into_iter()
            .map(|mark| Mark {
                at_ns: far_clock(mark.at_ns),
                ..mark
            })
            .collect(),
        reply: Reply {
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
            ssid: 1,
            seq: 0,
            reflector_seq: 0,
            sent_mono_ns: T1,
            received_mono_ns: t4_ns,
            t1_ns: T1 + UTC,
            t2_ns: far_clock(t2_ns),
            t3_ns: far_clock(t3_ns),
            t4_ns: t4_ns + UTC,
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        },
        truth: [
            own_f,
            own_b,
            own_fe,
            own_be,
            underlay[0] + underlay[1],
            far_fe,
            far_be,
            far_f,
            far_b,
            residence_ns,
        ],
        one_way: [underlay[0] as i64 + ahead_ns, underlay[1] as i64 - ahead_ns],
    }
}

fn stamps(marks: &[Mark]) -> Stamps {
    let mut stamps = Stamps::default();
    marks.iter().for_each(|&mark| stamps.note(mark));
    stamps
}

/// The split by those marks that are there. `expected` are the marks of other probes on this way.
fn split(reply: &Reply, [own, far]: [&[Mark]; 2], expected: [&[Mark]; 2], has_far: bool) -> Split {
    let roles = Roles::of(&hooks(&DEVICES));
    let mut expect = [Expected::default(), Expected::default()];
    expect[0].note(Traversals::own(&stamps(expected[0]), roles));
    expect[1].note(Traversals::far(&stamps(expected[1]), roles));
    let own = expect[0].note(Traversals::own(&stamps(own), roles));
    let far = expect[1].note(Traversals::far(&stamps(far), roles));
    Trip::new(reply, Some([7, 8])).split(&own, has_far.then_some(&far))
}

fn sum(split: &Split) -> u64 {
    split.rest_ns + split.parts().map(|(_, took_ns)| took_ns).sum::<u64>()
}

fn example() -> Course {
    let steps = [[1; 5], [10; 5], [100; 5], [1_000; 5]];
    course(&steps, [0, 7, 0, 9], [20_000, 30_000], 500, -123_456)
}

#[test]
fn a_trip_with_all_stamps_is_split_to_the_end() {
    let Course { own, far, reply, .. } = example();
    let marks = [&own[..], &far];
    let split = split(&reply, marks, marks, true);
    let table = [
        (Segment::OwnSwitch, FORWARD, 3),
        (Segment::OwnEncapsulation, FORWARD, 2),
        (Segment::FarEncapsulation, FORWARD, 20),
        (Segment::FarSwitch, FORWARD, 27),
        (Segment::Reflector, None, 500),
        (Segment::FarSwitch, BACKWARD, 300),
        (Segment::FarEncapsulation, BACKWARD, 200),
        (Segment::OwnEncapsulation, BACKWARD, 2_000),
        (Segment::OwnSwitch, BACKWARD, 2_009),
        (Segment::Underlay, None, 50_000),
    ];
    for (segment, direction, took_ns) in table {
        assert_eq!(
            split.get(segment, direction),
            Some(took_ns),
            "{segment:?} {direction:?}"
        );
    }
    assert_eq!((split.rest_ns, sum(&split)), (0, split.elapsed_ns));
    assert!(split.has_own_half() && split.has_both_halves() && !split.is_contradictory);
    assert_eq!(split.underlay_by_clocks_ns, Some([20_000 - 123_456, 30_000 + 123_456]));
    assert!(split.parts().map(|(part, _)| part).is_sorted());
}

#[test]
fn without_the_far_half_the_rest_is_what_lies_beyond_this_host() {
    let Course { own, far, reply, .. } = example();
    let split = split(&reply, [&own, &[]], [&own, &far], false);
    assert_eq!(split.parts().count(), 5);
    assert_eq!(split.rest_ns, 50_000 + 20 + 27 + 300 + 200);
    assert!(split.has_own_half() && !split.has_both_halves());
    assert_eq!((split.underlay_ns, split.underlay_by_clocks_ns), (None, None));
}

#[test]
fn without_a_tunnel_device_the_switch_ends_at_the_nic_and_without_both_at_the_last_leg() {
    let Course { own, far, reply, .. } = example();
    let of = |marks: &[Mark], roles: &[Role]| -> Vec<Mark> {
        let is_of = |mark: &&Mark| roles.contains(&DEVICES[usize::from(mark.hook.0)]);
        marks.iter().filter(is_of).copied().collect()
    };
    for (roles, own_switch, underlay) in [(&[Role::Nic, Role::Leg][..], 5, 50_000), (&[Role::Leg], 2, 53_333)] {
        let (own, far) = (of(&own, roles), of(&far, roles));
        let marks = [&own[..], &far];
        let split = split(&reply, marks, marks, true);
        assert_eq!(split.get(Segment::OwnSwitch, FORWARD), Some(own_switch));
        assert_eq!(split.get(Segment::OwnEncapsulation, FORWARD), None);
        assert_eq!((split.underlay_ns, split.rest_ns), (Some(underlay), 0));
    }
}

#[test]
fn a_reflector_without_stamps_leaves_its_host_in_the_rest_and_the_underlay_exact() {
    let Course { own, far, reply, .. } = example();
    let reply = Reply {
        t2_ns: 0,
        t3_ns: 0,
        ..reply
    };
    let marks = [&own[..], &far];
    let split = split(&reply, marks, marks, true);
    assert_eq!((split.underlay_ns, split.reflector_ns), (Some(50_000), None));
    assert_eq!(split.get(Segment::FarEncapsulation, FORWARD), Some(20));
    assert_eq!(split.rest_ns, 27 + 500 + 300);
    assert_eq!(split.underlay_by_clocks_ns, None);
}

#[test]
fn stamps_that_contradict_each_other_are_not_used() {
    let Course { own, far, reply, .. } = example();
    let late: Vec<Mark> = far
        .iter()
        .map(|&mark| Mark {
            at_ns: mark.at_ns + 1_000_000,
            ..mark
        })
        .collect();
    let marks = [&own[..], &late];
    let far_split = split(&reply, marks, marks, true);
    assert!(far_split.is_contradictory && !far_split.has_both_halves() && far_split.has_own_half());
    let mut odd = own.clone();
    odd[2].at_ns = T1 - 1;
    let marks = [&odd[..], &far];
    let own_split = split(&reply, marks, marks, true);
    assert!(own_split.is_contradictory && !own_split.has_own_half());
    assert_eq!(own_split.rest_ns, own_split.elapsed_ns);
}

#[test]
fn two_ports_of_one_switch_have_no_far_half() {
    let own: Vec<Mark> = [
        (0, false, Direction::Forward, 10),
        (1, true, Direction::Forward, 30),
        (1, false, Direction::Backward, 50),
        (0, true, Direction::Backward, 70),
    ]
    .map(|(hook, is_out, direction, after_ns)| mark(hook, is_out, direction, T1 + after_ns))
    .to_vec();
    let far: Vec<Mark> = own
        .iter()
        .map(|&mark| Mark {
            at_ns: mark.at_ns + UTC,
            ..mark
        })
        .collect();
    let reply = Reply {
        received_mono_ns: T1 + 80,
        t2_ns: T1 + UTC + 35,
        t3_ns: T1 + UTC + 45,
        t4_ns: T1 + UTC + 80,
        ..example().reply
    };
    let marks = [&own[..], &far];
    let split = split(&reply, marks, marks, true);
    assert!(split.has_own_half() && !split.has_both_halves() && !split.is_contradictory);
    assert_eq!(split.get(Segment::OwnSwitch, FORWARD), Some(30));
    assert_eq!((split.get(Segment::OwnSwitch, BACKWARD), split.rest_ns), (Some(30), 10));
}

fn steps() -> impl Strategy<Value = [[u64; 5]; 4]> {
    prop::array::uniform4(prop::array::uniform5(0..1_000_000u64))
}

fn kept(marks: &[Mark], bits: u16) -> Vec<Mark> {
    let is_kept = |(place, _): &(usize, &Mark)| bits >> place & 1 != 0;
    marks
        .iter()
        .enumerate()
        .filter(is_kept)
        .map(|(_, mark)| *mark)
        .collect()
}

proptest! {
    #[test]
    fn any_trip_is_split_into_what_its_parts_took(
        steps in steps(), ends: [u32; 4], underlay: [u32; 2], residence_ns: u32,
        ahead_ns in -1_000_000_000_000i64..1_000_000_000_000,
    ) {
        let course = course(&steps, ends.map(u64::from), underlay.map(u64::from), residence_ns.into(), ahead_ns);
        let marks = [&course.own[..], &course.far];
        let split = split(&course.reply, marks, marks, true);
        prop_assert_eq!(split.all().map(|(_, took_ns)| took_ns), course.truth.map(Some));
        prop_assert_eq!(split.underlay_by_clocks_ns, Some(course.one_way));
        prop_assert_eq!((split.rest_ns, sum(&split)), (0, split.elapsed_ns));
    }

    /// No part has a wrong duration, whichever stamps are missing. Of two devices of one role, either one may be the end.
    #[test]
    fn missing_stamps_leave_parts_out_and_change_none(
        steps in steps(), ends: [u32; 4], bits: [u16; 2], has_far: bool,
    ) {
        let mut steps = steps;
        steps[0][4] = 0;
        steps[1][1] = 0;
        steps[2][4] = 0;
        steps[3][1] = 0;
        let course = course(&steps, ends.map(u64::from), [20_000, 30_000], 500, 77);
        let (own, far) = (kept(&course.own, bits[0]), kept(&course.far, bits[1]));
        let split = split(&course.reply, [&own, &far], [&course.own, &course.far], has_far);
        for ((part, took_ns), truth) in split.all().into_iter().zip(course.truth) {
            prop_assert!(took_ns.is_none_or(|took_ns| took_ns == truth), "{:?} {:?} {}", part, took_ns, truth);
        }
        prop_assert!(!split.is_contradictory);
        prop_assert_eq!(sum(&split), split.elapsed_ns);
        if let Some(one_way) = split.underlay_by_clocks_ns {
            prop_assert_eq!(one_way, course.one_way);
        }
    }

    #[test]
    fn any_stamps_add_up_to_the_round_trip(
        own in prop::collection::vec((0usize..5, any::<bool>(), any::<bool>(), 0..5_000u64), 0..12),
        far in prop::collection::vec((0usize..5, any::<bool>(), any::<bool>(), 0..5_000u64), 0..12),
        times in prop::array::uniform4(0..5_000u64), has_far: bool,
    ) {
        let marks = |marks: Vec<(usize, bool, bool, u64)>, ahead_ns: u64| -> Vec<Mark> {
            let direction = |is_forward| if is_forward { Direction::Forward } else { Direction::Backward };
            let mark = |(hook, is_out, is_forward, at_ns)| mark(hook, is_out, direction(is_forward), at_ns + ahead_ns);
            marks.into_iter().map(mark).collect()
        };
        let [t1, t2, t3, t4] = times;
        let reply = Reply {
            sent_mono_ns: t1,
            received_mono_ns: t4.max(t1),
            t1_ns: t1 + UTC,
            t2_ns: t2 + UTC,
            t3_ns: t3 + UTC,
            t4_ns: t4.max(t1) + UTC,
            ..example().reply
        };
        let (own, far) = (marks(own, 0), marks(far, UTC));
        let split = split(&reply, [&own, &far], [&[], &[]], has_far);
        prop_assert_eq!(split.elapsed_ns, reply.elapsed_ns());
        prop_assert_eq!(sum(&split), split.elapsed_ns);
        if let Some([forward, backward]) = split.underlay_by_clocks_ns {
            prop_assert_eq!(Some((forward + backward) as u64), split.underlay_ns);
        }
    }
}
